"""The end of a Hierarchy: held while certificates below it are alive, and then its CAs go out of service for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spork.controller.annotations import CONFIRM_DELETE
from spork.controller.cluster import Object, annotation
from spork.controller.conditions import Condition
from spork.controller.hierarchy.decide import some
from spork.controller.hierarchy.declarers import declarer_name, declares
from spork.controller.reasons import LIVE_CERTIFICATES, WAITING_FOR_SIGNER
from spork.controller.reconciler import Context
from spork.ids import AuthorityId
from spork.issuance.ports import AuditEvent
from spork.issuance.tree import AuthorityState, TreeState


def leaving(context: Context, item: Object, tree: TreeState) -> Mapping[AuthorityId, AuthorityState]:
    """The CAs that go out of service with this Hierarchy: its own, except those that another one is about to take over.

    Those that are out of service already count as well: a kill in the middle of it must not ask for another confirmation.
    """
    name, uid = declarer_name(item), item["metadata"]["uid"]
    others = [one for one in context.cluster.all("Hierarchy") if one["metadata"]["uid"] != uid]
    staying = [one for one in others if "deletionTimestamp" not in one["metadata"]]
    return {
        ca: state
        for ca, state in tree.authorities.items()
        if state.declared_by == name and not any(declares(other, ca) for other in staying)
    }


def held(item: Object, states: Mapping[AuthorityId, AuthorityState]) -> Condition | None:
    """Why it is not deleted yet, if so."""
    live = {ca: state.live_certificates for ca, state in states.items() if state.live_certificates}
    total = sum(live.values())
    given = annotation(item, CONFIRM_DELETE)
    if not total or is_confirmed(item, total):
        return None
    name = item["metadata"]["name"]
    number = f"{total} certificate is" if total == 1 else f"{total} certificates are"
    each = some([f"{ca}: {count}" for ca, count in live.items()])
    wrong = f"{CONFIRM_DELETE} says {given!r}, which is not that number. " if given is not None else ""
    return Condition(
        "Ready",
        False,
        LIVE_CERTIFICATES,
        f"It is being deleted, and {number} alive that its CAs signed ({each}; those of CAs below count too). After it, none "
        "of its CAs signs again and no id is used twice; their revocation lists and OCSP answers go on. "
        f"{wrong}Revoke them, let them expire, or: "
        f"kubectl annotate --overwrite hierarchy {name} {CONFIRM_DELETE}={total}",
    )


def is_confirmed(item: Object, live: int) -> bool:
    """Whether the annotation says how many there are, or how many the status shows.

    Numbers move while a person types, and the admission policy, which has let the deletion pass, knows the status alone.
    """
    given, status = annotation(item, CONFIRM_DELETE), item.get("status") or {}
    if given is None or given == str(live):
        return given is not None
    rows = status.get("authorities") or [status]
    shown = sum(row.get("liveCertificates", 0) for row in rows)
    # Where none was shown, nobody has seen that there are any.
    return shown > 0 and given == str(shown)


def counted(item: Object, states: Mapping[AuthorityId, AuthorityState]) -> dict[str, Any]:
    """The rest of the status as it was, which says what is about to end, with the numbers of now."""
    old = item.get("status") or {}
    fields = {key: value for key, value in old.items() if key not in ("conditions", "observedGeneration")}
    live = {str(ca): state.live_certificates for ca, state in states.items()}
    rows = [{**row, "liveCertificates": live.get(row["id"], 0)} for row in fields.get("authorities") or ()]
    return {**fields, "authorities": rows}


async def take_out_of_service(
    context: Context, item: Object, states: Mapping[AuthorityId, AuthorityState]
) -> Condition | None:
    """Its issuers are shut, and its CAs disabled by a signer, children first; nothing is erased. May be repeated.

    Gives what is still waited for, or None when it is done.
    """
    services, name = context.services, declarer_name(item)
    actor = f"{context.cluster.origin}:{name}"
    await services.building.withdraw(name)
    async with services.authorities.lock():
        for issuer in (await services.authorities.read_tree(counts=False)).issuers:
            if issuer.declared_by == name:
                audit = AuditEvent("issuer.disable", actor, f"issuer:{issuer.label}", {"origin": "file", "by": name})
                await services.authorities.disable_issuer(issuer.name, audit, declared_by=name)
    working = [ca for ca, state in states.items() if not state.disabled]
    if not working:
        return None
    working.sort(key=lambda ca: (-_depth(states, ca), ca))
    await services.building.retire(working, actor=actor, subject=name)
    left = await services.building.retire_state(name)
    wrong = f" The last try failed: {left.last_error}" if left is not None and left.last_error else ""
    message = (
        f"The signer, which is part of `spork serve`, has been asked to take {some(working)} out of service.{wrong}"
    )
    return Condition("Ready", False, WAITING_FOR_SIGNER, message)


def _depth(states: Mapping[AuthorityId, AuthorityState], ca: AuthorityId) -> int:
    parent = states[ca].parent_id
    return 0 if parent is None or parent not in states else 1 + _depth(states, parent)
