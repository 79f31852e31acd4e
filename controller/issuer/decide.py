"""What an issuer is to be, given what is known. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from spork.controller.conditions import Condition
from spork.controller.conversion import declared_issuer
from spork.controller.issuer.snapshot import Snapshot
from spork.controller.issuer.usable import not_granted
from spork.controller.models import ClusterIssuer, Issuer
from spork.controller.reasons import (
    CA_EXPIRED,
    CA_MISSING,
    CA_NOT_READY,
    CA_STOPPED,
    INVALID,
    ISSUER_READY,
    NAMESPACE_NOT_ALLOWED,
    PROFILE_NOT_ALLOWED,
    WAITING_FOR_TRUST,
    Reason,
)
from spork.hierarchy.model import DeclaredIssuer
from spork.hierarchy.problems import HierarchyError, did_you_mean
from spork.x509.authority import Authority


@dataclass(frozen=True, slots=True)
class Ruling:
    """`declared` is what the store is to hold; None: its doors are to be shut."""

    ready: Condition
    declared: DeclaredIssuer | None
    not_after: datetime | None = None
    waiting: bool = False
    """What the store holds, or holds not, stays as it is for the moment."""


def decide(snapshot: Snapshot) -> Ruling:
    """An issuer that is not allowed, or not valid any more, is shut; one whose CA cannot sign at present is kept."""
    if snapshot.resource is None:
        return _shut(INVALID, snapshot.fault)
    ca, authority = snapshot.resource.spec.ca, snapshot.authority
    if authority is None:
        return _shut(CA_MISSING, f"There is no CA {ca!r}{did_you_mean(ca, snapshot.authorities)}")
    if not snapshot.granted:
        return _shut(NAMESPACE_NOT_ALLOWED, not_granted(ca, snapshot.ref.namespace))
    if refused := [
        one for one in snapshot.resource.spec.profiles if authority.profiles and one not in authority.profiles
    ]:
        return _shut(PROFILE_NOT_ALLOWED, _profiles(refused, authority))
    return _of_valid(snapshot.resource, authority, snapshot)


def _of_valid(resource: Issuer | ClusterIssuer, authority: Authority, snapshot: Snapshot) -> Ruling:
    try:
        declared = declared_issuer(resource, {authority.id: authority})
    except HierarchyError as error:
        return _shut(INVALID, " ".join(error.lines))
    ready = _state_of(authority, snapshot.now)
    if ready is None and snapshot.waits is not None:
        return Ruling(_not(WAITING_FOR_TRUST, snapshot.waits), declared, authority.not_after, waiting=True)
    issues = Condition("Ready", True, ISSUER_READY, f"It issues from {authority.id}.")
    return Ruling(ready or issues, declared, authority.not_after)


def _state_of(authority: Authority, now: datetime) -> Condition | None:
    """Why the CA cannot sign, if so."""
    if authority.stopped is not None:
        return _not(CA_STOPPED, f"The CA {authority.id!r} signs no more: {authority.stopped}; bind another one.")
    if authority.certificate is None or authority.not_after is None:
        return _not(
            CA_NOT_READY, f"The CA {authority.id!r} has no certificate yet; see the Hierarchy that declares it."
        )
    if authority.not_after < now:
        end = f"{authority.not_after:%Y-%m-%d}"
        return _not(CA_EXPIRED, f"The certificate of the CA {authority.id!r} expired on {end}; bind another one.")
    return None


def _profiles(refused: list[str], authority: Authority) -> str:
    words = " and ".join(repr(one) for one in refused)
    return (
        f"The CA {authority.id!r} does not offer {words}, only {', '.join(authority.profiles)}; change spec.profiles here, or "
        "profiles of the CA in its Hierarchy."
    )


def _not(reason: Reason, message: str) -> Condition:
    return Condition("Ready", False, reason, message)


def _shut(reason: Reason, message: str) -> Ruling:
    return Ruling(_not(reason, message), None)
