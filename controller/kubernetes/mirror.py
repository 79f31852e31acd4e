"""The copy of what is watched: always at the newest version that anybody has told of, and one Change for each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from spork.controller.cluster import KINDS, Change, Kind, Object, Ref

log = structlog.get_logger("spork.controller")

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_REMEMBERED = 20_000
"""Objects that went and are still known by uid, so that a late answer about one does not bring it back."""
_FOR_GOOD = 1 << 63


class Mirror:
    """All watched objects by kind, namespace and name.

    Versions are compared as numbers, which Kubernetes promises to be fit for that since 1.35 and did before as well
    (KEP-5504). Versions of different kinds are never compared.
    """

    def __init__(self, namespaces: frozenset[str] = frozenset()) -> None:
        self._namespaces = namespaces
        self._kinds: dict[str, dict[str, dict[str, Object]]] = {name: {} for name in KINDS}
        self._gone: dict[str, int] = {}
        self._listeners: list[Callable[[Change], None]] = []

    def subscribe(self, listener: Callable[[Change], None]) -> None:
        """It is called for each change, at once; what it raises is logged."""
        self._listeners.append(listener)

    def get(self, ref: Ref) -> Object | None:
        return self._kinds[ref.kind].get(ref.namespace, {}).get(ref.name)

    def all(self, kind: str, namespace: str | None = None) -> Sequence[Object]:
        spaces = self._kinds[kind]
        if namespace is not None:
            return list(spaces.get(namespace, {}).values())
        return [one for space in spaces.values() for one in space.values()]

    def put(self, item: Object) -> None:
        """Takes an object over that was read, written or told of, unless something newer is known."""
        kind = KINDS[item["kind"]]
        metadata = item["metadata"]
        ref = Ref(kind.name, metadata.get("namespace") or "", metadata["name"])
        if not kind.watched or not self._covers(ref):
            return
        version = int(metadata["resourceVersion"])
        if version <= self._gone.get(metadata["uid"], -1):
            return
        old = self.get(ref)
        since = -1 if old is None else int(old["metadata"]["resourceVersion"])
        if version >= since and _is_past(kind, metadata):
            # Its version is still that of the last one: what is taken away at once is not written before.
            self.remove(ref, metadata["uid"])
        elif version <= since:
            return
        elif not _selected(kind, item):
            self.remove(ref, metadata["uid"], version)
        else:
            self._kinds[kind.name].setdefault(ref.namespace, {})[ref.name] = item
            self._tell(Change(ref, item, old))

    def remove(self, ref: Ref, uid: str, version: int = _FOR_GOOD) -> None:
        """The object went, or is none of ours any more since that version. One of that name but newer stays."""
        self._remember(uid, version)
        old = self.get(ref)
        if old is None:
            return
        known = old["metadata"]
        if known["uid"] == uid if version == _FOR_GOOD else int(known["resourceVersion"]) <= version:
            del self._kinds[ref.kind][ref.namespace][ref.name]
            self._tell(Change(ref, None, old))

    def replace_all(self, kind: str, namespace: str | None, items: Iterable[Object], version: int | None) -> None:
        """Takes over a whole list. What it does not hold is gone, unless it is newer than the list's version.

        `version` None: the server's versions went back, as they do when its data is restored from a backup; then all that is
        held is forgotten in favour of the list.
        """
        if version is None:
            self._gone.clear()
        listed = {(one["metadata"].get("namespace") or "", one["metadata"]["name"]): one for one in items}
        for known in self.all(kind, namespace):
            metadata = known["metadata"]
            ref = Ref(kind, metadata.get("namespace") or "", metadata["name"])
            item = listed.get((ref.namespace, ref.name))
            since = int(metadata["resourceVersion"])
            if item is None or item["metadata"]["uid"] != metadata["uid"]:
                if version is None or since <= version:
                    self.remove(ref, metadata["uid"], since if version is None else version)
            elif version is None and int(item["metadata"]["resourceVersion"]) < since:
                self._kinds[kind][ref.namespace][ref.name] = item
                self._tell(Change(ref, item, known))
        for item in listed.values():
            self.put(item)

    def drop_all(self, kind: str, namespace: str | None) -> None:
        """The kind is out of sight. The same objects may come back with it."""
        for known in self.all(kind, namespace):
            metadata = known["metadata"]
            ref = Ref(kind, metadata.get("namespace") or "", metadata["name"])
            del self._kinds[kind][ref.namespace][ref.name]
            self._tell(Change(ref, None, known))

    def _covers(self, ref: Ref) -> bool:
        return not self._namespaces or not KINDS[ref.kind].namespaced or ref.namespace in self._namespaces

    def _remember(self, uid: str, version: int) -> None:
        self._gone[uid] = max(version, self._gone.pop(uid, -1))
        if len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def _tell(self, change: Change) -> None:
        for listener in self._listeners:
            try:
                listener(change)
            except Exception:
                log.exception("a change could not be passed on", object=str(change.ref))


def taken_in(kind: Kind, item: dict[str, Any]) -> Object:
    """An object of the wire as the port gives it out: named in full, which members of lists are not, and without ballast."""
    metadata = item["metadata"]
    metadata.pop("managedFields", None)
    if annotations := metadata.get("annotations"):
        annotations.pop(_LAST_APPLIED, None)
        if not annotations:
            del metadata["annotations"]
    item["kind"] = kind.name
    # A served older version has the same form.
    item["apiVersion"] = kind.api_version
    return item


def _selected(kind: Kind, item: Object) -> bool:
    if not kind.selector:
        return True
    name, _, value = kind.selector.partition("=")
    return (item["metadata"].get("labels") or {}).get(name) == value


def _is_past(kind: Kind, metadata: Object) -> bool:
    """Whether this version was the last: the write that takes the last finalizer away is answered with the object once more."""
    # A namespace is also held by the finalizers in its spec.
    return "deletionTimestamp" in metadata and not metadata.get("finalizers") and kind.name != "Namespace"
