"""Verifying signatures by the algorithm table: the counterpart of `Signer.sign`.

Source: RFC 8017 section 8.2 (RSASSA-PKCS1-v1_5), FIPS 186-5 (ECDSA, Ed25519), FIPS 204 with an empty context (RFC 9881 section 2).
"""

from __future__ import annotations

from dataclasses import replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ObjectIdentifier

from spork.errors import Code, SporkError
from spork.x509.algorithms import BY_NAME, Algorithm, PublicKey, algorithm_of, algorithm_with_identifier
from spork.x509.bounds import elements

# What others may sign with beyond the rows of the table: RSA with SHA-512, and RSA identifiers without parameters, which
# RFC 4055 section 5 tells everybody to accept.
_SHA512_RSA = bytes.fromhex("300d06092a864886f70d01010d0500")
_RSA_SHA512 = replace(BY_NAME["rsa-4096"], identifier=_SHA512_RSA, hash=hashes.SHA512())
_MORE_ALGORITHMS = {
    _SHA512_RSA: _RSA_SHA512,
    bytes.fromhex("300b06092a864886f70d01010b"): BY_NAME["rsa-2048"],
    bytes.fromhex("300b06092a864886f70d01010c"): BY_NAME["rsa-4096"],
    bytes.fromhex("300b06092a864886f70d01010d"): _RSA_SHA512,
}
_BROKEN_HASHES = {
    "1.2.840.113549.1.1.2": "MD2",
    "1.2.840.113549.1.1.4": "MD5",
    "1.2.840.113549.1.1.5": "SHA-1",
    "1.3.14.3.2.29": "SHA-1",
    "1.2.840.10045.4.1": "SHA-1",
    "1.2.840.10040.4.3": "SHA-1",
}


def verify_signature(key: PublicKey, algorithm: Algorithm, message: bytes, signature: bytes) -> None:
    """Returns only if the signature is right.

    `algorithm` says the signature algorithm and hash; the key must be of its family, and for Ed25519 and ML-DSA, where key
    and signature algorithm are one, of this very row. Raises SporkError(BAD_SIGNATURE).
    """
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm.family == "rsa" and algorithm.hash is not None:
            key.verify(signature, message, padding.PKCS1v15(), algorithm.hash)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm.family == "ecdsa" and algorithm.hash is not None:
            key.verify(signature, message, ec.ECDSA(algorithm.hash))
        elif not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and algorithm_of(key) == algorithm:
            key.verify(signature, message)
        else:
            raise SporkError(Code.BAD_SIGNATURE, f"The key is not one for {algorithm.name}.")
    except InvalidSignature:
        raise SporkError(Code.BAD_SIGNATURE, "The signature does not verify under the given key.") from None


def accepted_algorithm(identifier: bytes) -> Algorithm:
    """The row for an AlgorithmIdentifier (DER) in something that others signed; its size columns mean nothing here.

    Raises SporkError(BAD_SIGNATURE_ALGORITHM) with a sentence for a broken hash and for what is not supported.
    """
    algorithm = algorithm_with_identifier(identifier) or _MORE_ALGORITHMS.get(identifier)
    if algorithm is not None:
        return algorithm
    oid = _oid_text(identifier)
    if (broken := _BROKEN_HASHES.get(oid)) is not None:
        detail = f"It is signed with {broken}, which is broken; SHA-256 or better is needed."
    else:
        detail = f"It is signed with the unsupported algorithm {oid}, or with unusual parameters."
    raise SporkError(Code.BAD_SIGNATURE_ALGORITHM, detail)


def _oid_text(identifier: bytes) -> str:
    try:
        return asn1.decode_der(ObjectIdentifier, elements(identifier)[0]).dotted_string
    except (ValueError, IndexError, SporkError):
        return "(unreadable)"
