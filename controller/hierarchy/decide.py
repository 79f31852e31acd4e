"""What is to be done about a Hierarchy, given what is known. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spork.controller.annotations import APPROVE
from spork.controller.conditions import Condition
from spork.controller.hierarchy.authorities import IN_SERVICE, sentence
from spork.controller.hierarchy.snapshot import Snapshot
from spork.controller.reasons import (
    CA_OUT_OF_SERVICE,
    CONFLICT,
    FORBIDDEN_CHANGE,
    INVALID,
    NEEDS_APPROVAL,
    NEW_KEY_NEEDED,
    SIGNER_FAILED,
    TREE_READY,
    WAITING_FOR_OFFLINE_CA,
    WAITING_FOR_SEALED_KEYS,
    WAITING_FOR_SIGNER,
    Reason,
)
from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.sealed import needs_sealed
from spork.hierarchy.steps import Action, Step

_MOST_CHANGES = 256
_MOST_LETTERS = 1024
_MOST_NAMED = 8
"""A message names so many things and counts the rest: its end, which says what to do, must not be cut off."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """`build`: the plan may be carried out; what was asked for before and is not this is taken back."""

    ready: Condition
    build: bool = False
    approved: bool = False
    sealed: bool = False


def decide(snapshot: Snapshot, rows: Sequence[dict[str, Any]]) -> Ruling:
    """`rows` are the entries of `status.authorities`."""
    if snapshot.declared is None:
        return _stop(INVALID, snapshot.fault)
    if snapshot.taken:
        return _stop(CONFLICT, _taken(snapshot))
    plan = snapshot.plan
    if plan.forbidden:
        return _stop(
            FORBIDDEN_CHANGE, _steps("Nothing is done, because the spec asks for what must not change", plan.forbidden)
        )
    if rekeyed := [step for step in plan.changes if step.change is ChangeClass.REKEY]:
        return _stop(
            NEW_KEY_NEEDED, _steps("Nothing is done, because new keys for a CA are not supported yet", rekeyed)
        )
    wanting = [step for step in plan.changes if step.needs_approval]
    if wanting and snapshot.approved != plan.hash:
        return _stop(NEEDS_APPROVAL, _unapproved(snapshot, wanting))
    if plan.changes:
        return _build(snapshot, bool(wanting))
    return _built(rows)


def plan_row(snapshot: Snapshot) -> dict[str, Any] | None:
    """`status.plan`: what remains to be done here, or None."""
    plan = snapshot.plan
    if not plan.changes or snapshot.taken:
        return None
    changes = [
        {"changeClass": step.change.value, "subject": step.id, "message": sentence(step)[:_MOST_LETTERS]}
        for step in plan.changes
    ]
    return {"hash": plan.hash, "changes": changes[:_MOST_CHANGES]}


def _build(snapshot: Snapshot, approved: bool) -> Ruling:
    assert snapshot.declared is not None
    sealed = needs_sealed(snapshot.plan, snapshot.declared)
    job = snapshot.job
    if job is not None and job.plan_hash == snapshot.plan.hash and job.last_error:
        ready = Condition("Ready", False, SIGNER_FAILED, f"The signer could not carry out the plan: {job.last_error}")
    elif sealed:
        ready = Condition("Ready", False, WAITING_FOR_SEALED_KEYS, _sealed([str(one) for one in sealed]))
    else:
        names = some([step.id for step in snapshot.plan.changes])
        message = f"The signer, which is part of `spork serve`, has been asked to carry out the plan for {names}."
        ready = Condition("Ready", False, WAITING_FOR_SIGNER, message)
    return Ruling(ready, build=True, approved=approved, sealed=bool(sealed))


def _sealed(names: list[str]) -> str:
    keys = f"key of {names[0]} is" if len(names) == 1 else f"keys of {some(names)} are"
    return (
        f"The {keys} sealed: run `spork pki work --sealed --once` where the sealed passphrase is, or in the cluster "
        "`kubectl create job --from=cronjob/spork-sealed spork-sealed-1` in the namespace of SPORK."
    )


def _built(rows: Sequence[dict[str, Any]]) -> Ruling:
    out = [row["id"] for row in rows if row["phase"] in ("Expired", "Revoked")]
    if out:
        return _stop(CA_OUT_OF_SERVICE, f"Out of service: {some(out)}; see status.authorities.")
    waiting = [row["id"] for row in rows if row["phase"] not in IN_SERVICE]
    if waiting:
        return _stop(
            WAITING_FOR_OFFLINE_CA,
            f"Waiting for signatures made elsewhere: {some(waiting)}; see status.authorities.",
        )
    return Ruling(
        Condition("Ready", True, TREE_READY, f"All {len(rows)} CAs are there." if len(rows) > 1 else "The CA is there.")
    )


def _taken(snapshot: Snapshot) -> str:
    owners = some([f"{ca} by {owner}" for ca, owner in snapshot.taken.items()])
    return f"Nothing is done, because an older Hierarchy declares CAs of these ids already: {owners}. Choose other ids."


def _unapproved(snapshot: Snapshot, wanting: Sequence[Step]) -> str:
    """Names the steps, and the one command that lets them happen."""
    wrong = ""
    if snapshot.approved is not None:
        wrong = f"The annotation {APPROVE} names {snapshot.approved!r}, which is another plan. "
    what = some([f"{step.id}: {_in_words(step)}" for step in wanting], "; ")
    return (
        f"{wrong}The plan in status.plan needs approval ({what}). Look at it, then: "
        f"kubectl annotate --overwrite hierarchy {snapshot.name} {APPROVE}={snapshot.plan.hash}"
    )


def _in_words(step: Step) -> str:
    match step.action:
        case Action.DISABLE:
            return "the CA is taken out of service for good"
        case Action.ADOPT:
            return "it is taken over from another declaration"
        case _:
            return step.reason.rstrip(".")


def _steps(start: str, steps: Sequence[Step]) -> str:
    reasons = [f"{step.id}: {step.reason.rstrip('.')}" for step in steps]
    return f"{start}: {some(reasons, '; ')}."


def some(words: Sequence[str], joint: str = ", ") -> str:
    """The first of them, and how many more there are."""
    more = f"{joint}and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    return f"{joint.join(words[:_MOST_NAMED])}{more}"


def _stop(reason: Reason, message: str) -> Ruling:
    return Ruling(Condition("Ready", False, reason, message))
