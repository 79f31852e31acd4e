"""One-time tokens for enrolment: made by administrators, spent once, kept for a while so that one can see on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

from psycopg.rows import class_row

from spork.errors import Code, SporkError
from spork.issuance.onetime import NewToken
from spork.issuance.ports import AuditEvent
from spork.store import audit as audit_log
from spork.store.database import Database

KEPT_FOR = timedelta(days=90)
"""From a token's end on. What it brought forth, and who asked, stands in the certificate and the audit log for ever."""

_COLUMNS: LiteralString = """
id, number, digest, issuer_id, profile, names, max_validity_s, note, created_by, created_at, expires_at, revoked_at, request_digest,
redeemed_at, redeemed_from
"""
_CREATE: LiteralString = """
INSERT INTO enrolment_token (id, digest, issuer_id, profile, names, max_validity_s, note, created_by, created_at, expires_at)
VALUES (%(id)s, %(digest)s, %(issuer_id)s, %(profile)s, %(names)s, %(max_validity_s)s, %(note)s, %(created_by)s, %(created_at)s,
        %(expires_at)s)
"""
_FORGET: LiteralString = "DELETE FROM enrolment_token WHERE expires_at < %s"
_ONE: LiteralString = f"SELECT {_COLUMNS} FROM enrolment_token WHERE id = %s"
_LIST: LiteralString = f"""
SELECT {_COLUMNS} FROM enrolment_token
 WHERE (%(issuers)s::bigint[] IS NULL OR issuer_id = ANY(%(issuers)s)) AND (%(after)s::bigint IS NULL OR number < %(after)s)
 ORDER BY number DESC LIMIT %(limit)s
"""
_REVOKE: LiteralString = f"""
UPDATE enrolment_token SET revoked_at = %(now)s WHERE id = %(id)s AND revoked_at IS NULL RETURNING {_COLUMNS}
"""
# Whoever comes first decides which request the token is for.
_REDEEM: LiteralString = f"""
UPDATE enrolment_token SET request_digest = %(digest)s, redeemed_at = %(now)s, redeemed_from = %(address)s
 WHERE id = %(id)s AND request_digest IS NULL AND revoked_at IS NULL AND expires_at > %(now)s
RETURNING {_COLUMNS}
"""


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """A token as it stands in the database."""

    id: str
    number: int
    digest: bytes
    issuer_id: int
    profile: str
    names: list[str]
    max_validity_s: int | None
    note: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    request_digest: bytes | None
    redeemed_at: datetime | None
    redeemed_from: str | None

    def state(self, now: datetime) -> str:
        """revoked, used, expired or open."""
        if self.revoked_at is not None:
            return "revoked"
        if self.redeemed_at is not None:
            return "used"
        return "expired" if self.expires_at <= now else "open"


class EnrolmentTokens:
    """Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, new: NewToken, audit: AuditEvent) -> None:
        """Stores it, and forgets those that ended long ago."""
        values = {
            "id": new.id,
            "digest": new.digest,
            "issuer_id": new.issuer_id,
            "profile": new.profile,
            "names": list(new.names),
            "max_validity_s": None if new.max_validity is None else int(new.max_validity.total_seconds()),
            "note": new.note,
            "created_by": new.created_by,
            "created_at": new.created_at,
            "expires_at": new.expires_at,
        }
        async with self._database.batch() as connection:
            await connection.execute(_FORGET, [new.created_at - KEPT_FOR])
            await connection.execute(_CREATE, values)
            await audit_log.append(connection, audit)

    async def token(self, token_id: str) -> EnrolmentToken | None:
        """As of now, never from a cache. One trip."""
        cursor = await self._database.execute(_ONE, [token_id], durable=False, row_factory=class_row(EnrolmentToken))
        return await cursor.fetchone()

    async def tokens(self, issuer_ids: Sequence[int] | None, after: int | None, limit: int) -> Sequence[EnrolmentToken]:
        """Newest first; of these issuers alone, if given. `after` is the number of the last one of the page before."""
        values = {"issuers": None if issuer_ids is None else list(issuer_ids), "after": after, "limit": limit}
        cursor = await self._database.execute(_LIST, values, durable=False, row_factory=class_row(EnrolmentToken))
        return await cursor.fetchall()

    async def revoke(self, token_id: str, now: datetime, audit: AuditEvent) -> EnrolmentToken:
        """What it brought forth stays. Revoking it twice is no change. Raises SporkError(NOT_FOUND)."""
        async with self._database.transaction() as connection:
            cursor = connection.cursor(row_factory=class_row(EnrolmentToken))
            row = await (await cursor.execute(_REVOKE, {"id": token_id, "now": now})).fetchone()
            if row is not None:
                await audit_log.append(connection, audit)
                return row
            row = await (await cursor.execute(_ONE, [token_id])).fetchone()
        if row is None:
            raise SporkError(Code.NOT_FOUND, f"There is no token {token_id!r}.")
        return row

    async def redeem(
        self, token_id: str, request_digest: bytes, now: datetime, address: str | None, audit: AuditEvent
    ) -> EnrolmentToken | None:
        """Spends it on this request, and on no other one for good. The row as it is then, spent on whichever request.

        None if there is no such token; whether it is revoked, expired or spent on another request is in the row.
        """
        values = {"id": token_id, "digest": request_digest, "now": now, "address": address}
        async with self._database.transaction() as connection:
            cursor = connection.cursor(row_factory=class_row(EnrolmentToken))
            row = await (await cursor.execute(_REDEEM, values)).fetchone()
            if row is not None:
                await audit_log.append(connection, audit)
                return row
            return await (await cursor.execute(_ONE, [token_id])).fetchone()
