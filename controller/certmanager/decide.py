"""What is to be done with a CertificateRequest, from what it says of itself. Pure."""

from __future__ import annotations

from enum import Enum

from spork.controller.certmanager.snapshot import is_ours
from spork.controller.cluster import Object
from spork.controller.conditions import condition_of, is_true
from spork.controller.reasons import DENIED, FAILED


class Step(Enum):
    """The next thing to do."""

    NOTHING = "nothing"
    """It is not ours, waits for approval, is going, or has had its one answer."""
    DENY = "deny"
    SIGN = "sign"


def is_finished(item: Object) -> bool:
    """Whether the request has had its answer. It gets no second one, whatever changes later."""
    ready = condition_of(item, "Ready")
    failed = ready is not None and ready["status"] == "False" and ready.get("reason") in (FAILED.name, DENIED.name)
    signed = bool((item.get("status") or {}).get("certificate"))
    return failed or signed or is_true(item, "Ready") or is_true(item, "InvalidRequest")


def next_step(item: Object) -> Step:
    """Denied counts before Approved: what was denied is never signed."""
    if not is_ours(item) or "deletionTimestamp" in item["metadata"] or is_finished(item):
        return Step.NOTHING
    if is_true(item, "Denied"):
        return Step.DENY
    return Step.SIGN if is_true(item, "Approved") else Step.NOTHING
