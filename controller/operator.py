"""The operator: all reconcilers over one cluster, whichever adapter it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog
from prometheus_client import REGISTRY

from spork.controller.ceremony import reconcile as ceremony
from spork.controller.certificate import reconcile as certificate
from spork.controller.certmanager import reconcile as certmanager
from spork.controller.cluster import Change, ref_of
from spork.controller.hierarchy import reconcile as hierarchy
from spork.controller.ingress import reconcile as ingress
from spork.controller.issuer import reconcile as issuer
from spork.controller.metrics import CertificateMetrics
from spork.controller.queue import WORKERS, Queue
from spork.controller.reconciler import Context, Follower, Reconciler
from spork.controller.signing_requests import reconcile as signing_requests
from spork.controller.trust import cluster_bundle
from spork.controller.trust import reconcile as trust

log = structlog.get_logger("spork.controller")

Work = Callable[[asyncio.Event], Awaitable[None]]
Factory = Callable[[Context], Reconciler]

RECONCILERS: Sequence[Factory] = (
    hierarchy.reconciler,
    issuer.issuer_reconciler,
    issuer.cluster_issuer_reconciler,
    certificate.reconciler,
    certmanager.reconciler,
    signing_requests.reconciler,
    ingress.reconciler,
    trust.reconciler,
    cluster_bundle.reconciler,
    ceremony.reconciler,
)


class Leadership(Protocol):
    """Says when this process is the one that works."""

    async def hold(self, work: Work, stop: asyncio.Event) -> None:
        """Calls `work` each time this process becomes the leader, with an event that is set when it is so no longer."""
        ...


class Operator:
    """Reconcilers, their queue, and what is known of their state."""

    def __init__(self, context: Context, *, factories: Sequence[Factory] = RECONCILERS, workers: int = WORKERS) -> None:
        self.synced = False
        """Whether everything that was there at the start is known."""
        self.leading = False
        """Whether this process reconciles now."""
        self._cluster = context.cluster
        self._workers = workers
        # Made once: some of them keep an index that follows the copy from here on.
        self._reconcilers = [make(context) for make in factories]
        self._queue: Queue | None = None
        self._cluster.subscribe(self._changed)

    async def run(self, stop: asyncio.Event, leadership: Leadership | None = None) -> None:
        """Until `stop` is set. Nothing is reconciled before the copy is complete. Raises what no retry mends."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            # The watches end last: what is under way may still write.
            group.create_task(self._cluster.run(ended), name="cluster")
            await self._work(stop, leadership)
            ended.set()

    async def _work(self, stop: asyncio.Event, leadership: Leadership | None) -> None:
        synced = asyncio.create_task(self._cluster.synced())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({synced, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                return
            await synced
        finally:
            synced.cancel()
            stopped.cancel()
        self.synced = True
        if leadership is None:
            await self._lead(stop)
        else:
            await leadership.hold(self._lead, stop)

    async def _lead(self, stop: asyncio.Event) -> None:
        """One term: everything is looked at once, then what changes."""
        queue = Queue(self._reconcilers, workers=self._workers)
        self._queue, self.leading = queue, True
        kinds = {reconciler.kind for reconciler in self._reconcilers}
        queue.add(ref_of(item) for kind in sorted(kinds) for item in self._cluster.all(kind))
        metrics = CertificateMetrics(self._cluster)
        REGISTRY.register(metrics)
        log.info("reconciling", objects={kind: len(self._cluster.all(kind)) for kind in sorted(kinds)})
        try:
            async with asyncio.TaskGroup() as group:
                for one in self._reconcilers:
                    if isinstance(one, Follower):
                        group.create_task(one.follow(lambda ref: queue.add([ref]), stop), name=f"follow {one.kind}")
                await queue.run(stop)
        finally:
            REGISTRY.unregister(metrics)
            self._queue, self.leading = None, False

    def _changed(self, change: Change) -> None:
        if self._queue is not None:
            self._queue.changed(change)


async def run(context: Context, stop: asyncio.Event) -> None:
    """Reconciles until `stop` is set, as the only one."""
    await Operator(context).run(stop)
