"""`status.authorities`: where each CA of a tree stands. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from spork.controller.conditions import time_text
from spork.controller.hierarchy.snapshot import Snapshot
from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.model import DeclaredAuthority
from spork.hierarchy.output import csr_pem
from spork.hierarchy.snapshot import stored_certificate
from spork.hierarchy.steps import Step, Target
from spork.ids import AuthorityId, serial_text
from spork.issuance.tree import AuthorityState

_EXPIRING = timedelta(days=90)
_EXPIRING_SHARE = 10
"""A CA is expiring in the last tenth of its life, and in the last 90 days at most: time enough for a successor."""
IN_SERVICE = frozenset({"Ready", "Expiring"})


def authority_rows(snapshot: Snapshot, counts: Mapping[AuthorityId, int] | None) -> list[dict[str, Any]]:
    """One entry for each declared CA, in the order of the tree."""
    if snapshot.declared is None:
        return []
    steps = {step.id: step for step in snapshot.plan.steps if step.target is Target.AUTHORITY}
    return [_row(one, steps.get(str(one.id)), snapshot, counts) for one in snapshot.declared.authorities]


def ready_text(rows: list[dict[str, Any]]) -> str | None:
    """How many CAs are in service, such as 3/4."""
    return f"{sum(row['phase'] in IN_SERVICE for row in rows)}/{len(rows)}" if rows else None


def first_end(rows: list[dict[str, Any]]) -> str | None:
    """When the first certificate of a CA ends."""
    return min((row["notAfter"] for row in rows if "notAfter" in row), default=None)


def _row(
    declared: DeclaredAuthority, step: Step | None, snapshot: Snapshot, counts: Mapping[AuthorityId, int] | None
) -> dict[str, Any]:
    state = snapshot.tree.authorities.get(declared.id)
    if state is not None and state.declared_by != snapshot.subject:
        # Somebody else's CA: what stands there is not about this tree.
        state = None
    certificate = stored_certificate(state)
    phase = _phase(declared, state, certificate, step, snapshot)
    row: dict[str, Any] = {"id": str(declared.id), "phase": phase}
    if message := _message(declared, step, phase, snapshot):
        row["message"] = message
    if state is not None and state.current is not None:
        row["generation"] = state.current.generation
        if state.current.pending_csr is not None:
            row["request"] = csr_pem(state.current.pending_csr)
    if certificate is not None:
        row["serial"] = serial_text(certificate.serial_number)
        row["notAfter"] = time_text(certificate.not_valid_after_utc)
    if state is not None and counts is not None:
        row["liveCertificates"] = counts.get(declared.id, 0)
    return row


def _phase(
    declared: DeclaredAuthority,
    state: AuthorityState | None,
    certificate: x509.Certificate | None,
    step: Step | None,
    snapshot: Snapshot,
) -> str:
    if step is not None and step.change is ChangeClass.FORBIDDEN and certificate is None:
        return "Failed"
    if state is not None and state.disabled:
        return "Failed"
    if certificate is None:
        return "Waiting" if step is not None and step.change is ChangeClass.WAITING else "Pending"
    if declared.id in snapshot.revoked:
        return "Revoked"
    return _phase_in_time(certificate, snapshot.now)


def _phase_in_time(certificate: x509.Certificate, now: datetime) -> str:
    end, life = certificate.not_valid_after_utc, certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if end < now:
        return "Expired"
    return "Expiring" if end - now < min(_EXPIRING, life / _EXPIRING_SHARE) else "Ready"


def _message(declared: DeclaredAuthority, step: Step | None, phase: str, snapshot: Snapshot) -> str:
    """What it waits for or failed at; nothing where all is as it should be."""
    handed_in = snapshot.messages.get(str(declared.id))
    if handed_in:
        return handed_in
    match phase:
        case "Expired":
            return "Its certificate has expired; declare a successor with another id."
        case "Expiring":
            return "Its certificate ends soon; declare a successor with another id, and let issuers move to it."
        case "Revoked":
            return "Its certificate, or one above it, is revoked; declare a successor with another id."
    if step is None or step.change is ChangeClass.NONE:
        return ""
    return sentence(step)


def sentence(step: Step) -> str:
    """The reason of a step, as a sentence for a status."""
    return f"{step.reason[:1].upper()}{step.reason[1:]}"
