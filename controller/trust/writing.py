"""Bringing one object into the form it should have, without ever touching somebody else's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from spork.controller.cluster import AlreadyExists, Cluster, Conflict, Object, Ref, ref_of
from spork.controller.conditions import time_text
from spork.controller.trust.asking import ANNOTATION_WRITTEN, is_ours
from spork.errors import Code, SporkError

Wanted = Callable[[Object | None], Mapping[str, Any]]
"""The object as it should be, given the one that is there."""
Same = Callable[[Object, Mapping[str, Any]], bool]


class SomebodyElses(SporkError):
    """An object of that name is there, and this operator did not make it."""

    def __init__(self, item: Object) -> None:
        super().__init__(Code.CONFLICT, f"{ref_of(item)} belongs to somebody else and was not touched.")
        self.item = item


async def bring(cluster: Cluster, ref: Ref, wanted: Wanted, is_as: Same, now: datetime, *, look: bool = False) -> bool:
    """Writes it, with the time, if it is missing or differs: one request, and none where it is so already. Says whether it wrote.

    `look` asks the API server first, for an object that is known to be there and not watched. Raises SomebodyElses, and what the
    cluster raises.
    """
    found = cluster.get(ref)
    if found is None and look:
        found = await cluster.read(ref)
    if found is None:
        try:
            await cluster.create(_stamped(wanted(None), now))
        except AlreadyExists:
            # Without the label that is watched for it is not in the copy, whoever made it.
            found = await cluster.read(ref)
            if found is None:
                raise Conflict(ref) from None
        else:
            return True
    if not is_ours(found):
        raise SomebodyElses(found)
    if found["metadata"].get("deletionTimestamp") or is_as(found, wanted(found)):
        return False
    if found.get("immutable"):
        # Nothing in it can be changed any more, the mark itself included.
        await cluster.delete(ref, uid=found["metadata"]["uid"])
        await cluster.create(_stamped(wanted(None), now))
        return True
    await cluster.replace(_stamped(wanted(found), now))
    return True


async def withdraw(cluster: Cluster, ref: Ref) -> None:
    """Deletes our object of that name, if there is one in the copy; one that has changed hands since stays. Raises Conflict."""
    found = cluster.get(ref)
    if found is not None and is_ours(found) and not found["metadata"].get("deletionTimestamp"):
        metadata = found["metadata"]
        await cluster.delete(ref, uid=metadata["uid"], resource_version=metadata["resourceVersion"])


def _stamped(item: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    metadata = item["metadata"]
    annotations = {**metadata["annotations"], ANNOTATION_WRITTEN: time_text(now)}
    return {**item, "metadata": {**metadata, "annotations": annotations}}
