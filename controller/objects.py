"""Objects with the habits of a Kubernetes API server, held in memory: what the folder adapter keeps its resources in.

Knows versions, generations, finalizers, owners, admission and server-side apply, and no files. All methods of the port that read
or write are here; the folder adapter puts files behind them by overriding `_kept`.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, TypeVar

import structlog

from spork.clock import Clock
from spork.controller.admission import admitted, check_status
from spork.controller.cluster import (
    FIELD_MANAGER,
    KINDS,
    AlreadyExists,
    Change,
    Conflict,
    Object,
    Ref,
    Refused,
    ref_of,
)
from spork.controller.conditions import time_text
from spork.controller.fieldsets import Fields, fields_of, merged, minus, without
from spork.controller.models.schema import GROUP
from spork.errors import Code

log = structlog.get_logger("spork.controller")
_Result = TypeVar("_Result")
_REPORTS = 1000
_SYSTEM = ("uid", "creationTimestamp", "generation", "deletionTimestamp")
"""What a writer can neither set nor take away."""


class ObjectStore:
    """Everything of the port `Cluster` except `run` and `synced`."""

    origin: Literal["file", "kubernetes"] = "file"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._items: dict[Ref, dict[str, Any]] = {}
        self._applied: dict[Ref, dict[str, Fields]] = {}
        """Which fields each applier has set: what `metadata.managedFields` is for."""
        self._listeners: list[Callable[[Change], None]] = []
        self._version = 0
        self._writing = asyncio.Lock()
        self.reports: list[tuple[Ref, str, str, bool]] = []
        """The last events: object, reason, message, whether it is a warning."""

    # Reading

    def get(self, ref: Ref) -> Object | None:
        return _watched(self._items.get(ref))

    def all(self, kind: str, namespace: str | None = None) -> Sequence[Object]:
        found = [one for ref, one in self._items.items() if ref.kind == kind and namespace in (None, ref.namespace)]
        return [one for one in found if _watched(one) is not None]

    def has(self, kind: str) -> bool:
        return kind in KINDS and not KINDS[kind].optional

    async def read(self, ref: Ref) -> Object | None:
        return self._items.get(ref)

    def subscribe(self, listener: Callable[[Change], None]) -> None:
        self._listeners.append(listener)

    # Writing

    async def create(self, item: Object) -> Object:
        return await self._alone(self._create(item))

    async def replace(self, item: Object) -> Object:
        return await self._alone(self._replace(item))

    async def apply(self, item: Object) -> Object:
        return await self._alone(self._apply(item, FIELD_MANAGER))

    async def delete(self, ref: Ref, *, uid: str | None = None, resource_version: str | None = None) -> None:
        await self._alone(self._delete(ref, uid, resource_version))

    async def set_status(self, item: Object, status: Mapping[str, Any]) -> Object:
        return await self._alone(self._set_status(item, status))

    async def set_finalizer(self, item: Object, finalizer: str, *, present: bool) -> Object:
        if (finalizer in (item["metadata"].get("finalizers") or ())) is present:
            return item
        return await self._alone(self._set_finalizer(item, finalizer, present))

    async def annotate(self, item: Object, annotations: Mapping[str, str | None]) -> Object:
        return await self._alone(self._annotate(item, annotations))

    async def report(self, item: Object, reason: str, message: str, *, warning: bool = False) -> None:
        self.reports = [*self.reports[1 - _REPORTS :], (ref_of(item), reason, message, warning)]
        log.log(30 if warning else 20, message, object=str(ref_of(item)), reason=reason)

    # The writes one by one. Each works on the state that nobody else changes meanwhile.

    async def _alone(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """One write after the other; one that has begun is finished even if nobody waits for it any more."""

        async def locked() -> _Result:
            async with self._writing:
                return await work

        return await asyncio.shield(asyncio.ensure_future(locked()))

    async def _create(self, item: Object) -> Object:
        ref = self._known(item)
        if ref in self._items:
            raise AlreadyExists(ref)
        return await self._commit(self._new(_without_identity(admitted(item, None))), None)

    async def _replace(self, item: Object) -> Object:
        ref = self._known(item)
        found = self._items.get(ref)
        version = item["metadata"].get("resourceVersion")
        if found is None or found["metadata"]["resourceVersion"] != version:
            raise Conflict(ref)
        _check_identity(ref, item, found)
        new = admitted(item, found)
        _check_finalizers(ref, found, new)
        return await self._changed_to(found, _with_system_fields(new, found))

    async def _apply(self, item: Object, manager: str) -> Object:
        ref = self._known(item)
        found = self._items.get(ref)
        _check_identity(ref, item, found)
        given = _without_identity({key: value for key, value in item.items() if key != "status"})
        if found is None:
            return await self._commit(self._new(admitted(given, None)), None, {manager: fields_of(given)})
        applied = self._applied.get(ref, {})
        others = [fields for name, fields in applied.items() if name != manager]
        # What this applier has set before and leaves out now goes, unless somebody else has set it as well.
        kept = without(found, minus(applied.get(manager, {}), others))
        new = admitted(merged(kept, given), found)
        _check_finalizers(ref, found, new)
        return await self._changed_to(found, _with_system_fields(new, found), {**applied, manager: fields_of(given)})

    async def _delete(self, ref: Ref, uid: str | None, resource_version: str | None) -> None:
        found = self._items.get(ref)
        if found is None:
            return
        metadata = found["metadata"]
        if uid not in (None, metadata["uid"]) or resource_version not in (None, metadata["resourceVersion"]):
            raise Conflict(ref)
        await self._end(ref)

    async def _set_status(self, item: Object, status: Mapping[str, Any]) -> Object:
        found = self._same(item)
        check_status(found, status)
        new = copy.deepcopy(found)
        new["status"] = copy.deepcopy(dict(status))
        return await self._changed_to(found, new)

    async def _set_finalizer(self, item: Object, finalizer: str, present: bool) -> Object:
        ref, found = ref_of(item), self._same(item)
        if found["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            raise Conflict(ref)
        before = list(found["metadata"].get("finalizers") or ())
        new = copy.deepcopy(found)
        new["metadata"]["finalizers"] = [*before, finalizer] if present else [f for f in before if f != finalizer]
        _check_finalizers(ref, found, new)
        return await self._changed_to(found, new)

    async def _annotate(self, item: Object, annotations: Mapping[str, str | None]) -> Object:
        found = self._same(item)
        new = copy.deepcopy(found)
        kept = {**(new["metadata"].get("annotations") or {}), **annotations}
        new["metadata"]["annotations"] = {name: value for name, value in kept.items() if value is not None}
        if not new["metadata"]["annotations"]:
            del new["metadata"]["annotations"]
        return await self._changed_to(found, new)

    # From one state to the next

    def _known(self, item: Object) -> Ref:
        """The name of an object of a kind that is here at all. Raises Refused."""
        ref = ref_of(item)
        if not self.has(ref.kind):
            raise Refused(Code.NOT_FOUND, f"{ref}: there are no objects of this kind here.")
        return ref

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

    async def _changed_to(
        self, old: dict[str, Any], new: dict[str, Any], applied: dict[str, Fields] | None = None
    ) -> Object:
        """Commits what differs. An object that is being deleted goes with its last finalizer."""
        ref = ref_of(old)
        if new == old:
            if applied is not None and applied != self._applied.get(ref):
                await self._kept(ref, old, old, applied)
                self._applied[ref] = applied
            return old
        if not new["metadata"].get("finalizers"):
            new["metadata"].pop("finalizers", None)
            if "deletionTimestamp" in new["metadata"]:
                await self._gone(ref)
                return new
        return await self._commit(_counted(old, new), old, applied)

    async def _commit(
        self, new: dict[str, Any], old: Object | None, applied: dict[str, Fields] | None = None
    ) -> Object:
        """Durable first, then in the copy, then told."""
        ref = ref_of(new)
        applied = self._applied.get(ref, {}) if applied is None else applied
        self._stamp(new)
        await self._kept(ref, new, old, applied)
        self._applied[ref] = applied
        return self._show(new)

    async def _end(self, ref: Ref) -> None:
        """Deletes an object, or marks it where finalizers hold it."""
        found = self._items[ref]
        if not found["metadata"].get("finalizers"):
            await self._gone(ref)
        elif "deletionTimestamp" not in found["metadata"]:
            new = copy.deepcopy(found)
            new["metadata"]["deletionTimestamp"] = time_text(self._clock.now())
            # An API server counts the mark as a change of what is wanted.
            if "generation" in new["metadata"]:
                new["metadata"]["generation"] += 1
            await self._commit(new, found)

    async def _gone(self, ref: Ref) -> None:
        await self._kept(ref, None, self._items[ref], {})
        old = self._items.pop(ref)
        self._applied.pop(ref, None)
        self._tell(Change(ref, None, old))
        await self._collect()

    async def _collect(self) -> None:
        """Ends what belonged only to objects that are no more, as the garbage collector of Kubernetes does."""
        there = {one["metadata"]["uid"] for one in self._items.values()}
        for ref in [r for r, one in self._items.items() if _is_orphan(one, there)]:
            if ref in self._items:
                await self._end(ref)

    async def _kept(self, ref: Ref, new: Object | None, old: Object | None, applied: Mapping[str, Fields]) -> None:
        """Makes a change durable before the copy shows it. In memory there is nothing to do."""

    # The copy alone, without waiting: what doubles for tests put in by hand comes this way as well.

    def _changed(self, old: Object, new: dict[str, Any]) -> Object:
        return old if new == old else self._put(_counted(old, new))

    def _put(self, new: dict[str, Any]) -> Object:
        self._stamp(new)
        return self._show(new)

    def _stamp(self, new: dict[str, Any]) -> None:
        self._version += 1
        new["metadata"]["resourceVersion"] = str(self._version)

    def _show(self, new: dict[str, Any]) -> Object:
        ref = ref_of(new)
        old = self._items.get(ref)
        self._items[ref] = new
        self._tell(Change(ref, new, old))
        return new

    def _tell(self, change: Change) -> None:
        """Only of what is watched; an object that lost its label is gone for whoever watches."""
        new, old = _watched(change.new), _watched(change.old)
        if new is None and old is None:
            return
        for listener in self._listeners:
            try:
                listener(Change(change.ref, new, old))
            except Exception:
                # The write is done, and one listener's fault must not keep the change from the others.
                log.exception("a change could not be passed on", object=str(change.ref))


def _watched(item: Object | None) -> Object | None:
    """The object, if the label selector of its kind covers it."""
    kind = None if item is None else KINDS.get(item["kind"])
    if item is None or kind is None or not kind.selector:
        return item
    key, _, value = kind.selector.partition("=")
    return item if (item["metadata"].get("labels") or {}).get(key) == value else None


def _counted(old: Object, new: dict[str, Any]) -> dict[str, Any]:
    """The generation moves with the spec."""
    if "generation" in old["metadata"] and new.get("spec") != old.get("spec"):
        new["metadata"]["generation"] = old["metadata"]["generation"] + 1
    return new


def _is_orphan(item: Object, there: set[str]) -> bool:
    owners = item["metadata"].get("ownerReferences") or ()
    return bool(owners) and all(owner["uid"] not in there for owner in owners)


def _check_identity(ref: Ref, item: Object, found: Object | None) -> None:
    """A uid or version in what is written is a precondition. Raises Conflict."""
    for key in ("uid", "resourceVersion"):
        wanted = item["metadata"].get(key)
        if wanted and (found is None or found["metadata"][key] != wanted):
            raise Conflict(ref)


def _check_finalizers(ref: Ref, old: Object, new: Object) -> None:
    """Raises Refused where something new would hold up what is being deleted already."""
    added = set(new["metadata"].get("finalizers") or ()) - set(old["metadata"].get("finalizers") or ())
    if added and "deletionTimestamp" in old["metadata"]:
        raise Refused(Code.FORBIDDEN, f"{ref}: is being deleted; no finalizer can be added any more.")


def _without_identity(item: Object) -> dict[str, Any]:
    metadata = {key: value for key, value in item["metadata"].items() if key not in ("uid", "resourceVersion")}
    return {**item, "metadata": metadata}


def _with_system_fields(new: dict[str, Any], found: Object) -> dict[str, Any]:
    """`new` with everything that only the store itself writes."""
    metadata = found["metadata"]
    system = {key: metadata[key] for key in (*_SYSTEM, "resourceVersion") if key in metadata}
    new["metadata"] = {**{k: v for k, v in new["metadata"].items() if k not in _SYSTEM}, **system}
    if "status" in found:
        new["status"] = found["status"]
    return new
