"""OCSP requests as values, and how CertIDs name a CA; responses are in `ocspresponse.py`.

A CertID is kept as the octets that came in, because clients compare the echo with what they sent: whether the hash
algorithm's parameters are NULL or absent must come back as it was.
Source: RFC 6960 section 4.1, RFC 9654 (nonce).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from spork.errors import Code, SporkError
from spork.x509.bounds import check_der
from spork.x509.der import Extension, raw
from spork.x509.spki import key_octets

MAX_REQUEST_OCTETS = 64 * 1024
MAX_CERTIFICATES = 64
"""In one request. A browser asks for one, a validating proxy for a chain; each is a row to read and to sign over."""
MAX_NONCE_OCTETS = 128
"""RFC 9654 section 2.1 lets a responder accept 1 to 128 octets."""

HASHES = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
"""Hash algorithms of a CertID, by OID."""

BASIC = "1.3.6.1.5.5.7.48.1.1"
"""The one response type, id-pkix-ocsp-basic."""
_NONCE = "1.3.6.1.5.5.7.48.1.2"
_ACCEPTABLE_RESPONSES = "1.3.6.1.5.5.7.48.1.4"
# A preference among signature algorithms. A responder has one key, so the preference is understood and changes nothing.
_PREFERRED_SIGNATURES = "1.3.6.1.5.5.7.48.1.8"
_KNOWN_REQUEST_EXTENSIONS = frozenset({_NONCE, _ACCEPTABLE_RESPONSES, _PREFERRED_SIGNATURES})

_SEQUENCE, _CONTEXT_0, _CONTEXT_1, _CONTEXT_2 = b"\x30", b"\xa0", b"\xa1", b"\xa2"


@dataclass(frozen=True, slots=True)
class CertID:
    """Which certificate is asked about."""

    der: bytes
    """As it came in."""
    hash_name: str | None
    """sha1, sha256, ... or None for an algorithm that is not known here."""
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int


@dataclass(frozen=True, slots=True)
class OCSPRequest:
    """A request, as far as a responder heeds it; a requestor's name and signature are not looked at."""

    certificates: tuple[CertID, ...]
    nonce: bytes | None


@asn1.sequence
class _CertID:
    hash_algorithm: asn1.TLV
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int


@asn1.sequence
class _Request:
    cert_id: asn1.TLV
    extensions: Annotated[list[Extension] | None, asn1.Explicit(0)]


@asn1.sequence
class _Parts:
    parts: list[asn1.TLV]


@asn1.sequence
class _Requests:
    requests: list[_Request]


@asn1.sequence
class _Extensions:
    extensions: list[Extension]


@asn1.sequence
class _One:
    element: asn1.TLV


@asn1.sequence
class _Version:
    version: Annotated[int, asn1.Explicit(0)]


@asn1.sequence
class _OctetString:
    value: bytes


@asn1.sequence
class _Oids:
    oids: list[ObjectIdentifier]


@asn1.sequence
class _TBSRequest:
    requests: list[_Request]
    extensions: Annotated[list[Extension] | None, asn1.Explicit(2)]


@asn1.sequence
class _OCSPRequest:
    tbs: _TBSRequest


# Requests --------------------------------------------------------------------------------------------------------------


def parse_request(data: bytes) -> OCSPRequest:
    """Reads an OCSPRequest. Raises SporkError: TOO_LARGE, MALFORMED (also for a critical extension that is not known)."""
    check_der(data, max_octets=MAX_REQUEST_OCTETS)
    try:
        requests, extensions = _split(data)
        if not 0 < len(requests) <= MAX_CERTIFICATES:
            raise _malformed(f"A request asks about 1 to {MAX_CERTIFICATES} certificates.")
        for request in requests:
            _refuse_critical(request.extensions or [], frozenset())
        return OCSPRequest(tuple(_cert_id(request.cert_id) for request in requests), _nonce(extensions))
    except ValueError as error:
        raise _malformed("This is not an OCSP request in DER.") from error


def _malformed(sentence: str) -> SporkError:
    return SporkError(Code.MALFORMED, sentence)


def _split(data: bytes) -> tuple[list[_Request], list[Extension]]:
    """The requestList and the requestExtensions. Fields are told apart by tag, since requestorName may be of any type."""
    outer = _children(data)
    # optionalSignature is allowed and not looked at: everybody may ask.
    if len(outer) not in (1, 2) or outer[0].tag_bytes != _SEQUENCE or any(o.tag_bytes != _CONTEXT_0 for o in outer[1:]):
        raise ValueError("no OCSPRequest")
    fields = _children(asn1.encode_der(outer[0]))
    order = [field.tag_bytes for field in fields]
    expected = [tag for tag in (_CONTEXT_0, _CONTEXT_1, _SEQUENCE, _CONTEXT_2) if tag in order]
    if order != expected or _SEQUENCE not in order:
        raise ValueError("no TBSRequest")
    by_tag = {field.tag_bytes: asn1.encode_der(field) for field in fields}
    # A version of v1 is the default and must not be there in DER; clients that send it are understood all the same.
    if _CONTEXT_0 in by_tag and asn1.decode_der(_Version, _wrapped(by_tag[_CONTEXT_0])).version != 0:
        raise ValueError("version is not v1")
    requests = asn1.decode_der(_Requests, _wrapped(by_tag[_SEQUENCE])).requests
    if _CONTEXT_2 not in by_tag:
        return requests, []
    inner = bytes(raw(by_tag[_CONTEXT_2]).data)
    return requests, asn1.decode_der(_Extensions, _wrapped(inner)).extensions


def _wrapped(encoded: bytes) -> bytes:
    """SEQUENCE { encoded }: only the fields of a SEQUENCE can be decoded as a list."""
    return asn1.encode_der(_One(element=raw(encoded)))


def _children(encoded: bytes) -> list[asn1.TLV]:
    """The elements of a SEQUENCE. Raises ValueError."""
    return asn1.decode_der(_Parts, _wrapped(encoded)).parts


def _cert_id(cert_id: asn1.TLV) -> CertID:
    der = asn1.encode_der(cert_id)
    fields = asn1.decode_der(_CertID, der)
    return CertID(
        der=der,
        hash_name=_HASH_OF_IDENTIFIER.get(asn1.encode_der(fields.hash_algorithm)),
        issuer_name_hash=fields.issuer_name_hash,
        issuer_key_hash=fields.issuer_key_hash,
        serial=fields.serial_number,
    )


def _nonce(extensions: list[Extension]) -> bytes | None:
    """The nonce, if there is one. Raises SporkError(MALFORMED) for what RFC 9654 section 2.1 does not allow."""
    _refuse_critical(extensions, _KNOWN_REQUEST_EXTENSIONS)
    nonce: bytes | None = None
    for extension in extensions:
        oid = extension.oid.dotted_string
        if oid == _ACCEPTABLE_RESPONSES:
            accepted = {known.dotted_string for known in asn1.decode_der(_Oids, _wrapped(extension.value)).oids}
            if BASIC not in accepted:
                raise _malformed("Only basic OCSP responses are made here.")
        elif oid == _NONCE:
            nonce = asn1.decode_der(_OctetString, _wrapped(extension.value)).value
            if not 0 < len(nonce) <= MAX_NONCE_OCTETS:
                raise _malformed(f"A nonce has 1 to {MAX_NONCE_OCTETS} octets.")
    return nonce


def _refuse_critical(extensions: list[Extension], known: frozenset[str]) -> None:
    oids = [extension.oid.dotted_string for extension in extensions]
    if len(set(oids)) != len(oids):
        raise _malformed("An extension stands there twice.")
    for extension, oid in zip(extensions, oids, strict=True):
        if extension.critical and oid not in known:
            raise _malformed(f"The critical extension {oid} is not known here.")


def _identifiers() -> dict[bytes, str]:
    # Parameters may be NULL or absent (RFC 3370 section 2.1 and RFC 5754 section 2 tell receivers to take both).
    found: dict[bytes, str] = {}
    for oid, name in HASHES.items():
        encoded = asn1.encode_der(_Oids(oids=[ObjectIdentifier(oid)]))
        bare = bytes(raw(encoded).data)
        found[bare] = name
        parts = [*_children(bare), raw(b"\x05\x00")]
        found[asn1.encode_der(_Parts(parts=parts))[2:]] = name
    return found


_HASH_OF_IDENTIFIER = _identifiers()
_IDENTIFIER_OF_HASH = {name: identifier for identifier, name in _HASH_OF_IDENTIFIER.items()}


def issuer_hashes(subject_der: bytes, spki: bytes, hash_name: str) -> tuple[bytes, bytes]:
    """Gives issuerNameHash and issuerKeyHash of a CA. Raises SporkError(BAD_PUBLIC_KEY)."""
    # SHA-1 names issuers here and protects nothing.
    name, key = hashlib.new(hash_name, usedforsecurity=False), hashlib.new(hash_name, usedforsecurity=False)
    name.update(subject_der)
    key.update(key_octets(spki))
    return name.digest(), key.digest()


def build_request(
    subject_der: bytes, spki: bytes, serials: Sequence[int], hash_name: str, nonce: bytes | None
) -> bytes:
    """A client's request about certificates of one CA, without signature."""
    name_hash, key_hash = issuer_hashes(subject_der, spki, hash_name)
    algorithm = raw(_IDENTIFIER_OF_HASH[hash_name])
    requests = [
        _CertID(hash_algorithm=algorithm, issuer_name_hash=name_hash, issuer_key_hash=key_hash, serial_number=serial)
        for serial in serials
    ]
    tbs = _TBSRequest(
        requests=[_Request(cert_id=raw(asn1.encode_der(request)), extensions=None) for request in requests],
        extensions=nonce_extension(nonce),
    )
    return asn1.encode_der(_OCSPRequest(tbs=tbs))


def nonce_extension(nonce: bytes | None) -> list[Extension] | None:
    """The extension of a request or response that carries a nonce."""
    if nonce is None:
        return None
    value = bytes(raw(asn1.encode_der(_OctetString(value=nonce))).data)
    return [Extension(oid=ObjectIdentifier(_NONCE), critical=False, value=value)]
