"""Whether an issuer may be used, from a namespace, at this moment: asked before each certificate."""

from __future__ import annotations

from spork.controller.cluster import Object, Ref, ref_of
from spork.controller.conditions import condition_of, is_true
from spork.controller.hierarchy.declarers import grants
from spork.controller.namespaces import granted
from spork.controller.reasons import (
    CONFLICT,
    DELETING,
    ISSUER_MISSING,
    ISSUER_NOT_READY,
    NAMESPACE_NOT_ALLOWED,
    WAITING_FOR_TRUST,
    Reason,
)
from spork.controller.reconciler import Context
from spork.controller.trust.distributed import waits_for
from spork.errors import Code, SporkError
from spork.policy.issuer import Issuer


class NotUsable(SporkError):
    """The issuer cannot be used now: FORBIDDEN, or NOT_FOUND where it does not exist."""

    def __init__(self, reason: Reason, message: str, code: Code = Code.FORBIDDEN) -> None:
        super().__init__(code, message)
        self.reason = reason


def label_of(ref: Ref) -> str:
    """The name of an issuer in URLs."""
    return f"{ref.namespace}.{ref.name}" if ref.namespace else ref.name


async def usable_issuer(context: Context, kind: str, name: str, namespace: str) -> Issuer:
    """The issuer of that kind and name, for an object that lives in `namespace`, as the pipeline takes it.

    An Issuer is looked for in that namespace; a ClusterIssuer has to allow it. Grants are looked at as they are now. Raises
    NotUsable, and DatabaseUnavailable.
    """
    if kind not in ("Issuer", "ClusterIssuer"):
        raise NotUsable(ISSUER_MISSING, f"An issuer is an Issuer or a ClusterIssuer, not {kind!r}.", Code.NOT_FOUND)
    ref = Ref(kind, namespace if kind == "Issuer" else "", name)
    item = context.cluster.get(ref)
    if item is None:
        place = f" in the namespace {namespace!r}" if kind == "Issuer" else ""
        raise NotUsable(ISSUER_MISSING, f"There is no {kind} {name!r}{place}.", Code.NOT_FOUND)
    _require_ready(item)
    if kind == "ClusterIssuer" and not granted(item["spec"].get("allowedNamespaces"), namespace, context.cluster):
        raise NotUsable(
            NAMESPACE_NOT_ALLOWED,
            f"The ClusterIssuer {name!r} does not allow the namespace {namespace!r}; its owner can, in "
            "spec.allowedNamespaces.",
        )
    return await _stored(context, item)


def _require_ready(item: Object) -> None:
    ref = ref_of(item)
    if "deletionTimestamp" in item["metadata"]:
        raise NotUsable(DELETING, f"{ref} is being deleted.")
    if is_true(item, "Ready", current=True):
        return
    found = condition_of(item, "Ready")
    if found is None or found.get("observedGeneration") != item["metadata"].get("generation"):
        raise NotUsable(ISSUER_NOT_READY, f"{ref} has not been looked at yet.")
    named = {one.name: one for one in (CONFLICT, WAITING_FOR_TRUST)}
    reason = named.get(found["reason"], ISSUER_NOT_READY)
    raise NotUsable(reason, f"{ref} is not ready: {found['message']}")


async def _stored(context: Context, item: Object) -> Issuer:
    """The row, if it is this resource's own and its CA still grants the namespace. Raises NotUsable."""
    ref, services = ref_of(item), context.services
    try:
        issuer = await services.issuers.issuer(label_of(ref))
        authority = await services.authorities.authority(issuer.authority_id)
    except SporkError as error:
        if error.code is not Code.NOT_FOUND:
            raise
        raise NotUsable(ISSUER_NOT_READY, f"{ref} is not ready: {error.detail}") from error
    if issuer.origin != context.cluster.origin or issuer.authority_id != item["spec"]["ca"]:
        raise NotUsable(ISSUER_NOT_READY, f"{ref} has not been looked at yet.")
    if ref.namespace and not grants(context.cluster, authority, ref.namespace):
        raise NotUsable(NAMESPACE_NOT_ALLOWED, not_granted(authority.id, ref.namespace))
    if (waiting := waits_for(context, authority)) is not None:
        raise NotUsable(WAITING_FOR_TRUST, waiting)
    return issuer


def not_granted(ca: str, namespace: str) -> str:
    """The sentence for an Issuer whose namespace may not bind the CA."""
    return (
        f"The CA {ca!r} is not granted to the namespace {namespace!r}; the owner of the Hierarchy that declares it can, in "
        "allowedNamespaces of the CA."
    )
