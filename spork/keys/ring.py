"""The key ring: opens stored private keys for those who sign, makes new ones, and rotates their passphrases.

Keys are of two kinds, each below its own passphrase: `online` (issuing CAs, OCSP responders, listeners) and `sealed` (root and
policy CAs), whose passphrase `spork serve` never loads.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from spork.errors import Code, SporkError
from spork.ids import KeyId
from spork.issuance.ports import AuditEvent, KeyEncryptionKey, KeyRecords
from spork.keys.kek import Kek, new_kek, open_kek, rewrap_data_key, unwrap_key, wrap_key
from spork.keys.passphrase import Passphrases
from spork.keys.software import SoftwareSigner, generate_private_key
from spork.x509.algorithms import Algorithm, algorithm_named
from spork.x509.der import KeyPurpose

Kind = Literal["online", "sealed"]

_DROP_ATTEMPTS = 5
_HOW_TO_OPEN = {
    "online": "give this process the passphrase of the online keys (SPORK_PASSPHRASE_FILE or a systemd credential)",
    "sealed": "it is opened by `spork pki build`, `spork pki work --sealed`, `spork crl publish` and ceremonies only; run one of "
    "them with SPORK_SEALED_PASSPHRASE_FILE set",
}


class KeyRing:
    """All private keys of one process. Implements `issuance.ports.SignerSource`.

    Passphrases stay in memory while their kind is open, so that a replica can follow a rotation; they are as secret as the
    keys that they open, which are in the same memory. Use it from one event loop.
    """

    def __init__(
        self, records: KeyRecords, passphrases: Mapping[str, Passphrases], *, create: bool, fips: bool
    ) -> None:
        self._records = records
        self._passphrases = dict(passphrases)
        self._create = create
        self._fips = fips
        self._keks: dict[str, Kek] = {}
        self._signers: dict[KeyId, tuple[str, SoftwareSigner]] = {}
        self._lock = asyncio.Lock()

    @classmethod
    async def open(
        cls, records: KeyRecords, *, passphrases: Mapping[str, Passphrases], create: bool = False, fips: bool = True
    ) -> KeyRing:
        """Opens the key-encryption keys of the given kinds (`online`, `sealed`).

        `create` allows the first key of a kind to make its key-encryption key; without it, that is refused. `fips` refuses
        new keys of algorithms that are not approved.
        Raises SporkError: WRONG_PASSPHRASE, CORRUPTED_KEY (a KEK's parameters are out of bounds).
        """
        for kind in passphrases:
            if kind not in _HOW_TO_OPEN:
                raise SporkError(Code.CONFIGURATION, f"There is no kind of keys {kind!r}; there are online and sealed.")
        ring = cls(records, passphrases, create=create, fips=fips)
        # Where there is no passphrase, not even a look: the operator's login may not see that table.
        rows = await records.keks() if passphrases else ()
        for kind in passphrases:
            for row in rows:
                if row.kind == kind and row.active:
                    await ring._open_kek(row)
        return ring

    async def unlock(self, kind: Kind, passphrases: Passphrases) -> None:
        """Opens a further kind, until `close`. Raises SporkError: WRONG_PASSPHRASE, CORRUPTED_KEY; then it stays shut."""
        self._passphrases[kind] = passphrases
        try:
            for row in await self._records.keks():
                if row.kind == kind and row.active:
                    await self._open_kek(row)
        except BaseException:
            self.close(kind)
            raise

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds whose passphrase this ring holds."""
        return frozenset(self._passphrases)

    def file_of(self, kind: Kind) -> Path | None:
        """The passphrase file of an open kind, or None where it was typed. Raises SporkError(KEY_UNAVAILABLE)."""
        self._require(kind)
        return self._passphrases[kind].source

    async def signer(self, key_id: KeyId) -> SoftwareSigner:
        """The signer of a stored key; opened once and then kept.

        Raises SporkError: NOT_FOUND, KEY_UNAVAILABLE (its kind is not open here), WRONG_PASSPHRASE, CORRUPTED_KEY.
        """
        if (cached := self._signers.get(key_id)) is not None:
            return cached[1]
        if not self._passphrases:
            raise SporkError(
                Code.KEY_UNAVAILABLE,
                "This process opens no keys; what needs one is left to the signer (`spork serve`).",
            )
        async with self._lock:
            if (cached := self._signers.get(key_id)) is not None:
                return cached[1]
            row = await self._records.key(key_id)
            kek = await self._kek(row.kek_id, key_id)
            try:
                key = await asyncio.to_thread(unwrap_key, kek, row)
            except SporkError:
                # Closed in the meantime: then the KEK was cleared under the thread's hands and nothing is damaged.
                self._require(kek.kind, key_id)
                raise
            signer = SoftwareSigner(key, row.purpose)
            self._signers[key_id] = (kek.kind, signer)
            return signer

    async def generate(
        self, algorithm: Algorithm | str, purpose: KeyPurpose, kind: Kind, audit: AuditEvent
    ) -> tuple[KeyId, bytes]:
        """Makes, self-tests and stores a key; returns its id and its SubjectPublicKeyInfo (DER).

        The stored audit event carries the key's id, algorithm, purpose, kind and the hash of its public half beside what
        the caller put in. Raises SporkError: CONFIGURATION (unknown algorithm), POLICY_REFUSED (not approved and FIPS is on),
        KEY_UNAVAILABLE (the kind is not open here, or has no KEK and `create` is off), UNAVAILABLE.
        """
        row = algorithm_named(algorithm) if isinstance(algorithm, str) else algorithm
        if self._fips and not row.fips_approved:
            raise SporkError(
                Code.POLICY_REFUSED, f"{row.name} is not an approved algorithm; choose another one or switch fips off."
            )
        self._require(kind)
        key = await asyncio.to_thread(generate_private_key, row)
        signer = SoftwareSigner(key, purpose)
        await asyncio.to_thread(signer.self_test)
        key_id = KeyId(str(uuid.uuid4()))
        facts = {
            "key_id": key_id,
            "algorithm": row.name,
            "purpose": purpose.value,
            "kind": kind,
            "spki_sha256": hashlib.sha256(signer.spki).hexdigest(),
        }
        kek = await self._active_kek(kind, audit.actor)
        await self._records.add_key(
            wrap_key(kek, key_id, key, purpose), replace(audit, detail={**audit.detail, **facts})
        )
        self._signers[key_id] = (kind, signer)
        return key_id, signer.spki

    def close(self, kind: str) -> None:
        """Forgets the passphrase, the KEKs and the opened keys of a kind. A signer handed out before goes on signing."""
        self._passphrases.pop(kind, None)
        self._signers = {key_id: entry for key_id, entry in self._signers.items() if entry[0] != kind}
        for kek in [kek for kek in self._keks.values() if kek.kind == kind]:
            self._keks.pop(kek.id).forget()

    async def rewrap(self, kind: Kind, new: bytes | None = None, *, actor: str) -> int:
        """Rotates the passphrase of a kind: every data key moves under a new KEK, the private keys stay as they are.

        The new passphrase is the given one, else the first line of the passphrase file, whose second line is then the old one.

        May be interrupted anywhere and started again: until it ends, each key opens with either the old or the new
        passphrase, so the passphrase file holds both (new, then old). Returns the number of keys that were moved.
        Raises SporkError: KEY_UNAVAILABLE (no KEK of the kind, or the kind is not open), WRONG_PASSPHRASE (before anything is
        changed), CORRUPTED_KEY, CONFIGURATION (the new passphrase is too short).
        """
        self._require(kind)
        new = self._passphrases[kind].current if new is None else new
        async with self._lock:
            rows = [row for row in await self._records.keks() if row.kind == kind]
            if not rows:
                raise _no_kek(kind)
            # All of them open before the first change, or the rotation would stop half-way for want of a passphrase.
            keks = [self._keks.get(row.kek_id) or await self._open_kek(row, also=new) for row in rows]
            target = await self._target(kind, rows, new, actor)
            moved = 0
            for old in keks:
                if old.id != target.id:
                    moved += await self._move(old, target, actor)
            self._keks[target.id] = target
            self._passphrases[kind] = Passphrases(new, source=self._passphrases[kind].source)
            return moved

    async def _target(self, kind: str, rows: Sequence[KeyEncryptionKey], new: bytes, actor: str) -> Kek:
        # An interrupted rotation to the same passphrase left an active KEK that it opens: go on with that one.
        for row in rows:
            if row.active:
                try:
                    return await asyncio.to_thread(open_kek, row, new)
                except SporkError as error:
                    if error.code is not Code.WRONG_PASSPHRASE:
                        raise
        return await self._add_kek(kind, new, actor, "key.rotate-passphrase")

    async def _move(self, old: Kek, target: Kek, actor: str) -> int:
        event = AuditEvent("key.drop-kek", actor, f"kek:{old.id}", {"kind": old.kind, "replaced_by": target.id})
        moved = 0
        for attempt in range(_DROP_ATTEMPTS):
            while key_ids := await self._records.keys_under(old.id):
                for key_id in key_ids:
                    row = await self._records.key(key_id)
                    if row.kek_id == old.id:
                        await self._records.rewrap(key_id, old.id, target.id, rewrap_data_key(old, target, row))
                        moved += 1
            try:
                await self._records.drop_kek(old.id, event)
                break
            except SporkError as error:
                # Another process stored a key under the old KEK after we had looked: move that one too.
                if error.code is not Code.CONFLICT or attempt == _DROP_ATTEMPTS - 1:
                    raise
        self._keks.pop(old.id, old).forget()
        return moved

    async def _active_kek(self, kind: str, actor: str) -> Kek:
        for row in await self._records.keks():
            if row.kind == kind and row.active:
                return await self._kek(row.kek_id, None)
        if not self._create:
            raise _no_kek(kind)
        return await self._add_kek(kind, self._passphrases[kind].current, actor, "key.create-kek")

    async def _add_kek(self, kind: str, passphrase: bytes, actor: str, action: str) -> Kek:
        kek = await asyncio.to_thread(new_kek, kind, passphrase)
        row = kek.row
        facts = {"kind": kind, "memory_kib": row.memory_kib, "iterations": row.iterations, "lanes": row.lanes}
        await self._records.add_kek(row, AuditEvent(action, actor, f"kek:{kek.id}", facts))
        self._keks[kek.id] = kek
        return kek

    async def _kek(self, kek_id: str, key_id: KeyId | None) -> Kek:
        if (known := self._keks.get(kek_id)) is not None:
            return known
        for row in await self._records.keks():
            if row.kek_id == kek_id:
                self._require(row.kind, key_id)
                return await self._open_kek(row)
        raise SporkError(Code.CORRUPTED_KEY, f"The key-encryption key {kek_id} is missing; restore it from a backup.")

    async def _open_kek(self, row: KeyEncryptionKey, also: bytes | None = None) -> Kek:
        held = self._passphrases[row.kind]
        kek = await _first_that_opens(row, held.candidates if also is None else (*held.candidates, also))
        if kek is None and held.source is not None:
            # A rotation may have gone on since the file was read.
            again = await asyncio.to_thread(held.reread)
            kek = await _first_that_opens(row, [one for one in again.candidates if one not in held.candidates])
            if kek is not None:
                self._passphrases[row.kind] = again
        if kek is None:
            where = f" from {held.source}" if held.source is not None else ""
            raise SporkError(
                Code.WRONG_PASSPHRASE,
                f"The passphrase{where} does not open the {row.kind} keys; during a rotation the file holds the new one on "
                "its first line and the old one on its second.",
            )
        self._keks[row.kek_id] = kek
        return kek

    def _require(self, kind: str, key_id: KeyId | None = None) -> None:
        if kind in self._passphrases:
            return
        what = f"The key {key_id} is {kind}" if key_id else f"The {kind} keys are not open here"
        how = _HOW_TO_OPEN.get(kind, "no such kind of keys exists")
        raise SporkError(Code.KEY_UNAVAILABLE, f"{what}: {how}.")


async def _first_that_opens(row: KeyEncryptionKey, passphrases: Sequence[bytes]) -> Kek | None:
    for passphrase in passphrases:
        try:
            return await asyncio.to_thread(open_kek, row, passphrase)
        except SporkError as error:
            if error.code is not Code.WRONG_PASSPHRASE:
                raise
    return None


def _no_kek(kind: str) -> SporkError:
    return SporkError(
        Code.KEY_UNAVAILABLE, f"There are no {kind} keys yet; `spork pki build` or `spork up` makes the first of them."
    )
