"""The outbox: what must follow a commit, claimed by any replica and tried until it is done. At least once, in no fixed order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from spork.issuance.ports import OutboxMessage
from spork.store.connection import CountedConnection
from spork.store.database import Database

_ADD: LiteralString = "INSERT INTO outbox (kind, payload) VALUES (%s, %s)"
# A claim moves the message into the future; if its worker dies, it is due again then. Claims and ends need not wait for the
# disk: what a crash forgets is done once more.
_CLAIM: LiteralString = """
UPDATE outbox SET attempts = attempts + 1, run_at = now() + make_interval(secs => %(lease_s)s)
 WHERE id IN (SELECT id FROM outbox WHERE run_at <= now() ORDER BY run_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id, kind, payload, attempts
"""
_DONE: LiteralString = "DELETE FROM outbox WHERE id = ANY(%s)"
_FAILED: LiteralString = """
UPDATE outbox SET last_error = left(%(error)s, 500),
       run_at = now() + make_interval(secs => least(%(cap_s)s, power(2, least(attempts, 30) - 1)) * (0.75 + random() / 2))
 WHERE id = %(id)s AND attempts = %(attempts)s
"""
_WAITING: LiteralString = "SELECT count(*), extract(epoch FROM now() - min(created_at))::float FROM outbox"


@dataclass(frozen=True, slots=True)
class ClaimedMessage:
    """A message that this process works on until its lease ends."""

    id: int
    kind: str
    payload: Mapping[str, Any]
    attempts: int
    """1 at the first try."""


async def add(connection: CountedConnection, message: OutboxMessage) -> None:
    """Adds a message in the connection's transaction. In a batch it costs no trip."""
    await connection.execute(_ADD, [message.kind, Jsonb(dict(message.payload))])


class Outbox:
    """The worker's side."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, limit: int = 20, *, lease_s: int = 60) -> Sequence[ClaimedMessage]:
        """Messages that are due and that no other worker has; those whose lease ran out are due again."""
        cursor = await self._database.execute(
            _CLAIM, {"limit": limit, "lease_s": lease_s}, durable=False, row_factory=class_row(ClaimedMessage)
        )
        return await cursor.fetchall()

    async def done(self, *messages: ClaimedMessage) -> None:
        """They are forgotten, also if the lease ran out meanwhile: the work is done."""
        await self._database.execute(_DONE, [[message.id for message in messages]], durable=False)

    async def failed(self, message: ClaimedMessage, error: str, *, cap_s: int = 600) -> None:
        """It is due again after 1, 2, 4, ... seconds, `cap_s` at most, with a quarter of jitter.

        `error` is for operators and must hold no secret. Does nothing if another worker has claimed it since.
        """
        values = {"id": message.id, "attempts": message.attempts, "error": error, "cap_s": cap_s}
        await self._database.execute(_FAILED, values, durable=False)

    async def waiting(self) -> tuple[int, float]:
        """How many messages wait, and the age of the oldest in seconds: for metrics."""
        row = await (await self._database.execute(_WAITING)).fetchone()
        assert row is not None
        return int(row[0]), float(row[1] or 0.0)
