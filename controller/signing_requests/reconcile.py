"""Signs approved CertificateSigningRequests of Kubernetes with our issuers, for users who may name them."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from spork.controller.cluster import Change, Object, Ref, Reviews, ref_of
from spork.controller.conditions import condition_of
from spork.controller.issuer.usable import NotUsable, usable_issuer
from spork.controller.reasons import FAILED, INVALID, MAY_NOT_REFERENCE, PENDING, REQUEST_ISSUED, Reason
from spork.controller.reconciler import Context, Reconciler
from spork.controller.requests.conditions import foreign_condition, write_foreign_status
from spork.controller.requests.outcome import Outcome, outcome_of
from spork.controller.requests.signing import Issued, issued
from spork.controller.requests.waiting import BEING_SIGNED, LOOK_AGAIN_S, SIGNED_SOON_S, grants_changed
from spork.controller.signing_requests.decide import Step, next_step
from spork.controller.signing_requests.snapshot import VERB, Signer, asked_of, namespace_of_user, signer_of
from spork.errors import SporkError
from spork.ids import serial_text
from spork.policy.issuer import Issuer

_WAITS = "Pending"
"""Our condition while a request waits. It goes with the answer; Kubernetes has no word for it."""


def reconciler(context: Context) -> Reconciler:
    """The reconciler of CertificateSigningRequests."""
    return SigningRequests(context)


class _MayNotReference(Exception):
    """The user may not name this issuer."""


class SigningRequests:
    """One access review, one write of the status and one event for each request; none for one that is not approved or not ours."""

    kind = "CertificateSigningRequest"
    watches = frozenset({"CertificateSigningRequest", "Issuer", "ClusterIssuer", "Hierarchy", "Namespace"})

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster

    def concerned(self, change: Change) -> Iterable[Ref]:
        if change.ref.kind == self.kind:
            return [change.ref] if change.new is not None and next_step(change.new) is Step.SIGN else []
        if not grants_changed(change):
            return []
        waiting = (one for one in self._cluster.all(self.kind) if next_step(one) is Step.SIGN)
        return [ref_of(one) for one in waiting if _may_concern(one, change.ref)]

    async def reconcile(self, ref: Ref) -> float | None:
        item, reviews = self._cluster.get(ref), self._context.reviews
        if item is None or reviews is None or next_step(item) is Step.NOTHING:
            return None
        try:
            asked, signer = asked_of(item), signer_of(item)
            issuer = await self._issuer(item, signer, reviews)
            found = await issued(self._context, asked, issuer)
        except _MayNotReference as error:
            await self._fail(item, MAY_NOT_REFERENCE, str(error))
        except SporkError as error:
            return await self._refused(item, error)
        else:
            return await self._answer(item, found, issuer.label)
        return None

    async def _issuer(self, item: Object, signer: Signer, reviews: Reviews) -> Issuer:
        """The issuer, for a user who may name it. Nobody else learns whether it is there. Raises NotUsable, _MayNotReference."""
        found: Issuer | NotUsable
        try:
            # A cluster-wide issuer's grant is for namespaces; of users only a ServiceAccount has one.
            namespace = signer.namespace or namespace_of_user(item)
            found = await usable_issuer(self._context, signer.kind, signer.name, namespace)
        except NotUsable as error:
            found = error
            waits = condition_of(item, _WAITS)
            if waits is not None and waits.get("message") == error.detail:
                raise
        if not await reviews.may(item["spec"], signer.review):
            raise _MayNotReference(f"The user may not name {signer}: a role with the verb {VERB} on it is missing.")
        if isinstance(found, NotUsable):
            raise found
        return found

    async def _answer(self, item: Object, found: Issued | None, label: str) -> float | None:
        if found is None:
            await self._wait(item, BEING_SIGNED)
            return SIGNED_SOON_S
        await self._write(item, [], certificate=base64.b64encode(found.chain_pem).decode())
        await self._cluster.report(item, REQUEST_ISSUED.name, f"Signed by {label}, serial {serial_text(found.serial)}.")
        return None

    async def _refused(self, item: Object, error: SporkError) -> float | None:
        outcome = outcome_of(error)
        if outcome is not Outcome.WAIT:
            await self._fail(item, INVALID if outcome is Outcome.INVALID else FAILED, error.detail)
            return None
        await self._wait(item, error.detail)
        if not isinstance(error, NotUsable):
            raise error
        # Whatever makes the issuer usable wakes this request again.
        return LOOK_AGAIN_S

    async def _fail(self, item: Object, reason: Reason, message: str) -> None:
        await self._write(item, [self._condition(item, "Failed", reason, message)])
        await self._cluster.report(item, reason.name, message, warning=True)

    async def _wait(self, item: Object, message: str) -> None:
        await self._write(item, [self._condition(item, _WAITS, PENDING, message)])

    def _condition(self, item: Object, kind: str, reason: Reason, message: str) -> dict[str, Any]:
        return foreign_condition(item, kind, True, reason, message, self._context.clock)

    async def _write(self, item: Object, conditions: list[dict[str, Any]], **fields: str) -> None:
        await write_foreign_status(self._cluster, item, {**fields, "conditions": conditions})


def _may_concern(item: Object, ref: Ref) -> bool:
    """Whether a change of that issuer, tree or namespace may be what the request waits for."""
    try:
        signer = signer_of(item)
    except SporkError:
        return False
    if ref.kind == "Namespace":
        return ref.name in (signer.namespace, namespace_of_user(item))
    return ref.kind == "Hierarchy" or (ref.kind, ref.namespace, ref.name) == (
        signer.kind,
        signer.namespace,
        signer.name,
    )
