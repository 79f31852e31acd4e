"""ACME accounts: one key each, unique per issuer. Source: RFC 8555 section 7.1.2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.errors import UniqueViolation
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from spork.errors import Code, SporkError
from spork.ids import IssuerId
from spork.store.connection import CountedConnection, CountedCursor

_FIND: LiteralString = """
SELECT id, issuer_id, thumbprint, jwk, status, contact, terms_agreed_at, created_at
  FROM acme_account WHERE id = %s AND issuer_id = %s
"""
_FIND_BY_KEY: LiteralString = """
SELECT id, issuer_id, thumbprint, jwk, status, contact, terms_agreed_at, created_at
  FROM acme_account WHERE issuer_id = %s AND thumbprint = %s
"""
_INSERT: LiteralString = """
INSERT INTO acme_account (issuer_id, thumbprint, jwk, status, contact, terms_agreed_at, created_at)
VALUES (%(issuer)s, %(thumbprint)s, %(jwk)s, 'valid', %(contact)s, %(terms)s, %(now)s)
ON CONFLICT (issuer_id, thumbprint) DO NOTHING
RETURNING id, issuer_id, thumbprint, jwk, status, contact, terms_agreed_at, created_at
"""
_UPDATE: LiteralString = """
UPDATE acme_account SET contact = coalesce(%(contact)s, contact), terms_agreed_at = coalesce(%(terms)s, terms_agreed_at)
 WHERE id = %(id)s AND status = 'valid'
"""
_DEACTIVATE: LiteralString = "UPDATE acme_account SET status = 'deactivated' WHERE id = %s AND status = 'valid'"
# A deactivated account's pending work ends with it (RFC 8555 section 7.3.6).
_DEACTIVATE_AUTHORIZATIONS: LiteralString = """
UPDATE acme_authorization SET status = 'deactivated' WHERE account_id = %s AND status IN ('pending', 'valid')
"""
_REPLACE_KEY: LiteralString = """
UPDATE acme_account SET thumbprint = %(thumbprint)s, jwk = %(jwk)s
 WHERE id = %(id)s AND thumbprint = %(former)s AND status = 'valid'
RETURNING id
"""


class KeyTaken(Exception):
    """Another request gave the key to another account after it was looked up. The transaction has failed and must roll back."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account as stored."""

    id: int
    issuer_id: IssuerId
    thumbprint: bytes
    """SHA-256 of the canonical JWK."""
    jwk: Mapping[str, str]
    """Canonical: only the members that the thumbprint covers."""
    status: str
    """valid, deactivated or revoked."""
    contact: Sequence[str]
    terms_agreed_at: datetime | None
    created_at: datetime


def _cursor(connection: CountedConnection) -> CountedCursor:
    return connection.cursor(row_factory=class_row(Account))  # type: ignore[return-value]  # It makes its own kind.


async def find(connection: CountedConnection, account_id: int, issuer_id: IssuerId) -> CountedCursor:
    """The account, or no row if this issuer has none of that id."""
    cursor = _cursor(connection)
    await cursor.execute(_FIND, [account_id, issuer_id])
    return cursor


async def find_by_key(connection: CountedConnection, issuer_id: IssuerId, thumbprint: bytes) -> CountedCursor:
    """The issuer's account with that key, or no row."""
    cursor = _cursor(connection)
    await cursor.execute(_FIND_BY_KEY, [issuer_id, thumbprint])
    return cursor


async def insert(
    connection: CountedConnection,
    issuer_id: IssuerId,
    *,
    thumbprint: bytes,
    jwk: Mapping[str, str],
    contact: Sequence[str],
    terms_agreed_at: datetime | None,
    now: datetime,
) -> CountedCursor:
    """The new account, or no row if another request with the same key was faster."""
    cursor = _cursor(connection)
    await cursor.execute(
        _INSERT,
        {
            "issuer": issuer_id,
            "thumbprint": thumbprint,
            "jwk": Jsonb(dict(jwk)),
            "contact": list(contact),
            "terms": terms_agreed_at,
            "now": now,
        },
    )
    return cursor


async def update(
    connection: CountedConnection, account_id: int, *, contact: Sequence[str] | None, terms_agreed_at: datetime | None
) -> None:
    """Changes what is not None."""
    parameters = {"id": account_id, "contact": None if contact is None else list(contact), "terms": terms_agreed_at}
    await connection.execute(_UPDATE, parameters)


async def deactivate(connection: CountedConnection, account_id: int) -> None:
    """Ends the account, and its authorizations with it."""
    await connection.execute(_DEACTIVATE, [account_id])
    await connection.execute(_DEACTIVATE_AUTHORIZATIONS, [account_id])


async def replace_key(
    connection: CountedConnection, account_id: int, *, former: bytes, thumbprint: bytes, jwk: Mapping[str, str]
) -> None:
    """Gives the account a new key, if it still has the former one. Waits for the answer.

    Raises KeyTaken, and SporkError(CONFLICT): the account changed meanwhile.
    """
    cursor = connection.cursor()
    parameters = {"id": account_id, "former": former, "thumbprint": thumbprint, "jwk": Jsonb(dict(jwk))}
    try:
        await cursor.execute(_REPLACE_KEY, parameters)
        changed = await cursor.fetchone()
    except UniqueViolation as error:
        # No SporkError: doors commit what a refusal leaves behind, and here nothing can be committed any more.
        raise KeyTaken from error
    if changed is None:
        raise SporkError(Code.CONFLICT, "The account was changed by another request; read it and try again.")
