"""The signer's side of certificates that another process asked for: claimed, recorded and refused by the hundred.

A claim and what follows from it are one transaction each, whatever the number of certificates. Everybody locks jobs before
certificates, and in the order of their ids, so that no two signers wait for each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID, uuid4

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from spork.ids import AuthorityId, CertificateId, IssuerId, serial_from_octets
from spork.issuance.ports import Refused, Signed, SigningTask
from spork.store import audit as audit_log
from spork.store.database import Database
from spork.store.doubtful import REVOKE_DOUBTFUL
from spork.store.refusal import refusal_json

# A job whose reservation is gone, or in the hands of a process that signs by itself, has no row below it; it is closed by `finish`.
_CLAIM: LiteralString = """
WITH due AS (
    SELECT id FROM job
     WHERE kind = 'sign' AND run_at <= now() AND (lease_until IS NULL OR lease_until <= now())
     ORDER BY run_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
claimed AS (
    UPDATE job SET attempts = attempts + 1, lease_until = now() + make_interval(secs => %(job_lease_s)s)
      FROM due WHERE job.id = due.id
    RETURNING job.id AS job_id, job.attempts, job.subject::bigint AS certificate_id),
taken AS (
    UPDATE certificate
       SET lease_id = %(lease_id)s, lease_until = now() + make_interval(secs => %(lease_s)s)
      FROM claimed
     WHERE certificate.id = claimed.certificate_id AND state = 'reserved' AND certificate.lease_until > now()
    RETURNING certificate.id, authority_id, generation, issuer_id, serial, crl_shard, profile, subject, names, spki_sha256,
              not_before, not_after, tbs, door, requester, evidence,
              coalesce(attributes ->> 'namespace', '') AS namespace)
SELECT job_id, attempts, certificate_id, taken.* FROM claimed LEFT JOIN taken ON taken.id = certificate_id ORDER BY job_id
"""
_CLOSE: LiteralString = """
DELETE FROM job WHERE id IN (
    SELECT job.id FROM job JOIN unnest(%(jobs)s::bigint[], %(attempts)s::int[]) AS held (id, attempts)
                            ON job.id = held.id AND job.attempts = held.attempts
     WHERE kind = 'sign' ORDER BY job.id FOR UPDATE OF job)
"""
_RECORD: LiteralString = """
WITH signed AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(ders)s::bytea[], %(digests)s::bytea[], %(actors)s::text[], %(actions)s::text[],
                         %(subjects)s::text[], %(details)s::jsonb[], %(addresses)s::text[])
               AS one (id, der, sha256, actor, action, subject, detail, address)),
recorded AS (
    UPDATE certificate
       SET state = 'issued', der = signed.der, sha256 = signed.sha256, issued_at = date_trunc('second', now()), tbs = NULL,
           lease_id = NULL, lease_until = NULL
      FROM signed
     WHERE certificate.id = signed.id AND state = 'reserved' AND lease_id = %(lease_id)s AND lease_until > now()
    RETURNING certificate.id),
audited AS (
    INSERT INTO audit_event (actor, action, subject, detail, address)
    SELECT actor, action, subject, detail, address FROM signed JOIN recorded USING (id) ORDER BY id)
SELECT count(*) FROM recorded
"""
# As a lease that ran out: an earlier signer of the same row may have died with a signature in its hands.
_REFUSE: LiteralString = """
WITH refused AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(refusals)s::jsonb[]) AS one (id, refusal)),
ended AS (
    UPDATE certificate SET state = 'abandoned', lease_id = NULL, lease_until = NULL, refusal = refused.refusal
      FROM refused
     WHERE certificate.id = refused.id AND state = 'reserved' AND lease_id = %(lease_id)s AND lease_until > now()
    RETURNING certificate.id, authority_id, generation, crl_shard, serial, not_after, certificate.refusal, requester),
{revoke},
audited AS (
    INSERT INTO audit_event (actor, action, subject, detail)
    SELECT requester, 'certificate.refuse', 'certificate:' || authority_id || '/' || upper(encode(serial, 'hex')),
           jsonb_build_object('certificate', id, 'code', refusal -> 'code', 'detail', refusal -> 'detail')
      FROM ended)
SELECT pg_notify('spork_status', moved.id || ':' || moved.status_version) FROM moved
""".format(revoke=REVOKE_DOUBTFUL.format(rows="ended"))


@dataclass(frozen=True, slots=True)
class _Row:
    job_id: int
    attempts: int
    certificate_id: int
    id: int | None
    authority_id: str
    generation: int
    issuer_id: int | None
    serial: bytes
    crl_shard: int
    profile: str
    subject: str
    names: list[str]
    spki_sha256: bytes
    not_before: datetime
    not_after: datetime
    tbs: bytes
    door: str
    requester: str
    evidence: Mapping[str, Any]
    namespace: str


class CertificateSigning:
    """Implements `issuance.ports.SigningQueue`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, limit: int, *, job_lease_s: int, lease_s: int) -> tuple[str, Sequence[SigningTask]]:
        """One trip, and one commit that waits if there was work. See the port."""
        lease_id = str(uuid4())
        values = {"limit": limit, "job_lease_s": job_lease_s, "lease_s": lease_s, "lease_id": UUID(lease_id)}
        cursor = await self._database.execute(_CLAIM, values, row_factory=class_row(_Row))
        rows: list[_Row] = await cursor.fetchall()
        if orphans := [row for row in rows if row.id is None]:
            await self._database.execute(_CLOSE, _held(orphans), durable=False)
        return lease_id, [_task(row) for row in rows if row.id is not None]

    async def finish(self, lease_id: str, signed: Sequence[Signed], refused: Sequence[Refused]) -> int:
        """One trip and one commit. See the port."""
        if not signed and not refused:
            return 0
        async with self._database.batch() as connection:
            await connection.execute(_CLOSE, _held([one.task for one in signed] + [one.task for one in refused]))
            recorded = await connection.execute(_RECORD, _signed_values(lease_id, signed)) if signed else None
            if refused:
                await connection.execute(_REFUSE, _refused_values(lease_id, refused))
        row = await recorded.fetchone() if recorded is not None else None
        return int(row[0]) if row is not None else 0


def _held(tasks: Sequence[SigningTask | _Row]) -> dict[str, Any]:
    return {"jobs": [task.job_id for task in tasks], "attempts": [task.attempts for task in tasks]}


def _signed_values(lease_id: str, signed: Sequence[Signed]) -> dict[str, Any]:
    audits = [audit_log.parameters(one.audit) for one in signed]
    return {
        "lease_id": UUID(lease_id),
        "ids": [one.task.certificate_id for one in signed],
        "ders": [one.der for one in signed],
        "digests": [hashlib.sha256(one.der).digest() for one in signed],
        "actors": [audit[0] for audit in audits],
        "actions": [audit[1] for audit in audits],
        "subjects": [audit[2] for audit in audits],
        "details": [audit[3] for audit in audits],
        "addresses": [audit[4] for audit in audits],
    }


def _refused_values(lease_id: str, refused: Sequence[Refused]) -> dict[str, Any]:
    return {
        "lease_id": UUID(lease_id),
        "ids": [one.task.certificate_id for one in refused],
        "refusals": [Jsonb(refusal_json(one.error)) for one in refused],
    }


def _task(row: _Row) -> SigningTask:
    return SigningTask(
        job_id=row.job_id,
        attempts=row.attempts,
        certificate_id=CertificateId(row.certificate_id),
        authority_id=AuthorityId(row.authority_id),
        generation=row.generation,
        issuer_id=None if row.issuer_id is None else IssuerId(row.issuer_id),
        serial=serial_from_octets(row.serial),
        crl_shard=row.crl_shard,
        profile=row.profile,
        subject=row.subject,
        names=tuple(row.names),
        spki_sha256=bytes(row.spki_sha256),
        not_before=row.not_before,
        not_after=row.not_after,
        tbs=bytes(row.tbs),
        door=row.door,
        requester=row.requester,
        evidence=row.evidence,
        namespace=row.namespace,
    )
