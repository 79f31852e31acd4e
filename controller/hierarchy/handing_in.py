"""What was signed elsewhere and lies in a ConfigMap or Secret: read when it is awaited, and taken in with every check."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import replace

from spork.controller.cluster import Ref
from spork.controller.hierarchy.snapshot import Snapshot
from spork.controller.models.authorities import Authority, HandedIn
from spork.controller.models.hierarchy import HierarchySpec
from spork.controller.reconciler import Context
from spork.errors import Code, SporkError
from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.offline import import_certificate, import_csr
from spork.hierarchy.steps import Target

_MAX_LETTERS = 1 << 20
_PASSING = frozenset({Code.UNAVAILABLE, Code.CONFLICT, Code.IN_PROGRESS})


async def take_in(context: Context, snapshot: Snapshot) -> tuple[dict[str, str], bool]:
    """Takes in whatever is awaited and is there.

    Gives a sentence for each CA that goes on waiting, and whether anything came in, so that it is time for another look.
    """
    messages: dict[str, str] = {}
    came = False
    for authority, waits_for_request in _awaited(snapshot):
        ref = authority.request_ref if waits_for_request else authority.certificate_ref
        if ref is None:
            messages[authority.id] = _to_do(authority.id, waits_for_request, snapshot)
            continue
        try:
            await _import(context, snapshot, authority, await _text(context, ref), waits_for_request)
            came = True
        except SporkError as error:
            if error.code in _PASSING:
                raise
            messages[authority.id] = f"What lies in {_place(ref)} cannot be used: {error.detail}"
    return messages, came


def _awaited(snapshot: Snapshot) -> Iterator[tuple[Authority, bool]]:
    """The CAs for which somebody elsewhere has to act, parents first; whether it is their request that is missing."""
    assert snapshot.declared is not None and snapshot.resource is not None
    spec = {one.id: one for one in _authorities(snapshot.resource.spec)}
    waiting = {
        step.id
        for step in snapshot.plan.steps
        if step.target is Target.AUTHORITY and step.change is ChangeClass.WAITING
    }
    for declared in snapshot.declared.authorities:
        if declared.id not in waiting:
            continue
        parent = snapshot.declared.by_id[declared.parent_id] if declared.parent_id is not None else None
        if parent is not None and parent.id not in snapshot.tree.authorities:
            continue
        if not declared.key_is_here and parent is not None and parent.key_is_here:
            yield spec[declared.id], True
        elif not declared.key_is_here or (parent is not None and not parent.key_is_here):
            yield spec[declared.id], False


def _authorities(spec: HierarchySpec) -> Iterator[Authority]:
    yield spec.root
    yield from spec.policy_cas
    yield from (one for policy in spec.policy_cas for one in policy.issuing_cas)
    yield from spec.issuing_cas


async def _import(context: Context, snapshot: Snapshot, authority: Authority, text: str, is_request: bool) -> None:
    assert snapshot.declared is not None
    workshop = replace(context.services.workshop, actor=f"{context.cluster.origin}:{snapshot.subject}")
    take = import_csr if is_request else import_certificate
    found = await take(snapshot.declared, workshop, text)
    if found != authority.id:
        raise SporkError(
            Code.POLICY_REFUSED, f"it is that of {found}, which has been taken in; {authority.id} goes on waiting."
        )


async def _text(context: Context, ref: HandedIn) -> str:
    """The PEM text. Raises SporkError(NOT_FOUND, MALFORMED)."""
    found = await context.cluster.read(Ref(ref.kind, ref.namespace, ref.name))
    if found is None:
        raise SporkError(Code.NOT_FOUND, "it is not there yet.")
    data = (found.get("data") or {}).get(ref.key)
    if data is None:
        data = (found.get("stringData") or {}).get(ref.key)
        if data is None:
            raise SporkError(Code.NOT_FOUND, f"it has no key {ref.key!r}.")
        return str(data)[:_MAX_LETTERS]
    return _decoded(data)[:_MAX_LETTERS] if ref.kind == "Secret" else str(data)[:_MAX_LETTERS]


def _decoded(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise SporkError(Code.MALFORMED, "it is not PEM text.") from error


def _place(ref: HandedIn) -> str:
    return f"the {ref.kind} {ref.namespace}/{ref.name}, key {ref.key},"


def _to_do(authority: str, waits_for_request: bool, snapshot: Snapshot) -> str:
    """What a person has to do, where nothing is named yet."""
    if waits_for_request:
        return "Its key is elsewhere: make its request there, and name the ConfigMap with it in requestRef."
    state = next((one for one in snapshot.tree.authorities.values() if one.id == authority), None)
    has_request = state is not None and state.current is not None and state.current.pending_csr is not None
    what = "sign the request that stands here" if has_request else "have its certificate made where its key is"
    return f"Its certificate is made elsewhere: {what}, and name the ConfigMap with the certificate in certificateRef."
