"""What is to be done with a CertificateSigningRequest, from what it says of itself. Pure."""

from __future__ import annotations

from enum import Enum

from spork.controller.cluster import Object
from spork.controller.conditions import is_true
from spork.controller.signing_requests.snapshot import is_ours


class Step(Enum):
    """The next thing to do."""

    NOTHING = "nothing"
    """It is not ours, waits for approval, was denied, is going, or has had its one answer."""
    SIGN = "sign"


def next_step(item: Object) -> Step:
    """Kubernetes lets nobody deny what is approved; should both stand there all the same, nothing is signed."""
    if not is_ours(item) or "deletionTimestamp" in item["metadata"]:
        return Step.NOTHING
    if (item.get("status") or {}).get("certificate") or is_true(item, "Failed") or is_true(item, "Denied"):
        return Step.NOTHING
    return Step.SIGN if is_true(item, "Approved") else Step.NOTHING
