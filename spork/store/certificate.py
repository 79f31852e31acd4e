"""The record of certificates: reserved before a signature exists, issued when it is recorded, abandoned if its lease ran out.

Each step is one statement and thereby one transaction and one round trip. Leases are measured by the database's clock alone,
so that replicas whose clocks differ agree on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from spork.errors import Code, SporkError
from spork.ids import AuthorityId, CertificateId, serial_from_octets, serial_octets
from spork.issuance.ports import AuditEvent, IdempotencyKey, OutboxMessage, Outcome, Recorded, Reservation, Reserved
from spork.store import audit as audit_log
from spork.store.database import Database
from spork.store.doubtful import REVOKE_DOUBTFUL
from spork.store.refusal import refusal_from_json

# Two reservations of one key can keep each other from seeing who won only while they run at the same instant.
_ATTEMPTS = 5

_EXISTING: LiteralString = """
SELECT id, authority_id, generation, serial, request_digest, state, der, not_before, not_after,
       lease_until <= now() AS expired,
       greatest(1, least(5, ceil(extract(epoch FROM lease_until - now()))))::int AS retry_after_s
  FROM certificate
 WHERE scope = %(scope)s AND door = %(door)s AND idempotency_key = %(key)s AND state <> 'abandoned'
"""
# The statement sees the rows of before it began. So where another transaction reserved the same key a moment ago, it inserts
# nothing and finds nothing either; then it is simply run again.
_RESERVE: LiteralString = f"""
WITH inserted AS (
    INSERT INTO certificate (
        authority_id, generation, serial, crl_shard, state, issuer_id, profile, subject, names, spki_sha256, not_before, not_after,
        scope, door, idempotency_key, request_digest, lease_id, lease_until, tbs, requester, evidence, attributes, trace)
    VALUES (
        %(authority_id)s, %(generation)s, %(serial)s, %(crl_shard)s, 'reserved', %(issuer_id)s, %(profile)s, %(subject)s,
        %(names)s, %(spki_sha256)s, %(not_before)s, %(not_after)s, %(scope)s, %(door)s, %(key)s, %(digest)s, %(lease_id)s,
        now() + make_interval(secs => %(lease_s)s), %(tbs)s, %(requester)s, %(evidence)s, %(attributes)s, %(trace)s)
    ON CONFLICT (scope, door, idempotency_key) WHERE state <> 'abandoned' DO NOTHING
    RETURNING id, authority_id, generation, serial, request_digest, state, der, not_before, not_after),
queued AS (INSERT INTO job (kind, subject) SELECT 'sign', id::text FROM inserted WHERE %(for_signer)s)
SELECT true AS new, *, false AS expired, NULL::int AS retry_after_s FROM inserted
UNION ALL
SELECT false, existing.* FROM ({_EXISTING}) AS existing WHERE NOT EXISTS (SELECT FROM inserted)
"""
_FIND: LiteralString = f"SELECT false AS new, existing.* FROM ({_EXISTING}) AS existing"

_OUTCOMES: LiteralString = """
SELECT id, authority_id, generation, serial, state, der, not_before, not_after, refusal
  FROM certificate WHERE id = ANY(%s) AND state <> 'reserved'
"""

_RECORD: LiteralString = """
WITH recorded AS (
    UPDATE certificate
       SET state = 'issued', der = %(der)s, sha256 = %(sha256)s, issued_at = date_trunc('second', now()), tbs = NULL,
           lease_id = NULL, lease_until = NULL
     WHERE id = %(id)s AND state = 'reserved' AND lease_id = %(lease_id)s AND lease_until > now()
    RETURNING id, authority_id, generation, serial, request_digest, state, der, not_before, not_after),
audited AS (
    INSERT INTO audit_event (actor, action, subject, detail, address)
    SELECT %(actor)s, %(action)s, %(audit_subject)s, %(detail)s, %(address)s FROM recorded),
queued AS (
    INSERT INTO outbox (kind, payload)
    SELECT message.kind, message.payload
      FROM recorded, unnest(%(kinds)s::text[], %(payloads)s::jsonb[]) AS message (kind, payload))
SELECT false AS new, *, false AS expired, NULL::int AS retry_after_s FROM recorded
"""

# A serial whose lease ran out may have been signed by a process that died before it could say so. It is closed as revoked, with
# no reason given, in the statement that makes its key free for a new serial. Only where no signer has ever claimed its job there
# can be no signature, and no list has to carry it: a signer that is away for a day must not fill the CRL. A claim waits for the
# disk and takes the row's lease, so what is seen here of a job whose row is locked is the truth.
_ABANDON: LiteralString = """
WITH expired AS (
    UPDATE certificate SET state = 'abandoned', lease_id = NULL, lease_until = NULL
     WHERE id IN (SELECT id FROM certificate WHERE state = 'reserved' AND lease_until <= now() AND {which}
                     FOR NO KEY UPDATE {locked})
       AND state = 'reserved'
    RETURNING id, authority_id, generation, crl_shard, serial, not_after),
unclaimed AS (
    SELECT expired.id FROM expired JOIN job ON job.kind = 'sign' AND job.subject = expired.id::text AND job.attempts = 0),
doubtful AS (
    SELECT * FROM expired WHERE id NOT IN (SELECT id FROM unclaimed)),
{revoke},
audited AS (
    INSERT INTO audit_event (actor, action, subject, detail)
    SELECT 'host', 'certificate.abandon', 'certificate:' || authority_id || '/' || upper(encode(serial, 'hex')),
           jsonb_build_object('certificate', id)
      FROM expired),
-- A job in other hands is left to them: they find no reservation below it.
closed AS (
    DELETE FROM job WHERE id IN (SELECT job.id FROM job JOIN expired ON job.subject = expired.id::text
                                  WHERE job.kind = 'sign' FOR UPDATE OF job SKIP LOCKED))
SELECT (SELECT count(*) FROM expired) AS number,
       (SELECT count(pg_notify('spork_status', moved.id || ':' || moved.status_version)) FROM moved)
"""
_REVOKE: LiteralString = REVOKE_DOUBTFUL.format(rows="doubtful")
_ABANDON_ONE: LiteralString = _ABANDON.format(which="id = %(id)s", locked="", revoke=_REVOKE)
# One bulk run at a time and without waiting for rows in other hands: so it never deadlocks over two authorities.
_ABANDON_ALL: LiteralString = _ABANDON.format(
    which="pg_try_advisory_xact_lock(%(lock)s) ORDER BY lease_until LIMIT 1000", locked="SKIP LOCKED", revoke=_REVOKE
)
_ABANDON_LOCK = 0x73706F726B616264


@dataclass(frozen=True, slots=True)
class _Row:
    new: bool
    id: int
    authority_id: str
    generation: int
    serial: bytes
    request_digest: bytes
    state: str
    der: bytes | None
    not_before: datetime
    not_after: datetime
    expired: bool | None
    retry_after_s: int | None


@dataclass(frozen=True, slots=True)
class _Ended:
    """A row that is not reserved any more."""

    id: int
    authority_id: str
    generation: int
    serial: bytes
    state: str
    der: bytes | None
    not_before: datetime
    not_after: datetime
    refusal: Mapping[str, Any] | None


class CertificateLedger:
    """Implements `issuance.ports.Ledger` and `RequestLedger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, idempotency: IdempotencyKey) -> Recorded | None:
        """One trip. See the port."""
        cursor = await self._database.execute(_FIND, _key(idempotency), row_factory=class_row(_Row))
        row: _Row | None = await cursor.fetchone()
        if row is None:
            return None
        _require_digest(row, idempotency)
        return _recorded(row) if row.der is not None else None

    async def reserve(self, reservation: Reservation) -> Reserved | Recorded:
        """One trip and one commit; two trips where an expired lease is closed first. See the port.

        Raises SporkError(INTERNAL) with retry_after_s for a serial that exists already: try again with another one.
        """
        lease_id = str(uuid4())
        row = await self._reserved(reservation, lease_id)
        if row is not None and row.new:
            return Reserved(CertificateId(row.id), lease_id)
        if row is not None and row.der is not None:
            return _recorded(row)
        raise _in_progress(row)

    async def request(self, reservation: Reservation) -> CertificateId | Recorded:
        """As many trips as `reserve`. See `ports.RequestLedger`."""
        row = await self._reserved(replace(reservation, for_signer=True), str(uuid4()))
        if row is None:
            raise _in_progress(row)
        return CertificateId(row.id) if row.der is None else _recorded(row)

    async def outcomes(self, certificate_ids: Sequence[CertificateId]) -> Sequence[Outcome]:
        """One trip. See `ports.RequestLedger`."""
        cursor = await self._database.execute(
            _OUTCOMES, [list(certificate_ids)], durable=False, row_factory=class_row(_Ended)
        )
        return [_outcome(row) for row in await cursor.fetchall()]

    async def _reserved(self, reservation: Reservation, lease_id: str) -> _Row | None:
        """The row that holds the key now: a new one, or one that was there. None where others race for it."""
        values = _values(reservation, lease_id)
        expired: int | None = None
        row: _Row | None = None
        for _ in range(_ATTEMPTS):
            row = await self._reserve(values, expired)
            if row is None:
                continue
            if row.new:
                return row
            if row.der is None and row.expired and expired != row.id:
                expired = row.id
                continue
            _require_digest(row, reservation.idempotency)
            break
        return row

    async def _reserve(self, values: dict[str, Any], expired: int | None) -> _Row | None:
        try:
            async with self._database.batch() as connection:
                if expired is not None:
                    await connection.execute(_ABANDON_ONE, {"id": expired})
                cursor = connection.cursor(row_factory=class_row(_Row))
                await cursor.execute(_RESERVE, values)
        except psycopg.errors.UniqueViolation as error:
            if error.diag.constraint_name == "certificate_authority_id_serial_key":
                raise SporkError(Code.INTERNAL, "The serial number is taken; try again.", retry_after_s=1) from error
            raise
        return await cursor.fetchone()

    async def record(
        self, reserved: Reserved, der: bytes, audit: AuditEvent, outbox: Sequence[OutboxMessage] = ()
    ) -> Recorded:
        """One trip and one commit. See the port."""
        actor, action, subject, detail, address = audit_log.parameters(audit)
        values = {
            "id": reserved.certificate_id,
            "lease_id": UUID(reserved.lease_id),
            "der": der,
            "sha256": hashlib.sha256(der).digest(),
            "actor": actor,
            "action": action,
            "audit_subject": subject,
            "detail": detail,
            "address": address,
            "kinds": [message.kind for message in outbox],
            "payloads": [Jsonb(dict(message.payload)) for message in outbox],
        }
        cursor = await self._database.execute(_RECORD, values, row_factory=class_row(_Row))
        row: _Row | None = await cursor.fetchone()
        if row is None:
            raise SporkError(Code.LEASE_LOST, "The request took too long and was closed; try again.", retry_after_s=1)
        return _recorded(row)

    async def abandon_expired(self) -> int:
        """One trip for each thousand. See the port."""
        total = 0
        while True:
            cursor = await self._database.execute(_ABANDON_ALL, {"lock": _ABANDON_LOCK})
            number = sum(int(row[0]) for row in await cursor.fetchall())
            total += number
            if number < 1000:
                return total


def _key(idempotency: IdempotencyKey) -> dict[str, Any]:
    return {"scope": idempotency.scope, "door": idempotency.door.value, "key": idempotency.key}


def _values(reservation: Reservation, lease_id: str) -> dict[str, Any]:
    return {
        **_key(reservation.idempotency),
        "digest": reservation.idempotency.digest,
        "authority_id": reservation.authority_id,
        "generation": reservation.generation,
        "issuer_id": reservation.issuer_id,
        "serial": serial_octets(reservation.serial),
        "crl_shard": reservation.crl_shard,
        "profile": reservation.profile,
        "subject": reservation.subject,
        "names": list(reservation.names),
        "spki_sha256": reservation.spki_sha256,
        "not_before": reservation.not_before,
        "not_after": reservation.not_after,
        "tbs": reservation.tbs,
        "requester": reservation.requester,
        "evidence": Jsonb(dict(reservation.evidence)),
        "attributes": Jsonb(dict(reservation.attributes)),
        "trace": Jsonb([dict(verdict) for verdict in reservation.trace]),
        "lease_id": UUID(lease_id),
        "lease_s": reservation.lease_s,
        "for_signer": reservation.for_signer,
    }


def _in_progress(row: _Row | None) -> SporkError:
    return SporkError(
        Code.IN_PROGRESS,
        "The same request is being answered already; ask again shortly.",
        retry_after_s=(row.retry_after_s if row is not None else None) or 1,
    )


def _require_digest(row: _Row, idempotency: IdempotencyKey) -> None:
    if bytes(row.request_digest) != idempotency.digest:
        raise SporkError(
            Code.CONFLICT,
            "This idempotency key was used before for a different request; use a new key for a new request.",
        )


def _recorded(row: _Row | _Ended) -> Recorded:
    assert row.der is not None
    return Recorded(
        CertificateId(row.id),
        AuthorityId(row.authority_id),
        row.generation,
        serial_from_octets(row.serial),
        bytes(row.der),
        row.not_before,
        row.not_after,
    )


def _outcome(row: _Ended) -> Outcome:
    if row.der is not None:
        return Outcome(CertificateId(row.id), recorded=_recorded(row))
    return Outcome(CertificateId(row.id), refused=None if row.refusal is None else refusal_from_json(row.refusal))
