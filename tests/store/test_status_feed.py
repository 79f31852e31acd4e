"""The feed outlives whatever its listeners do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from store_builders import plant_authority

from spork.ids import AuthorityId
from spork.store.database import Database
from spork.store.feed import StatusFeed

pytestmark = pytest.mark.store


class Faulty:
    """Fails the first time."""

    def __init__(self) -> None:
        self.calls = 0
        self.heard = asyncio.Event()

    def statuses_changed(self, authority_id: AuthorityId, version: int, serials: Sequence[bytes] | None) -> None:
        self.calls += 1
        if self.calls == 1:
            raise KeyError("a fault in a listener")
        self.heard.set()

    def configuration_changed(self) -> None:
        pass

    def crl_published(self, scope: str) -> None:
        pass


async def test_a_listener_that_fails_does_not_end_the_feed(database: Database) -> None:
    await plant_authority(database)
    feed, listener = StatusFeed(database), Faulty()
    feed.subscribe(listener)
    running = asyncio.create_task(feed.run())
    try:
        async with asyncio.timeout(10):
            await asyncio.wait([running, asyncio.create_task(listener.heard.wait())], return_when="FIRST_COMPLETED")
        assert listener.heard.is_set()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
