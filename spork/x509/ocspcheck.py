"""What an OCSP client must check before it believes an answer.

Source: RFC 6960 sections 3.2 (acceptance) and 4.2.2.2 (who may sign), RFC 9654 section 2.2 (nonce).
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from spork.errors import Code, SporkError
from spork.x509.algorithms import BY_NAME, Algorithm, algorithm_of, load_public_key
from spork.x509.ocsp import issuer_hashes
from spork.x509.signatures import verify_signature
from spork.x509.spki import key_octets

_SKEW = timedelta(minutes=5)
"""How far clocks may differ."""


@dataclass(frozen=True, slots=True)
class CheckedStatus:
    """One certificate's status, from an answer that was checked."""

    serial: int
    status: str
    """good, revoked or unknown."""
    revoked_at: datetime | None
    reason: str | None
    this_update: datetime
    next_update: datetime | None


def check_response(
    data: bytes, issuer: x509.Certificate, serials: Sequence[int], *, nonce: bytes | None, now: datetime
) -> Sequence[CheckedStatus]:
    """The statuses of these serials, if the response may be believed and tells all of them.

    Raises SporkError: MALFORMED, UNAVAILABLE (tryLater, internalError), FORBIDDEN (unauthorized), BAD_SIGNATURE, BAD_NONCE,
    PRECONDITION_FAILED (not yet or no longer valid, incomplete, or about another CA).
    """
    try:
        response = ocsp.load_der_ocsp_response(data)
    except ValueError as error:
        raise SporkError(Code.MALFORMED, "The answer is not an OCSP response.") from error
    _require_success(response.response_status)
    _check_signature(response, issuer, now)
    _check_nonce(response, nonce)
    checked = {single.serial_number: _checked(single, issuer, now) for single in response.responses}
    missing = [serial for serial in serials if serial not in checked]
    if missing:
        raise SporkError(Code.PRECONDITION_FAILED, f"The answer says nothing about serial {missing[0]:X}.")
    return [checked[serial] for serial in serials]


def _require_success(status: ocsp.OCSPResponseStatus) -> None:
    codes = {
        ocsp.OCSPResponseStatus.MALFORMED_REQUEST: Code.MALFORMED,
        ocsp.OCSPResponseStatus.UNAUTHORIZED: Code.FORBIDDEN,
        ocsp.OCSPResponseStatus.SIG_REQUIRED: Code.FORBIDDEN,
        ocsp.OCSPResponseStatus.TRY_LATER: Code.UNAVAILABLE,
        ocsp.OCSPResponseStatus.INTERNAL_ERROR: Code.UNAVAILABLE,
    }
    if status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        words = status.name.lower().replace("_", " ")
        raise SporkError(codes[status], f"The responder gives no answer: {words}.")


def _check_signature(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> None:
    key = next((spki for spki in _signers(response, issuer, now) if _is_named(response, spki)), None)
    if key is None:
        raise SporkError(Code.BAD_SIGNATURE, "The answer is signed by nobody whom this CA named as its responder.")
    public_key = load_public_key(key)
    algorithm = algorithm_of(public_key)
    if algorithm is None:
        raise SporkError(Code.BAD_SIGNATURE, "The responder's key is not of a kind that is supported.")
    verify_signature(public_key, _with_hash_of(response, algorithm), response.tbs_response_bytes, response.signature)


def _with_hash_of(response: ocsp.OCSPResponse, algorithm: Algorithm) -> Algorithm:
    """The row with the signature algorithm that the response names; responders of others pair keys and hashes differently."""
    oid = response.signature_algorithm_oid.dotted_string
    found = next((row for row in BY_NAME.values() if row.signature_oid == oid), None)
    if found is None or found.family != algorithm.family:
        raise SporkError(Code.BAD_SIGNATURE, "The answer is signed with an algorithm that is not supported.")
    return found


def _signers(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> list[bytes]:
    """Keys that may sign for the CA: its own, and those of certificates that it gave for just that."""
    keys = [_spki(issuer)]
    for certificate in response.certificates:
        usage = [e.value for e in certificate.extensions if isinstance(e.value, x509.ExtendedKeyUsage)]
        delegated = any(ExtendedKeyUsageOID.OCSP_SIGNING in value for value in usage)
        valid = certificate.not_valid_before_utc - _SKEW <= now <= certificate.not_valid_after_utc + _SKEW
        if delegated and valid and _is_issued_by(certificate, issuer):
            keys.append(_spki(certificate))
    return keys


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_named(response: ocsp.OCSPResponse, spki: bytes) -> bool:
    if response.responder_key_hash is not None:
        return response.responder_key_hash == issuer_hashes(b"", spki, "sha1")[1]
    named = [c for c in response.certificates if c.subject == response.responder_name]
    return not named or any(key_octets(_spki(certificate)) == key_octets(spki) for certificate in named)


def _check_nonce(response: ocsp.OCSPResponse, nonce: bytes | None) -> None:
    if nonce is None:
        return
    found = next((e.value.nonce for e in response.extensions if isinstance(e.value, x509.OCSPNonce)), None)
    if found is None or not hmac.compare_digest(found, nonce):
        raise SporkError(Code.BAD_NONCE, "The answer does not carry the nonce that was sent; it may be an old one.")


def _checked(single: ocsp.OCSPSingleResponse, issuer: x509.Certificate, now: datetime) -> CheckedStatus:
    expected = issuer_hashes(issuer.subject.public_bytes(), _spki(issuer), single.hash_algorithm.name)
    if (single.issuer_name_hash, single.issuer_key_hash) != expected:
        raise SporkError(Code.PRECONDITION_FAILED, "The answer is about another CA's certificate.")
    if single.this_update_utc > now + _SKEW:
        raise SporkError(Code.PRECONDITION_FAILED, "The answer is from the future; is the clock right?")
    if single.next_update_utc is not None and single.next_update_utc < now - _SKEW:
        raise SporkError(Code.PRECONDITION_FAILED, "The answer is over; there should be a newer one.")
    return CheckedStatus(
        serial=single.serial_number,
        status=single.certificate_status.name.lower(),
        revoked_at=single.revocation_time_utc,
        reason=single.revocation_reason.value if single.revocation_reason else None,
        this_update=single.this_update_utc,
        next_update=single.next_update_utc,
    )


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
