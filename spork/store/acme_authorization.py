"""ACME authorizations, with their challenges. Source: RFC 8555 sections 7.1.4 and 7.1.6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import class_row

from spork.store.connection import CountedConnection, CountedCursor

_FIND: LiteralString = """
SELECT a.id, a.account_id, a.identifier_type, a.identifier_value, a.wildcard, a.expires_at,
       CASE WHEN a.status IN ('pending', 'valid') AND a.expires_at <= %(now)s THEN 'expired' ELSE a.status END AS status,
       (SELECT json_agg(json_build_object('id', h.id, 'type', h.type, 'token', h.token, 'status', h.status,
                                          'error', h.error, 'validated_at', h.validated_at) ORDER BY h.type)
          FROM acme_challenge h WHERE h.authorization_id = a.id) AS challenges
  FROM acme_authorization a
 WHERE a.id = %(id)s AND a.account_id = %(account)s
"""
_REUSABLE: LiteralString = """
SELECT DISTINCT ON (a.identifier_type, a.identifier_value, a.wildcard)
       a.id, a.identifier_type, a.identifier_value, a.wildcard
  FROM unnest(%(types)s::text[], %(values)s::text[], %(wildcards)s::boolean[]) AS w (type, value, wildcard)
  JOIN acme_authorization a ON a.account_id = %(account)s AND a.status = 'valid' AND a.expires_at > %(until)s
       AND a.identifier_type = w.type AND a.identifier_value = w.value AND a.wildcard = w.wildcard
 ORDER BY a.identifier_type, a.identifier_value, a.wildcard, a.expires_at DESC
"""
_INSERT: LiteralString = """
INSERT INTO acme_authorization (id, account_id, identifier_type, identifier_value, wildcard, status, expires_at, created_at)
SELECT w.id, %(account)s, w.type, w.value, w.wildcard, 'pending', %(expires)s, %(now)s
  FROM unnest(%(ids)s::text[], %(types)s::text[], %(values)s::text[], %(wildcards)s::boolean[])
       AS w (id, type, value, wildcard)
"""
_INSERT_CHALLENGES: LiteralString = """
INSERT INTO acme_challenge (id, authorization_id, type, token, status)
SELECT w.id, w.authorization_id, w.type, w.token, 'pending'
  FROM unnest(%(ids)s::text[], %(authorizations)s::text[], %(types)s::text[], %(tokens)s::text[])
       AS w (id, authorization_id, type, token)
"""
_DEACTIVATE: LiteralString = """
UPDATE acme_authorization SET status = 'deactivated'
 WHERE id = %s AND account_id = %s AND status IN ('pending', 'valid')
"""


@dataclass(frozen=True, slots=True)
class Authorization:
    """An authorization with its challenges."""

    id: str
    account_id: int
    identifier_type: str
    identifier_value: str
    """Without `*.`."""
    wildcard: bool
    expires_at: datetime
    status: str
    """pending, valid, invalid, deactivated, revoked or expired."""
    challenges: Sequence[Mapping[str, Any]]
    """Each with id, type, token, status, error and validated_at (RFC 3339 text)."""


@dataclass(frozen=True, slots=True)
class Reusable:
    """A valid authorization that another order may rest on."""

    id: str
    identifier_type: str
    identifier_value: str
    wildcard: bool


@dataclass(frozen=True, slots=True)
class NewChallenge:
    """A challenge to be written with its authorization."""

    id: str
    type: str
    token: str


@dataclass(frozen=True, slots=True)
class NewAuthorization:
    """A pending authorization to be written."""

    id: str
    identifier_type: str
    identifier_value: str
    wildcard: bool
    challenges: Sequence[NewChallenge]


async def find(connection: CountedConnection, authorization_id: str, account_id: int, now: datetime) -> CountedCursor:
    """The authorization, if it is this account's."""
    cursor = connection.cursor(row_factory=class_row(Authorization))
    await cursor.execute(_FIND, {"id": authorization_id, "account": account_id, "now": now})
    return cursor  # type: ignore[return-value]  # The connection makes its own kind of cursor.


async def reusable(
    connection: CountedConnection, account_id: int, wanted: Sequence[tuple[str, str, bool]], until: datetime
) -> CountedCursor:
    """For each (type, value, wildcard) the account's valid authorization that lasts longest, if it lasts beyond `until`."""
    cursor = connection.cursor(row_factory=class_row(Reusable))
    types, values, wildcards = (list(column) for column in zip(*wanted, strict=True))
    parameters = {"account": account_id, "types": types, "values": values, "wildcards": wildcards, "until": until}
    await cursor.execute(_REUSABLE, parameters)
    return cursor  # type: ignore[return-value]  # As above.


async def insert(
    connection: CountedConnection,
    account_id: int,
    authorizations: Sequence[NewAuthorization],
    *,
    expires_at: datetime,
    now: datetime,
) -> None:
    """Writes them, pending, with their challenges: two statements, whatever their number."""
    await connection.execute(
        _INSERT,
        {
            "account": account_id,
            "expires": expires_at,
            "now": now,
            "ids": [a.id for a in authorizations],
            "types": [a.identifier_type for a in authorizations],
            "values": [a.identifier_value for a in authorizations],
            "wildcards": [a.wildcard for a in authorizations],
        },
    )
    pairs = [(a.id, challenge) for a in authorizations for challenge in a.challenges]
    await connection.execute(
        _INSERT_CHALLENGES,
        {
            "ids": [challenge.id for _, challenge in pairs],
            "authorizations": [authorization_id for authorization_id, _ in pairs],
            "types": [challenge.type for _, challenge in pairs],
            "tokens": [challenge.token for _, challenge in pairs],
        },
    )


async def deactivate(connection: CountedConnection, authorization_id: str, account_id: int) -> None:
    """Ends it, whether pending or valid (RFC 8555 section 7.5.2)."""
    await connection.execute(_DEACTIVATE, [authorization_id, account_id])
