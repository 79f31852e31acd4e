"""SubjectPublicKeyInfo as octets: the key identifier and the key's family, without loading the key.

Source: RFC 5280 section 4.1.2.7; RFC 3279, RFC 5480, RFC 8410 and RFC 9881 for the algorithm identifiers.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from spork.errors import Code, SporkError
from spork.x509.algorithms import Family

_FAMILIES: dict[str, Family] = {
    "1.2.840.113549.1.1.1": "rsa",
    "1.2.840.10045.2.1": "ecdsa",
    "1.3.101.112": "ed25519",
    "2.16.840.1.101.3.4.3.17": "ml-dsa",
    "2.16.840.1.101.3.4.3.18": "ml-dsa",
    "2.16.840.1.101.3.4.3.19": "ml-dsa",
}


@asn1.sequence
class _SubjectPublicKeyInfo:
    algorithm: asn1.TLV
    subject_public_key: asn1.BitString


def key_identifier(spki: bytes) -> bytes:
    """SHA-1 of the BIT STRING's content, 20 octets: method 1 of RFC 5280 section 4.2.1.2. Raises SporkError(BAD_PUBLIC_KEY)."""
    # The identifier only tells keys apart; nothing rests on SHA-1 resisting collisions here.
    return hashlib.sha1(_parsed(spki).subject_public_key.as_bytes(), usedforsecurity=False).digest()


def key_octets(spki: bytes) -> bytes:
    """The BIT STRING's content: what issuerKeyHash and byKey of OCSP hash (RFC 6960). Raises SporkError(BAD_PUBLIC_KEY)."""
    return _parsed(spki).subject_public_key.as_bytes()


def family_of(spki: bytes) -> Family:
    """The family in the algorithm table. Raises SporkError(BAD_PUBLIC_KEY) for a kind of key that the table does not know."""
    family = _FAMILIES.get(_first_oid(bytes(_parsed(spki).algorithm.data)))
    if family is None:
        raise SporkError(Code.BAD_PUBLIC_KEY, "The public key is of a kind that is not supported.")
    return family


def _parsed(spki: bytes) -> _SubjectPublicKeyInfo:
    try:
        return asn1.decode_der(_SubjectPublicKeyInfo, spki)
    except ValueError as error:
        raise SporkError(Code.BAD_PUBLIC_KEY, "The SubjectPublicKeyInfo cannot be read.") from error


@lru_cache(maxsize=64)
def _first_oid(content: bytes) -> str:
    """The OID at the start of an AlgorithmIdentifier's content, or an empty text."""
    if len(content) < 2 or content[0] != 0x06:
        return ""
    try:
        return asn1.decode_der(ObjectIdentifier, content[: 2 + content[1]]).dotted_string
    except ValueError:
        return ""
