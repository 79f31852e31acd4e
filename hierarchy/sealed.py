"""Which keys of sealed CAs a plan needs: whoever has only online keys cannot carry it out."""

from __future__ import annotations

from collections.abc import Iterator

from spork.hierarchy.model import Hierarchy
from spork.hierarchy.steps import Action, Plan, Step, Target
from spork.ids import AuthorityId
from spork.x509.authority import KeyMode


def needs_sealed(plan: Plan, hierarchy: Hierarchy) -> tuple[AuthorityId, ...]:
    """The CAs whose sealed key is made or signs when the plan is carried out, each once, in the order of the steps."""
    needed = (one for step in plan.changes for one in _opened(step, hierarchy))
    return tuple(dict.fromkeys(one for one in needed if hierarchy.by_id[one].key_mode is KeyMode.SEALED))


def _opened(step: Step, hierarchy: Hierarchy) -> Iterator[AuthorityId]:
    """The CAs whose key a step makes, or signs with."""
    if step.target is Target.CROSS_CERTIFICATE:
        yield from (one.issuer_id for one in hierarchy.cross_certificates if one.id == step.id)
    if step.target is not Target.AUTHORITY:
        return
    own = AuthorityId(step.id)
    # A request is signed by the key that it is for, and a new key is wrapped by the passphrase of its kind.
    if step.action in (Action.CREATE, Action.REQUEST, Action.NEW_KEY):
        yield own
    if step.action in (Action.CREATE, Action.ISSUE, Action.NEW_KEY):
        yield hierarchy.by_id[own].parent_id or own
