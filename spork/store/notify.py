"""Notifications of other replicas. They only wake: whoever hears one reads the tables, and reads them as well when none came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import psycopg
from psycopg import sql

from spork.ids import AuthorityId
from spork.store.database import Database, connection_options

STATUS_CHANNEL = "spork_status"
"""The payload is `<authority>:<status_version>`."""
_RECONNECT_S = 0.25


@dataclass(frozen=True, slots=True)
class Notification:
    """What was heard. Without a channel: the connection is new, so anything may have been missed."""

    channel: str | None
    payload: str = ""


async def notifications(database: Database, *channels: str) -> AsyncIterator[Notification]:
    """Listens until it is closed, on a connection of its own, which is opened again whenever it breaks.

    Yields one `Notification(None)` after each new connection, before anything that was heard on it.
    """
    listen = sql.SQL("; ").join(sql.SQL("LISTEN {}").format(sql.Identifier(channel)) for channel in channels)
    while True:
        try:
            options = connection_options("spork-listen")
            async with await psycopg.AsyncConnection.connect(database.url, **options) as connection:
                await connection.execute(listen)
                yield Notification(None)
                async with aclosing(connection.notifies()) as heard:
                    async for notify in heard:
                        yield Notification(notify.channel, notify.payload)
        except psycopg.OperationalError:
            await asyncio.sleep(_RECONNECT_S)


async def counters(database: Database) -> Mapping[AuthorityId, int]:
    """The status counter of every authority, in one cheap statement."""
    rows = await (await database.execute("SELECT id, status_version FROM authority")).fetchall()
    return {AuthorityId(row[0]): int(row[1]) for row in rows}
