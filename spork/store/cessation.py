"""Certificates of declared objects that are gone: on hold for a grace, then revoked, unless the object comes back.

A plan is a job of the kind `cease` with the certificate's row id as its subject. Whoever acts on a plan holds its lease, so that
undoing it and carrying it out exclude each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.rows import class_row

from spork.errors import Code, SporkError
from spork.ids import AuthorityId, CertificateId, Serial, serial_from_octets, serial_octets
from spork.store.database import Database

JOB = "cease"

_LIVE: LiteralString = """
SELECT c.id, c.authority_id, c.serial AS serial_octets, r.reason
  FROM certificate c LEFT JOIN revocation r ON r.certificate_id = c.id AND r.released_at IS NULL
 WHERE c.requester = %(requester)s AND c.state <> 'abandoned' AND c.not_after >= %(now)s
   AND (c.evidence ->> 'reference' = %(reference)s OR c.serial = %(serial)s)
   AND (r.reason IS NULL OR r.reason = 6)
 ORDER BY c.id
"""
_PLAN: LiteralString = """
INSERT INTO job (kind, subject, run_at) VALUES ('cease', %s::text, %s)
ON CONFLICT (kind, subject) DO UPDATE SET run_at = excluded.run_at, attempts = 0, lease_until = NULL
"""
_PLANNED: LiteralString = """
SELECT c.id FROM certificate c JOIN job ON job.kind = 'cease' AND job.subject = c.id::text
 WHERE c.authority_id = %s AND c.serial = %s AND c.requester = %s
"""
_TAKE: LiteralString = """
UPDATE job SET lease_until = now() + interval '30 seconds'
 WHERE kind = 'cease' AND subject = %s::text AND (lease_until IS NULL OR lease_until <= now())
"""
_DROP: LiteralString = "DELETE FROM job WHERE kind = 'cease' AND subject = %s::text"
_HELD: LiteralString = """
SELECT c.id, c.authority_id, c.serial AS serial_octets, r.reason
  FROM certificate c JOIN revocation r ON r.certificate_id = c.id AND r.released_at IS NULL AND r.reason = 6
 WHERE c.id = %s
"""


@dataclass(frozen=True, slots=True)
class LiveCertificate:
    """A certificate that is neither expired nor revoked for good."""

    id: CertificateId
    authority_id: AuthorityId
    serial_octets: bytes
    reason: int | None
    """6 while it is on hold."""

    @property
    def serial(self) -> Serial:
        return serial_from_octets(self.serial_octets)


class Cessations:
    """Plans to revoke what is on hold."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def live(
        self, requester: str, reference: str, serial: Serial | None, now: datetime
    ) -> Sequence[LiveCertificate]:
        """All that were issued to the requester with this evidence, and the one with the serial. One trip."""
        values = {
            "requester": requester,
            "reference": reference,
            "serial": serial_octets(serial) if serial is not None else b"",
            "now": now,
        }
        cursor = await self._database.execute(_LIVE, values, row_factory=class_row(LiveCertificate))
        return await cursor.fetchall()

    async def plan(self, certificate_id: CertificateId, at: datetime) -> None:
        """From then on the certificate is revoked, if it still is on hold. A later plan takes the place of an earlier one."""
        await self._database.execute(_PLAN, [certificate_id, at])

    async def planned(self, authority_id: AuthorityId, serial: Serial, requester: str) -> CertificateId | None:
        """The certificate, if there is a plan for it and it was issued to the requester: nobody else may undo its hold."""
        values = [authority_id, serial_octets(serial), requester]
        row = await (await self._database.execute(_PLANNED, values)).fetchone()
        return CertificateId(row[0]) if row is not None else None

    async def take(self, certificate_id: CertificateId) -> None:
        """Keeps everybody else from the plan for half a minute. Raises SporkError(IN_PROGRESS): somebody acts on it."""
        cursor = await self._database.execute(_TAKE, [certificate_id])
        if cursor.rowcount == 0:
            raise SporkError(
                Code.IN_PROGRESS, "The hold of the certificate is being made final, or was lifted.", retry_after_s=5
            )

    async def drop(self, certificate_id: CertificateId) -> None:
        """There is no plan any more."""
        await self._database.execute(_DROP, [certificate_id])

    async def held(self, certificate_id: CertificateId) -> LiveCertificate | None:
        """The certificate, if it is on hold at this moment."""
        cursor = await self._database.execute(_HELD, [certificate_id], row_factory=class_row(LiveCertificate))
        found: LiveCertificate | None = await cursor.fetchone()
        return found
