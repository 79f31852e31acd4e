"""Conditions in the form of other APIs, which know no observedGeneration, and the one way to write such a status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spork.clock import Clock
from spork.controller.cluster import Cluster, Object
from spork.controller.conditions import condition_of, time_text
from spork.controller.reasons import Reason

_MESSAGE_LIMIT = 4096


def foreign_condition(
    item: Object, kind: str, status: bool, reason: Reason, message: str, clock: Clock
) -> dict[str, Any]:
    """A condition of that type; its time is kept while its status stays."""
    before, text = condition_of(item, kind), "True" if status else "False"
    same = before is not None and before["status"] == text and before.get("lastTransitionTime")
    return {
        "type": kind,
        "status": text,
        "reason": reason.name,
        "message": message[:_MESSAGE_LIMIT],
        "lastTransitionTime": same or time_text(clock.now()),
    }


async def write_foreign_status(cluster: Cluster, item: Object, status: Mapping[str, Any]) -> bool:
    """Writes our share of a status that others have a share in; says whether it differed. No request if it is so already.

    Conditions of other types are theirs and are left as they are. Raises what `Cluster.set_status` raises.
    """
    old = item.get("status") or {}
    conditions = {one["type"]: one for one in old.get("conditions") or ()}
    wanted = {one["type"]: one for one in status["conditions"]}
    fields = {key: value for key, value in status.items() if key != "conditions"}
    if wanted.items() <= conditions.items() and fields.items() <= old.items():
        return False
    await cluster.set_status(item, status)
    return True
