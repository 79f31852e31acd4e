"""What was signed elsewhere and lies in a ConfigMap or Secret: read when it is awaited, and taken in with every check."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from spork.controller.cluster import Ref
from spork.controller.conversion import file_values
from spork.controller.hierarchy.snapshot import Snapshot
from spork.controller.models.authorities import Authority, HandedIn
from spork.controller.models.hierarchy import HierarchySpec
from spork.controller.reconciler import Context
from spork.errors import Code, SporkError
from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.offline import owner_of
from spork.hierarchy.steps import Target

_MAX_LETTERS = 1 << 20
_PASSING = frozenset({Code.UNAVAILABLE, Code.CONFLICT, Code.IN_PROGRESS})


async def take_in(context: Context, snapshot: Snapshot) -> tuple[dict[str, str], bool]:
    """Hands whatever is awaited and is there to a signer, which checks it and stores it; the operator may write no CA.

    Gives a sentence for each CA that goes on waiting, and whether a signer is at it, so that there is news in a moment.
    """
    messages: dict[str, str] = {}
    is_checked = False
    for authority, waits_for_request in _awaited(snapshot):
        ref = authority.request_ref if waits_for_request else authority.certificate_ref
        if ref is None:
            messages[authority.id] = _to_do(authority.id, waits_for_request, snapshot)
            continue
        try:
            text = await _text(context, ref)
            messages[authority.id], pending = await _hand_in(context, snapshot, authority, text, ref)
            is_checked = is_checked or pending
        except SporkError as error:
            if error.code in _PASSING:
                raise
            messages[authority.id] = f"What lies in {_place(ref)} cannot be used: {error.detail}"
    return messages, is_checked


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


async def _hand_in(
    context: Context, snapshot: Snapshot, authority: Authority, text: str, ref: HandedIn
) -> tuple[str, bool]:
    """Leaves the text for a signer; what is known of it so far, and whether it is still open.

    Raises SporkError for one that is not of this CA.
    """
    assert snapshot.declared is not None and snapshot.resource is not None
    is_request = ref is authority.request_ref
    found = owner_of(snapshot.declared, text, is_request=is_request)
    if found != authority.id:
        raise SporkError(Code.POLICY_REFUSED, f"it is that of {found}, and {authority.id} goes on waiting.")
    building, subject = context.services.building, snapshot.subject
    await building.take_in(
        file_values(snapshot.resource),
        text,
        kind="csr" if is_request else "certificate",
        actor=f"{context.cluster.origin}:{subject}",
        subject=subject,
    )
    state = await building.import_state(subject, text)
    if state is None or state.last_error is None:
        return f"What lies in {_place(ref)} is with the signer, which checks it and takes it in.", True
    if state.pending:
        return f"What lies in {_place(ref)} is tried again: {state.last_error}", True
    return f"What lies in {_place(ref)} cannot be used: {state.last_error}", False


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
