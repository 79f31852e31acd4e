"""Conditions: what is so and what is not, in the form that Kubernetes' tools read; and the one way to write a status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spork.clock import Clock
from spork.controller.cluster import Cluster, Object
from spork.controller.reasons import Reason

_MESSAGE_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement about an object. `status` None stands for Unknown."""

    type: str
    status: bool | None
    reason: Reason
    message: str = ""
    """One sentence for people; the reason's own sentence where it is left out."""


def time_text(instant: datetime) -> str:
    """RFC 3339 in UTC and whole seconds, as Kubernetes writes it."""
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


def time_of(text: str) -> datetime:
    """The reverse. Raises ValueError."""
    return datetime.fromisoformat(text)


def condition_of(item: Object, kind: str) -> Mapping[str, Any] | None:
    """The condition of that type as it stands in the object's status."""
    conditions = (item.get("status") or {}).get("conditions") or ()
    found: Mapping[str, Any] | None = next((one for one in conditions if one["type"] == kind), None)
    return found


def is_true(item: Object, kind: str, *, current: bool = False) -> bool:
    """Whether the condition holds; with `current`, of the spec as it is now."""
    found = condition_of(item, kind)
    if found is None or found["status"] != "True":
        return False
    return not current or found.get("observedGeneration") == item["metadata"].get("generation")


async def write_status(
    cluster: Cluster, item: Object, conditions: Sequence[Condition], fields: Mapping[str, Any], clock: Clock
) -> Object:
    """Makes the conditions and fields the object's status, unless they are so already: then nothing is requested.

    `fields` are the other keys of the status in camelCase; None leaves one out. Raises what `Cluster.set_status` raises.
    """
    old = item.get("status") or {}
    generation = item["metadata"].get("generation")
    status = {key: value for key, value in fields.items() if value is not None and value != []}
    if generation is not None:
        status["observedGeneration"] = generation
    status["conditions"] = [_written(one, condition_of(item, one.type), generation, clock) for one in conditions]
    return item if status == old else await cluster.set_status(item, status)


def _written(
    condition: Condition, before: Mapping[str, Any] | None, generation: int | None, clock: Clock
) -> dict[str, Any]:
    status = {True: "True", False: "False", None: "Unknown"}[condition.status]
    moved = before is None or before["status"] != status
    written = {
        "type": condition.type,
        "status": status,
        "reason": condition.reason.name,
        "message": (condition.message or condition.reason.sentence)[:_MESSAGE_LIMIT],
        "lastTransitionTime": time_text(clock.now()) if moved else before["lastTransitionTime"],  # type: ignore[index]
    }
    if generation is not None:
        written["observedGeneration"] = generation
    return written
