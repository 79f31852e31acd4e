"""Hierarchies: the plan into the status, then to the signer, and what came of it back into the status."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from spork.controller.annotations import LIVE_CERTIFICATES
from spork.controller.cluster import Change, Object, Ref, ref_of
from spork.controller.conditions import Condition, condition_of, write_status
from spork.controller.conversion import file_values
from spork.controller.hierarchy import delete
from spork.controller.hierarchy.authorities import authority_rows, first_end, ready_text
from spork.controller.hierarchy.decide import Ruling, decide, plan_row
from spork.controller.hierarchy.declarers import declared_cas
from spork.controller.hierarchy.handing_in import take_in
from spork.controller.hierarchy.memory import Memory
from spork.controller.hierarchy.snapshot import Snapshot
from spork.controller.reasons import NEEDS_APPROVAL, SIGNER_FAILED, TREE_READY
from spork.controller.reconciler import Context
from spork.errors import Code, SporkError
from spork.store.building import BuildState
from spork.store.configuration import watch_of

_ASKED_S = 2.0
"""While the signer has a plan. That it has done it is noticed sooner; that it has failed is not."""
_SEALED_S = 10.0
_FOLLOWED_S = 1.0
"""How often the version of the configuration is asked for: one cheap statement."""
_WAITING_S = 30.0
"""What is handed in lies in objects that are not watched."""
_IDLE_S = 300.0
_AMISS_S = 30.0
_TOLD = {NEEDS_APPROVAL.name: True, SIGNER_FAILED.name: True, TREE_READY.name: False}
"""The reasons that are worth an Event, and whether it is a warning."""


def reconciler(context: Context) -> HierarchyReconciler:
    """For the kind Hierarchy."""
    return HierarchyReconciler(context)


@dataclass
class HierarchyReconciler:
    """One per process; two at once do no harm, as a plan is carried out under the tree's lock."""

    context: Context
    kind: str = "Hierarchy"
    watches: frozenset[str] = frozenset({"Hierarchy"})
    _memories: dict[Ref, Memory] = field(default_factory=dict)

    def concerned(self, change: Change) -> Iterable[Ref]:
        """Itself, and those that name a CA which it names too: one of them may have it now."""
        ids = {one.get("id") for item in (change.new, change.old) if item is not None for one in declared_cas(item)}
        others = [one for one in self.context.cluster.all("Hierarchy") if ref_of(one) != change.ref]
        return [
            change.ref,
            *(ref_of(one) for one in others if any(ca.get("id") in ids for ca in declared_cas(one))),
        ]

    async def follow(self, wake: Callable[[Ref], None], stop: asyncio.Event) -> None:
        """Wakes all Hierarchies when CAs or issuers have changed, which signers and other tools do beside the cluster."""
        watch, known = watch_of(self.context.services.database), None
        while not stop.is_set():
            with contextlib.suppress(SporkError):
                version = await watch.version()
                if known not in (None, version):
                    for item in self.context.cluster.all(self.kind):
                        wake(ref_of(item))
                known = version
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _FOLLOWED_S)

    async def reconcile(self, ref: Ref) -> float | None:
        """See `Reconciler`."""
        item = self.context.cluster.get(ref)
        if item is None:
            self._memories.pop(ref, None)
            return None
        if "deletionTimestamp" in item["metadata"]:
            return await self._delete(item)
        memory = self._memory(item)
        snapshot = await self._read(item, memory)
        if snapshot.job is not None and snapshot.job.running:
            # What is half built is no state to write down; nothing can be asked for or taken back now anyway.
            return _ASKED_S
        rows = authority_rows(snapshot, memory.counts.by_ca)
        ruling = decide(snapshot, rows)
        if ruling.build:
            # Before anything of it exists, so that no tree is left without its Hierarchy by a deletion.
            item = await self.context.cluster.set_finalizer(item, LIVE_CERTIFICATES, present=True)
        item = await self._write(item, snapshot, rows, [ruling.ready, *memory.looks.last(item, snapshot)])
        wait = await self._act(snapshot, ruling, memory)
        # What is served is looked at when the rest is said and done: an address that does not answer holds nothing up.
        if not ruling.build and (looked := await memory.looks.anew(self.context, snapshot)) is not None:
            await self._write(item, snapshot, rows, [ruling.ready, *looked])
        return wait if memory.looks.well else min(wait, _AMISS_S)

    def _memory(self, item: Object) -> Memory:
        ref, uid = ref_of(item), item["metadata"]["uid"]
        found = self._memories.get(ref)
        if found is None or found.uid != uid:
            found = self._memories[ref] = Memory(uid)
        return found

    async def _read(self, item: Object, memory: Memory) -> Snapshot:
        snapshot = await memory.counts.read(self.context, item)
        if snapshot.declared is None or snapshot.taken or snapshot.plan.forbidden:
            return snapshot
        messages, is_checked = await take_in(self.context, snapshot)
        return replace(snapshot, messages=messages, is_checked=is_checked)

    async def _write(
        self, item: Object, snapshot: Snapshot, rows: list[dict[str, Any]], conditions: list[Condition]
    ) -> Object:
        before = condition_of(item, "Ready")
        fields = {
            "authorities": rows,
            "plan": plan_row(snapshot),
            "ready": ready_text(rows),
            "notAfter": first_end(rows),
        }
        item = await write_status(self.context.cluster, item, conditions, fields, self.context.clock)
        ready = conditions[0]
        moved = before is None or before["reason"] != ready.reason.name
        if moved and (warning := _TOLD.get(ready.reason.name)) is not None:
            await self.context.cluster.report(item, ready.reason.name, ready.message, warning=warning)
        return item

    async def _act(self, snapshot: Snapshot, ruling: Ruling, memory: Memory) -> float:
        building = self.context.services.building
        if not ruling.build:
            if snapshot.job is not None and not snapshot.job.running:
                await building.withdraw(snapshot.subject)
            if snapshot.is_checked:
                return _ASKED_S
            return _WAITING_S if snapshot.plan.changes or snapshot.messages else _IDLE_S
        wait = memory.back_off.wait(snapshot)
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
                status_url=self.context.services.settings.url_of_status(),
            )
        except SporkError as error:
            # An earlier plan is being carried out; this one is looked at again when that is done.
            if error.code is not Code.IN_PROGRESS:
                raise
        return _SEALED_S if ruling.sealed else _ASKED_S

    async def _delete(self, item: Object) -> float | None:
        if LIVE_CERTIFICATES not in (item["metadata"].get("finalizers") or ()):
            return None
        job: BuildState | None = await self.context.services.building.state(f"Hierarchy/{item['metadata']['name']}")
        if job is not None and job.running:
            return _ASKED_S
        states = delete.leaving(self.context, item, await self.context.services.authorities.read_tree())
        held, wait = delete.held(item, states), _WAITING_S
        if held is None:
            held, wait = await delete.take_out_of_service(self.context, item, states), _ASKED_S
        if held is not None:
            before = condition_of(item, "Ready")
            item = await write_status(
                self.context.cluster, item, [held], delete.counted(item, states), self.context.clock
            )
            if before is None or before["reason"] != held.reason.name:
                await self.context.cluster.report(item, held.reason.name, held.message, warning=True)
            return wait
        await self.context.cluster.set_finalizer(item, LIVE_CERTIFICATES, present=False)
        return None
