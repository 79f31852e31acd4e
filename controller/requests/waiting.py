"""How long requests wait for what, and which changes end it."""

from __future__ import annotations

from spork.controller.cluster import Change, Object

LOOK_AGAIN_S = 300.0
"""For what a change of a watched object should end anyway."""
SIGNED_SOON_S = 1.0
BEING_SIGNED = "The certificate is being signed."


def grants_changed(change: Change) -> bool:
    """Whether an issuer, tree or namespace changed in what decides who may use it: not merely in its figures."""
    return _telling(change.new) != _telling(change.old)


def _telling(item: Object | None) -> object:
    if item is None:
        return None
    conditions = (item.get("status") or {}).get("conditions") or ()
    states = {one["type"]: one["status"] for one in conditions}
    return item.get("spec"), states, item["metadata"].get("labels"), item["metadata"].get("deletionTimestamp")
