"""How a replica learns what another one committed: LISTEN, and the counters every half second for what was missed.

A status change moves its authority's counter in the same transaction and notifies `spork_status`; a published list notifies
`spork_crl`. A notification only wakes the reader; what changed is always read from the tables.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, LiteralString, Protocol

import psycopg
import structlog

from spork.ids import AuthorityId
from spork.store.connection import CountedConnection
from spork.store.database import Database, connection_options

log = structlog.get_logger("spork.status")

POLL_S = 0.5
_QUERY_TIMEOUT_S = 2.0
_MAX_CHANGED = 10_000
"""With more changes than this it is cheaper to forget every answer of the CA."""
_VERSIONS: LiteralString = """
SELECT id, status_version, (SELECT version FROM configuration_version) FROM authority
"""
_CHANGED: LiteralString = """
SELECT serial FROM revocation WHERE authority_id = %s AND version > %s AND version <= %s LIMIT %s
"""


class FeedListener(Protocol):
    """Who wants to know. Called on the event loop, must not block."""

    def statuses_changed(self, authority_id: AuthorityId, version: int, serials: Sequence[bytes] | None) -> None:
        """The authority's counter is `version` now; these serials changed since the last call, None means: any of them."""
        ...

    def configuration_changed(self) -> None:
        """CAs were added or changed."""
        ...

    def crl_published(self, scope: str) -> None:
        """A list of `authority/generation[/shard]` was published."""
        ...


class StatusFeed:
    """Follows the counters of one database for one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[FeedListener] = []
        self._versions: dict[AuthorityId, int] = {}
        self._configuration = -1
        self._checked_at = float("-inf")
        self.away = False
        """Whether the last attempt to read the counters failed."""
        self.pause = 0.0
        """For tests: seconds to sleep before each reading, as a stalled replica would."""

    def subscribe(self, listener: FeedListener) -> None:
        """From now on the listener is called."""
        self._listeners.append(listener)

    @property
    def unchecked_s(self) -> float:
        """Seconds since the start of the last successful reading; infinite before the first."""
        return time.monotonic() - self._checked_at

    async def run(self) -> None:
        """Follows until cancelled; a lost connection is opened again, forever."""
        while True:
            try:
                connection = await CountedConnection.connect(self._database.url, **connection_options("spork-listen"))
                async with connection:
                    await self._follow(connection)
            except (psycopg.Error, OSError, TimeoutError) as error:
                if not self.away:
                    log.warning("the status counters cannot be read", error=type(error).__name__)
                self.away = True
                await asyncio.sleep(POLL_S / 2)
            except Exception:
                # Whoever answers from a cache rests on this task; what it did not hear of, it asks for again.
                log.exception("the status feed failed and starts again")
                self._versions.clear()
                self._configuration, self.away = -1, True
                await asyncio.sleep(POLL_S / 2)

    async def _follow(self, connection: CountedConnection) -> None:
        await connection.execute("LISTEN spork_status; LISTEN spork_crl")
        while True:
            if self.pause:
                await asyncio.sleep(self.pause)
            started = time.monotonic()
            async with asyncio.timeout(_QUERY_TIMEOUT_S):
                await self._read(connection)
            self._checked_at, self.away = started, False
            async with aclosing(connection.notifies(timeout=POLL_S, stop_after=1)) as heard:
                async for notification in heard:
                    self._notified(notification)

    def _notified(self, notification: psycopg.Notify) -> None:
        if notification.channel == "spork_crl":
            for listener in self._listeners:
                listener.crl_published(notification.payload)

    async def _read(self, connection: CountedConnection) -> None:
        rows: list[Any] = await (await connection.execute(_VERSIONS)).fetchall()
        for authority_id, version, _ in rows:
            known = self._versions.get(authority_id)
            if version != known:
                serials = await self._changed(connection, authority_id, known, version)
                self._versions[authority_id] = version
                for listener in self._listeners:
                    listener.statuses_changed(authority_id, version, serials)
        if rows and rows[0][2] != self._configuration:
            self._configuration = rows[0][2]
            for listener in self._listeners:
                listener.configuration_changed()

    async def _changed(
        self, connection: CountedConnection, authority_id: AuthorityId, known: int | None, version: int
    ) -> Sequence[bytes] | None:
        # A counter that went back means a database that was restored: nothing that was cached can be trusted.
        if known is None or version < known:
            return None
        rows = await (await connection.execute(_CHANGED, [authority_id, known, version, _MAX_CHANGED + 1])).fetchall()
        return None if len(rows) > _MAX_CHANGED else [row[0] for row in rows]
