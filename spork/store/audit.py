"""The audit log: events are appended within the transaction that they report, and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from spork.issuance.ports import AuditEvent
from spork.store.connection import CountedConnection
from spork.store.database import Database

_APPEND = "INSERT INTO audit_event (actor, action, subject, detail, address) VALUES (%s, %s, %s, %s, %s)"
_COLUMNS: LiteralString = "id, at, actor, action, subject, detail, address"

PAGE = 100
"""Rows of a page unless the caller says otherwise."""
LARGEST_PAGE = 1000


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event as it stands in the log."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    address: str | None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to list; None means any."""

    actor: str | None = None
    action: str | None = None
    """A whole action, or with a trailing dot all that begin with it: `certificate.`."""
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""


async def append(connection: CountedConnection, event: AuditEvent) -> None:
    """Writes the event in the connection's transaction. In a batch it costs no trip."""
    await connection.execute(_APPEND, parameters(event))


def parameters(event: AuditEvent) -> tuple[Any, ...]:
    """The event's values in the order actor, action, subject, detail, address."""
    return (event.actor, event.action, event.subject, Jsonb(dict(event.detail)), event.address)


async def list_events(
    database: Database, wanted: EventFilter = EventFilter(), *, before: int | None = None, limit: int = PAGE
) -> list[RecordedEvent]:
    """A page of events, newest first; `before` is the id of the last event of the page before. At most 1000 rows."""
    conditions: list[LiteralString] = []
    values: list[Any] = []

    def add(condition: LiteralString, value: Any) -> None:
        if value is not None:
            conditions.append(condition)
            values.append(value)

    add("id < %s", before)
    add("actor = %s", wanted.actor)
    add("subject = %s", wanted.subject)
    add("at >= %s", wanted.since)
    add("at < %s", wanted.until)
    if wanted.action is not None and wanted.action.endswith("."):
        # The slash follows the dot in every collation that compares octets; so this is the range of the prefix.
        add('action COLLATE "C" >= %s', wanted.action)
        add('action COLLATE "C" < %s', wanted.action[:-1] + "/")
    else:
        add('action COLLATE "C" = %s', wanted.action)
    where: LiteralString = " AND ".join(conditions) or "true"
    query: LiteralString = f"SELECT {_COLUMNS} FROM audit_event WHERE {where} ORDER BY id DESC LIMIT %s"
    rows = await database.execute(query, [*values, min(limit, LARGEST_PAGE)], row_factory=class_row(RecordedEvent))
    return await rows.fetchall()
