"""Objects with the habits of a Kubernetes API server, held in memory: what the folder adapter keeps its resources in.

Knows versions, generations, finalizers, owners and server-side apply by one manager, and no files. All methods of the port that
read or write are here; the folder adapter puts files behind them by overriding `_kept`.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import structlog

from spork.clock import Clock
from spork.controller.cluster import KINDS, AlreadyExists, Change, Conflict, Object, Ref, ref_of
from spork.controller.conditions import time_text
from spork.controller.models.schema import GROUP

log = structlog.get_logger("spork.controller")


class ObjectStore:
    """Everything of the port `Cluster` except `run` and `synced`."""

    origin: Literal["file", "kubernetes"] = "file"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._items: dict[Ref, dict[str, Any]] = {}
        self._applied: dict[Ref, Object] = {}
        self._listeners: list[Callable[[Change], None]] = []
        self._version = 0
        self.reports: list[tuple[Ref, str, str, bool]] = []
        """The last events: object, reason, message, whether it is a warning."""

    # Reading

    def get(self, ref: Ref) -> Object | None:
        return self._items.get(ref)

    def all(self, kind: str, namespace: str | None = None) -> Sequence[Object]:
        return [one for ref, one in self._items.items() if ref.kind == kind and namespace in (None, ref.namespace)]

    def has(self, kind: str) -> bool:
        return kind in KINDS and not KINDS[kind].optional

    async def read(self, ref: Ref) -> Object | None:
        return self._items.get(ref)

    def subscribe(self, listener: Callable[[Change], None]) -> None:
        self._listeners.append(listener)

    # Writing

    async def create(self, item: Object) -> Object:
        ref = ref_of(item)
        if ref in self._items:
            raise AlreadyExists(ref)
        return self._put(self._new(item))

    async def replace(self, item: Object) -> Object:
        ref = ref_of(item)
        found = self._items.get(ref)
        if found is None or found["metadata"]["resourceVersion"] != item["metadata"].get("resourceVersion"):
            raise Conflict(ref)
        new = copy.deepcopy(dict(item))
        new["metadata"] = {**found["metadata"], **new["metadata"]}
        if "status" in found:
            new["status"] = found["status"]
        return self._changed(found, new)

    async def apply(self, item: Object) -> Object:
        ref = ref_of(item)
        found = self._items.get(ref)
        before, self._applied[ref] = self._applied.get(ref), copy.deepcopy(dict(item))
        if found is None:
            return self._put(self._new(item))
        return self._changed(found, _merged(_without(found, before or {}), item))

    async def delete(self, ref: Ref, *, uid: str | None = None, resource_version: str | None = None) -> None:
        found = self._items.get(ref)
        if found is None:
            return
        metadata = found["metadata"]
        if uid not in (None, metadata["uid"]) or resource_version not in (None, metadata["resourceVersion"]):
            raise Conflict(ref)
        if not metadata.get("finalizers"):
            self._remove(ref)
        elif "deletionTimestamp" not in metadata:
            new = copy.deepcopy(found)
            new["metadata"]["deletionTimestamp"] = time_text(self._clock.now())
            self._put(new)

    async def set_status(self, item: Object, status: Mapping[str, Any]) -> Object:
        new = copy.deepcopy(self._same(item))
        new["status"] = copy.deepcopy(dict(status))
        return self._changed(self._items[ref_of(item)], new)

    async def set_finalizer(self, item: Object, finalizer: str, *, present: bool) -> Object:
        before = list(item["metadata"].get("finalizers") or ())
        if (finalizer in before) is present:
            return item
        ref, found = ref_of(item), self._same(item)
        if found["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            raise Conflict(ref)
        new = copy.deepcopy(found)
        new["metadata"]["finalizers"] = [*before, finalizer] if present else [f for f in before if f != finalizer]
        if not new["metadata"]["finalizers"] and "deletionTimestamp" in new["metadata"]:
            self._remove(ref)
            return new
        return self._put(new)

    async def annotate(self, item: Object, annotations: Mapping[str, str | None]) -> Object:
        found = self._same(item)
        new = copy.deepcopy(found)
        kept = {**(new["metadata"].get("annotations") or {}), **annotations}
        new["metadata"]["annotations"] = {name: value for name, value in kept.items() if value is not None}
        return self._changed(found, new)

    async def report(self, item: Object, reason: str, message: str, *, warning: bool = False) -> None:
        self.reports = [*self.reports[-999:], (ref_of(item), reason, message, warning)]
        log.log(30 if warning else 20, message, object=str(ref_of(item)), reason=reason)

    # What changes the copy

    def _new(self, item: Object) -> dict[str, Any]:
        new = copy.deepcopy(dict(item))
        new.pop("status", None)
        metadata = {key: value for key, value in new["metadata"].items() if key != "resourceVersion"}
        new["metadata"] = {
            **metadata,
            "uid": metadata.get("uid") or str(uuid.uuid4()),
            "creationTimestamp": time_text(self._clock.now()),
        }
        if new["apiVersion"].startswith(GROUP):
            new["metadata"]["generation"] = 1
        return new

    def _same(self, item: Object) -> dict[str, Any]:
        """The one with the uid of `item`. Raises Conflict."""
        ref = ref_of(item)
        found = self._items.get(ref)
        if found is None or found["metadata"]["uid"] != item["metadata"]["uid"]:
            raise Conflict(ref)
        return found

    def _changed(self, old: Object, new: dict[str, Any]) -> Object:
        if new == old:
            return old
        if "generation" in old["metadata"] and new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        return self._put(new)

    def _put(self, new: dict[str, Any]) -> Object:
        ref = ref_of(new)
        self._version += 1
        new["metadata"]["resourceVersion"] = str(self._version)
        old = self._items.get(ref)
        self._kept(ref, new, old)
        self._items[ref] = new
        self._tell(Change(ref, new, old))
        return new

    def _remove(self, ref: Ref) -> None:
        self._kept(ref, None, self._items.get(ref))
        old = self._items.pop(ref)
        self._applied.pop(ref, None)
        self._tell(Change(ref, None, old))
        for dependent in [r for r, one in self._items.items() if _belongs_only_to(one, old["metadata"]["uid"])]:
            if dependent in self._items:
                self._remove(dependent)

    def _kept(self, ref: Ref, new: Object | None, old: Object | None) -> None:
        """Makes a change durable before the copy shows it. In memory there is nothing to do."""

    def _tell(self, change: Change) -> None:
        for listener in self._listeners:
            listener(change)


def _belongs_only_to(item: Object, uid: str) -> bool:
    owners = item["metadata"].get("ownerReferences") or ()
    return bool(owners) and all(owner["uid"] == uid for owner in owners)


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
    return copy.deepcopy(new)


def _without(item: Mapping[str, Any], applied: Any) -> dict[str, Any]:
    """The object without the fields that were applied before: whatever the next apply leaves out goes."""
    if not isinstance(applied, Mapping):
        return {}
    kept = {}
    for key, value in item.items():
        if key not in applied or key in ("apiVersion", "kind", "name", "namespace"):
            kept[key] = value
        elif isinstance(value, Mapping) and (inner := _without(value, applied[key])):
            kept[key] = inner
    return kept
