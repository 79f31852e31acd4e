"""What a reconciler is, and what all of them share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from spork.clock import Clock
from spork.controller.cluster import Change, Cluster, Ref, Reviews
from spork.services import Services


@dataclass(frozen=True)
class Context:
    """Handed to each reconciler. `services` holds no key: what must be signed goes by `services.issuing`."""

    cluster: Cluster
    services: Services
    reviews: Reviews | None = None
    """None where nobody can be asked what users may do; then nothing that depends on it is done."""

    @property
    def clock(self) -> Clock:
        return self.services.clock


class Reconciler(Protocol):
    """Makes the objects of one kind true. Level-triggered: it looks at what is, never at what happened."""

    @property
    def kind(self) -> str:
        """The kind of the refs that it takes."""
        ...

    @property
    def watches(self) -> frozenset[str]:
        """The kinds whose changes may concern it; its own among them."""
        ...

    def concerned(self, change: Change) -> Iterable[Ref]:
        """Which of its objects have to be looked at again after a change. Reads the copy alone, and is cheap."""
        ...

    async def reconcile(self, ref: Ref) -> float | None:
        """Reads once, decides purely, acts, writes the status last. May be called at any time, never twice at once for one ref.

        Gives the seconds after which to look again even if nothing changes, or None. Raises SporkError: then it is called
        again with back-off (`retry_after_s` is the least). An object that is not there any more is no error.
        """
        ...


@runtime_checkable
class Follower(Protocol):
    """A reconciler that also hears of changes outside of the cluster, such as revocations."""

    async def follow(self, wake: Callable[[Ref], None], stop: asyncio.Event) -> None:
        """Runs beside the queue: calls `wake` with each of its objects that has to be looked at, until `stop` is set."""
        ...
