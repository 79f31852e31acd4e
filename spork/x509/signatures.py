"""Verifying signatures by the algorithm table: the counterpart of `Signer.sign`.

Source: RFC 8017 section 8.2 (RSASSA-PKCS1-v1_5), FIPS 186-5 (ECDSA, Ed25519), FIPS 204 with an empty context (RFC 9881 section 2).
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa

from spork.errors import Code, SporkError
from spork.x509.algorithms import Algorithm, Family, PublicKey


def verify_signature(key: PublicKey, algorithm: Algorithm, message: bytes, signature: bytes) -> None:
    """Returns only if the signature is right.

    `algorithm` says the signature algorithm and hash; the key must be of its family. Raises SporkError(BAD_SIGNATURE).
    """
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm.family == "rsa" and algorithm.hash is not None:
            key.verify(signature, message, padding.PKCS1v15(), algorithm.hash)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm.family == "ecdsa" and algorithm.hash is not None:
            key.verify(signature, message, ec.ECDSA(algorithm.hash))
        elif not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and algorithm.family == _family_of(key):
            key.verify(signature, message)
        else:
            raise SporkError(Code.BAD_SIGNATURE, f"The key is not one for {algorithm.name}.")
    except InvalidSignature:
        raise SporkError(Code.BAD_SIGNATURE, "The signature does not verify under the given key.") from None


def _family_of(
    key: ed25519.Ed25519PublicKey | mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey,
) -> Family:
    return "ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else "ml-dsa"
