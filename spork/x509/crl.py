"""Certificate revocation lists: entries and TBSCertList, encoded by the one DER path, and what is needed to read them.

A list is encoded in two steps so that a long one needs neither a long pause nor much memory: `encode_entries` turns a batch
of entries into octets (a worker process may do that), and `build_tbs` puts the joined batches into a TBSCertList.
Source: RFC 5280 section 5.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, NamedTuple

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from spork.errors import Code, SporkError
from spork.x509.algorithms import Algorithm, algorithm_with_identifier, load_public_key
from spork.x509.bounds import check_der, elements
from spork.x509.der import CRLTBS, Extension, raw, time, wrap
from spork.x509.signatures import verify_signature

UNSPECIFIED = 0
HOLD = 6
REMOVE_FROM_CRL = 8

_REASONS: dict[int, x509.ReasonFlags] = {
    1: x509.ReasonFlags.key_compromise,
    2: x509.ReasonFlags.ca_compromise,
    3: x509.ReasonFlags.affiliation_changed,
    4: x509.ReasonFlags.superseded,
    5: x509.ReasonFlags.cessation_of_operation,
    6: x509.ReasonFlags.certificate_hold,
    8: x509.ReasonFlags.remove_from_crl,
    9: x509.ReasonFlags.privilege_withdrawn,
    10: x509.ReasonFlags.aa_compromise,
}
_CODES = {flag: code for code, flag in _REASONS.items()}
MAX_LIST_OCTETS = 256 * 1024 * 1024
"""Of a list that comes from elsewhere: some five million entries."""
MAX_NUMBER_OCTETS = 20
"""Conforming issuers never use a longer CRLNumber (RFC 5280 section 5.2.3)."""
_V2 = 1
_LONG_FORM = 0x80


class RevokedEntry(NamedTuple):
    """One line of a list. A named tuple, because 100,000 of them travel to a worker process."""

    serial: int
    revoked_at: datetime
    reason: int = UNSPECIFIED
    """CRLReason; 8 (removeFromCRL) stands in delta CRLs only, 7 does not exist."""
    invalidity_date: datetime | None = None


@dataclass(frozen=True, slots=True)
class CRLHeader:
    """Everything of a list but its entries. Plain data, so that it can go to another process."""

    issuer_der: bytes
    """The CA's subject, octet for octet."""
    signature: bytes
    """DER of the AlgorithmIdentifier."""
    authority_key_identifier: bytes
    number: int
    this_update: datetime
    next_update: datetime
    distribution_points: tuple[str, ...] = ()
    """URIs of the list as the certificates' cRLDistributionPoints name it; empty: one list for the whole CA, no IDP."""
    base_number: int | None = None
    """Of a delta: the number of the base list that it changes."""
    freshest: tuple[str, ...] = ()
    """Where the delta of this base is found; never in a delta (RFC 5280 section 5.2.6)."""


@asn1.sequence
class _Entry:
    user_certificate: int
    revocation_date: asn1.UTCTime | asn1.GeneralizedTime
    extensions: list[Extension] | None


@asn1.sequence
class _Entries:
    entries: list[_Entry]


@asn1.sequence
class _TBSCertList:
    version: int
    signature: asn1.TLV
    issuer: asn1.TLV
    this_update: asn1.UTCTime | asn1.GeneralizedTime
    next_update: asn1.UTCTime | asn1.GeneralizedTime
    revoked_certificates: asn1.TLV
    extensions: Annotated[list[Extension], asn1.Explicit(0)]


# An optional field of any type cannot be declared, and an empty SEQUENCE must not stand there (RFC 5280 section 5.1.2.6).
@asn1.sequence
class _EmptyTBSCertList:
    version: int
    signature: asn1.TLV
    issuer: asn1.TLV
    this_update: asn1.UTCTime | asn1.GeneralizedTime
    next_update: asn1.UTCTime | asn1.GeneralizedTime
    extensions: Annotated[list[Extension], asn1.Explicit(0)]


@asn1.sequence
class _CertificateList:
    tbs: asn1.TLV
    algorithm: asn1.TLV
    signature: asn1.BitString


_REASON_EXTENSIONS = {
    code: Extension(oid=CRLEntryExtensionOID.CRL_REASON, critical=False, value=x509.CRLReason(flag).public_bytes())
    for code, flag in _REASONS.items()
}


def encode_entries(entries: Iterable[RevokedEntry]) -> bytes:
    """The entries' encodings, joined. Batches may be joined again. Raises ValueError for a reason that does not exist."""
    encoded = asn1.encode_der(_Entries(entries=[_entry(entry) for entry in entries]))
    # The two outer headers belong to the SEQUENCEs that only carried the batch through the encoder.
    return bytes(raw(bytes(raw(encoded).data)).data)


def _entry(entry: RevokedEntry) -> _Entry:
    if entry.serial <= 0:
        raise ValueError("a serial number is positive")
    extensions: list[Extension] = []
    if entry.reason != UNSPECIFIED:
        # RFC 5280 section 5.3.1: the extension is left out rather than saying "unspecified".
        if entry.reason not in _REASON_EXTENSIONS:
            raise ValueError(f"{entry.reason} is no CRLReason")
        extensions.append(_REASON_EXTENSIONS[entry.reason])
    if entry.invalidity_date is not None:
        date = x509.InvalidityDate(entry.invalidity_date).public_bytes()
        extensions.append(Extension(oid=CRLEntryExtensionOID.INVALIDITY_DATE, critical=False, value=date))
    return _Entry(user_certificate=entry.serial, revocation_date=time(entry.revoked_at), extensions=extensions or None)


def build_tbs(header: CRLHeader, entries: bytes) -> CRLTBS:
    """The TBSCertList over entries that `encode_entries` made. Raises ValueError for a header that breaks RFC 5280."""
    _check(header)
    fields = {
        "version": _V2,
        "signature": raw(header.signature),
        "issuer": raw(header.issuer_der),
        "this_update": time(header.this_update),
        "next_update": time(header.next_update),
        "extensions": _extensions(header),
    }
    if not entries:
        return CRLTBS(asn1.encode_der(_EmptyTBSCertList(**fields)))  # type: ignore[arg-type]
    return CRLTBS(asn1.encode_der(_TBSCertList(revoked_certificates=raw(_sequence(entries)), **fields)))  # type: ignore[arg-type]


def _check(header: CRLHeader) -> None:
    if header.number < 0 or (header.number.bit_length() + 8) // 8 > MAX_NUMBER_OCTETS:
        raise ValueError(f"a CRL number has 1 to {MAX_NUMBER_OCTETS} octets")
    if header.next_update <= header.this_update:
        raise ValueError("nextUpdate must lie after thisUpdate")
    if header.base_number is not None and header.base_number >= header.number:
        raise ValueError("a delta CRL has a higher number than its base")
    if header.base_number is not None and header.freshest:
        raise ValueError("freshestCRL does not stand in a delta CRL")


def _extensions(header: CRLHeader) -> list[Extension]:
    aki = x509.AuthorityKeyIdentifier(header.authority_key_identifier, None, None)
    found: list[tuple[bool, x509.ExtensionType]] = [(False, aki), (False, x509.CRLNumber(header.number))]
    if header.base_number is not None:
        found.append((True, x509.DeltaCRLIndicator(header.base_number)))
    if header.distribution_points:
        found.append((True, _issuing_distribution_point(header.distribution_points)))
    if header.freshest:
        point = x509.DistributionPoint(_uris(header.freshest), None, None, None)
        found.append((False, x509.FreshestCRL([point])))
    return [Extension(oid=value.oid, critical=critical, value=value.public_bytes()) for critical, value in found]


def _issuing_distribution_point(uris: tuple[str, ...]) -> x509.IssuingDistributionPoint:
    return x509.IssuingDistributionPoint(
        full_name=_uris(uris),
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )


def _uris(uris: tuple[str, ...]) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(uri) for uri in uris]


def _sequence(content: bytes) -> bytes:
    """The header of a SEQUENCE before contents that are encoded already."""
    length = len(content)
    if length < _LONG_FORM:
        return bytes((0x30, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x30, _LONG_FORM | len(octets))) + octets + content


# Reading ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadCRL:
    """A list as read, with the fields that decide whether and where it may be published."""

    crl: x509.CertificateRevocationList
    der: bytes
    number: int | None
    base_number: int | None
    this_update: datetime
    next_update: datetime | None
    distribution_points: tuple[str, ...]
    authority_key_identifier: bytes | None

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.der).digest()


def read_crl(data: bytes) -> ReadCRL:
    """Reads DER or PEM. Raises SporkError(MALFORMED)."""
    try:
        pem = data.lstrip().startswith(b"-----BEGIN")
        crl = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
        return _read(crl)
    except ValueError as error:
        raise SporkError(Code.MALFORMED, "This is not a certificate revocation list in DER or PEM.") from error


def _read(crl: x509.CertificateRevocationList) -> ReadCRL:
    values = {extension.oid: extension.value for extension in crl.extensions}
    number, base = values.get(ExtensionOID.CRL_NUMBER), values.get(ExtensionOID.DELTA_CRL_INDICATOR)
    aki, idp = values.get(ExtensionOID.AUTHORITY_KEY_IDENTIFIER), values.get(ExtensionOID.ISSUING_DISTRIBUTION_POINT)
    names = idp.full_name if isinstance(idp, x509.IssuingDistributionPoint) else None
    return ReadCRL(
        crl=crl,
        der=crl.public_bytes(Encoding.DER),
        number=number.crl_number if isinstance(number, x509.CRLNumber) else None,
        base_number=base.crl_number if isinstance(base, x509.DeltaCRLIndicator) else None,
        this_update=crl.last_update_utc,
        next_update=crl.next_update_utc,
        distribution_points=tuple(n.value for n in names or () if isinstance(n, x509.UniformResourceIdentifier)),
        authority_key_identifier=aki.key_identifier if isinstance(aki, x509.AuthorityKeyIdentifier) else None,
    )


def entries_of(crl: x509.CertificateRevocationList) -> Iterable[RevokedEntry]:
    """The entries as values; reason 0 where the list gives none. Raises ValueError for entry extensions that cannot be read."""
    for revoked in crl:
        reason, invalidity = UNSPECIFIED, None
        for extension in revoked.extensions:
            if isinstance(extension.value, x509.CRLReason):
                reason = _CODES.get(extension.value.reason, UNSPECIFIED)
            elif isinstance(extension.value, x509.InvalidityDate):
                invalidity = extension.value.invalidity_date_utc
        yield RevokedEntry(revoked.serial_number, revoked.revocation_date_utc, reason, invalidity)


def verify_crl(der: bytes, spki: bytes) -> Algorithm:
    """Checks the signature under a CA key and that inner and outer algorithm agree; gives the algorithm.

    Raises SporkError: MALFORMED, BAD_SIGNATURE.
    """
    try:
        signed = asn1.decode_der(_CertificateList, der)
        crl = x509.load_der_x509_crl(der)
    except ValueError as error:
        raise SporkError(Code.MALFORMED, "This is not a certificate revocation list in DER.") from error
    algorithm = algorithm_with_identifier(asn1.encode_der(signed.algorithm))
    if algorithm is None:
        raise SporkError(Code.BAD_SIGNATURE, "The list is signed with an algorithm that is not supported.")
    # Loading it refused a list whose inner and outer algorithm differ (RFC 5280 section 5.1.1.2).
    verify_signature(load_public_key(spki), algorithm, crl.tbs_certlist_bytes, signed.signature.as_bytes())
    return algorithm


def assemble(tbs: bytes, signature: bytes) -> bytes:
    """A CertificateList (DER) from a TBSCertList and the signature over it, which was made elsewhere; nothing is verified here.

    The algorithm is the one that the TBSCertList names (RFC 5280 section 5.1.1.2). Raises SporkError(MALFORMED).
    """
    check_der(tbs, max_octets=MAX_LIST_OCTETS)
    try:
        fields = elements(tbs)
        algorithm = algorithm_with_identifier(fields[1])
    except (IndexError, ValueError, SporkError):
        algorithm = None
    if algorithm is None:
        raise SporkError(Code.MALFORMED, "This is no TBSCertList that `spork crl tbs` wrote.")
    return wrap(CRLTBS(tbs), algorithm, signature)
