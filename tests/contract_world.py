"""The worlds that the contract of the port `Cluster` is tested in: an adapter that runs, and a user beside it.

Each adapter gives a `ContractWorld`; the tests know nothing else of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from memory_cluster import MemoryCluster
from operator_running import User
from operator_world import Cluster as ControlPlane
from operator_world import a_resource

from spork.controller.cluster import LABEL_MANAGED, Change, Cluster, Object, Ref, ref_of
from spork.controller.kubernetes.cluster import open_cluster
from spork.controller.kubernetes.connection import REQUESTS

LIMIT_S = 60.0


@dataclass
class ContractWorld:
    """An adapter that is running and complete, a namespace for the test, and what a user may do from outside."""

    cluster: Cluster
    namespace: str
    apply: Callable[[dict[str, Any]], Awaitable[Any]]
    """The user's own apply: spec and metadata. The adapter learns of it in its own time."""
    remove: Callable[[Ref], Awaitable[Any]]
    """The user's delete."""
    requests: Callable[[], int]
    """How many requests the adapter has made, without watches."""
    changes: list[Change] = field(default_factory=list)
    """Everything that was told since before `run`."""
    real: bool = False
    """Whether others than the adapter and the user act on the objects, such as a garbage collector."""

    def ref(self, kind: str, name: str = "one") -> Ref:
        return Ref(kind, self.namespace, name)

    def certificate(self, name: str = "one", changes: dict[str, Any] | None = None) -> dict[str, Any]:
        item = a_resource("Certificate", changes, name=name)
        item["metadata"]["namespace"] = self.namespace
        return item

    def secret(self, name: str = "one", data: str = "b25l", **metadata: Any) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {LABEL_MANAGED: "true"},
                **metadata,
            },
            "type": "Opaque",
            "data": {"value": data},
        }

    async def declared(self, name: str = "one", changes: dict[str, Any] | None = None) -> Object:
        """A Certificate that the user has applied, as the adapter knows it."""
        item = self.certificate(name, changes)
        await self.apply(item)
        return await self.until(
            lambda: (
                (found := self.cluster.get(ref_of(item))) is not None and _holds(found["spec"], item["spec"]) and found
            ),
            f"{name} is known",
        )

    async def until(self, met: Callable[[], Any], what: str) -> Any:
        """Waits for what the adapter learns by itself."""
        end = time.monotonic() + LIMIT_S
        while not (result := met()):
            assert time.monotonic() < end, f"not so after {LIMIT_S} s: {what}"
            await asyncio.sleep(0.02)
        return result

    def told_of(self, ref: Ref) -> list[Change]:
        return [change for change in self.changes if change.ref == ref]


def _holds(found: Any, wanted: Any) -> bool:
    """Whether everything wanted is there; defaults may have joined it."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(key in found and _holds(found[key], value) for key, value in wanted.items())
    return bool(found == wanted)


@asynccontextmanager
async def running(world: ContractWorld) -> AsyncIterator[ContractWorld]:
    """Runs the adapter until the block ends, and begins with it complete."""
    world.cluster.subscribe(world.changes.append)
    stop = asyncio.Event()
    task = asyncio.create_task(world.cluster.run(stop))
    await world.cluster.synced()
    try:
        yield world
    finally:
        stop.set()
        await task


@asynccontextmanager
async def memory_world() -> AsyncIterator[ContractWorld]:
    """The double that most tests of reconcilers use."""
    cluster = MemoryCluster()

    async def apply(item: dict[str, Any]) -> None:
        cluster.add(item)

    async def remove(ref: Ref) -> None:
        await cluster.delete(ref)
        cluster.requests.pop()

    world = ContractWorld(cluster, "default", apply, remove, lambda: len(cluster.requests))
    async with running(world):
        yield world


def sent_requests() -> int:
    """Requests of this process to API servers, without watches and events."""
    return int(
        sum(
            sample.value
            for metric in REQUESTS.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
            and sample.labels["method"] != "WATCH"
            and sample.labels["kind"] != "Event"
        )
    )


@asynccontextmanager
async def kubernetes_world(kube: ControlPlane, namespace: str) -> AsyncIterator[ContractWorld]:
    """The adapter of a real API server. The user is another client of it."""
    async with open_cluster(kube.kubeconfig) as cluster, open_cluster(kube.kubeconfig) as other:
        user = User(other)
        await user.clean()
        await user.namespace(namespace)
        # The user's requests are counted by the same metric, so they are taken off.
        by_user = 0

        async def apply(item: dict[str, Any]) -> None:
            nonlocal by_user
            before = sent_requests()
            await user.apply(item)
            by_user += sent_requests() - before

        async def remove(ref: Ref) -> None:
            nonlocal by_user
            before = sent_requests()
            await user.delete(ref)
            by_user += sent_requests() - before

        world = ContractWorld(cluster, namespace, apply, remove, lambda: sent_requests() - by_user, real=True)
        async with running(world):
            yield world
        await user.clean()
