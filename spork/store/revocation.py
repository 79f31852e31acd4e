"""Status changes, and the two ways to read status: by serial for OCSP, and as a stream for CRLs.

Every change moves `authority.status_version` while it holds that row, so that the numbers of one authority rise in the order
of the commits; whoever read a status together with version N knows every change up to N.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import args_row, class_row
from psycopg.types.json import Jsonb

from spork.errors import Code, SporkError
from spork.ids import AuthorityId, Serial, serial_from_octets, serial_octets
from spork.issuance.ports import AuditEvent, OutboxMessage, Revocation
from spork.store import audit as audit_log
from spork.store.configuration import watch_of
from spork.store.database import Database

HOLD = 6
RELEASE = 8
# CRLReason without hold and removeFromCRL; 7 is not used (RFC 5280 section 5.3.1).
FINAL_REASONS = frozenset({0, 1, 2, 3, 4, 5, 9, 10})

_LOCK: LiteralString = "SELECT id, authority_id FROM certificate WHERE id = %s FOR NO KEY UPDATE"
# A statement of its own, and after the lock: so it sees what the former holder of the lock committed.
_CURRENT: LiteralString = "SELECT reason, released_at FROM revocation WHERE certificate_id = %s"
_CHANGE: LiteralString = """
WITH moved AS (
    UPDATE authority SET status_version = status_version + 1 WHERE id = %(authority_id)s RETURNING id, status_version),
changed AS (
    INSERT INTO revocation (certificate_id, authority_id, generation, crl_shard, serial, reason, revoked_at, invalidity_date,
                            released_at, not_after, version)
    SELECT certificate.id, authority_id, generation, crl_shard, serial, %(reason)s, %(revoked_at)s, %(invalidity_date)s,
           NULL, not_after, status_version
      FROM certificate, moved WHERE certificate.id = %(id)s
    ON CONFLICT (certificate_id) DO UPDATE
       SET reason = CASE WHEN %(release)s THEN revocation.reason ELSE excluded.reason END,
           -- A hold that becomes final counts from the hold on.
           revoked_at = CASE WHEN revocation.released_at IS NULL THEN revocation.revoked_at ELSE excluded.revoked_at END,
           invalidity_date = CASE WHEN %(release)s THEN revocation.invalidity_date ELSE excluded.invalidity_date END,
           released_at = CASE WHEN %(release)s THEN excluded.revoked_at END,
           version = excluded.version),
audited AS (
    INSERT INTO audit_event (actor, action, subject, detail, address)
    VALUES (%(actor)s, %(action)s, %(audit_subject)s, %(detail)s, %(address)s)),
queued AS (
    INSERT INTO outbox (kind, payload)
    SELECT kind, payload FROM unnest(%(kinds)s::text[], %(payloads)s::jsonb[]) AS message (kind, payload))
SELECT status_version, pg_notify('spork_status', id || ':' || status_version) FROM moved
"""
# Snapshots of CAs say whether a certificate of theirs is revoked, so they are read again.
_CA_CHANGED: LiteralString = """
WITH moved AS (
    UPDATE configuration_version SET version = version + 1
     WHERE EXISTS (SELECT FROM certificate c JOIN authority_generation g ON g.spki_sha256 = c.spki_sha256
                    WHERE c.id = %s) RETURNING version)
SELECT pg_notify('spork_configuration', version::text) FROM moved
"""
_STATUSES: LiteralString = """
SELECT authority.status_version, certificate.serial, certificate.state, certificate.generation, certificate.not_after,
       revocation.reason, revocation.revoked_at, revocation.invalidity_date
  FROM authority
  LEFT JOIN certificate ON certificate.authority_id = authority.id AND certificate.serial = ANY(%(serials)s)
  LEFT JOIN revocation ON revocation.certificate_id = certificate.id AND revocation.released_at IS NULL
 WHERE authority.id = %(authority_id)s
"""
_VERSION: LiteralString = "SELECT status_version FROM authority WHERE id = %s"
# RFC 5280 section 3.3: an entry stays until it was on one CRL issued after the certificate's expiry. The last full CRL of the
# same scope tells: what expired before it, and was revoked by then, was on it.
_FULL: LiteralString = """
SELECT serial, revoked_at, reason, invalidity_date, released_at, not_after
  FROM revocation
  LEFT JOIN LATERAL (
       SELECT this_update, status_version FROM crl
        WHERE crl.authority_id = %(authority_id)s AND crl.generation = %(generation)s AND crl.shard = %(shard)s
          AND base_number IS NULL AND der IS NOT NULL
        ORDER BY number DESC LIMIT 1) AS last ON true
 WHERE authority_id = %(authority_id)s AND generation = %(generation)s AND (%(shard)s = 0 OR crl_shard = %(shard)s)
   AND released_at IS NULL
   AND (last.this_update IS NULL OR not_after >= last.this_update OR version > last.status_version)
"""
_DELTA: LiteralString = """
SELECT serial, revoked_at, reason, invalidity_date, released_at, not_after
  FROM revocation
 WHERE authority_id = %(authority_id)s AND generation = %(generation)s AND (%(shard)s = 0 OR crl_shard = %(shard)s)
   AND version > %(since)s
"""


@dataclass(frozen=True, slots=True)
class _Current:
    reason: int
    released_at: datetime | None


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """What is known of one serial."""

    state: str
    """reserved, issued or abandoned. Only an issued one may be called good. An abandoned one has a reason below, except where
    nobody has ever tried to sign it."""
    generation: int
    not_after: datetime
    reason: int | None
    """CRLReason while it is revoked or on hold, else None."""
    revoked_at: datetime | None
    invalidity_date: datetime | None


@dataclass(frozen=True, slots=True)
class Statuses:
    """Statuses and the counter that they were read with, in one statement."""

    version: int
    by_serial: Mapping[Serial, CertificateStatus]
    """Serials that this authority never planned are absent."""


@dataclass(frozen=True, slots=True)
class CRLEntry:
    """One revoked certificate, or in a delta scan also a released hold."""

    serial: bytes
    """Unsigned big-endian octets."""
    revoked_at: datetime
    reason: int
    invalidity_date: datetime | None
    released_at: datetime | None
    """Only in a delta scan: the hold was released, which a delta CRL shows as removeFromCRL."""
    not_after: datetime


@dataclass(frozen=True, slots=True)
class CRLScan:
    """A consistent look at one CRL's entries."""

    version: int
    """The status counter that the entries belong to."""
    chunks: AsyncIterator[Sequence[CRLEntry]]


class RevocationLedger:
    """Implements `issuance.ports.RevocationLedger`, and reads statuses."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revoke(self, revocation: Revocation, audit: AuditEvent, outbox: Sequence[OutboxMessage] = ()) -> int:
        """Two trips and one commit. A hold may be released or made final; what is final stays as it is.

        A reserved certificate can be revoked as well: its serial is planned, and may be signed already.
        Raises SporkError: NOT_FOUND, ALREADY_REVOKED (also where a release finds no hold), BAD_REVOCATION_REASON.
        """
        if revocation.reason not in FINAL_REASONS | {HOLD, RELEASE}:
            raise SporkError(Code.BAD_REVOCATION_REASON, f"{revocation.reason} is not a revocation reason.")
        async with self._database.batch() as connection:
            locked = await connection.execute(_LOCK, [revocation.certificate_id])
            reading = connection.cursor(row_factory=class_row(_Current))
            await reading.execute(_CURRENT, [revocation.certificate_id])
            certificate = await locked.fetchone()
            if certificate is None:
                raise SporkError(Code.NOT_FOUND, "There is no such certificate.")
            _require_allowed(revocation.reason, await reading.fetchone())
            changed = await connection.execute(_CHANGE, _values(revocation, certificate[1], audit, outbox))
            of_ca = await connection.execute(_CA_CHANGED, [revocation.certificate_id])
        if of_ca.rowcount:
            watch_of(self._database).forget()
        row = await changed.fetchone()
        assert row is not None
        return int(row[0])

    async def statuses(self, authority_id: AuthorityId, serials: Sequence[Serial]) -> Statuses:
        """Statuses of the given serials and the counter, in one statement. Raises SporkError(NOT_FOUND): no such authority.

        Recording a certificate does not move the counter, so the absence of a serial must not be cached for long.
        """
        values = {"authority_id": authority_id, "serials": [serial_octets(serial) for serial in serials]}
        rows = await (await self._database.execute(_STATUSES, values)).fetchall()
        if not rows:
            raise SporkError(Code.NOT_FOUND, f"There is no authority {authority_id!r}.")
        found = {serial_from_octets(row[1]): CertificateStatus(*row[2:]) for row in rows if row[1] is not None}
        return Statuses(rows[0][0], found)

    @asynccontextmanager
    async def crl_scan(
        self,
        authority_id: AuthorityId,
        generation: int,
        *,
        shard: int = 0,
        since_version: int | None = None,
        chunk: int = 5000,
    ) -> AsyncIterator[CRLScan]:
        """The entries of a CRL, streamed in chunks, all of one snapshot; the chunks must be read inside the block.

        `shard` 0 is the complete CRL. Without `since_version`: what a full CRL must list, expired certificates included until one
        full CRL was published after their expiry. With it: every status that changed after that version, for a delta CRL.
        Raises SporkError(NOT_FOUND): no such authority.
        """
        values = {"authority_id": authority_id, "generation": generation, "shard": shard, "since": since_version}
        query = _FULL if since_version is None else _DELTA
        async with self._database.transaction() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            version = await (await connection.execute(_VERSION, [authority_id])).fetchone()
            if version is None:
                raise SporkError(Code.NOT_FOUND, f"There is no authority {authority_id!r}.")
            # A cursor of the server: neither side ever holds more than a chunk.
            async with connection.cursor("crl_scan", row_factory=args_row(CRLEntry)) as cursor:
                await cursor.execute(query, values)

                async def chunks() -> AsyncIterator[Sequence[CRLEntry]]:
                    while rows := await cursor.fetchmany(chunk):
                        yield rows

                yield CRLScan(int(version[0]), chunks())


def _require_allowed(reason: int, current: _Current | None) -> None:
    """Nothing -> revoked or hold; hold -> released or final; released -> as nothing; final -> final."""
    effective = None if current is None or current.released_at is not None else current.reason
    if reason == RELEASE:
        if effective is None:
            raise SporkError(Code.ALREADY_REVOKED, "The certificate is not on hold, so there is nothing to release.")
        if effective != HOLD:
            raise SporkError(Code.ALREADY_REVOKED, "The certificate is revoked for good; only a hold can be released.")
    elif effective == HOLD and reason == HOLD:
        raise SporkError(Code.ALREADY_REVOKED, "The certificate is on hold already.")
    elif effective is not None and effective != HOLD:
        raise SporkError(Code.ALREADY_REVOKED, "The certificate is revoked already.")


def _values(
    revocation: Revocation, authority_id: str, audit: AuditEvent, outbox: Sequence[OutboxMessage]
) -> dict[str, Any]:
    actor, action, subject, detail, address = audit_log.parameters(audit)
    return {
        "id": revocation.certificate_id,
        "authority_id": authority_id,
        # A release keeps the row's reason; the value given here only has to satisfy the table.
        "reason": HOLD if revocation.reason == RELEASE else revocation.reason,
        "release": revocation.reason == RELEASE,
        "revoked_at": revocation.revoked_at,
        "invalidity_date": revocation.invalidity_date,
        "actor": actor,
        "action": action,
        "audit_subject": subject,
        "detail": detail,
        "address": address,
        "kinds": [message.kind for message in outbox],
        "payloads": [Jsonb(dict(message.payload)) for message in outbox],
    }
