"""A cluster in memory for tests of reconcilers: the folder adapter's objects without its files, and kubectl's verbs as methods."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

from spork.clock import Clock, SystemClock
from spork.controller.cluster import KINDS, Cluster, Object, Ref, ref_of
from spork.controller.objects import ObjectStore
from spork.controller.reconciler import Reconciler


class MemoryCluster(ObjectStore):
    """Counts the requests that the port would make; `fail` makes the next write of a kind raise."""

    def __init__(self, clock: Clock | None = None, *, optional: bool = True) -> None:
        super().__init__(clock or SystemClock())
        self.requests: list[str] = []
        self.fail: Callable[[str, Ref], Exception | None] = lambda verb, ref: None
        self._optional = optional

    def has(self, kind: str) -> bool:
        return (self._optional and kind in KINDS) or super().has(kind)

    async def run(self, stop: asyncio.Event) -> None:
        await stop.wait()

    async def synced(self) -> None:
        return

    def add(self, item: dict[str, Any]) -> Object:
        """What `kubectl apply` of a user does: makes it, or changes its spec and metadata."""
        ref = ref_of(item)
        found = self._items.get(ref)
        if found is None:
            return self._put(self._new(item))
        new = copy.deepcopy(found)
        new.update({key: copy.deepcopy(value) for key, value in item.items() if key not in ("metadata", "status")})
        new["metadata"].update(copy.deepcopy(item["metadata"]))
        return self._changed(found, new)

    async def settle(self, *reconcilers: Reconciler, most: int = 200) -> None:
        """Reconciles until nothing changes any more. Raises what a reconciler raises."""
        waiting: list[tuple[Reconciler, Ref]] = []

        def changed(change: Any) -> None:
            for one in reconcilers:
                if change.ref.kind in one.watches:
                    waiting.extend((one, ref) for ref in one.concerned(change) if (one, ref) not in waiting)

        self._listeners.append(changed)
        waiting.extend((one, ref) for one in reconcilers for ref in self._items if ref.kind == one.kind)
        try:
            for _ in range(most):
                if not waiting:
                    return
                reconciler, ref = waiting.pop(0)
                await reconciler.reconcile(ref)
        finally:
            self._listeners.remove(changed)
        raise AssertionError(f"nothing settles; still to do: {[str(ref) for _, ref in waiting]}")


def _counted(name: str) -> Any:
    inner = getattr(ObjectStore, name)

    async def method(self: MemoryCluster, target: Any, *arguments: Any, **options: Any) -> Any:
        ref = target if isinstance(target, Ref) else ref_of(target)
        if (error := self.fail(name, ref)) is not None:
            raise error
        version = self._version
        result = await inner(self, target, *arguments, **options)
        # A finalizer that is there already costs no request; everything else does.
        if name != "set_finalizer" or self._version != version:
            self.requests.append(f"{name} {ref}")
        return result

    return method


for _name in ("read", "create", "replace", "apply", "delete", "set_status", "set_finalizer", "annotate", "report"):
    setattr(MemoryCluster, _name, _counted(_name))

_: type[Cluster] = MemoryCluster  # The port, checked by the type checker.
