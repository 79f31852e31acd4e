"""Jobs: work that any replica may take, at most one open job of a kind for the same subject. At least once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from spork.store.connection import CountedConnection
from spork.store.database import Database

_ADD: LiteralString = """
INSERT INTO job (kind, subject, payload, run_at) VALUES (%s, %s, %s, coalesce(%s, now())) ON CONFLICT (kind, subject) DO NOTHING
"""
_CLAIM: LiteralString = """
UPDATE job SET attempts = attempts + 1, lease_until = now() + make_interval(secs => %(lease_s)s)
 WHERE id IN (SELECT id FROM job
               WHERE kind = %(kind)s AND run_at <= now() AND (lease_until IS NULL OR lease_until <= now())
               ORDER BY run_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id, kind, subject, payload, attempts
"""
_DONE: LiteralString = "DELETE FROM job WHERE id = %s AND attempts = %s"
_FAILED: LiteralString = """
UPDATE job SET lease_until = NULL, last_error = left(%(error)s, 500),
       run_at = now() + make_interval(secs => least(%(cap_s)s, power(2, least(attempts, 30) - 1)) * (0.75 + random() / 2))
 WHERE id = %(id)s AND attempts = %(attempts)s
"""


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that this process works on until its lease ends."""

    id: int
    kind: str
    subject: str
    payload: Mapping[str, Any]
    attempts: int
    """1 at the first try."""


async def add(
    connection: CountedConnection,
    kind: str,
    subject: str,
    payload: Mapping[str, Any] | None = None,
    run_at: datetime | None = None,
) -> None:
    """Opens a job in the connection's transaction, unless one of that kind for that subject is open. In a batch without a trip."""
    await connection.execute(_ADD, [kind, subject, Jsonb(dict(payload or {})), run_at])


class Jobs:
    """The worker's side."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, kind: str, limit: int = 10, *, lease_s: int = 60) -> Sequence[ClaimedJob]:
        """Due jobs of a kind that no other worker has; those whose lease ran out are due again."""
        cursor = await self._database.execute(
            _CLAIM, {"kind": kind, "limit": limit, "lease_s": lease_s}, durable=False, row_factory=class_row(ClaimedJob)
        )
        return await cursor.fetchall()

    async def done(self, job: ClaimedJob, connection: CountedConnection | None = None) -> None:
        """Closes it, in the given connection's transaction where the result is written there.

        Does nothing if another worker has claimed it since: then that one closes it.
        """
        if connection is not None:
            await connection.execute(_DONE, [job.id, job.attempts])
        else:
            await self._database.execute(_DONE, [job.id, job.attempts], durable=False)

    async def failed(self, job: ClaimedJob, error: str, *, cap_s: int = 600) -> None:
        """It is due again after 1, 2, 4, ... seconds, `cap_s` at most, with a quarter of jitter.

        `error` is for operators and must hold no secret. Does nothing if another worker has claimed it since.
        """
        values = {"id": job.id, "attempts": job.attempts, "error": error, "cap_s": cap_s}
        await self._database.execute(_FAILED, values, durable=False)
