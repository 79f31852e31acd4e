"""Private keys in this process's memory, and the signer that holds one.

Source: RFC 8017 section 8.2 (RSASSA-PKCS1-v1_5), RFC 3279 section 2.2.3 (DER of ECDSA signatures), RFC 8410 (Ed25519),
RFC 9881 sections 3 and 6 (ML-DSA with an empty context; the private key is kept as its seed), RFC 5208 (PKCS#8).
"""

from __future__ import annotations

from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from spork.errors import Code, SporkError
from spork.x509.algorithms import Algorithm, algorithm_of
from spork.x509.der import ALLOWED_KINDS, KeyPurpose, ToBeSigned
from spork.x509.signatures import verify_signature

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)

_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "ecdsa-p256": ec.SECP256R1,
    "ecdsa-p384": ec.SECP384R1,
    "ecdsa-p521": ec.SECP521R1,
}
_ML_DSA: dict[str, type[mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey]] = {
    "ml-dsa-44": mldsa.MLDSA44PrivateKey,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey,
}
# Signed and verified once after generation, as FIPS 140-3 asks (pairwise consistency). It starts like no DER that is ever
# signed, so a leaked self-test signature cannot be passed off as one of a certificate.
_SELF_TEST = b"SPORK pairwise consistency test"


def generate_private_key(algorithm: Algorithm) -> PrivateKey:
    """A fresh key of the row's type and size. RSA takes up to seconds: run it off the event loop."""
    if algorithm.family == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=algorithm.key_bits)
    if algorithm.name in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm.name]())
    if algorithm.family == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.name in _ML_DSA:
        return _ML_DSA[algorithm.name].generate()
    raise SporkError(Code.CONFIGURATION, f"Software keys of the algorithm {algorithm.name} cannot be made.")


def pkcs8(key: PrivateKey) -> bytearray:
    """Unencrypted PKCS#8, DER. The caller clears it after use; copies that OpenSSL made on the way are out of reach."""
    return bytearray(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def load_pkcs8(der: bytes | bytearray) -> PrivateKey:
    """Raises SporkError(CORRUPTED_KEY) for what is not a supported private key. The octets never appear in the error."""
    try:
        key = load_der_private_key(bytes(der), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The parser's own text is dropped: it could quote what it choked on.
        raise SporkError(Code.CORRUPTED_KEY, "A stored private key is not valid PKCS#8.") from None
    if not isinstance(key, PrivateKey):
        raise SporkError(Code.CORRUPTED_KEY, f"A stored private key is of an unsupported type ({type(key).__name__}).")
    return key


def clear(secret: bytearray) -> None:
    """Overwrites with zeros.

    Best effort only: Python and OpenSSL make copies (immutable `bytes`, parsed keys) that nobody can reach to clear, so this
    shortens the time that a plain key can be found in memory and does not end it.
    """
    secret[:] = bytes(len(secret))


class SoftwareSigner:
    """One private key, its algorithm and its purpose. Implements `spork.x509.der.Signer`; safe to use from several threads.

    It cannot be pickled, and its text shows the algorithm and purpose only.
    """

    __slots__ = ("_algorithm", "_key", "_purpose", "_spki")

    def __init__(self, key: PrivateKey, purpose: KeyPurpose) -> None:
        """Raises SporkError(BAD_PUBLIC_KEY) for a size or curve that is not in the algorithm table."""
        algorithm = algorithm_of(key.public_key())
        if algorithm is None:
            raise SporkError(Code.BAD_PUBLIC_KEY, "The key's size or curve is not in the algorithm table.")
        self._key = key
        self._algorithm = algorithm
        self._purpose = purpose
        self._spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def algorithm(self) -> Algorithm:
        return self._algorithm

    @property
    def purpose(self) -> KeyPurpose:
        return self._purpose

    @property
    def spki(self) -> bytes:
        return self._spki

    def sign(self, tbs: ToBeSigned) -> bytes:
        """The signature's octets. Raises SporkError(FORBIDDEN) for a kind that the key's purpose does not allow."""
        # The exact type counts: a class derived from an allowed kind has a meaning that nobody allowed.
        if type(tbs) not in ALLOWED_KINDS[self._purpose]:
            raise SporkError(Code.FORBIDDEN, f"A key for {self._purpose.value} must not sign a {type(tbs).__name__}.")
        return self._signature(tbs.der)

    def self_test(self) -> None:
        """Signs and verifies a fixed text. Raises SporkError(INTERNAL) if the two halves of the key do not fit."""
        try:
            verify_signature(self._key.public_key(), self._algorithm, _SELF_TEST, self._signature(_SELF_TEST))
        except SporkError:
            raise SporkError(Code.INTERNAL, "A new key failed its self-test and was thrown away.") from None

    def listener_pkcs8(self) -> bytearray:
        """The key itself as PKCS#8 DER, for a TLS library. The caller clears it.

        Raises SporkError(FORBIDDEN) for every other purpose: no other stored key ever leaves its signer.
        """
        if self._purpose is not KeyPurpose.LISTENER:
            raise SporkError(Code.FORBIDDEN, f"A key for {self._purpose.value} is not handed out.")
        return pkcs8(self._key)

    def _signature(self, message: bytes) -> bytes:
        key, digest = self._key, self._algorithm.hash
        if isinstance(key, rsa.RSAPrivateKey):
            assert digest is not None
            return key.sign(message, padding.PKCS1v15(), digest)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            assert digest is not None
            return key.sign(message, ec.ECDSA(digest))
        return key.sign(message)

    def __repr__(self) -> str:
        return f"SoftwareSigner({self._algorithm.name}, {self._purpose.value})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer holds a private key and does not leave the process")
