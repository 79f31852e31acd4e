"""Signs approved CertificateRequests of cert-manager with our issuers."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from spork.controller.certmanager.decide import Step, next_step
from spork.controller.certmanager.snapshot import asked_of, issuer_of
from spork.controller.cluster import Change, Object, Ref, ref_of
from spork.controller.conditions import time_text
from spork.controller.issuer.usable import NotUsable, usable_issuer
from spork.controller.reasons import DENIED, FAILED, INVALID, PENDING, REQUEST_ISSUED, Reason
from spork.controller.reconciler import Context, Reconciler
from spork.controller.requests.conditions import foreign_condition, write_foreign_status
from spork.controller.requests.outcome import Outcome, outcome_of
from spork.controller.requests.signing import Issued, issued
from spork.controller.requests.waiting import BEING_SIGNED, LOOK_AGAIN_S, SIGNED_SOON_S, grants_changed
from spork.errors import SporkError
from spork.ids import serial_text


def reconciler(context: Context) -> Reconciler:
    """The reconciler of CertificateRequests."""
    return CertificateRequests(context)


class CertificateRequests:
    """One write of the status and one event for each request; none for one that is not approved, not ours, or answered."""

    kind = "CertificateRequest"
    watches = frozenset({"CertificateRequest", "Issuer", "ClusterIssuer", "Hierarchy", "Namespace"})

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster

    def concerned(self, change: Change) -> Iterable[Ref]:
        if change.ref.kind == self.kind:
            return [change.ref] if change.new is not None and next_step(change.new) is not Step.NOTHING else []
        if not grants_changed(change):
            return []
        waiting = self._cluster.all(self.kind, change.ref.namespace or None)
        return [ref_of(one) for one in waiting if next_step(one) is Step.SIGN and _may_concern(one, change.ref)]

    async def reconcile(self, ref: Ref) -> float | None:
        item = self._cluster.get(ref)
        step = next_step(item) if item is not None else Step.NOTHING
        if item is None or step is Step.NOTHING:
            return None
        if step is Step.DENY:
            await self._end(item, DENIED, "The request was denied and is never signed.")
            return None
        return await self._sign(item)

    async def _sign(self, item: Object) -> float | None:
        try:
            asked = asked_of(item)
            kind, name = issuer_of(item)
            issuer = await usable_issuer(self._context, kind, name, asked.namespace)
            found = await issued(self._context, asked, issuer)
        except SporkError as error:
            return await self._refused(item, error)
        if found is None:
            await self._wait(item, BEING_SIGNED)
            return SIGNED_SOON_S
        await self._issued(item, found, issuer.label)
        return None

    async def _issued(self, item: Object, found: Issued, label: str) -> None:
        message = f"Signed by {label}, serial {serial_text(found.serial)}."
        await self._write(
            item,
            [self._ready(item, True, REQUEST_ISSUED, message)],
            certificate=base64.b64encode(found.chain_pem).decode(),
            ca=base64.b64encode(found.root_pem).decode(),
        )
        await self._cluster.report(item, REQUEST_ISSUED.name, message)

    async def _refused(self, item: Object, error: SporkError) -> float | None:
        match outcome_of(error):
            case Outcome.WAIT:
                await self._wait(item, error.detail)
                if not isinstance(error, NotUsable):
                    raise error
                # Whatever makes the issuer usable wakes this request again.
                return LOOK_AGAIN_S
            case Outcome.INVALID:
                invalid = foreign_condition(item, "InvalidRequest", True, INVALID, error.detail, self._context.clock)
                await self._end(item, FAILED, error.detail, invalid)
            case Outcome.REFUSED:
                await self._end(item, FAILED, error.detail)
        await self._cluster.report(item, FAILED.name, error.detail, warning=True)
        return None

    async def _wait(self, item: Object, message: str) -> None:
        await self._write(item, [self._ready(item, False, PENDING, message)])

    async def _end(self, item: Object, reason: Reason, message: str, *more: dict[str, Any]) -> None:
        now = time_text(self._context.clock.now())
        await self._write(item, [self._ready(item, False, reason, message), *more], failureTime=now)

    def _ready(self, item: Object, status: bool, reason: Reason, message: str) -> dict[str, Any]:
        return foreign_condition(item, "Ready", status, reason, message, self._context.clock)

    async def _write(self, item: Object, conditions: list[dict[str, Any]], **fields: str) -> None:
        await write_foreign_status(self._cluster, item, {**fields, "conditions": conditions})


def _may_concern(item: Object, ref: Ref) -> bool:
    """Whether a change of that issuer, tree or namespace may be what the request waits for."""
    if ref.kind == "Namespace":
        return bool(item["metadata"]["namespace"] == ref.name)
    return ref.kind == "Hierarchy" or issuer_of(item) == (ref.kind, ref.name)
