"""`KeyRecords` in memory, which passes the same scenarios as the real store, and can be told to fail at its n-th write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spork.errors import Code, SporkError
from spork.ids import KeyId
from spork.issuance.ports import AuditEvent, KeyEncryptionKey, WrappedKey


class Killed(BaseException):
    """Stands for the end of the process between two writes."""


class MemoryKeyRecords:
    """Rows of both tables and the audit events."""

    def __init__(self) -> None:
        self.kek_rows: dict[str, KeyEncryptionKey] = {}
        self.rows: dict[KeyId, WrappedKey] = {}
        self.events: list[AuditEvent] = []
        self.writes_left: int | None = None

    def _write(self, audit: AuditEvent | None = None) -> None:
        if self.writes_left is not None:
            if self.writes_left == 0:
                raise Killed
            self.writes_left -= 1
        if audit is not None:
            self.events.append(audit)

    async def keks(self) -> Sequence[KeyEncryptionKey]:
        return list(self.kek_rows.values())

    async def add_kek(self, kek: KeyEncryptionKey, audit: AuditEvent | None = None) -> None:
        self._write(audit)
        for other in list(self.kek_rows.values()):
            if other.kind == kek.kind:
                self.kek_rows[other.kek_id] = replace(other, active=False)
        self.kek_rows[kek.kek_id] = kek

    async def drop_kek(self, kek_id: str, audit: AuditEvent | None = None) -> None:
        if await self.keys_under(kek_id):
            raise SporkError(Code.CONFLICT, "in use")
        self._write(audit)
        del self.kek_rows[kek_id]

    async def add_key(self, key: WrappedKey, audit: AuditEvent) -> None:
        self._write(audit)
        self.rows[key.key_id] = key

    async def key(self, key_id: KeyId) -> WrappedKey:
        try:
            return self.rows[key_id]
        except KeyError:
            raise SporkError(Code.NOT_FOUND, "no such key") from None

    async def keys_under(self, kek_id: str) -> Sequence[KeyId]:
        return [row.key_id for row in self.rows.values() if row.kek_id == kek_id]

    async def rewrap(self, key_id: KeyId, old_kek_id: str, new_kek_id: str, wrapped_data_key: bytes) -> None:
        row = self.rows[key_id]
        if row.kek_id == old_kek_id:
            self._write()
            self.rows[key_id] = replace(row, kek_id=new_kek_id, wrapped_data_key=wrapped_data_key)
