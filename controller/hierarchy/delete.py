"""The end of a Hierarchy: held while certificates below it are alive, and then its CAs go out of service for good."""

from __future__ import annotations

from collections.abc import Mapping

from spork.controller.annotations import CONFIRM_DELETE
from spork.controller.cluster import Object, annotation
from spork.controller.conditions import Condition
from spork.controller.hierarchy.declarers import declarer_name, declares
from spork.controller.reasons import LIVE_CERTIFICATES
from spork.controller.reconciler import Context
from spork.ids import AuthorityId
from spork.issuance.ports import AuditEvent
from spork.issuance.tree import AuthorityState, TreeState


def leaving(context: Context, item: Object, tree: TreeState) -> Mapping[AuthorityId, AuthorityState]:
    """The CAs that go out of service with this Hierarchy: its own, except those that another one is about to take over."""
    name, uid = declarer_name(item), item["metadata"]["uid"]
    others = [one for one in context.cluster.all("Hierarchy") if one["metadata"]["uid"] != uid]
    staying = [one for one in others if "deletionTimestamp" not in one["metadata"]]
    return {
        ca: state
        for ca, state in tree.authorities.items()
        if state.declared_by == name and not state.disabled and not any(declares(other, ca) for other in staying)
    }


def held(item: Object, states: Mapping[AuthorityId, AuthorityState]) -> Condition | None:
    """Why it is not deleted yet, if so."""
    live = {ca: state.live_certificates for ca, state in states.items() if state.live_certificates}
    total = sum(live.values())
    given = annotation(item, CONFIRM_DELETE)
    if not total or given == str(total):
        return None
    name = item["metadata"]["name"]
    number = f"{total} certificate is" if total == 1 else f"{total} certificates are"
    each = ", ".join(f"{ca}: {count}" for ca, count in live.items())
    wrong = f" {CONFIRM_DELETE} says {given!r}, which is not that number." if given is not None else ""
    return Condition(
        "Ready",
        False,
        LIVE_CERTIFICATES,
        f"It is being deleted, and {number} alive that its CAs signed ({each}; those of CAs below count too). After it, none "
        "of its CAs signs again and no id is used twice; their revocation lists and OCSP answers go on. "
        "Revoke them, let them expire, or: "
        f"kubectl annotate --overwrite hierarchy {name} {CONFIRM_DELETE}={total}{wrong}",
    )


async def take_out_of_service(context: Context, item: Object, states: Mapping[AuthorityId, AuthorityState]) -> None:
    """Its issuers are shut and its CAs disabled, children first; nothing is erased. May be repeated."""
    services, name = context.services, declarer_name(item)
    actor = f"{context.cluster.origin}:{name}"
    await services.building.withdraw(name)
    async with services.authorities.lock():
        for issuer in (await services.authorities.read_tree(counts=False)).issuers:
            if issuer.declared_by == name:
                audit = AuditEvent("issuer.disable", actor, f"issuer:{issuer.label}", {"origin": "file", "by": name})
                await services.authorities.disable_issuer(issuer.name, audit, declared_by=name)
        for ca in sorted(states, key=lambda one: -_depth(states, one)):
            await services.authorities.disable_authority(ca, AuditEvent("authority.disable", actor, f"authority:{ca}"))


def _depth(states: Mapping[AuthorityId, AuthorityState], ca: AuthorityId) -> int:
    parent = states[ca].parent_id
    return 0 if parent is None or parent not in states else 1 + _depth(states, parent)
