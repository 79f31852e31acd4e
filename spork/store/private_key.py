"""Private keys at rest: ciphertexts and the parameters of what wraps them. Nothing here can open them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row

from spork.errors import Code, SporkError
from spork.ids import KeyId
from spork.issuance.ports import AuditEvent, KeyEncryptionKey, WrappedKey
from spork.store import audit as audit_log
from spork.store.database import Database
from spork.x509.der import KeyPurpose

_KEKS: LiteralString = """
SELECT id AS kek_id, kind, salt, memory_kib, iterations, lanes, verifier, active FROM key_encryption_key ORDER BY created_at, id
"""
_DEACTIVATE: LiteralString = "UPDATE key_encryption_key SET active = false WHERE kind = %s AND active"
_ADD_KEK: LiteralString = """
INSERT INTO key_encryption_key (id, kind, salt, memory_kib, iterations, lanes, verifier, active)
VALUES (%s, %s, %s, %s, %s, %s, %s, true)
"""
_DROP_KEK: LiteralString = "DELETE FROM key_encryption_key WHERE id = %s AND NOT active"
_ADD_KEY: LiteralString = """
INSERT INTO private_key (id, purpose, algorithm, spki, kek_id, wrapped_data_key, ciphertext) VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
_KEY: LiteralString = """
SELECT id, purpose, algorithm, spki, kek_id, wrapped_data_key, ciphertext FROM private_key WHERE id = %s
"""
_KEYS_UNDER: LiteralString = "SELECT id FROM private_key WHERE kek_id = %s ORDER BY created_at, id"
_REWRAP: LiteralString = "UPDATE private_key SET kek_id = %s, wrapped_data_key = %s WHERE id = %s AND kek_id = %s"


class KeyRecords:
    """Implements `issuance.ports.KeyRecords`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keks(self) -> Sequence[KeyEncryptionKey]:
        """All, oldest first."""
        cursor = await self._database.execute(_KEKS, row_factory=class_row(KeyEncryptionKey))
        return await cursor.fetchall()

    async def add_kek(self, kek: KeyEncryptionKey, audit: AuditEvent | None = None) -> None:
        """See the port. Raises SporkError(CONFLICT) where another process added one of that kind at the same instant."""
        values = (kek.kek_id, kek.kind, kek.salt, kek.memory_kib, kek.iterations, kek.lanes, kek.verifier)
        try:
            async with self._database.batch() as connection:
                await connection.execute(_DEACTIVATE, [kek.kind])
                await connection.execute(_ADD_KEK, values)
                if audit is not None:
                    await audit_log.append(connection, audit)
        except psycopg.errors.UniqueViolation as error:
            raise SporkError(
                Code.CONFLICT, f"Another process changed the key-encryption key of kind {kek.kind} just now; try again."
            ) from error

    async def drop_kek(self, kek_id: str, audit: AuditEvent | None = None) -> None:
        """See the port; the active one of its kind is in use as well. Dropping one that is gone is no change."""
        try:
            async with self._database.transaction() as connection:
                dropped = (await connection.execute(_DROP_KEK, [kek_id])).rowcount
                if dropped and audit is not None:
                    await audit_log.append(connection, audit)
        except psycopg.errors.ForeignKeyViolation as error:
            raise SporkError(Code.CONFLICT, "The key-encryption key still wraps keys; re-wrap them first.") from error
        if not dropped and any(kek.kek_id == kek_id for kek in await self.keks()):
            raise SporkError(Code.CONFLICT, "The key-encryption key is the active one of its kind.")

    async def add_key(self, key: WrappedKey, audit: AuditEvent) -> None:
        """See the port. Raises SporkError(CONFLICT): the id is taken, or its KEK is gone."""
        values: tuple[Any, ...] = (key.key_id, key.purpose.value, key.algorithm, key.spki, key.kek_id)
        try:
            async with self._database.batch() as connection:
                await connection.execute(_ADD_KEY, (*values, key.wrapped_data_key, key.ciphertext))
                await audit_log.append(connection, audit)
        except (psycopg.errors.UniqueViolation, psycopg.errors.ForeignKeyViolation) as error:
            raise SporkError(Code.CONFLICT, "The key cannot be stored: its id is taken, or its KEK is gone.") from error

    async def key(self, key_id: KeyId) -> WrappedKey:
        """See the port."""
        row = await (await self._database.execute(_KEY, [key_id])).fetchone()
        if row is None:
            raise SporkError(Code.NOT_FOUND, f"There is no private key {key_id}.")
        return WrappedKey(KeyId(row[0]), KeyPurpose(row[1]), *row[2:])

    async def keys_under(self, kek_id: str) -> Sequence[KeyId]:
        """Ids of the keys that this KEK wraps."""
        return [KeyId(row[0]) for row in await (await self._database.execute(_KEYS_UNDER, [kek_id])).fetchall()]

    async def rewrap(self, key_id: KeyId, old_kek_id: str, new_kek_id: str, wrapped_data_key: bytes) -> None:
        """See the port; a key that another process re-wrapped already is left as it is."""
        await self._database.execute(_REWRAP, [new_kek_id, wrapped_data_key, key_id, old_kek_id])
