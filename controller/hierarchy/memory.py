"""What a reconciler keeps in mind of a Hierarchy between two looks. All of it may be forgotten: a restart asks for no write."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from spork.controller.cluster import Object
from spork.controller.conditions import Condition, condition_of
from spork.controller.hierarchy import drift
from spork.controller.hierarchy.snapshot import Snapshot, read
from spork.controller.reasons import Reason
from spork.controller.reconciler import Context
from spork.ids import AuthorityId

_COUNTED_FOR = timedelta(minutes=10)
"""A status is not written anew for each certificate that comes or goes."""
_LOOKED_AT_FOR = timedelta(minutes=10)
_LOOKED_AT_AGAIN = timedelta(seconds=30)
"""Where something was amiss: lists are made and certificates served soon after a CA is there."""
_FIRST_RETRY, _LAST_RETRY = timedelta(seconds=30), timedelta(minutes=30)
_STATUSES = {"True": True, "False": False}


@dataclass
class Counts:
    """Live certificates by CA, ten minutes old at most."""

    by_ca: dict[AuthorityId, int] | None = None
    _at: datetime | None = None
    _built: tuple[bytes, ...] | None = None

    async def read(self, context: Context, item: Object) -> Snapshot:
        """Reads everything, and counts where it is time for it, or a CA got a certificate."""
        now = context.clock.now()
        if self._at is None and (known := _in_status(item)):
            self.by_ca, self._at = known, now
        # A clock that was set back makes the last time lie ahead, which is no reason to wait for it.
        due = self._at is None or abs(now - self._at) >= _COUNTED_FOR
        snapshot = await read(context, item, {}, counts=due)
        built = snapshot.certificates
        if not due and self._built not in (None, built):
            due, snapshot = True, await read(context, item, {}, counts=True)
        if due:
            self.by_ca = {ca: state.live_certificates for ca, state in snapshot.tree.authorities.items()}
            self._at = now
        self._built = built
        return snapshot


def _in_status(item: Object) -> dict[AuthorityId, int]:
    rows = (item.get("status") or {}).get("authorities") or ()
    return {AuthorityId(row["id"]): row["liveCertificates"] for row in rows if "liveCertificates" in row}


@dataclass
class Looks:
    """Drift and revocation lists as they were at the last look."""

    conditions: tuple[Condition, ...] = ()
    _at: datetime | None = None
    _like: tuple[object, ...] = ()

    def last(self, item: Object, snapshot: Snapshot) -> tuple[Condition, ...]:
        """What is known; after a restart that is what the status says. A tree of which nothing is built has neither."""
        if snapshot.declared is None or not snapshot.certificates:
            return ()
        return self.conditions or tuple(one for kind in ("InSync", "CRLs") if (one := _kept(item, kind)) is not None)

    async def anew(self, context: Context, snapshot: Snapshot) -> tuple[Condition, ...] | None:
        """Looks where it is time for it; None where it is not."""
        if snapshot.declared is None or not snapshot.certificates:
            return None
        age = _LOOKED_AT_FOR if self.well else _LOOKED_AT_AGAIN
        like = (snapshot.certificates, snapshot.urls, snapshot.declared)
        if self._at is not None and abs(snapshot.now - self._at) < age and like == self._like:
            return None
        self.conditions = (await drift.in_sync(context, snapshot), await drift.crls(context, snapshot))
        self._at, self._like = snapshot.now, like
        return self.conditions

    @property
    def well(self) -> bool:
        """Whether the last look found nothing amiss, and left nothing open."""
        return all(one.status for one in self.conditions)


def _kept(item: Object, kind: str) -> Condition | None:
    found = condition_of(item, kind)
    if found is None:
        return None
    return Condition(kind, _STATUSES.get(found["status"]), Reason(found["reason"], found["message"]))


@dataclass
class BackOff:
    """Leaves a plan alone that the signer has given up, for longer each time."""

    _plan: str = ""
    _failures: int = 0
    _until: datetime | None = None

    def wait(self, snapshot: Snapshot) -> float | None:
        """For how many seconds, or None: it may be asked for."""
        job, now = snapshot.job, snapshot.now
        if job is None or job.pending or job.plan_hash != snapshot.plan.hash:
            return None
        if self._plan != job.plan_hash:
            self._plan, self._failures, self._until = job.plan_hash, 0, None
        if self._until is None:
            self._until = now + min(_FIRST_RETRY * 2**self._failures, _LAST_RETRY)
            self._failures = min(self._failures + 1, 16)
        if now < self._until <= now + _LAST_RETRY:
            return max(1.0, (self._until - now).total_seconds())
        self._until = None
        return None


@dataclass
class Memory:
    """Of one Hierarchy, which is the object with this uid."""

    uid: Any
    counts: Counts = field(default_factory=Counts)
    looks: Looks = field(default_factory=Looks)
    back_off: BackOff = field(default_factory=BackOff)
