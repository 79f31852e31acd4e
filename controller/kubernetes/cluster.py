"""The adapter: the port `Cluster` over an API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from spork.controller.cluster import (
    FIELD_MANAGER,
    KINDS,
    Change,
    Cluster,
    Conflict,
    Kind,
    Object,
    Ref,
    Refused,
)
from spork.controller.kubernetes import paths
from spork.controller.kubernetes.connection import APPLY_PATCH, MERGE_PATCH, Connection, connect
from spork.controller.kubernetes.events import Events
from spork.controller.kubernetes.mirror import Mirror, taken_in
from spork.controller.kubernetes.watch import Watch
from spork.errors import Code

_MANAGED = {"fieldManager": FIELD_MANAGER}
_FORCED = {**_MANAGED, "force": "true"}
_SERVER_SET = ("resourceVersion", "managedFields", "creationTimestamp", "generation", "selfLink")
_STATUS_TRIES = 4
_FLUSH_S = 2.0
_LAG_S = 30.0


class KubernetesCluster:
    """Objects of one API server. Made by `open_cluster`."""

    origin: Literal["file", "kubernetes"] = "kubernetes"

    def __init__(self, connection: Connection, namespaces: Collection[str] = ()) -> None:
        self.connection = connection
        self._mirror = Mirror(frozenset(namespaces))
        self._events = Events(connection)
        self._watches = [
            Watch(connection, kind, namespace, self._mirror)
            for kind in KINDS.values()
            if kind.watched
            for namespace in (sorted(namespaces) if kind.namespaced and namespaces else [None])
        ]

    # Reading

    def get(self, ref: Ref) -> Object | None:
        return self._mirror.get(ref)

    def all(self, kind: str, namespace: str | None = None) -> Sequence[Object]:
        return self._mirror.all(kind, namespace)

    def has(self, kind: str) -> bool:
        known = KINDS.get(kind)
        return known is not None and (
            not known.optional or any(watch.present for watch in self._watches if watch.kind is known)
        )

    def lagging(self) -> list[str]:
        """What has not been listened to for a while, though the server should have it: kinds, or a kind in a namespace."""
        # Watches end every few minutes and are taken up again.
        since = asyncio.get_running_loop().time() - _LAG_S
        missing = {one.name for one in self._watches if not (one.running or one.heard_at > since or one.kind.optional)}
        return sorted(missing)

    async def read(self, ref: Ref) -> Object | None:
        kind = KINDS[ref.kind]
        try:
            return self._taken(kind, await self.connection.request("GET", self._path(kind, ref), ref))
        except Refused as error:
            if error.code is Code.NOT_FOUND:
                return None
            raise

    # Writing

    async def create(self, item: Object) -> Object:
        kind, ref = _kind_and_ref(item)
        path = paths.collection(kind, ref.namespace, self._served(kind))
        body = {**item, "apiVersion": self._served(kind)}
        return self._taken(kind, await self.connection.request("POST", path, ref, query=_MANAGED, body=body))

    async def replace(self, item: Object) -> Object:
        kind, ref = _kind_and_ref(item)
        if not item["metadata"].get("resourceVersion"):
            raise Conflict(ref)
        return await self._write("PUT", kind, ref, item, _MANAGED)

    async def apply(self, item: Object) -> Object:
        kind, ref = _kind_and_ref(item)
        body = {key: value for key, value in item.items() if key != "status"}
        body["metadata"] = {key: value for key, value in item["metadata"].items() if key not in _SERVER_SET}
        return await self._write("PATCH", kind, ref, body, _FORCED, APPLY_PATCH, gone_is_conflict=False)

    async def delete(self, ref: Ref, *, uid: str | None = None, resource_version: str | None = None) -> None:
        kind = KINDS[ref.kind]
        conditions = {"uid": uid, "resourceVersion": resource_version}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {key: value for key, value in conditions.items() if value is not None},
        }
        try:
            answer = await self.connection.request("DELETE", self._path(kind, ref), ref, body=body)
        except Refused as error:
            if error.code is Code.NOT_FOUND:
                return
            raise
        if answer.get("kind") == "Status":
            # What waits for a finalizer is answered with the object; a Status says that it is gone.
            self._mirror.remove(ref, (answer.get("details") or {}).get("uid") or uid or "")
        else:
            self._taken(kind, answer)

    async def set_status(self, item: Object, status: Mapping[str, Any]) -> Object:
        kind, ref = _kind_and_ref(item)
        version = self._newest_version(ref, item)
        for _ in range(_STATUS_TRIES):
            try:
                return await self._apply_status(kind, ref, item, version, status)
            except Conflict:
                # Another field changed in the meantime, or it is another object by now. The version is named at all because an
                # API server looks at no uid when it applies the status of a custom resource.
                now = await self.read(ref)
                if now is None or now["metadata"]["uid"] != item["metadata"]["uid"]:
                    raise
                version = now["metadata"]["resourceVersion"]
        raise Conflict(ref)

    async def _apply_status(
        self, kind: Kind, ref: Ref, item: Object, version: str, status: Mapping[str, Any]
    ) -> Object:
        metadata = {"name": ref.name, "uid": item["metadata"]["uid"], "resourceVersion": version}
        if ref.namespace:
            metadata["namespace"] = ref.namespace
        body = {"apiVersion": item["apiVersion"], "kind": kind.name, "metadata": metadata, "status": status}
        return await self._write("PATCH", kind, ref, body, _FORCED, APPLY_PATCH, "/status")

    def _newest_version(self, ref: Ref, item: Object) -> str:
        """Raises Conflict if the copy knows already that the object is gone."""
        held = self.get(ref)
        known = item["metadata"]
        if held is not None and held["metadata"]["uid"] == known["uid"]:
            return max((str(one["resourceVersion"]) for one in (held["metadata"], known)), key=int)
        if held is not None and int(held["metadata"]["resourceVersion"]) > int(known["resourceVersion"]):
            raise Conflict(ref)
        return str(known["resourceVersion"])

    async def set_finalizer(self, item: Object, finalizer: str, *, present: bool) -> Object:
        metadata = item["metadata"]
        before = metadata.get("finalizers") or []
        if (finalizer in before) is present:
            return item
        after = [*before, finalizer] if present else [one for one in before if one != finalizer]
        kind, ref = _kind_and_ref(item)
        known = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {"metadata": {**known, "finalizers": after}}
        return await self._write("PATCH", kind, ref, body, _MANAGED, MERGE_PATCH)

    async def annotate(self, item: Object, annotations: Mapping[str, str | None]) -> Object:
        kind, ref = _kind_and_ref(item)
        body = {"metadata": {"uid": item["metadata"]["uid"], "annotations": annotations}}
        return await self._write("PATCH", kind, ref, body, _MANAGED, MERGE_PATCH)

    async def _write(
        self,
        method: str,
        kind: Kind,
        ref: Ref,
        body: Mapping[str, Any],
        query: Mapping[str, str],
        content_type: str = "application/json",
        subresource: str = "",
        *,
        gone_is_conflict: bool = True,
    ) -> Object:
        if "apiVersion" in body:
            body = {**body, "apiVersion": self._served(kind)}
        path = self._path(kind, ref) + subresource
        try:
            answer = await self.connection.request(method, path, ref, query=query, body=body, content_type=content_type)
        except Refused as error:
            if gone_is_conflict and error.code is Code.NOT_FOUND:
                raise Conflict(ref) from error
            raise
        return self._taken(kind, answer)

    def _taken(self, kind: Kind, answer: dict[str, Any]) -> Object:
        """What the server answered, which the copy holds from now on."""
        item = taken_in(kind, answer)
        if kind.watched:
            self._mirror.put(item)
        return item

    def _served(self, kind: Kind) -> str:
        return next((one.api_version for one in self._watches if one.kind is kind), kind.api_version)

    def _path(self, kind: Kind, ref: Ref) -> str:
        return paths.one(kind, ref, self._served(kind))

    # Events

    async def report(self, item: Object, reason: str, message: str, *, warning: bool = False) -> None:
        self._events.add(item, reason, message, warning)

    # Life

    def subscribe(self, listener: Callable[[Change], None]) -> None:
        self._mirror.subscribe(listener)

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.run(), name=f"watch of {one.kind.plural}") for one in self._watches]
            tasks.append(group.create_task(self._events.run(), name="events"))
            await stop.wait()
            for task in tasks:
                task.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._events.flush(), _FLUSH_S)

    async def synced(self) -> None:
        for one in self._watches:
            await one.listed.wait()


def _kind_and_ref(item: Object) -> tuple[Kind, Ref]:
    kind, metadata = KINDS[item["kind"]], item["metadata"]
    return kind, Ref(kind.name, (metadata.get("namespace") or "") if kind.namespaced else "", metadata["name"])


@contextlib.asynccontextmanager
async def open_cluster(
    kubeconfig: Path | None = None, context: str | None = None, namespaces: Collection[str] = ()
) -> AsyncIterator[KubernetesCluster]:
    """The cluster of that kubeconfig (see `connect`). Watches the given namespaces, or all. Raises ConfigurationError."""
    connection = await connect(kubeconfig, context)
    try:
        yield KubernetesCluster(connection, namespaces)
    finally:
        await connection.close()


_: type[Cluster] = KubernetesCluster  # The port, checked by the type checker.
