"""The loop that keeps lists fresh, and the gauges that tell when one is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from prometheus_client import Gauge

from spork.api.crl.publication import open_modes, publish_due, publisher
from spork.errors import SporkError
from spork.issuance.crl_schedule import PublishedList, ScopeState
from spork.services import Services

log = structlog.get_logger("spork.crl")

TICK_S = 1.0
"""How often the database is asked what is due: one statement. A key compromise is on a list within this and the gap of 5 s."""
_STALE_SHARE = 0.1
"""A list is reported as soon stale when only this share of its life is left."""
_WARN_EVERY_S = 3600.0

_LABELS = ["authority", "generation", "shard", "kind"]
AGE = Gauge("spork_crl_age_seconds", "Age of the published CRL.", _LABELS)
REMAINING = Gauge("spork_crl_seconds_to_next_update", "Until the CRL's nextUpdate; negative when it is stale.", _LABELS)
NUMBER = Gauge("spork_crl_number", "CRLNumber of the published CRL.", _LABELS)
ENTRIES = Gauge("spork_crl_entries", "Entries of the published CRL.", _LABELS)
MISSING = Gauge("spork_crl_missing", "1 while a CA has published no CRL at all.", ["authority", "generation", "shard"])


async def run(services: Services, stop: asyncio.Event) -> None:
    """Publishes what is due until `stop` is set. Any number of replicas may run it."""
    lists, watch = publisher(services), StaleWatch()
    try:
        while not stop.is_set():
            try:
                await publish_due(lists, open_modes(services))
                watch.look(await lists.scopes(), services.clock.now())
            except SporkError as error:
                log.warning("the CRL schedule could not run", reason=error.detail)
            except Exception:
                # One CA's trouble must not end the lists of all others; it is tried again at the next tick.
                log.exception("the CRL schedule failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await stop.wait()
    finally:
        lists.close()


async def handle_message(services: Services, payload: Mapping[str, Any]) -> None:
    """An outbox message `crl.publish`: publishes what is due for one CA now. What is not due yet, the loop sees to."""
    lists = publisher(services)
    try:
        await publish_due(lists, open_modes(services), payload.get("authority"))
    finally:
        lists.close()


class StaleWatch:
    """Sets the gauges, and warns in the log of lists that end soon or have ended, once an hour each."""

    def __init__(self) -> None:
        self._warned: dict[str, datetime] = {}

    def look(self, states: Sequence[ScopeState], now: datetime) -> None:
        """Looks at every scope."""
        for state in states:
            scope = state.scope
            labels = (scope.authority_id, str(scope.generation), str(scope.shard))
            MISSING.labels(*labels).set(state.full is None)
            if state.full is None:
                self._warn(f"{scope} has no CRL", now, state)
                continue
            _set_gauges((*labels, "full"), state.full, now)
            if state.delta is not None and state.policy.delta_interval is not None:
                _set_gauges((*labels, "delta"), state.delta, now)
            if state.full.next_update - now < state.policy.validity * _STALE_SHARE:
                self._warn(f"the CRL of {scope} ends soon or has ended", now, state)

    def _warn(self, sentence: str, now: datetime, state: ScopeState) -> None:
        last = self._warned.get(str(state.scope))
        if last is None or now - last >= timedelta(seconds=_WARN_EVERY_S):
            self._warned[str(state.scope)] = now
            log.warning(
                sentence,
                key_mode=state.key_mode.value,
                next_update=state.full.next_update.isoformat() if state.full else None,
                advice="run `spork crl publish` where the key can be opened, or `spork crl tbs` for an offline CA",
            )


def _set_gauges(labels: tuple[str, ...], published: PublishedList, now: datetime) -> None:
    AGE.labels(*labels).set((now - published.this_update).total_seconds())
    REMAINING.labels(*labels).set((published.next_update - now).total_seconds())
    NUMBER.labels(*labels).set(published.number)
    ENTRIES.labels(*labels).set(published.entries)
