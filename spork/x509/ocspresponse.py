"""OCSP responses, encoded by the one DER path.

Source: RFC 6960 section 4.2.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Annotated

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from spork.x509.algorithms import Algorithm
from spork.x509.der import Extension, OCSPResponseTBS, raw
from spork.x509.ocsp import BASIC, nonce_extension
from spork.x509.spki import key_octets

_ARCHIVE_CUTOFF = ObjectIdentifier("1.3.6.1.5.5.7.48.1.6")


class ResponseStatus(IntEnum):
    """OCSPResponseStatus (RFC 6960 section 4.2.1)."""

    successful = 0
    malformedRequest = 1
    internalError = 2
    tryLater = 3
    sigRequired = 5
    unauthorized = 6


class CertStatus(IntEnum):
    """CertStatus; the numbers are its context tags."""

    good = 0
    revoked = 1
    unknown = 2


@dataclass(frozen=True, slots=True)
class SingleStatus:
    """The answer about one certificate."""

    cert_id: bytes
    status: CertStatus
    revoked_at: datetime | None = None
    reason: int = 0
    """CRLReason; 0 is left out of the response."""
    archive_cutoff: datetime | None = None
    """Of an expired certificate: since when this responder keeps statuses (RFC 6960 section 4.4.4)."""


@asn1.sequence
class _RevokedInfo:
    revocation_time: asn1.GeneralizedTime


@asn1.sequence
class _RevokedInfoWithReason:
    revocation_time: asn1.GeneralizedTime
    reason: Annotated[asn1.TLV, asn1.Explicit(0)]


@asn1.sequence
class _SingleResponse:
    cert_id: asn1.TLV
    status: asn1.TLV
    this_update: asn1.GeneralizedTime
    next_update: Annotated[asn1.GeneralizedTime | None, asn1.Explicit(0)]
    extensions: Annotated[list[Extension] | None, asn1.Explicit(1)]


@asn1.sequence
class _ResponseData:
    responder_id: asn1.TLV
    produced_at: asn1.GeneralizedTime
    responses: list[_SingleResponse]
    extensions: Annotated[list[Extension] | None, asn1.Explicit(1)]


@asn1.sequence
class _BasicResponse:
    tbs: asn1.TLV
    algorithm: asn1.TLV
    signature: asn1.BitString
    certificates: Annotated[list[asn1.TLV], asn1.Explicit(0)]


@asn1.sequence
class _ResponseBytes:
    type: ObjectIdentifier
    response: bytes


@asn1.sequence
class _OCSPResponse:
    status: asn1.TLV
    response: Annotated[_ResponseBytes, asn1.Explicit(0)]


def error_response(status: ResponseStatus) -> bytes:
    """A response that says only why there is no answer; it is never signed (RFC 6960 section 2.3)."""
    return bytes((0x30, 0x03, 0x0A, 0x01, status.value))


def build_response_data(
    responder_spki: bytes,
    statuses: Sequence[SingleStatus],
    *,
    produced_at: datetime,
    this_update: datetime,
    next_update: datetime,
    nonce: bytes | None = None,
) -> OCSPResponseTBS:
    """The ResponseData of a basic response; one SingleResponse per status, in order. The responder is named by key."""
    # KeyHash is SHA-1 by definition (RFC 6960 section 4.2.1), of the BIT STRING's content.
    key_hash = hashlib.sha1(key_octets(responder_spki), usedforsecurity=False).digest()
    by_key = bytes((0xA2, 2 + len(key_hash), 0x04, len(key_hash))) + key_hash
    updates = _generalized(this_update), _generalized(next_update)
    return OCSPResponseTBS(
        asn1.encode_der(
            _ResponseData(
                responder_id=raw(by_key),
                produced_at=_generalized(produced_at),
                responses=[_single(status, *updates) for status in statuses],
                extensions=nonce_extension(nonce),
            )
        )
    )


def _single(
    status: SingleStatus, this_update: asn1.GeneralizedTime, next_update: asn1.GeneralizedTime
) -> _SingleResponse:
    cutoff = status.archive_cutoff
    extensions = None
    if cutoff is not None:
        extensions = [Extension(oid=_ARCHIVE_CUTOFF, critical=False, value=_encoded_time(cutoff))]
    return _SingleResponse(
        cert_id=raw(status.cert_id),
        status=raw(_cert_status(status)),
        this_update=this_update,
        next_update=next_update,
        extensions=extensions,
    )


def _cert_status(status: SingleStatus) -> bytes:
    if status.status is not CertStatus.revoked:
        # IMPLICIT NULL under the alternative's tag.
        return bytes((0x80 | status.status.value, 0x00))
    if status.revoked_at is None:
        raise ValueError("a revoked certificate has a revocation time")
    time = _generalized(status.revoked_at)
    if status.reason == 0:
        encoded = asn1.encode_der(_RevokedInfo(revocation_time=time))
    else:
        reason = raw(bytes((0x0A, 0x01, status.reason)))
        encoded = asn1.encode_der(_RevokedInfoWithReason(revocation_time=time, reason=reason))
    # The alternative is IMPLICIT: its tag stands in place of the SEQUENCE's own.
    return bytes((0xA0 | status.status.value,)) + encoded[1:]


def _generalized(instant: datetime) -> asn1.GeneralizedTime:
    return asn1.GeneralizedTime(instant.astimezone(UTC).replace(microsecond=0))


def _encoded_time(instant: datetime) -> bytes:
    return bytes(raw(asn1.encode_der(_RevokedInfo(revocation_time=_generalized(instant)))).data)


def wrap_response(tbs: OCSPResponseTBS, algorithm: Algorithm, signature: bytes, responder: bytes) -> bytes:
    """The successful OCSPResponse, with the responder's certificate inside."""
    basic = _BasicResponse(
        tbs=raw(tbs.der),
        algorithm=raw(algorithm.identifier),
        signature=asn1.BitString(signature, 0),
        certificates=[raw(responder)],
    )
    body = _ResponseBytes(type=ObjectIdentifier(BASIC), response=asn1.encode_der(basic))
    status = raw(bytes((0x0A, 0x01, ResponseStatus.successful.value)))
    return asn1.encode_der(_OCSPResponse(status=status, response=body))
