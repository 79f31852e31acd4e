"""What OCSP reads beside statuses: which CA a CertID means, and the certificates of responders."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.rows import class_row

from spork.ids import AuthorityId, KeyId
from spork.store.database import Database

_ISSUERS: LiteralString = """
SELECT a.id AS authority_id, g.generation, a.subject_der, g.spki, a.key_mode, g.certificate_der, g.created_at
  FROM authority a JOIN authority_generation g ON g.authority_id = a.id
 WHERE g.certificate_der IS NOT NULL
"""
_RESPONDERS: LiteralString = """
SELECT c.id AS certificate_id, k.id AS key_id, c.der, c.not_before, c.not_after
  FROM certificate c
  JOIN private_key k ON sha256(k.spki) = c.spki_sha256 AND k.purpose = 'ocsp'
 WHERE c.authority_id = %s AND c.generation = %s AND c.profile = 'ocsp-signing' AND c.state = 'issued'
   AND c.not_before <= %s AND c.not_after > %s
   AND NOT EXISTS (SELECT FROM revocation r WHERE r.certificate_id = c.id AND r.released_at IS NULL)
 ORDER BY c.not_after DESC LIMIT 1
"""
_UNUSED_KEY: LiteralString = """
SELECT k.id, k.spki
  FROM audit_event e
  JOIN private_key k ON k.id = e.detail ->> 'key_id'
  JOIN key_encryption_key kek ON kek.id = k.kek_id
 WHERE e.subject = %s AND e.detail ->> 'generation' = %s AND k.purpose = 'ocsp' AND k.algorithm = %s AND kek.kind = 'online'
   AND NOT EXISTS (SELECT FROM certificate c WHERE c.spki_sha256 = sha256(k.spki))
 ORDER BY e.id DESC LIMIT 1
"""
_LOCK: LiteralString = "SELECT pg_try_advisory_lock(hashtextextended('spork ocsp ' || %s::text, %s::bigint))"
_UNLOCK: LiteralString = "SELECT pg_advisory_unlock(hashtextextended('spork ocsp ' || %s::text, %s::bigint))"


@dataclass(frozen=True, slots=True)
class KnownIssuer:
    """One key of a CA, as CertIDs name it."""

    authority_id: AuthorityId
    generation: int
    subject_der: bytes
    spki: bytes
    key_mode: str
    certificate_der: bytes
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ResponderRow:
    """A responder's certificate whose key is stored here."""

    certificate_id: int
    key_id: KeyId
    der: bytes
    not_before: datetime
    not_after: datetime


class Responders:
    """Reads issuers and their responders."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def issuers(self) -> Sequence[KnownIssuer]:
        """Every key of every CA that has a certificate."""
        cursor = await self._database.execute(_ISSUERS, row_factory=class_row(KnownIssuer))
        return await cursor.fetchall()

    async def responder(self, authority_id: AuthorityId, generation: int, now: datetime) -> ResponderRow | None:
        """The valid responder certificate that lives longest."""
        cursor = await self._database.execute(
            _RESPONDERS, [authority_id, generation, now, now], row_factory=class_row(ResponderRow)
        )
        found: ResponderRow | None = await cursor.fetchone()
        return found

    async def unused_key(
        self, authority_id: AuthorityId, generation: int, algorithm: str
    ) -> tuple[KeyId, bytes] | None:
        """A responder key that was made for this generation and has no certificate, the latest one. None if there is none."""
        values = [f"authority:{authority_id}", str(generation), algorithm]
        row = await (await self._database.execute(_UNUSED_KEY, values)).fetchone()
        return None if row is None else (KeyId(row[0]), bytes(row[1]))

    @asynccontextmanager
    async def lock(self, authority_id: AuthorityId, generation: int) -> AsyncIterator[bool]:
        """Tells whether this process alone may renew the responder while the block runs."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_LOCK, [authority_id, generation])).fetchone()
            alone = bool(row and row[0])
            try:
                yield alone
            finally:
                if alone and not connection.closed:
                    await connection.execute(_UNLOCK, [authority_id, generation])
