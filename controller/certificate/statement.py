"""What is said of a Certificate: conditions and the other fields of its status, from what was found and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spork.controller import reasons
from spork.controller.certificate.decide import Action, Decision, back_off_until, request_digest
from spork.controller.certificate.renewal import next_attempt
from spork.controller.certificate.snapshot import Finding, Past, Snapshot
from spork.controller.conditions import Condition, condition_of, time_text
from spork.ids import serial_text
from spork.policy.proposal import Verdict

READY = "Ready"
ISSUING = "Issuing"


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that came to nothing."""

    finding: Finding
    trace: tuple[Verdict, ...] = ()
    counts: bool = True
    """Whether it makes the next attempt wait longer. What cannot be reached is no failure of this Certificate."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Conditions and fields, as `write_status` takes them."""

    conditions: Sequence[Condition]
    fields: Mapping[str, Any]
    next_attempt: datetime | None = None


def statement_of(
    snapshot: Snapshot,
    decision: Decision,
    now: datetime,
    *,
    failure: Failure | None = None,
    waiting_for: str | None = None,
) -> Statement:
    """What is true now. `waiting_for` names the Secret whose key awaits its certificate."""
    past = _past_after(snapshot, decision, failure, now)
    issuing = _issuing(snapshot, decision, failure, waiting_for, past)
    fields = {
        **_of_certificate(snapshot),
        "nextPrivateKeySecretName": waiting_for,
        "failedAttempts": past.failed_attempts or None,
        "lastFailureTime": time_text(past.last_failure) if past.last_failure is not None else None,
        "nextAttemptTime": time_text(past.next_attempt) if past.next_attempt is not None else None,
        "failedRequest": past.failed_request or None,
        "policyTrace": _trace(snapshot, failure, past),
    }
    return Statement([_ready(snapshot, decision, failure), issuing], fields, past.next_attempt)


def kept(item: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a status as they stand, where nothing new can be said but in conditions."""
    status = item.get("status") or {}
    return {key: value for key, value in status.items() if key not in ("conditions", "observedGeneration")}


def _ready(snapshot: Snapshot, decision: Decision, failure: Failure | None) -> Condition:
    if decision.unready is None:
        leaf = snapshot.target.leaf if snapshot.target is not None else None
        assert leaf is not None, "no check would have passed"
        renewal = snapshot.renewal_time
        assert renewal is not None
        return Condition(
            READY,
            True,
            reasons.ISSUED,
            f"The certificate is valid until {time_text(leaf.not_valid_after_utc)} and renewed at {time_text(renewal)}.",
        )
    # What stands in the way tells more than that there is no certificate yet.
    telling = failure.finding if failure is not None else None
    if telling is None and decision.action is Action.WAIT and snapshot.target is None:
        telling = decision.why
    if telling is None and decision.action is Action.BACK_OFF:
        before = condition_of(snapshot.item, READY)
        if before is not None and before["status"] == "False":
            return Condition(READY, False, _reason_named(before), before["message"])
    found = telling or decision.unready
    return Condition(READY, False, found.reason, found.sentence)


def _issuing(
    snapshot: Snapshot, decision: Decision, failure: Failure | None, waiting_for: str | None, past: Past
) -> Condition:
    if waiting_for is not None:
        return Condition(ISSUING, True, reasons.SIGNING)
    if failure is not None:
        return Condition(ISSUING, False, failure.finding.reason, failure.finding.sentence + _next(past))
    if decision.action is Action.BACK_OFF:
        before = condition_of(snapshot.item, ISSUING)
        if before is not None and before["status"] == "False":
            return Condition(ISSUING, False, _reason_named(before), before["message"])
    if decision.action is Action.NOTHING or decision.why is None:
        return Condition(ISSUING, False, reasons.NOTHING_TO_DO)
    if decision.action is Action.WAIT:
        return Condition(ISSUING, False, decision.why.reason, decision.why.sentence)
    return Condition(ISSUING, True, decision.why.reason, decision.why.sentence)


def _next(past: Past) -> str:
    if past.next_attempt is None:
        return ""
    return (
        f" Attempt {past.failed_attempts} failed; the next one is at {time_text(past.next_attempt)}, or after a change."
    )


def _reason_named(condition: Mapping[str, Any]) -> reasons.Reason:
    return reasons.Reason(str(condition["reason"]), str(condition["message"]))


def _past_after(snapshot: Snapshot, decision: Decision, failure: Failure | None, now: datetime) -> Past:
    """What is remembered of failures: the new one, those before while they count, or none."""
    past, about = snapshot.past, request_digest(snapshot)
    if failure is not None and failure.counts:
        # Failures about another spec or issuer say nothing of this one.
        attempts = (past.failed_attempts if past.failed_request == about else 0) + 1
        return Past(
            failed_attempts=attempts, last_failure=now, next_attempt=next_attempt(attempts, now), failed_request=about
        )
    over = decision.action in (Action.NOTHING, Action.REWRITE)
    if over or (back_off_until(snapshot) is None and snapshot.wanted is not None):
        return Past()
    return past


def _trace(snapshot: Snapshot, failure: Failure | None, past: Past) -> list[dict[str, str]]:
    if failure is not None and failure.trace:
        return [
            {
                "rule": verdict.rule,
                "verdict": "pass" if verdict.passed else "refuse",
                **({"message": verdict.reason[:2048]} if verdict.reason else {}),
            }
            for verdict in failure.trace[:64]
        ]
    if past.failed_attempts and (failure is None or not failure.counts):
        return list((snapshot.item.get("status") or {}).get("policyTrace") or [])
    return []


def _of_certificate(snapshot: Snapshot) -> dict[str, Any]:
    """What is said of the certificate in the Secret, and of those before it."""
    status = snapshot.item.get("status") or {}
    target = snapshot.target if snapshot.ours else None
    leaf = target.leaf if target is not None else None
    if target is None or leaf is None:
        return {"revision": snapshot.revision or None, "revisions": _listed(snapshot, status.get("revisions") or [])}
    revision = max(target.revision, 1)
    history = [one for one in status.get("revisions") or [] if one.get("revision") != revision]
    before = status.get("revision")
    if before and before < revision and status.get("serial") and status.get("notAfter"):
        history = [one for one in history if one.get("revision") != before]
        history.append({"revision": before, "serial": status["serial"], "notAfter": status["notAfter"]})
    renewal = snapshot.renewal_time
    return {
        "serial": serial_text(leaf.serial_number),
        "notBefore": time_text(leaf.not_valid_before_utc),
        "notAfter": time_text(leaf.not_valid_after_utc),
        "renewalTime": time_text(renewal) if renewal is not None else None,
        "revision": revision,
        "revisions": _listed(snapshot, history),
    }


def _listed(snapshot: Snapshot, history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    newest = sorted(history, key=lambda one: int(one.get("revision") or 0))
    return newest[-snapshot.spec.revision_history_limit :]
