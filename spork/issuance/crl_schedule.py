"""When a revocation list is due: pure rules over what stands in the database.

Source: RFC 5280 section 5 (nextUpdate, deltas).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from spork.ids import AuthorityId
from spork.x509.authority import KeyMode

GAP = timedelta(seconds=5)
"""At least this lies between two lists of one scope, however many revocations come in."""
COALESCE = timedelta(seconds=50)
"""Revocations without urgency wait until the last list is this old, so that each is on a list within 60 seconds."""
_ONLINE = (timedelta(hours=24), timedelta(days=6))
# A person has to open the key, so the lists live six months and a new one is asked for after three.
_BY_HAND = (timedelta(days=91), timedelta(days=91))


class CRLKind(StrEnum):
    """Full lists stand for themselves; a delta changes the full list whose number it names."""

    FULL = "full"
    DELTA = "delta"


@dataclass(frozen=True, slots=True)
class CRLScope:
    """What one list covers: certificates signed by one key of a CA, all of them or one shard."""

    authority_id: AuthorityId
    generation: int
    shard: int
    """0: all certificates; from 1 on: one shard."""

    def __str__(self) -> str:
        shard = f"/{self.shard}" if self.shard else ""
        return f"{self.authority_id}/{self.generation}{shard}"


@dataclass(frozen=True, slots=True)
class CRLPolicy:
    """How often a CA's lists are made."""

    interval: timedelta
    validity: timedelta
    """From thisUpdate to nextUpdate; longer than `interval`, so that a list is replaced well before it ends."""
    delta_interval: timedelta | None = None
    """None: no deltas."""

    @classmethod
    def of(cls, spec: Mapping[str, Any], key_mode: KeyMode) -> CRLPolicy:
        """From the `crl` part of an authority's specification (whole seconds); what it leaves open gets the default."""
        interval, overlap = _ONLINE if key_mode in (KeyMode.ONLINE, KeyMode.PKCS11) else _BY_HAND
        interval = timedelta(seconds=spec["interval_s"]) if spec.get("interval_s") else interval
        overlap = timedelta(seconds=spec["overlap_s"]) if spec.get("overlap_s") is not None else overlap
        delta = timedelta(seconds=spec["delta_interval_s"]) if spec.get("delta_interval_s") else None
        return cls(interval, interval + max(overlap, timedelta(minutes=1)), delta)

    def next_update(self, this_update: datetime, kind: CRLKind) -> datetime:
        """The latest instant at which the next list will be there."""
        if kind is CRLKind.DELTA and self.delta_interval is not None:
            return this_update + 2 * self.delta_interval
        return this_update + self.validity


@dataclass(frozen=True, slots=True)
class PublishedList:
    """A list that stands published, without its octets."""

    number: int
    base_number: int | None
    this_update: datetime
    next_update: datetime
    entries: int
    distribution_points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScopeState:
    """One scope as it stands in the database."""

    scope: CRLScope
    key_mode: KeyMode
    policy: CRLPolicy
    full: PublishedList | None
    delta: PublishedList | None
    """The newest delta, whichever base it has."""
    changed: bool = False
    """A status changed that the newest list does not show."""
    changed_since_full: bool = False
    urgent: bool = False
    """A key compromise that the full list does not show."""


def due(state: ScopeState, now: datetime, distribution_points: tuple[str, ...]) -> CRLKind | None:
    """Which list must be made now, if any. `distribution_points` are the URIs as the CA is configured now."""
    full, delta = state.full, state.delta
    if full is None:
        return CRLKind.FULL
    newest = max(full.this_update, delta.this_update) if delta is not None else full.this_update
    if now - newest < GAP:
        return None
    if _full_is_due(state, full, now, distribution_points):
        return CRLKind.FULL
    if state.policy.delta_interval is not None and _delta_is_due(state, full, now, newest):
        return CRLKind.DELTA
    return None


def _full_is_due(state: ScopeState, full: PublishedList, now: datetime, distribution_points: tuple[str, ...]) -> bool:
    if now - full.this_update >= state.policy.interval or full.distribution_points != distribution_points:
        return True
    # Clients may ignore deltas, so a compromise goes onto the full list as well.
    if state.urgent:
        return True
    return state.policy.delta_interval is None and state.changed_since_full and now - full.this_update >= COALESCE


def _delta_is_due(state: ScopeState, full: PublishedList, now: datetime, newest: datetime) -> bool:
    delta, interval = state.delta, state.policy.delta_interval
    # A delta on an older base serves only those who kept that base, so a new full list brings a new delta.
    if delta is None or delta.base_number != full.number or interval is None:
        return True
    return now - delta.this_update >= interval or (state.changed and now - newest >= COALESCE)
