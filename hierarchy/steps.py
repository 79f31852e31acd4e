"""What a plan is made of: steps, each with its class, what it does, and why."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.fields import FieldChange


class Target(StrEnum):
    """What a step is about."""

    AUTHORITY = "ca"
    CROSS_CERTIFICATE = "cross-certificate"
    ISSUER = "issuer"


class Action(StrEnum):
    """What a step does."""

    NOTHING = "nothing"
    CREATE = "create"
    """Make a key, store the CA, sign its certificate."""
    ISSUE = "issue"
    """Sign a certificate for a key that is stored already: after an interruption, or for a new declaration."""
    REQUEST = "request"
    """Make the key if it is not there, and write a request file for a parent whose key is elsewhere."""
    UPDATE = "update"
    ADOPT = "adopt"
    """Take over a CA or an issuer that another declaration brought in. What else differs follows in the next plan."""
    DISABLE = "disable"
    NEW_KEY = "new-key"


@dataclass(frozen=True, slots=True)
class Step:
    """One CA, cross-certificate or issuer, and what its difference means."""

    target: Target
    id: str
    change: ChangeClass
    action: Action
    reason: str
    fields: tuple[FieldChange, ...] = ()
    live_certificates: int = 0
    """Live certificates below it in the tree."""

    @property
    def needs_approval(self) -> bool:
        """Whether `build` wants the plan's hash before it does this."""
        removal = self.target is Target.AUTHORITY and self.action is Action.DISABLE
        return removal or self.change is ChangeClass.REKEY or self.action is Action.ADOPT

    def as_json(self) -> dict[str, Any]:
        return {
            "target": self.target.value,
            "id": self.id,
            "change": self.change.value,
            "action": self.action.value,
            "reason": self.reason,
            "fields": [field.as_json() for field in self.fields],
            "live_certificates": self.live_certificates,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps in the order in which they are carried out."""

    steps: tuple[Step, ...]

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that do or would do something."""
        return tuple(step for step in self.steps if step.change not in (ChangeClass.NONE, ChangeClass.WAITING))

    @property
    def forbidden(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.change is ChangeClass.FORBIDDEN)

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical form of all changes: what `--approve` names. Live counts change by the minute and stay out."""
        content = [{**step.as_json(), "live_certificates": None} for step in self.changes]
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        return {
            "hash": self.hash,
            "changes": len(self.changes),
            "needs_approval": any(step.needs_approval for step in self.changes),
            "steps": [step.as_json() for step in self.steps],
        }
