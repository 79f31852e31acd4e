"""The tree of CAs as it is written: CAs, their generations and certificates. Satisfies `hierarchy.ports.TreeStore`.

Each method is one transaction with its audit event and moves the configuration's version. Each may be repeated with the same
values, since a process may die after a commit and before it knows of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from spork.errors import Code, SporkError
from spork.ids import HIERARCHY_FILE, AuthorityId, CertificateId, KeyId, serial_octets, serial_text
from spork.issuance.ports import AuditEvent
from spork.issuance.tree import ImportedCertificate, NewAuthority, NewGeneration, TreeState
from spork.store import audit as audit_log
from spork.store.configuration import move, watch_of
from spork.store.connection import CountedConnection
from spork.store.database import Database
from spork.store.issuer import IssuerFields, disable_issuer, put_issuer
from spork.store.tree_state import read_tree, urls_as_json
from spork.x509.authority import AuthorityURLs
from spork.x509.spki import key_identifier, key_octets

# The octets of "sporktre".
_LOCK = 0x73706F726B747265

_INSERT_AUTHORITY: LiteralString = """
INSERT INTO authority (id, kind, parent_id, subject_der, key_mode, spec, crl_shards, current_generation, declared_by)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_INSERT_GENERATION: LiteralString = """
INSERT INTO authority_generation (
    authority_id, generation, private_key_id, algorithm, spki, spki_sha256, key_identifier, key_sha256, urls)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_SAME_GENERATION: LiteralString = """
SELECT 1 FROM authority a JOIN authority_generation g ON g.authority_id = a.id
 WHERE a.id = %s AND a.subject_der = coalesce(%s, a.subject_der) AND g.generation = %s AND g.spki = %s
"""
_SET_CERTIFICATE: LiteralString = """
UPDATE authority_generation SET certificate_der = %s, not_after = %s, pending_csr = NULL
 WHERE authority_id = %s AND generation = %s
"""
_SET_SPEC: LiteralString = "UPDATE authority SET spec = %s WHERE id = %s"
_SET_CSR: LiteralString = "UPDATE authority_generation SET pending_csr = %s WHERE authority_id = %s AND generation = %s"
_UPDATE: LiteralString = "UPDATE authority SET spec = %s, crl_shards = %s WHERE id = %s"
_SET_URLS: LiteralString = "UPDATE authority_generation SET urls = %s WHERE authority_id = %s AND generation = %s"
_SWITCH: LiteralString = """
UPDATE authority SET current_generation = %(generation)s
 WHERE id = %(id)s AND EXISTS (
       SELECT FROM authority_generation
        WHERE authority_id = %(id)s AND generation = %(generation)s AND certificate_der IS NOT NULL)
"""
_DISABLE: LiteralString = "UPDATE authority SET disabled_at = coalesce(disabled_at, now()) WHERE id = %s"
_ADOPT: LiteralString = "UPDATE authority SET declared_by = %s WHERE id = %s"
_SHARDS: LiteralString = "SELECT crl_shards FROM authority WHERE id = %s"
_IMPORT: LiteralString = """
INSERT INTO certificate (
    authority_id, generation, serial, crl_shard, state, profile, subject, names, spki_sha256, not_before, not_after, scope, door,
    idempotency_key, request_digest, der, sha256, requester, evidence, trace, issued_at)
VALUES (
    %(issuer_id)s, %(issuer_generation)s, %(serial)s, %(shard)s, 'issued', %(profile)s, %(subject)s, '{}', %(spki_sha256)s,
    %(not_before)s, %(not_after)s, %(scope)s, 'bootstrap', %(key)s, %(sha256)s, %(der)s, %(sha256)s, 'host',
    '{"kind": "import"}', '[]', date_trunc('second', now()))
ON CONFLICT (sha256) WHERE sha256 IS NOT NULL DO UPDATE SET sha256 = excluded.sha256
RETURNING id
"""
_UNUSED_KEY: LiteralString = """
SELECT k.id, k.spki
  FROM audit_event e
  JOIN private_key k ON k.id = e.detail ->> 'key_id'
  JOIN key_encryption_key kek ON kek.id = k.kek_id
 WHERE e.subject = %s AND k.purpose = 'ca' AND k.algorithm = %s AND kek.kind = %s
   AND NOT EXISTS (SELECT FROM authority_generation g WHERE g.private_key_id = k.id)
 ORDER BY e.id DESC LIMIT 1
"""


class TreeRecords:
    """Writes CAs, and reads the tree as a plan needs it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watch = watch_of(database)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """Held while a plan is made and carried out. Raises SporkError(CONFLICT) if another process holds it."""
        async with self._database.connection() as connection:
            row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])).fetchone()
            if row is None or not row[0]:
                raise SporkError(
                    Code.CONFLICT, "Another process is building the tree; wait until it is done.", retry_after_s=10
                )
            try:
                yield
            finally:
                # A lost connection has lost the lock as well.
                if not connection.closed:
                    await connection.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])

    async def read_tree(self, *, counts: bool = True) -> TreeState:
        """All CAs but the management CA, cross-certificates and issuers, of one snapshot. See `tree_state.read_tree`."""
        return await read_tree(self._database, counts=counts)

    async def unused_key(
        self, authority_id: AuthorityId, algorithm: str, kind: Literal["online", "sealed"]
    ) -> tuple[KeyId, bytes] | None:
        """A key that was made for this CA and that no generation has taken: a killed process left it. None if there is none."""
        values = [f"authority:{authority_id}", algorithm, kind]
        row = await (await self._database.execute(_UNUSED_KEY, values)).fetchone()
        return None if row is None else (KeyId(row[0]), bytes(row[1]))

    async def create_authority(self, authority: NewAuthority, audit: AuditEvent) -> None:
        """A CA with its first generation, without a certificate. Raises SporkError(CONFLICT): id, name or key is taken."""
        try:
            async with self._writing(audit) as connection:
                await connection.execute(
                    _INSERT_AUTHORITY,
                    [
                        authority.id,
                        authority.kind.value,
                        authority.parent_id,
                        authority.subject_der,
                        authority.key_mode.value,
                        Jsonb(dict(authority.spec)),
                        authority.crl_shards,
                        authority.first.generation,
                        authority.declared_by,
                    ],
                )
                await connection.execute(_INSERT_GENERATION, _generation_values(authority.id, authority.first))
        except psycopg.errors.UniqueViolation as error:
            await self._require_same(authority.id, authority.subject_der, authority.first, error)

    async def add_generation(self, authority_id: AuthorityId, generation: NewGeneration, audit: AuditEvent) -> None:
        """A further key of a CA; it is used when it has a certificate and `switch_generation` says so.

        Raises SporkError: NOT_FOUND, CONFLICT (number or key is taken).
        """
        try:
            async with self._writing(audit) as connection:
                await connection.execute(_INSERT_GENERATION, _generation_values(authority_id, generation))
        except psycopg.errors.ForeignKeyViolation as error:
            raise _missing(authority_id) from error
        except psycopg.errors.UniqueViolation as error:
            await self._require_same(authority_id, None, generation, error)

    async def set_certificate(
        self,
        authority_id: AuthorityId,
        generation: int,
        certificate_der: bytes,
        not_after: datetime,
        spec: Mapping[str, Any],
        audit: AuditEvent,
    ) -> None:
        """Makes a recorded certificate the one of this generation, and drops a pending request. Raises SporkError(NOT_FOUND)."""
        async with self._writing(audit) as connection:
            await _set_certificate(connection, authority_id, generation, certificate_der, not_after, spec)

    async def set_pending_csr(self, authority_id: AuthorityId, generation: int, csr: bytes, audit: AuditEvent) -> None:
        """Keeps the request that was handed out for signing elsewhere. Raises SporkError(NOT_FOUND)."""
        async with self._writing(audit) as connection:
            await _one(connection, authority_id, _SET_CSR, [csr, authority_id, generation])

    async def import_certificate(
        self, certificate: ImportedCertificate, spec: Mapping[str, Any], audit: AuditEvent
    ) -> CertificateId:
        """Records a certificate that was signed elsewhere and makes it the one of its generation.

        Raises SporkError: NOT_FOUND, CONFLICT (the serial belongs to another certificate of that issuer).
        """
        try:
            async with self._writing(audit) as connection:
                shards = await (await connection.execute(_SHARDS, [certificate.issuer_id])).fetchone()
                if shards is None:
                    raise _missing(certificate.issuer_id)
                row = await (await connection.execute(_IMPORT, _import_values(certificate, int(shards[0])))).fetchone()
                assert row is not None
                await _set_certificate(
                    connection,
                    certificate.authority_id,
                    certificate.generation,
                    certificate.der,
                    certificate.not_after,
                    spec,
                )
        except psycopg.errors.UniqueViolation as error:
            raise SporkError(
                Code.CONFLICT,
                f"{certificate.issuer_id} has another certificate with the serial {serial_text(certificate.serial)}.",
            ) from error
        return CertificateId(row[0])

    async def update_authority(
        self,
        authority_id: AuthorityId,
        spec: Mapping[str, Any],
        crl_shards: int,
        generation: int,
        urls: AuthorityURLs,
        audit: AuditEvent,
    ) -> None:
        """Changes what can change in place: what is signed from now on carries it. Raises SporkError(NOT_FOUND)."""
        async with self._writing(audit) as connection:
            await _one(connection, authority_id, _UPDATE, [Jsonb(dict(spec)), crl_shards, authority_id])
            await _one(connection, authority_id, _SET_URLS, [Jsonb(urls_as_json(urls)), authority_id, generation])

    async def switch_generation(self, authority_id: AuthorityId, generation: int, audit: AuditEvent) -> None:
        """From now on this generation signs. Raises SporkError(NOT_FOUND): it is not there, or has no certificate yet."""
        async with self._writing(audit) as connection:
            await _one(connection, authority_id, _SWITCH, {"id": authority_id, "generation": generation})

    async def disable_authority(self, authority_id: AuthorityId, audit: AuditEvent) -> None:
        """It issues no more; its CRLs and OCSP answers go on. Raises SporkError(NOT_FOUND)."""
        async with self._writing(audit) as connection:
            await _one(connection, authority_id, _DISABLE, [authority_id])

    async def adopt_authority(self, authority_id: AuthorityId, declared_by: str, audit: AuditEvent) -> None:
        """From now on it is another declaration's. Raises SporkError(NOT_FOUND)."""
        async with self._writing(audit) as connection:
            await _one(connection, authority_id, _ADOPT, [declared_by, authority_id])

    async def put_issuer(self, issuer: IssuerFields, audit: AuditEvent, *, declared_by: str = HIERARCHY_FILE) -> None:
        """Creates or replaces the issuer of that name with origin `file`, also one of another tree.

        Raises SporkError(CONFLICT) for another origin's or a resource's of its own.
        """
        await put_issuer(
            self._database, issuer, namespace="", origin="file", audit=audit, declared_by=declared_by, take_over=True
        )

    async def disable_issuer(self, name: str, audit: AuditEvent, *, declared_by: str = HIERARCHY_FILE) -> None:
        """Only one of origin `file` and this declaration. Raises SporkError: NOT_FOUND, CONFLICT."""
        await disable_issuer(
            self._database, namespace="", name=name, origin="file", audit=audit, declared_by=declared_by
        )

    @asynccontextmanager
    async def _writing(self, audit: AuditEvent) -> AsyncIterator[CountedConnection]:
        async with self._database.transaction() as connection:
            yield connection
            await move(connection)
            await audit_log.append(connection, audit)
        self._watch.forget()

    async def _require_same(
        self, authority_id: AuthorityId, subject_der: bytes | None, generation: NewGeneration, error: psycopg.Error
    ) -> None:
        """A repetition finds its own rows and is content."""
        values = [authority_id, subject_der, generation.generation, generation.spki]
        if await (await self._database.execute(_SAME_GENERATION, values)).fetchone() is None:
            raise SporkError(
                Code.CONFLICT, f"The id, the name or the key of {authority_id} is taken by another CA or generation."
            ) from error


def _generation_values(authority_id: AuthorityId, generation: NewGeneration) -> list[Any]:
    return [
        authority_id,
        generation.generation,
        generation.key_id,
        generation.algorithm,
        generation.spki,
        hashlib.sha256(generation.spki).digest(),
        key_identifier(generation.spki),
        hashlib.sha256(key_octets(generation.spki)).digest(),
        Jsonb(urls_as_json(generation.urls)),
    ]


def _import_values(certificate: ImportedCertificate, shards: int) -> dict[str, Any]:
    digest = hashlib.sha256(certificate.der).digest()
    return {
        "issuer_id": certificate.issuer_id,
        "issuer_generation": certificate.issuer_generation,
        "serial": serial_octets(certificate.serial),
        "shard": 0 if shards <= 1 else 1 + certificate.serial % shards,
        "profile": certificate.profile,
        "subject": certificate.subject,
        "spki_sha256": certificate.spki_sha256,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "scope": f"authority:{certificate.issuer_id}",
        "key": f"import:{digest.hex()}",
        "sha256": digest,
        "der": certificate.der,
    }


async def _set_certificate(
    connection: CountedConnection,
    authority_id: AuthorityId,
    generation: int,
    certificate_der: bytes,
    not_after: datetime,
    spec: Mapping[str, Any],
) -> None:
    await _one(connection, authority_id, _SET_CERTIFICATE, [certificate_der, not_after, authority_id, generation])
    await _one(connection, authority_id, _SET_SPEC, [Jsonb(dict(spec)), authority_id])


async def _one(connection: CountedConnection, authority_id: AuthorityId, query: LiteralString, values: Any) -> None:
    """Runs a statement that must change exactly one row."""
    if (await connection.execute(query, values)).rowcount != 1:
        raise _missing(authority_id)


def _missing(authority_id: AuthorityId) -> SporkError:
    return SporkError(
        Code.NOT_FOUND, f"There is no CA {authority_id!r}, or not with that generation and a certificate."
    )
