"""Revocation lists, their line of numbers, and the statuses that they show. Implements `issuance.publish.CRLStore`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import class_row, dict_row

from spork.errors import Code, SporkError
from spork.ids import AuthorityId, serial_from_octets, serial_octets
from spork.issuance.crl_schedule import CRLPolicy, CRLScope, PublishedList, ScopeState
from spork.issuance.ports import AuditEvent
from spork.store import audit as audit_log
from spork.store.database import Database
from spork.store.revocation import CRLEntry, CRLScan, RevocationLedger
from spork.x509.authority import KeyMode
from spork.x509.crl import REMOVE_FROM_CRL, RevokedEntry

CHANNEL = "spork_crl"
"""NOTIFY channel: the payload is `authority/generation[/shard]` of a list that was published."""
_BATCH = 2000
_KEPT_LISTS = 10
"""Published lists of a scope that are kept beside the current ones; the audit log keeps number and hash of all."""

# Shard 0, the complete list, is always there. Beside it: the shards that the CA has now, and those that it once had and whose
# certificates may still live.
_SCOPES: LiteralString = """
WITH key AS (
    SELECT a.id, g.generation, a.key_mode, a.crl_shards, coalesce(a.spec -> 'crl', '{}') AS spec
      FROM authority a JOIN authority_generation g ON g.authority_id = a.id
     WHERE g.certificate_der IS NOT NULL AND (g.not_after IS NULL OR g.not_after > %(now)s)
), scope AS (
    SELECT id, generation, generate_series(0, CASE WHEN crl_shards > 1 THEN crl_shards ELSE 0 END) AS shard
      FROM key
     UNION
    SELECT key.id, key.generation, crl.shard
      FROM key JOIN crl ON crl.authority_id = key.id AND crl.generation = key.generation AND crl.der IS NOT NULL
)
SELECT key.id, key.generation, scope.shard, key.key_mode, key.spec,
       f.number AS full_number, f.this_update AS full_this, f.next_update AS full_next, f.entries AS full_entries,
       f.distribution_points AS full_points,
       d.number AS delta_number, d.base_number AS delta_base, d.this_update AS delta_this, d.next_update AS delta_next,
       d.entries AS delta_entries, d.distribution_points AS delta_points,
       EXISTS (SELECT FROM revocation r WHERE r.authority_id = key.id AND r.generation = key.generation
                  AND (scope.shard = 0 OR r.crl_shard = scope.shard)
                  AND r.version > coalesce(f.status_version, -1)) AS changed_since_full,
       EXISTS (SELECT FROM revocation r WHERE r.authority_id = key.id AND r.generation = key.generation
                  AND (scope.shard = 0 OR r.crl_shard = scope.shard)
                  AND r.version > greatest(f.status_version, d.status_version, -1)) AS changed,
       EXISTS (SELECT FROM revocation r WHERE r.authority_id = key.id AND r.generation = key.generation
                  AND (scope.shard = 0 OR r.crl_shard = scope.shard) AND r.version > coalesce(f.status_version, -1)
                  AND r.reason IN (1, 2, 10) AND r.released_at IS NULL) AS urgent
  FROM scope JOIN key USING (id, generation)
  LEFT JOIN LATERAL (
       SELECT number, status_version, this_update, next_update, entries, distribution_points FROM crl
        WHERE authority_id = key.id AND crl.generation = key.generation AND crl.shard = scope.shard
          AND der IS NOT NULL AND base_number IS NULL ORDER BY number DESC LIMIT 1) f ON true
  LEFT JOIN LATERAL (
       SELECT number, base_number, status_version, this_update, next_update, entries, distribution_points FROM crl
        WHERE authority_id = key.id AND crl.generation = key.generation AND crl.shard = scope.shard
          AND der IS NOT NULL AND base_number IS NOT NULL ORDER BY number DESC LIMIT 1) d ON true
 ORDER BY key.id, key.generation, scope.shard
"""
_LOCK: LiteralString = "SELECT pg_try_advisory_lock(hashtextextended('spork crl ' || %s::text, 0))"
_UNLOCK: LiteralString = "SELECT pg_advisory_unlock(hashtextextended('spork crl ' || %s::text, 0))"
_RESERVE: LiteralString = """
WITH counter AS (
    UPDATE authority SET crl_number = crl_number + 1 WHERE id = %(authority)s RETURNING crl_number, status_version
)
INSERT INTO crl (authority_id, generation, shard, number, base_number, status_version, this_update, next_update,
                 distribution_points)
SELECT %(authority)s, %(generation)s, %(shard)s, crl_number, %(base)s, status_version, %(this)s, %(next)s, %(points)s
  FROM counter
RETURNING number
"""
_BASE_VERSION: LiteralString = """
SELECT status_version FROM crl WHERE authority_id = %(authority)s AND number = %(base)s AND der IS NOT NULL
"""
_KEEP_TBS: LiteralString = """
UPDATE crl SET tbs = %(tbs)s, status_version = %(version)s, entries = %(entries)s
 WHERE authority_id = %(authority)s AND number = %(number)s AND der IS NULL
"""
_RESERVED: LiteralString = """
SELECT status_version FROM crl
 WHERE authority_id = %(authority)s AND generation = %(generation)s AND shard = %(shard)s AND number = %(number)s
   AND base_number IS NULL
"""
# The octets go out in binary: as text a long list would double, and hold up the event loop.
_RECORD: LiteralString = """
UPDATE crl SET der = %(der)b, status_version = %(version)s, entries = %(entries)s, tbs = NULL,
       this_update = coalesce(%(this)s, this_update), next_update = coalesce(%(next)s, next_update)
 WHERE authority_id = %(authority)s AND number = %(number)s AND generation = %(generation)s AND shard = %(shard)s
   AND der IS NULL
   AND NOT EXISTS (SELECT FROM crl newer
                    WHERE newer.authority_id = crl.authority_id AND newer.generation = crl.generation
                      AND newer.shard = crl.shard AND newer.number > crl.number AND newer.der IS NOT NULL
                      AND (newer.base_number IS NULL) = (crl.base_number IS NULL))
RETURNING pg_notify('spork_crl', %(scope)s)
"""
_PRUNE: LiteralString = """
DELETE FROM crl
 WHERE authority_id = %(authority)s AND generation = %(generation)s AND shard = %(shard)s AND tbs IS NULL
   AND number < (SELECT min(number) FROM (
        SELECT number, row_number() OVER (PARTITION BY base_number IS NULL ORDER BY number DESC) AS age FROM crl
         WHERE authority_id = %(authority)s AND generation = %(generation)s AND shard = %(shard)s AND der IS NOT NULL) kept
         WHERE age <= %(kept)s)
"""
# The same rows as those of a full list (`revocation.RevocationLedger.crl_scan`).
_MISSING: LiteralString = """
SELECT serial FROM revocation r
  LEFT JOIN LATERAL (
       SELECT this_update, status_version FROM crl
        WHERE authority_id = %(authority)s AND crl.generation = %(generation)s AND crl.shard = %(shard)s
          AND base_number IS NULL AND der IS NOT NULL ORDER BY number DESC LIMIT 1) AS last ON true
 WHERE r.authority_id = %(authority)s AND r.generation = %(generation)s
   AND (%(shard)s = 0 OR r.crl_shard = %(shard)s) AND r.released_at IS NULL AND r.serial <> ALL (%(listed)s)
   AND (last.this_update IS NULL OR r.not_after >= last.this_update OR r.version > last.status_version)
 ORDER BY r.certificate_id LIMIT 1000
"""
_CURRENT: LiteralString = """
SELECT number, der, this_update, next_update FROM crl
 WHERE authority_id = %(authority)s AND generation = %(generation)s AND shard = %(shard)s AND der IS NOT NULL
   AND (base_number IS NOT NULL) = %(delta)s
 ORDER BY number DESC LIMIT 1
"""
_CURRENT_NUMBER: LiteralString = """
SELECT number FROM crl
 WHERE authority_id = %(authority)s AND generation = %(generation)s AND shard = %(shard)s AND der IS NOT NULL
   AND (base_number IS NOT NULL) = %(delta)s
 ORDER BY number DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class StoredCRL:
    """A published list with its octets."""

    number: int
    der: bytes
    this_update: datetime
    next_update: datetime


class ScopeSnapshot:
    """One reading of a scope's statuses; everything in it is of one instant. Implements `issuance.publish.Snapshot`."""

    def __init__(self, scan: CRLScan) -> None:
        self.status_version = scan.version
        self._chunks = scan.chunks

    async def batches(self) -> AsyncIterator[Sequence[RevokedEntry]]:
        """The entries in batches; the server keeps the rest, so memory stays bounded."""
        async for chunk in self._chunks:
            yield [_entry(row) for row in chunk]


class CRLStore:
    """Lists in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def scopes(self, now: datetime) -> list[ScopeState]:
        """See `issuance.publish.CRLStore`."""
        cursor = await self._database.execute(_SCOPES, {"now": now}, row_factory=dict_row)
        return [_scope_state(row) for row in await cursor.fetchall()]

    @asynccontextmanager
    async def lock(self, scope: CRLScope) -> AsyncIterator[bool]:
        """An advisory lock of the session: it ends with the connection, so a killed process leaves none behind."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_LOCK, [str(scope)])).fetchone()
            alone = bool(row and row[0])
            try:
                yield alone
            finally:
                if alone and not connection.closed:
                    await connection.execute(_UNLOCK, [str(scope)])

    async def reserve(
        self,
        scope: CRLScope,
        base_number: int | None,
        this_update: datetime,
        next_update: datetime,
        distribution_points: Sequence[str],
    ) -> int:
        """See `issuance.publish.CRLStore`. Raises SporkError(NOT_FOUND)."""
        arguments = _arguments(scope) | {
            "base": base_number,
            "this": this_update,
            "next": next_update,
            "points": list(distribution_points),
        }
        row = await (await self._database.execute(_RESERVE, arguments)).fetchone()
        if row is None:
            raise SporkError(Code.NOT_FOUND, f"There is no CA {scope.authority_id!r}.")
        return int(row[0])

    @asynccontextmanager
    async def snapshot(self, scope: CRLScope, base_number: int | None) -> AsyncIterator[ScopeSnapshot]:
        """See `issuance.publish.CRLStore`."""
        since = None if base_number is None else await self._version_of(scope, base_number)
        ledger = RevocationLedger(self._database)
        async with ledger.crl_scan(
            scope.authority_id, scope.generation, shard=scope.shard, since_version=since, chunk=_BATCH
        ) as scan:
            yield ScopeSnapshot(scan)

    async def _version_of(self, scope: CRLScope, base_number: int) -> int:
        row = await (await self._database.execute(_BASE_VERSION, _arguments(scope) | {"base": base_number})).fetchone()
        if row is None:
            raise SporkError(Code.NOT_FOUND, f"{scope} has no published list with number {base_number}.")
        return int(row[0])

    async def keep_tbs(self, scope: CRLScope, number: int, status_version: int, entries: int, tbs: bytes) -> None:
        """See `issuance.publish.CRLStore`."""
        arguments = {"tbs": tbs, "version": status_version, "entries": entries, "number": number}
        cursor = await self._database.execute(_KEEP_TBS, _arguments(scope) | arguments)
        if cursor.rowcount != 1:
            raise SporkError(Code.NOT_FOUND, f"Number {number} of {scope.authority_id} is not reserved.")

    async def reserved(self, scope: CRLScope, number: int) -> int:
        """See `issuance.publish.CRLStore`."""
        row = await (await self._database.execute(_RESERVED, _arguments(scope) | {"number": number})).fetchone()
        if row is None:
            raise SporkError(
                Code.NOT_FOUND,
                f"Number {number} was never reserved for {scope}; a list to sign elsewhere is written by `spork crl tbs`.",
            )
        return int(row[0])

    async def record(
        self,
        scope: CRLScope,
        number: int,
        der: bytes,
        status_version: int,
        entries: int,
        audit: AuditEvent,
        dates: tuple[datetime, datetime] | None = None,
    ) -> None:
        """See `issuance.publish.CRLStore`. `dates` replaces thisUpdate and nextUpdate of the reservation."""
        this_update, next_update = dates or (None, None)
        arguments = _arguments(scope) | {
            "der": der,
            "version": status_version,
            "entries": entries,
            "number": number,
            "this": this_update,
            "next": next_update,
            "scope": str(scope),
        }
        async with self._database.transaction() as connection:
            if (await connection.execute(_RECORD, arguments)).rowcount != 1:
                raise SporkError(
                    Code.CONFLICT, f"Number {number} of {scope} is used already, or a newer list stands published."
                )
            await audit_log.append(connection, audit)
            await connection.execute(_PRUNE, _arguments(scope) | {"kept": _KEPT_LISTS})

    async def missing_from(self, scope: CRLScope, listed: Sequence[int]) -> Sequence[int]:
        """See `issuance.publish.CRLStore`; names 1,000 serials at most."""
        arguments = _arguments(scope) | {"listed": [serial_octets(serial) for serial in listed]}
        rows = await (await self._database.execute(_MISSING, arguments)).fetchall()
        return [serial_from_octets(row[0]) for row in rows]

    async def current(self, scope: CRLScope, *, delta: bool) -> StoredCRL | None:
        """The list that is to be served now."""
        cursor = await self._database.execute(
            _CURRENT, _arguments(scope) | {"delta": delta}, row_factory=class_row(StoredCRL)
        )
        found: StoredCRL | None = await cursor.fetchone()
        return found

    async def current_number(self, scope: CRLScope, *, delta: bool) -> int | None:
        """The number of that list."""
        row = await (await self._database.execute(_CURRENT_NUMBER, _arguments(scope) | {"delta": delta})).fetchone()
        return None if row is None else int(row[0])


def _entry(row: CRLEntry) -> RevokedEntry:
    serial = serial_from_octets(row.serial)
    if row.released_at is not None:
        return RevokedEntry(serial, row.revoked_at, REMOVE_FROM_CRL)
    return RevokedEntry(serial, row.revoked_at, row.reason, row.invalidity_date)


def _arguments(scope: CRLScope) -> dict[str, Any]:
    return {"authority": scope.authority_id, "generation": scope.generation, "shard": scope.shard}


def _scope_state(row: dict[str, Any]) -> ScopeState:
    key_mode = KeyMode(row["key_mode"])
    return ScopeState(
        scope=CRLScope(AuthorityId(row["id"]), row["generation"], row["shard"]),
        key_mode=key_mode,
        policy=CRLPolicy.of(row["spec"], key_mode),
        full=_published(row, "full"),
        delta=_published(row, "delta"),
        changed=row["changed"],
        changed_since_full=row["changed_since_full"],
        urgent=row["urgent"],
    )


def _published(row: dict[str, Any], kind: str) -> PublishedList | None:
    if row[f"{kind}_number"] is None:
        return None
    return PublishedList(
        number=row[f"{kind}_number"],
        base_number=row.get(f"{kind}_base"),
        this_update=row[f"{kind}_this"],
        next_update=row[f"{kind}_next"],
        entries=row[f"{kind}_entries"],
        distribution_points=tuple(row[f"{kind}_points"]),
    )
