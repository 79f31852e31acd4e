"""PKCS#10 certification requests: reading foreign ones with proof of possession, and building our own.

Source: RFC 2986 (CertificationRequest), RFC 2985 section 5.4.2 (extensionRequest), RFC 5280 section 4.2.1.6 (names).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spork.errors import Code, SporkError
from spork.x509.algorithms import load_public_key
from spork.x509.bounds import check_der, elements
from spork.x509.der import CSRTBS, Extension, Signer, raw, sign, unwrap
from spork.x509.names import SubjectName, common_name, from_general_name, to_general_name
from spork.x509.namesyntax import name_fault, subject_fault
from spork.x509.signatures import accepted_algorithm, verify_signature

MAX_OCTETS = 64 * 1024
"""A request with an ML-DSA-87 key and a hundred names stays below 16 KiB."""
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_MICROSOFT_EXTENSION_REQUEST = "1.3.6.1.4.1.311.2.1.14"
_PEM = re.compile(r"-----BEGIN (NEW )?CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]*)-----END \1?CERTIFICATE REQUEST-----")
_PARSER_ERRORS = (
    ValueError,
    IndexError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    # Some defects, such as a country of three letters, are only warned about; strict callers make that an exception.
    Warning,
)


@dataclass(frozen=True, slots=True)
class ParsedCSR:
    """A request whose signature was verified and whose names are well formed. Nothing in it is believed beyond that."""

    request: x509.CertificateSigningRequest
    spki: bytes
    """The SubjectPublicKeyInfo, octet for octet."""
    subject: x509.Name
    names: tuple[SubjectName, ...]
    """Subject alternative names in canonical form and in the order of the request, without repetitions."""
    common_name: str | None
    extensions: x509.Extensions
    """What the extensionRequest attribute asks for."""


def parse_csr(der: bytes) -> ParsedCSR:
    """Reads a request and verifies its proof of possession.

    Raises SporkError: BAD_CSR (size, encoding, signature, attributes, names), BAD_PUBLIC_KEY (the key cannot be read).
    Whether the key is strong and the names are permitted is for the policy rules.
    """
    try:
        check_der(der, max_octets=MAX_OCTETS)
    except SporkError as error:
        raise _bad(f"The certificate request was refused: {error.detail}") from None
    try:
        request = x509.load_der_x509_csr(der)
        tbs, identifier, signature = unwrap(der)
        # CertificationRequestInfo: version, subject, subjectPKInfo, attributes.
        spki = elements(tbs)[2]
    except _PARSER_ERRORS as error:
        raise _bad("The certificate request is not a readable PKCS#10 request.") from error
    _verify(tbs, identifier, signature, spki)
    _check_attributes(request)
    try:
        subject, extensions = request.subject, request.extensions
    except _PARSER_ERRORS as error:
        raise _bad(f"The subject or an extension of the certificate request cannot be used: {error}.") from error
    if (fault := subject_fault(subject)) is not None:
        raise _bad(f"The subject of the certificate request {fault}.")
    return ParsedCSR(request, spki, subject, _names(extensions), common_name(subject), extensions)


def csr_from_pem(text: str) -> ParsedCSR:
    """As `parse_csr`, for the one PEM block `CERTIFICATE REQUEST` (or `NEW CERTIFICATE REQUEST`) in the text (RFC 7468)."""
    if len(text) > 2 * MAX_OCTETS:
        raise _bad(f"The certificate request is larger than {2 * MAX_OCTETS} characters.")
    blocks = _PEM.findall(text)
    if len(blocks) != 1:
        raise _bad("There must be exactly one PEM block CERTIFICATE REQUEST.")
    try:
        return parse_csr(base64.b64decode("".join(blocks[0][1].split()), validate=True))
    except binascii.Error:
        raise _bad("The PEM block of the certificate request is not base64.") from None


@asn1.sequence
class _Attribute:
    oid: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class _CertificationRequestInfo:
    version: int
    subject: asn1.TLV
    subject_public_key_info: asn1.TLV
    attributes: Annotated[asn1.SetOf[_Attribute], asn1.Implicit(0)]


@asn1.sequence
class _RequestedExtensions:
    # A bare SEQUENCE OF cannot be encoded by itself; its one field's octets are taken out of this wrapper again.
    extensions: list[Extension]


def build_csr(
    subject: x509.Name, names: Sequence[SubjectName], signer: Signer, extensions: Sequence[Extension] = ()
) -> bytes:
    """A signed request (DER) for the signer's key: names go into subjectAltName, `extensions` are asked for besides.

    For any algorithm and purpose that a Signer has. Raises ValueError for a name that its kind cannot hold.
    """
    wanted = list(extensions)
    if names:
        value = x509.SubjectAlternativeName([to_general_name(name) for name in names]).public_bytes()
        # RFC 5280 section 4.2.1.6: without a subject the alternative names are all there is, and must be understood.
        critical = not list(subject)
        wanted.append(Extension(oid=x509.SubjectAlternativeName.oid, critical=critical, value=value))
    info = _CertificationRequestInfo(
        version=0,
        subject=raw(subject.public_bytes()),
        subject_public_key_info=raw(signer.spki),
        attributes=asn1.SetOf([_extension_request(wanted)] if wanted else []),
    )
    return sign(CSRTBS(asn1.encode_der(info)), signer)


def _extension_request(extensions: list[Extension]) -> _Attribute:
    wrapper = raw(asn1.encode_der(_RequestedExtensions(extensions=extensions)))
    return _Attribute(oid=x509.ObjectIdentifier(_EXTENSION_REQUEST), values=asn1.SetOf([raw(bytes(wrapper.data))]))


def _verify(tbs: bytes, identifier: bytes, signature: bytes, spki: bytes) -> None:
    """Proof of possession: the request is signed by the key that it carries."""
    try:
        algorithm = accepted_algorithm(identifier)
    except SporkError as error:
        raise _bad(f"The certificate request was refused: {error.detail}") from None
    key = load_public_key(spki)
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki:
        # One key in two encodings would be two keys to every comparison by digest, such as that with the keys of CAs.
        raise SporkError(Code.BAD_PUBLIC_KEY, "The public key is not written in its one standard encoding.")
    try:
        verify_signature(key, algorithm, tbs, signature)
    except SporkError as error:
        raise _bad(f"The proof of possession failed: {error.detail}") from None


def _check_attributes(request: x509.CertificateSigningRequest) -> None:
    """Attributes are a SET: each type once (RFC 2986 section 4.1 with X.501), and one way of asking for extensions."""
    try:
        oids = [attribute.oid.dotted_string for attribute in request.attributes]
    except _PARSER_ERRORS as error:
        raise _bad(f"The attributes of the certificate request cannot be used: {error}.") from error
    repeated = {oid for oid in oids if oids.count(oid) > 1}
    if repeated:
        raise _bad(f"The certificate request repeats the attribute {', '.join(sorted(repeated))}.")
    if _EXTENSION_REQUEST in oids and _MICROSOFT_EXTENSION_REQUEST in oids:
        raise _bad("The certificate request asks for extensions in two attributes.")


def _names(extensions: x509.Extensions) -> tuple[SubjectName, ...]:
    try:
        asked = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    # A dict keeps the order and drops what is the same name in another spelling.
    return tuple(dict.fromkeys(_name(name) for name in asked))


def _name(name: x509.GeneralName) -> SubjectName:
    if isinstance(name, x509.DNSName) and name.value.endswith("."):
        raise _bad(f"The DNS name {name.value!r} ends in a dot; certificates carry names without it.")
    canonical = from_general_name(name)
    if canonical is None:
        raise _bad(f"Subject alternative names of the kind {_kind(name)} are not supported.")
    if (fault := name_fault(canonical)) is not None:
        raise _bad(f"The {canonical.kind.value} name {canonical.value!r} {fault}.")
    return canonical


def _kind(name: x509.GeneralName) -> str:
    match name:
        case x509.OtherName():
            return f"otherName {name.type_id.dotted_string}"
        case x509.RegisteredID():
            return f"registeredID {name.value.dotted_string}"
        case x509.IPAddress():
            return "iPAddress with a network mask"
        case _:
            return type(name).__name__


def _bad(detail: str) -> SporkError:
    return SporkError(Code.BAD_CSR, detail)
