"""Revocation, the pipeline's sibling: one transaction for the status, its audit event, the outbox and the counter."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum

from spork.clock import Clock
from spork.errors import Code, SporkError
from spork.ids import CertificateId
from spork.issuance.ports import AuditEvent, OutboxMessage, Revocation, RevocationLedger


class Reason(IntEnum):
    """CRLReason (RFC 5280 section 5.3.1). 7 is not used there."""

    unspecified = 0
    keyCompromise = 1
    cACompromise = 2
    affiliationChanged = 3
    superseded = 4
    cessationOfOperation = 5
    certificateHold = 6
    removeFromCRL = 8
    privilegeWithdrawn = 9
    aACompromise = 10


COMPROMISES = frozenset({Reason.keyCompromise, Reason.cACompromise, Reason.aACompromise})
"""Reasons for which a new CRL is due at once."""


def reason_named(text: str) -> Reason:
    """By RFC name or number, case ignored. Raises SporkError(BAD_REVOCATION_REASON) naming what there is."""
    for reason in Reason:
        if text.lower() in (reason.name.lower(), str(reason.value)):
            return reason
    known = ", ".join(reason.name for reason in Reason)
    raise SporkError(Code.BAD_REVOCATION_REASON, f"{text!r} is no revocation reason; known are {known}.")


class Revoker:
    """Changes the status of certificates."""

    def __init__(self, ledger: RevocationLedger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def revoke(
        self,
        certificate_id: CertificateId,
        reason: Reason,
        *,
        actor: str,
        subject: str,
        authority: str,
        address: str | None = None,
        invalidity_date: datetime | None = None,
    ) -> int:
        """Revokes, holds (certificateHold) or releases (removeFromCRL). Returns the authority's new status counter.

        `subject` names the certificate in the audit log. Raises SporkError: NOT_FOUND, ALREADY_REVOKED.
        """
        action = {Reason.certificateHold: "certificate.hold", Reason.removeFromCRL: "certificate.release"}
        at_once = reason in COMPROMISES
        return await self._ledger.revoke(
            Revocation(certificate_id, reason.value, self._clock.now(), invalidity_date),
            AuditEvent(
                action=action.get(reason, "certificate.revoke"),
                actor=actor,
                subject=subject,
                detail={
                    "reason": reason.name,
                    "invalidityDate": invalidity_date.isoformat() if invalidity_date else None,
                },
                address=address,
            ),
            [OutboxMessage("crl.publish", {"authority": authority, "urgent": at_once})],
        )
