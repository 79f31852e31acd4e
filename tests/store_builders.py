"""Values that store tests start from: each with defaults, so that a test names only what it is about."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from spork.ids import AuthorityId, CertificateId, IssuerId, Serial, new_serial
from spork.issuance.ports import AuditEvent, IdempotencyKey, Recorded, Reservation, Reserved, Revocation
from spork.policy.proposal import Door
from spork.store.certificate import CertificateLedger
from spork.store.database import Database

NOW = datetime.now(UTC).replace(microsecond=0)
ISSUING = AuthorityId("issuing")


def an_event(
    action: str = "certificate.issue", subject: str = "certificate:issuing/01", actor: str = "host"
) -> AuditEvent:
    return AuditEvent(action, actor, subject, {"why": "test"}, "192.0.2.1")


def a_key(key: str | None = None, digest: bytes = b"digest", scope: str = "authority:issuing") -> IdempotencyKey:
    return IdempotencyKey(scope, Door.REST, key or secrets.token_hex(8), digest)


def a_reservation(
    key: IdempotencyKey | None = None,
    *,
    authority_id: AuthorityId = ISSUING,
    generation: int = 1,
    serial: Serial | None = None,
    names: Sequence[str] = ("dns:www.example.test",),
    subject: str = "CN=www.example.test",
    not_after: datetime = NOW + timedelta(days=90),
    crl_shard: int = 0,
    profile: str = "tls-server",
    requester: str = "admin:CN=alice",
    lease_s: int = 30,
    **more: Any,
) -> Reservation:
    values: dict[str, Any] = {
        "issuer_id": None,
        "spki_sha256": hashlib.sha256(b"spki").digest(),
        "evidence": {"kind": "local"},
    }
    values |= {"trace": [{"rule": "names", "passed": True}], "attributes": {}, "tbs": b"tbs", **more}
    return Reservation(
        idempotency=key or a_key(),
        authority_id=authority_id,
        generation=generation,
        serial=serial or new_serial(),
        crl_shard=crl_shard,
        profile=profile,
        subject=subject,
        names=tuple(names),
        not_before=NOW - timedelta(minutes=1),
        not_after=not_after,
        requester=requester,
        lease_s=lease_s,
        **values,
    )


def a_revocation(certificate_id: CertificateId, reason: int = 1, at: datetime = NOW) -> Revocation:
    return Revocation(certificate_id, reason, at)


async def plant_authority(
    database: Database,
    authority_id: str = "issuing",
    *,
    parent: str | None = None,
    shards: int = 1,
    kind: str = "issuing",
) -> None:
    """A CA's row without keys, for tests that are not about CAs."""
    await database.execute(
        "INSERT INTO authority (id, kind, parent_id, subject_der, key_mode, crl_shards) VALUES (%s, %s, %s, %s, 'online', %s)",
        [authority_id, kind, parent, authority_id.encode(), shards],
    )


async def plant_issuer(database: Database, name: str = "web", authority_id: str = "issuing") -> IssuerId:
    query = """INSERT INTO issuer (name, origin, authority_id, profiles, names) VALUES (%s, 'file', %s, '{tls-server}', '{}')
               RETURNING id"""
    row = await (await database.execute(query, [name, authority_id])).fetchone()
    assert row is not None
    return IssuerId(row[0])


async def reserved(ledger: CertificateLedger, reservation: Reservation | None = None) -> Reserved:
    outcome = await ledger.reserve(reservation or a_reservation())
    assert isinstance(outcome, Reserved)
    return outcome


async def issued(
    ledger: CertificateLedger, reservation: Reservation | None = None, der: bytes | None = None
) -> Recorded:
    return await ledger.record(await reserved(ledger, reservation), der or secrets.token_bytes(64), an_event())


async def lapse(database: Database, certificate_id: CertificateId | None = None) -> None:
    """Lets leases run out, all or one."""
    where = "lease_until IS NOT NULL AND (%(id)s::bigint IS NULL OR id = %(id)s)"
    query = f"UPDATE certificate SET lease_until = now() - interval '1 second' WHERE {where}"
    await database.execute(query, {"id": certificate_id})


async def one(database: Database, query: str, *parameters: Any) -> tuple[Any, ...]:
    row = await (await database.execute(query, parameters)).fetchone()
    assert row is not None
    return tuple(row)


async def status_version(database: Database, authority_id: str = "issuing") -> int:
    return int((await one(database, "SELECT status_version FROM authority WHERE id = %s", authority_id))[0])
