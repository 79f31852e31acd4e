"""The one table of signature algorithms: a new algorithm is one row here and one signer in `keys`.

Sources: RFC 5758 and RFC 5480 (ECDSA), RFC 8017 and RFC 4055 (RSA), RFC 8410 (Ed25519), RFC 9881 (ML-DSA).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from spork.errors import Code, SporkError

Family = Literal["rsa", "ecdsa", "ed25519", "ml-dsa"]
PublicKey = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A key type with its size and the one signature algorithm that it signs with here."""

    name: str
    """As on the command line and in hierarchy files."""
    family: Family
    signature_oid: str
    identifier: bytes
    """DER of the signature's AlgorithmIdentifier, parameters as its RFC demands (NULL for RSA, absent for all others)."""
    hash: hashes.HashAlgorithm | None
    """What is hashed before signing; None where the algorithm takes the message itself."""
    key_bits: int
    """Modulus or field size; for ML-DSA the bits of the public key."""
    signature_octets: int
    """Largest signature, in octets."""
    strength_bits: int
    """Classical security strength (SP 800-57 part 1 table 2; FIPS 204 categories 2, 3, 5)."""
    fips_approved: bool
    """Approved by FIPS 186-5 or FIPS 204. Says nothing of the module that runs it."""
    post_quantum: bool = False
    slow: bool = False
    """Signs slowly enough (over about 0.3 ms) that it must not run on the event loop."""


def _row(
    name: str,
    family: Family,
    oid: str,
    identifier: str,
    hash_: hashes.HashAlgorithm | None,
    bits: int,
    octets: int,
    strength: int,
    *,
    post_quantum: bool = False,
    slow: bool = False,
) -> Algorithm:
    return Algorithm(
        name, family, oid, bytes.fromhex(identifier), hash_, bits, octets, strength, True, post_quantum, slow
    )


_SHA256_RSA = "300d06092a864886f70d01010b0500"
_SHA384_RSA = "300d06092a864886f70d01010c0500"
ALGORITHMS: tuple[Algorithm, ...] = (
    _row("rsa-2048", "rsa", "1.2.840.113549.1.1.11", _SHA256_RSA, hashes.SHA256(), 2048, 256, 112),
    _row("rsa-3072", "rsa", "1.2.840.113549.1.1.11", _SHA256_RSA, hashes.SHA256(), 3072, 384, 128, slow=True),
    _row("rsa-4096", "rsa", "1.2.840.113549.1.1.12", _SHA384_RSA, hashes.SHA384(), 4096, 512, 140, slow=True),
    _row("ecdsa-p256", "ecdsa", "1.2.840.10045.4.3.2", "300a06082a8648ce3d040302", hashes.SHA256(), 256, 72, 128),
    _row("ecdsa-p384", "ecdsa", "1.2.840.10045.4.3.3", "300a06082a8648ce3d040303", hashes.SHA384(), 384, 104, 192),
    _row("ecdsa-p521", "ecdsa", "1.2.840.10045.4.3.4", "300a06082a8648ce3d040304", hashes.SHA512(), 521, 139, 256),
    _row("ed25519", "ed25519", "1.3.101.112", "300506032b6570", None, 256, 64, 128),
    _row(
        "ml-dsa-44",
        "ml-dsa",
        "2.16.840.1.101.3.4.3.17",
        "300b0609608648016503040311",
        None,
        1312 * 8,
        2420,
        128,
        post_quantum=True,
        slow=True,
    ),
    _row(
        "ml-dsa-65",
        "ml-dsa",
        "2.16.840.1.101.3.4.3.18",
        "300b0609608648016503040312",
        None,
        1952 * 8,
        3309,
        192,
        post_quantum=True,
        slow=True,
    ),
    _row(
        "ml-dsa-87",
        "ml-dsa",
        "2.16.840.1.101.3.4.3.19",
        "300b0609608648016503040313",
        None,
        2592 * 8,
        4627,
        256,
        post_quantum=True,
        slow=True,
    ),
)
BY_NAME: dict[str, Algorithm] = {row.name: row for row in ALGORITHMS}
_CURVES = {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384", "secp521r1": "ecdsa-p521"}


def algorithm_named(name: str) -> Algorithm:
    """The row of that name. Raises SporkError(CONFIGURATION) naming what there is."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise SporkError(Code.CONFIGURATION, f"Unknown algorithm {name!r}; known are {', '.join(BY_NAME)}.") from None


def load_public_key(spki: bytes) -> PublicKey:
    """Parses a SubjectPublicKeyInfo (DER). Off-curve points and broken encodings are refused here.

    Raises SporkError(BAD_PUBLIC_KEY).
    """
    try:
        key = load_der_public_key(spki)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SporkError(
            Code.BAD_PUBLIC_KEY, "The public key cannot be read, or is of a kind that is not supported."
        ) from error
    if not isinstance(key, PublicKey):
        raise SporkError(Code.BAD_PUBLIC_KEY, f"Keys of type {type(key).__name__} are not supported.")
    return key


def algorithm_of(key: PublicKey) -> Algorithm | None:
    """The row that this public key belongs to, or None where its size or curve is not in the table."""
    if isinstance(key, rsa.RSAPublicKey):
        return BY_NAME.get(f"rsa-{key.key_size}")
    if isinstance(key, ec.EllipticCurvePublicKey):
        return BY_NAME.get(_CURVES.get(key.curve.name, ""))
    if isinstance(key, ed25519.Ed25519PublicKey):
        return BY_NAME["ed25519"]
    parameter_set = {mldsa.MLDSA44PublicKey: "44", mldsa.MLDSA65PublicKey: "65", mldsa.MLDSA87PublicKey: "87"}
    for kind, number in parameter_set.items():
        if isinstance(key, kind):
            return BY_NAME[f"ml-dsa-{number}"]
    return None


@lru_cache(maxsize=256)
def algorithm_with_identifier(identifier: bytes) -> Algorithm | None:
    """A row whose signature AlgorithmIdentifier is exactly these octets (for RSA the first of the sizes)."""
    return next((row for row in ALGORITHMS if row.identifier == identifier), None)
