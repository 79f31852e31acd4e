"""Hierarchies: the plan into the status, then to the signer, and what came of it back into the status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from spork.controller.annotations import LIVE_CERTIFICATES
from spork.controller.cluster import Change, Object, Ref, ref_of
from spork.controller.conditions import Condition, condition_of, write_status
from spork.controller.conversion import file_values
from spork.controller.hierarchy import delete, drift
from spork.controller.hierarchy.authorities import authority_rows, first_end, ready_text
from spork.controller.hierarchy.decide import Ruling, decide, plan_row
from spork.controller.hierarchy.declarers import declared_cas
from spork.controller.hierarchy.handing_in import take_in
from spork.controller.hierarchy.snapshot import Snapshot, read
from spork.controller.reasons import NEEDS_APPROVAL, SIGNER_FAILED, TREE_READY
from spork.controller.reconciler import Context
from spork.errors import Code, SporkError
from spork.ids import AuthorityId
from spork.store.building import BuildState

_ASKED_S = 2.0
"""While the signer has a plan: its job is one row to look at."""
_SEALED_S = 10.0
_WAITING_S = 30.0
"""What is handed in lies in objects that are not watched."""
_IDLE_S = 300.0
_COUNTED_FOR = timedelta(minutes=10)
"""A status is not written anew for each certificate that comes or goes."""
_LOOKED_AT_FOR = timedelta(minutes=10)
_LOOKED_AT_AGAIN = timedelta(seconds=30)
"""Where something was amiss: lists are made and certificates served soon after a CA is there."""
_FIRST_RETRY, _LAST_RETRY = timedelta(seconds=30), timedelta(minutes=30)
_TOLD = {NEEDS_APPROVAL.name: True, SIGNER_FAILED.name: True, TREE_READY.name: False}
"""The reasons that are worth an Event, and whether it is a warning."""


def reconciler(context: Context) -> HierarchyReconciler:
    """For the kind Hierarchy."""
    return HierarchyReconciler(context)


@dataclass
class _Memory:
    """What need not be found out at each look. All of it may be forgotten."""

    counts: Mapping[AuthorityId, int] | None = None
    counted_at: datetime | None = None
    counted_for: tuple[bytes, ...] | None = None
    looked_at: datetime | None = None
    looked_like: tuple[object, ...] = ()
    conditions: tuple[Condition, ...] = ()
    failures: int = 0
    failed_plan: str = ""
    retry_at: datetime | None = None


@dataclass
class HierarchyReconciler:
    """One per process; two at once do no harm, as a plan is carried out under the tree's lock."""

    context: Context
    kind: str = "Hierarchy"
    watches: frozenset[str] = frozenset({"Hierarchy"})
    _memories: dict[Ref, _Memory] = field(default_factory=dict)

    def concerned(self, change: Change) -> Iterable[Ref]:
        """Itself, and those that name a CA which it names too: one of them may have it now."""
        ids = {one.get("id") for item in (change.new, change.old) if item is not None for one in declared_cas(item)}
        others = [one for one in self.context.cluster.all("Hierarchy") if ref_of(one) != change.ref]
        return [
            change.ref,
            *(ref_of(one) for one in others if any(ca.get("id") in ids for ca in declared_cas(one))),
        ]

    async def reconcile(self, ref: Ref) -> float | None:
        """See `Reconciler`."""
        item = self.context.cluster.get(ref)
        if item is None:
            self._memories.pop(ref, None)
            return None
        if "deletionTimestamp" in item["metadata"]:
            return await self._delete(item)
        memory = self._memories.setdefault(ref, _Memory())
        snapshot = await self._read(item, memory)
        rows = authority_rows(snapshot, memory.counts)
        ruling = decide(snapshot, rows)
        conditions = [ruling.ready, *await self._observed(snapshot, memory)]
        if ruling.build:
            # Before anything of it exists, so that no tree is left without its Hierarchy by a deletion.
            item = await self.context.cluster.set_finalizer(item, LIVE_CERTIFICATES, present=True)
        await self._write(item, snapshot, rows, conditions)
        return await self._act(snapshot, ruling, memory)

    async def _read(self, item: Object, memory: _Memory) -> Snapshot:
        """Twice where something was handed in, which changes what remains to be done."""
        snapshot = await self._counted(item, memory)
        if snapshot.declared is None or snapshot.taken or snapshot.plan.forbidden:
            return snapshot
        messages, came = await take_in(self.context, snapshot)
        return await read(self.context, item, messages) if came or messages else snapshot

    async def _counted(self, item: Object, memory: _Memory) -> Snapshot:
        """Counts anew every ten minutes, and when a CA got a certificate. A restart goes on with what the status says."""
        now = self.context.clock.now()
        if memory.counted_at is None and (known := _known_counts(item)):
            memory.counts, memory.counted_at = known, now
        due = memory.counted_at is None or now - memory.counted_at >= _COUNTED_FOR
        snapshot = await read(self.context, item, {}, counts=due)
        built = _built(snapshot)
        if not due and memory.counted_for not in (None, built):
            due, snapshot = True, await read(self.context, item, {}, counts=True)
        if due:
            memory.counts = {ca: state.live_certificates for ca, state in snapshot.tree.authorities.items()}
            memory.counted_at = now
        memory.counted_for = built
        return snapshot

    async def _observed(self, snapshot: Snapshot, memory: _Memory) -> tuple[Condition, ...]:
        """Drift and revocation lists, as they were at the last look. A tree of which nothing is built has neither."""
        built = _built(snapshot)
        if snapshot.declared is None or not built:
            return ()
        age = _LOOKED_AT_FOR if all(one.status for one in memory.conditions) else _LOOKED_AT_AGAIN
        fresh = memory.looked_at is not None and snapshot.now - memory.looked_at < age
        looks_like = (built, _urls(snapshot), snapshot.declared)
        if not fresh or looks_like != memory.looked_like:
            memory.conditions = (await drift.in_sync(self.context, snapshot), await drift.crls(self.context, snapshot))
            memory.looked_at, memory.looked_like = snapshot.now, looks_like
        return memory.conditions

    async def _write(
        self, item: Object, snapshot: Snapshot, rows: list[dict[str, Any]], conditions: list[Condition]
    ) -> None:
        before = condition_of(item, "Ready")
        fields = {
            "authorities": rows,
            "plan": plan_row(snapshot),
            "ready": ready_text(rows),
            "notAfter": first_end(rows),
        }
        await write_status(self.context.cluster, item, conditions, fields, self.context.clock)
        ready = conditions[0]
        moved = before is None or before["reason"] != ready.reason.name
        if moved and (warning := _TOLD.get(ready.reason.name)) is not None:
            await self.context.cluster.report(item, ready.reason.name, ready.message, warning=warning)

    async def _act(self, snapshot: Snapshot, ruling: Ruling, memory: _Memory) -> float:
        building = self.context.services.building
        if not ruling.build:
            if snapshot.job is not None and not snapshot.job.running:
                await building.withdraw(snapshot.subject)
            if snapshot.plan.changes or snapshot.messages:
                return _WAITING_S
            return _IDLE_S if all(one.status for one in memory.conditions) else _LOOKED_AT_AGAIN.total_seconds()
        wait = self._back_off(snapshot, memory)
        if wait is not None:
            return wait
        assert snapshot.resource is not None
        try:
            await building.request(
                file_values(snapshot.resource),
                snapshot.plan.hash,
                approve=ruling.approved,
                actor=f"{self.context.cluster.origin}:{snapshot.subject}",
                sealed=ruling.sealed,
                subject=snapshot.subject,
            )
        except SporkError as error:
            # An earlier plan is being carried out; this one is looked at again when that is done.
            if error.code is not Code.IN_PROGRESS:
                raise
        return _SEALED_S if ruling.sealed else _ASKED_S

    def _back_off(self, snapshot: Snapshot, memory: _Memory) -> float | None:
        """How long to leave a plan alone that the signer has given up, or None."""
        job, now = snapshot.job, snapshot.now
        if job is None or job.pending or job.plan_hash != snapshot.plan.hash:
            return None
        if memory.failed_plan != job.plan_hash:
            memory.failed_plan, memory.failures, memory.retry_at = job.plan_hash, 0, None
        if memory.retry_at is None:
            memory.retry_at = now + min(_FIRST_RETRY * 2**memory.failures, _LAST_RETRY)
            memory.failures = min(memory.failures + 1, 16)
        if now < memory.retry_at:
            return max(1.0, (memory.retry_at - now).total_seconds())
        memory.retry_at = None
        return None

    async def _delete(self, item: Object) -> float | None:
        if LIVE_CERTIFICATES not in (item["metadata"].get("finalizers") or ()):
            return None
        job: BuildState | None = await self.context.services.building.state(f"Hierarchy/{item['metadata']['name']}")
        if job is not None and job.running:
            return _ASKED_S
        states = delete.leaving(self.context, item, await self.context.services.authorities.read_tree())
        held = delete.held(item, states)
        if held is not None:
            await self._hold(item, held)
            return _WAITING_S
        await delete.take_out_of_service(self.context, item, states)
        await self.context.cluster.set_finalizer(item, LIVE_CERTIFICATES, present=False)
        return None

    async def _hold(self, item: Object, held: Condition) -> None:
        """The rest of the status stays as it is: it says what is about to end."""
        old = item.get("status") or {}
        fields = {key: value for key, value in old.items() if key not in ("conditions", "observedGeneration")}
        await write_status(self.context.cluster, item, [held], fields, self.context.clock)


def _built(snapshot: Snapshot) -> tuple[bytes, ...]:
    """The certificates of its CAs."""
    ours = (one.current for one in snapshot.tree.authorities.values() if one.declared_by == snapshot.subject)
    return tuple(current.certificate_der for current in ours if current is not None and current.certificate_der)


def _urls(snapshot: Snapshot) -> tuple[object, ...]:
    """What its CAs write into certificates as addresses."""
    ours = (one.current for one in snapshot.tree.authorities.values() if one.declared_by == snapshot.subject)
    return tuple(current.urls for current in ours if current is not None)


def _known_counts(item: Object) -> dict[AuthorityId, int]:
    rows = (item.get("status") or {}).get("authorities") or ()
    return {AuthorityId(row["id"]): row["liveCertificates"] for row in rows if "liveCertificates" in row}
