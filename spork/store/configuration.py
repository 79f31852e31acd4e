"""The version of the configuration: it moves with every change of CAs and issuers, so that snapshots know when they are old.

All snapshots of one `Database` share one watch. It asks the database at most every half second and only when somebody needs a
snapshot; a change made through the same `Database` is seen at once.
"""

from __future__ import annotations

import asyncio
import time
from typing import LiteralString
from weakref import WeakKeyDictionary

from spork.errors import DatabaseUnavailable
from spork.store.connection import CountedConnection
from spork.store.database import Database

CHANNEL = "spork_configuration"
"""NOTIFY channel: the payload is the new version."""
_EVERY_S = 0.5
_READ: LiteralString = "SELECT version FROM configuration_version"
_MOVE: LiteralString = """
WITH moved AS (UPDATE configuration_version SET version = version + 1 RETURNING version)
SELECT pg_notify('spork_configuration', version::text) FROM moved
"""
_watches: WeakKeyDictionary[Database, ConfigurationWatch] = WeakKeyDictionary()


class ConfigurationWatch:
    """Knows the configuration's version, half a second late at most."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version: int | None = None
        self._checked_at = float("-inf")
        self._reading = asyncio.Lock()

    async def version(self) -> int:
        """The version; while the database is away, the last one known. Raises DatabaseUnavailable if none ever was."""
        if time.monotonic() - self._checked_at < _EVERY_S and self._version is not None:
            return self._version
        async with self._reading:
            # Whoever waited for the lock finds the answer of the one who held it.
            if time.monotonic() - self._checked_at < _EVERY_S and self._version is not None:
                return self._version
            return await self._read()

    def forget(self) -> None:
        """The next question goes to the database. Called after a change, and when a notification arrives."""
        self._checked_at = float("-inf")

    async def _read(self) -> int:
        started = time.monotonic()
        try:
            row = await (await self._database.execute(_READ)).fetchone()
        except DatabaseUnavailable:
            if self._version is None:
                raise
            # Nothing can be issued without the database, so that an old snapshot does no harm; statuses need it.
            self._checked_at = time.monotonic()
            return self._version
        self._version = int(row[0]) if row is not None else 0
        self._checked_at = started
        return self._version


def watch_of(database: Database) -> ConfigurationWatch:
    """The one watch of this database."""
    watch = _watches.get(database)
    if watch is None:
        watch = _watches[database] = ConfigurationWatch(database)
    return watch


async def move(connection: CountedConnection) -> None:
    """Moves the version in the connection's transaction, which replicas hear of when it commits."""
    await connection.execute(_MOVE)
