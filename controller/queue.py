"""The work of all reconcilers: one queue, each ref of each reconciler at most once at a time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import structlog
from prometheus_client import Counter, Gauge, Histogram

from spork.controller.cluster import Change, Conflict, Ref
from spork.controller.keyed import Keyed
from spork.controller.reconciler import Reconciler
from spork.errors import SporkError

log = structlog.get_logger("spork.controller")

DEPTH = Gauge("spork_reconcile_queue_depth", "Objects that wait to be reconciled.")
RUNNING = Gauge("spork_reconcile_running", "Objects that are being reconciled.")
SECONDS = Histogram(
    "spork_reconcile_seconds",
    "Time of one reconciliation by kind.",
    ["kind"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
OUTCOMES = Counter(
    "spork_reconciles_total", "Reconciliations by kind and outcome: done or the code of the error.", ["kind", "outcome"]
)
RETRIES = Counter(
    "spork_reconcile_retries_total", "Reconciliations that failed and are tried again, by kind.", ["kind"]
)

WORKERS = 32
_GRACE_S = 5.0
"""What is under way may come to its end for so long when the queue stops."""


class Task(NamedTuple):
    """One object of one reconciler. Several reconcilers may take the same kind."""

    number: int
    ref: Ref


class Queue:
    """Hands refs to reconcilers, `workers` at once. Changes wake it; see `changed`. `now` gives seconds that never go back."""

    def __init__(
        self,
        reconcilers: Sequence[Reconciler],
        *,
        workers: int = WORKERS,
        now: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        grace_s: float = _GRACE_S,
    ) -> None:
        self._reconcilers = reconcilers
        self._keyed: Keyed[Task] = Keyed(jitter)
        self._workers = workers
        self._now = now
        self._grace_s = grace_s
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def add(self, refs: Iterable[Ref]) -> None:
        """These objects are to be looked at, by each reconciler of their kind."""
        for ref in refs:
            for number, reconciler in enumerate(self._reconcilers):
                if reconciler.kind == ref.kind:
                    self._keyed.add(Task(number, ref), self._now())
        self._wake.set()

    def changed(self, change: Change) -> None:
        """Adds what the change concerns. A new spec ends the back-off of its own object."""
        afresh = _is_new_spec(change)
        for number, reconciler in enumerate(self._reconcilers):
            if change.ref.kind not in reconciler.watches:
                continue
            try:
                refs = list(reconciler.concerned(change))
            except Exception:
                # One reconciler's fault must not keep the change from the others.
                log.exception("a change could not be passed on", object=str(change.ref), kind=reconciler.kind)
                continue
            for ref in refs:
                self._keyed.add(Task(number, ref), self._now(), afresh=afresh and ref == change.ref)
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set. What is under way then may end within the grace, and is cancelled after it."""
        stopped = asyncio.create_task(stop.wait())
        # A stop is one more reason to wake up.
        stopped.add_done_callback(lambda _: self._wake.set())
        try:
            while not stop.is_set():
                self._wake.clear()
                self._start()
                await self._pause()
        finally:
            stopped.cancel()
            await self._end()

    def _start(self) -> None:
        while len(self._running) < self._workers and (task := self._keyed.take(self._now())) is not None:
            running = asyncio.create_task(self._work(task), name=f"reconcile {task.ref}")
            self._running.add(running)
            running.add_done_callback(self._finished)
        DEPTH.set(self._keyed.depth)
        RUNNING.set(len(self._running))

    def _finished(self, running: asyncio.Task[None]) -> None:
        self._running.discard(running)
        self._wake.set()

    async def _pause(self) -> None:
        due = self._keyed.next_due()
        full = len(self._running) >= self._workers
        # Not wait_for: in Python 3.11 it swallows a cancellation that comes together with what it waits for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if due is None or full else max(0.0, due - self._now())):
                await self._wake.wait()

    async def _end(self) -> None:
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=self._grace_s)
            for one in late:
                one.cancel()
            if late:
                await asyncio.wait(late)
        DEPTH.set(0)
        RUNNING.set(0)

    async def _work(self, task: Task) -> None:
        reconciler = self._reconcilers[task.number]
        began = time.perf_counter()
        outcome = "cancelled"
        with structlog.contextvars.bound_contextvars(object=str(task.ref)):
            try:
                again = await reconciler.reconcile(task.ref)
            except Exception as error:
                outcome = self._failed(task, reconciler.kind, error)
            else:
                outcome = "done"
                self._keyed.done(task, self._now(), again)
            finally:
                SECONDS.labels(reconciler.kind).observe(time.perf_counter() - began)
                OUTCOMES.labels(reconciler.kind, outcome).inc()

    def _failed(self, task: Task, kind: str, error: Exception) -> str:
        RETRIES.labels(kind).inc()
        if not isinstance(error, SporkError):
            pause = self._keyed.failed(task, self._now())
            log.exception("a reconciliation failed", reference=uuid.uuid4().hex[:12], again_in_s=round(pause, 1))  # noqa: LOG004
            return "unknown"
        pause = self._keyed.failed(task, self._now(), error.retry_after_s or 0)
        # Somebody else was faster, which is no fault: the newer state is on its way here.
        say = log.debug if isinstance(error, Conflict) else log.warning
        say("a reconciliation is tried again", code=error.code.value, detail=error.detail, again_in_s=round(pause, 1))
        return error.code.value


def _is_new_spec(change: Change) -> bool:
    if change.new is None or change.old is None:
        return True
    new, old = change.new["metadata"], change.old["metadata"]
    return bool(new["uid"] != old["uid"] or new.get("generation") != old.get("generation"))
