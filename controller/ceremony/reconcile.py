"""Ceremonies: each is told that nothing comes of it in this version, so that nobody waits for one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from spork.controller.cluster import Change, Ref
from spork.controller.conditions import Condition, write_status
from spork.controller.reasons import NOT_HELD_HERE
from spork.controller.reconciler import Context

_MESSAGE = (
    "This version does not hold ceremonies: no approval is taken and no action is done. What sealed keys must sign is done by "
    "`spork pki work --sealed`, and what offline keys must sign is handed in through the Hierarchy."
)


def reconciler(context: Context) -> CeremonyReconciler:
    """For the kind Ceremony."""
    return CeremonyReconciler(context)


@dataclass
class CeremonyReconciler:
    """Writes the status once."""

    context: Context
    kind: str = "Ceremony"
    watches: frozenset[str] = frozenset({"Ceremony"})

    def concerned(self, change: Change) -> Iterable[Ref]:
        """Itself."""
        return [change.ref]

    async def reconcile(self, ref: Ref) -> float | None:
        """See `Reconciler`."""
        item = self.context.cluster.get(ref)
        if item is not None and "deletionTimestamp" not in item["metadata"]:
            ready = Condition("Ready", False, NOT_HELD_HERE, _MESSAGE)
            await write_status(self.context.cluster, item, [ready], {}, self.context.clock)
        return None
