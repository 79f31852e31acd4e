"""From a snapshot to what has to be done. Pure: the same snapshot at the same instant gives the same decision."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from spork.controller import reasons
from spork.controller.certificate.checks import CHECKS
from spork.controller.certificate.contents import secret_is_as_written
from spork.controller.certificate.snapshot import Finding, Snapshot


class Action(Enum):
    """What comes next."""

    NOTHING = "nothing"
    ISSUE = "issue"
    RESTORE = "restore"
    """Write the Secret again with the certificate that was issued for it, if its key still is there; else issue."""
    REWRITE = "rewrite"
    """Key and certificate are right; what stands around them is not."""
    BACK_OFF = "back off"
    """It would be issued, but the last attempt failed a moment ago."""
    WAIT = "wait"
    """It would be issued, and something stands in the way that others have to mend."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What comes next and why, and whether what is there is good for use."""

    action: Action
    why: Finding | None = None
    """What is to be mended; for WAIT what is in the way."""
    unready: Finding | None = None
    """Why the certificate is not good for use."""


_RESTORABLE = frozenset(
    {
        reasons.SECRET_DAMAGED,
        reasons.KEY_MISMATCH,
        reasons.CERTIFICATE_REPLACED,
        reasons.ISSUER_CHANGED,
        reasons.PROFILE_CHANGED,
        reasons.DURATION_CHANGED,
    }
)
"""What somebody may have done to the Secret alone: its key may still be the one that the right certificate is for."""


def decide(snapshot: Snapshot, now: datetime, *, restorable: bool = True) -> Decision:
    """What has to be done about one Certificate now; with `restorable` False after a RESTORE has found nothing to restore."""
    if (stranger := _whose(snapshot)) is not None:
        return Decision(Action.WAIT, stranger, stranger)
    found = [(check, finding) for check in CHECKS if (finding := check.find(snapshot, now)) is not None]
    unready = next((finding for check, finding in found if not check.ready), None)
    wrong = [finding for check, finding in found if check.reissue]
    held = next((finding for _, finding in found if finding.reason is reasons.CERTIFICATE_ON_HOLD), None)
    if not wrong:
        return _written(snapshot, unready)
    return Decision(*_mending(snapshot, wrong[0], held, now, restorable), unready)


def _written(snapshot: Snapshot, unready: Finding | None) -> Decision:
    edited = secret_is_as_written(snapshot)
    if edited is None:
        return Decision(Action.NOTHING, None, unready)
    if snapshot.obstacle is not None:
        return Decision(Action.WAIT, snapshot.obstacle, unready)
    return Decision(Action.REWRITE, edited, unready)


def _mending(
    snapshot: Snapshot, why: Finding, held: Finding | None, now: datetime, restorable: bool
) -> tuple[Action, Finding]:
    obstacle = held or snapshot.obstacle
    if obstacle is not None:
        return Action.WAIT, obstacle
    key = snapshot.target.key_spki if snapshot.target is not None else None
    if restorable and why.reason in _RESTORABLE and key is not None and snapshot.revision:
        return Action.RESTORE, why
    if (until := back_off_until(snapshot)) is not None and now < until:
        return Action.BACK_OFF, why
    return Action.ISSUE, why


def back_off_until(snapshot: Snapshot) -> datetime | None:
    """When the next attempt may be made, if the failures were about the very spec and issuer of now."""
    past = snapshot.past
    return past.next_attempt if past.failed_attempts and past.failed_request == request_digest(snapshot) else None


def request_digest(snapshot: Snapshot) -> str:
    """What an attempt depends on: with any of it changed, a failure says nothing any more."""
    wanted = snapshot.wanted
    if wanted is None:
        return ""
    parts = [
        str(snapshot.item["metadata"].get("generation")),
        wanted.digest.hex(),
        repr(wanted.issuer),
        f"{wanted.authority.id}/{wanted.authority.generation}/{wanted.authority.stopped}",
        snapshot.renewal_requested,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _whose(snapshot: Snapshot) -> Finding | None:
    """Whether the Secret is somebody else's. Nothing is done with such a one, whatever is in it."""
    if snapshot.target is not None and not snapshot.ours:
        owner, name = snapshot.target.owner_name, snapshot.spec.secret_name
        whose = f"belongs to the Certificate {owner!r}" if owner else "was not made by this operator"
        return Finding(
            reasons.SECRET_NOT_OURS,
            f"The Secret {name!r} {whose}, and is left as it is; delete it, or choose another secretName.",
        )
    if snapshot.rival is not None:
        return Finding(
            reasons.SECRET_NAME_TAKEN,
            f"The Certificate {snapshot.rival!r} has the same secretName {snapshot.spec.secret_name!r}; "
            "choose another one.",
        )
    return None
