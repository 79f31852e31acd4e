"""ACME challenges: answering one, and what came of the validation. Source: RFC 8555 sections 7.1.5, 7.5.1 and 8.2.

Whoever answers a challenge leaves a job in the same transaction; any replica takes it. A challenge stays `processing` while it
is tried again, so that its outcome is decided once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from spork.store.connection import CountedConnection, CountedCursor
from spork.store.database import Database
from spork.store.job import ClaimedJob

JOB_KIND = "acme.validate"

_FIND: LiteralString = """
SELECT h.id, h.authorization_id, h.type, h.token, h.status, h.error, h.validated_at,
       a.identifier_type, a.identifier_value, a.wildcard, a.expires_at,
       CASE WHEN a.status IN ('pending', 'valid') AND a.expires_at <= %(now)s THEN 'expired' ELSE a.status END
           AS authorization_status
  FROM acme_challenge h
  JOIN acme_authorization a ON a.id = h.authorization_id
 WHERE h.id = %(id)s AND a.account_id = %(account)s
"""
# Only one of several answers at the same time starts a job: the others find the challenge processing.
_START: LiteralString = """
WITH started AS (
    UPDATE acme_challenge SET status = 'processing' WHERE id = %(id)s AND status = 'pending' RETURNING id)
INSERT INTO job (kind, subject, payload, run_at)
SELECT %(kind)s, id, %(payload)s, now() FROM started
ON CONFLICT (kind, subject) DO NOTHING
"""
# The job's row decides who may write the outcome: a worker whose lease ran out finds another number of attempts.
_FINISH: LiteralString = """
WITH done AS (
    DELETE FROM job WHERE id = %(id)s AND attempts = %(attempts)s RETURNING subject),
answered AS (
    UPDATE acme_challenge SET status = %(status)s, error = %(error)s, attempts = %(attempts)s, validated_at = %(validated)s
     WHERE id = (SELECT subject FROM done) AND status = 'processing'
    RETURNING authorization_id, type),
audited AS (
    INSERT INTO audit_event (actor, action, subject, detail, address)
    SELECT %(actor)s, 'acme.authorization.' || %(status)s, 'acme-authorization:' || authorization_id,
           %(detail)s::jsonb || jsonb_build_object('challenge', type), %(address)s
      FROM answered)
UPDATE acme_authorization SET status = %(status)s, expires_at = coalesce(%(expires)s, expires_at)
 WHERE id = (SELECT authorization_id FROM answered) AND status = 'pending'
"""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge together with what its authorization is about."""

    id: str
    authorization_id: str
    type: str
    token: str
    status: str
    """pending, processing, valid or invalid."""
    error: Mapping[str, Any] | None
    validated_at: datetime | None
    identifier_type: str
    identifier_value: str
    wildcard: bool
    expires_at: datetime
    authorization_status: str


async def find(connection: CountedConnection, challenge_id: str, account_id: int, now: datetime) -> CountedCursor:
    """The challenge, if it is this account's."""
    cursor = connection.cursor(row_factory=class_row(Challenge))
    await cursor.execute(_FIND, {"id": challenge_id, "account": account_id, "now": now})
    return cursor  # type: ignore[return-value]  # The connection makes its own kind of cursor.


async def start(connection: CountedConnection, challenge_id: str, payload: Mapping[str, Any]) -> None:
    """Makes it `processing` and leaves the job. Changes nothing if it is not pending any more.

    `payload` has issuer, account, address, type, token, thumbprint (base64url), identifier_type and identifier_value.
    """
    await connection.execute(_START, {"id": challenge_id, "kind": JOB_KIND, "payload": Jsonb(dict(payload))})


async def finish(
    database: Database,
    job: ClaimedJob,
    *,
    error: Mapping[str, Any] | None,
    validated_at: datetime | None,
    expires_at: datetime | None,
) -> None:
    """Writes the outcome into challenge and authorization, valid where `error` is None, and removes the job. One trip."""
    await database.execute(
        _FINISH,
        {
            "id": job.id,
            "attempts": job.attempts,
            "status": "valid" if error is None else "invalid",
            "error": None if error is None else Jsonb(dict(error)),
            "validated": validated_at,
            "expires": expires_at,
            "actor": f"acme-account:{job.payload['account']}",
            "address": job.payload["address"],
            "detail": Jsonb(
                {
                    "identifier": f"{job.payload['identifier_type']}:{job.payload['identifier_value']}",
                    "error": None if error is None else error["type"],
                }
            ),
        },
    )
