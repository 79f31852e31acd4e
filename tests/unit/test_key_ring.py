"""The key ring over records in memory: opening, making, closing, and rotations that are killed at every write."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from key_memory import Killed, MemoryKeyRecords

from spork.errors import Code, SporkError
from spork.ids import KeyId
from spork.issuance.ports import AuditEvent, KeyEncryptionKey
from spork.keys import kek as kek_module
from spork.keys.passphrase import Passphrases
from spork.keys.ring import KeyRing
from spork.keys.software import SoftwareSigner
from spork.x509.algorithms import BY_NAME, load_public_key
from spork.x509.der import CertificateTBS, KeyPurpose
from spork.x509.signatures import verify_signature

OLD, NEW, THIRD = b"the old passphrase", b"the new passphrase", b"a third passphrase"
AUDIT = AuditEvent("key.generate", "host", "authority:tls", {"generation": 1})


@pytest.fixture(autouse=True)
def quick_argon2(monkeypatch: pytest.MonkeyPatch) -> None:
    """One derivation per passphrase and salt: these tests derive hundreds of times, and Argon2id has tests of its own."""
    known: dict[tuple[bytes, bytes], bytes] = {}
    derive = kek_module._derive

    def remembered(row: KeyEncryptionKey, passphrase: bytes) -> bytearray:
        place = (passphrase, row.salt)
        if place not in known:
            known[place] = bytes(derive(row, passphrase))
        return bytearray(known[place])

    monkeypatch.setattr(kek_module, "_derive", remembered)


async def ring_of(records: MemoryKeyRecords, *passphrases: bytes, create: bool = False, **more: Passphrases) -> KeyRing:
    online = {"online": Passphrases(*passphrases)} if passphrases else {}
    return await KeyRing.open(records, passphrases={**online, **more}, create=create)


async def code_of(awaitable: object) -> Code:
    with pytest.raises(SporkError) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value.code


async def some_keys(records: MemoryKeyRecords, count: int = 3) -> list[KeyId]:
    ring = await ring_of(records, OLD, create=True)
    return [(await ring.generate("ecdsa-p256", KeyPurpose.CA, "online", AUDIT))[0] for _ in range(count)]


def works(signer: SoftwareSigner) -> bool:
    signature = signer.sign(CertificateTBS(b"tbs"))
    verify_signature(load_public_key(signer.spki), signer.algorithm, b"tbs", signature)
    return True


async def test_a_generated_key_signs_now_and_in_another_process() -> None:
    records = MemoryKeyRecords()
    ring = await ring_of(records, OLD, create=True)
    key_id, spki = await ring.generate("ecdsa-p384", KeyPurpose.CA, "online", AUDIT)
    for one in (ring, await ring_of(records, OLD)):
        signer = await one.signer(key_id)
        assert signer.spki == spki
        assert signer.purpose is KeyPurpose.CA
        assert works(signer)


async def test_a_signer_is_opened_once_even_when_many_ask_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    records = MemoryKeyRecords()
    (key_id,) = await some_keys(records, 1)
    ring = await ring_of(records, OLD)
    reads: list[KeyId] = []
    read = records.key
    monkeypatch.setattr(records, "key", lambda key_id: reads.append(key_id) or read(key_id))
    signers = await asyncio.gather(*(ring.signer(key_id) for _ in range(20)))
    assert len({id(signer) for signer in signers}) == 1
    assert reads == [key_id]


async def test_making_a_key_is_audited_with_its_facts_and_without_its_secrets() -> None:
    records = MemoryKeyRecords()
    ring = await ring_of(records, OLD, create=True)
    key_id, _ = await ring.generate("ed25519", KeyPurpose.OCSP, "online", AUDIT)
    created, generated = records.events
    assert (created.action, created.actor) == ("key.create-kek", "host")
    assert generated.detail["generation"] == 1
    assert generated.detail["key_id"] == key_id
    assert set(generated.detail) == {"generation", "key_id", "algorithm", "purpose", "kind", "spki_sha256"}


async def test_the_first_key_of_a_kind_needs_leave_to_make_its_kek() -> None:
    records = MemoryKeyRecords()
    ring = await ring_of(records, OLD)
    assert await code_of(ring.generate("ecdsa-p256", KeyPurpose.CA, "online", AUDIT)) is Code.KEY_UNAVAILABLE
    assert not records.kek_rows
    assert not records.rows


async def test_a_wrong_passphrase_is_found_when_the_ring_opens() -> None:
    records = MemoryKeyRecords()
    await some_keys(records, 1)
    assert await code_of(ring_of(records, NEW)) is Code.WRONG_PASSPHRASE
    assert await code_of(ring_of(records, NEW, THIRD)) is Code.WRONG_PASSPHRASE
    await ring_of(records, NEW, OLD)


async def test_a_damaged_row_is_found_when_its_key_is_opened() -> None:
    records = MemoryKeyRecords()
    (key_id,) = await some_keys(records, 1)
    row = records.rows[key_id]
    records.rows[key_id] = replace(row, ciphertext=row.ciphertext[:-1] + bytes([row.ciphertext[-1] ^ 1]))
    ring = await ring_of(records, OLD)
    assert await code_of(ring.signer(key_id)) is Code.CORRUPTED_KEY
    assert await code_of(ring.signer(KeyId("no such key"))) is Code.NOT_FOUND


async def test_a_key_whose_kek_row_is_lost_is_corrupted() -> None:
    records = MemoryKeyRecords()
    (key_id,) = await some_keys(records, 1)
    records.kek_rows.clear()
    assert await code_of((await ring_of(records, OLD)).signer(key_id)) is Code.CORRUPTED_KEY


async def test_a_sealed_key_names_the_commands_that_open_it() -> None:
    records = MemoryKeyRecords()
    builder = await ring_of(records, sealed=Passphrases(THIRD), create=True)
    key_id, _ = await builder.generate("ecdsa-p256", KeyPurpose.CA, "sealed", AUDIT)
    server = await ring_of(records, OLD)
    with pytest.raises(SporkError, match=r"spork pki build.*spork crl publish") as caught:
        await server.signer(key_id)
    assert caught.value.code is Code.KEY_UNAVAILABLE
    assert await code_of(server.generate("ecdsa-p256", KeyPurpose.CA, "sealed", AUDIT)) is Code.KEY_UNAVAILABLE
    assert await code_of(server.rewrap("sealed", NEW, actor="host")) is Code.KEY_UNAVAILABLE


async def test_closing_a_kind_forgets_its_keys_and_leaves_the_other_kind() -> None:
    records = MemoryKeyRecords()
    ring = await ring_of(records, OLD, sealed=Passphrases(THIRD), create=True)
    sealed, _ = await ring.generate("ecdsa-p256", KeyPurpose.CA, "sealed", AUDIT)
    online, _ = await ring.generate("ecdsa-p256", KeyPurpose.CA, "online", AUDIT)
    ring.close("sealed")
    assert ring.kinds == {"online"}
    assert await code_of(ring.signer(sealed)) is Code.KEY_UNAVAILABLE
    assert works(await ring.signer(online))


async def test_an_unknown_kind_and_an_unknown_algorithm_are_refused() -> None:
    records = MemoryKeyRecords()
    assert await code_of(ring_of(records, onlin=Passphrases(OLD))) is Code.CONFIGURATION
    ring = await ring_of(records, OLD, create=True)
    assert await code_of(ring.generate("rsa-1024", KeyPurpose.CA, "online", AUDIT)) is Code.CONFIGURATION


async def test_an_algorithm_that_is_not_approved_is_refused_only_while_fips_is_on() -> None:
    foreign = replace(BY_NAME["ed25519"], fips_approved=False)
    records = MemoryKeyRecords()
    ring = await ring_of(records, OLD, create=True)
    assert await code_of(ring.generate(foreign, KeyPurpose.CA, "online", AUDIT)) is Code.POLICY_REFUSED
    assert not records.rows
    relaxed = await KeyRing.open(records, passphrases={"online": Passphrases(OLD)}, create=True, fips=False)
    assert await relaxed.generate(foreign, KeyPurpose.CA, "online", AUDIT)


async def test_a_key_that_fails_its_self_test_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    records = MemoryKeyRecords()
    ring = await ring_of(records, OLD, create=True)
    monkeypatch.setattr(SoftwareSigner, "_signature", lambda self, message: b"nonsense")
    assert await code_of(ring.generate("ecdsa-p256", KeyPurpose.CA, "online", AUDIT)) is Code.INTERNAL
    assert not records.rows


async def test_a_rotation_moves_every_key_and_touches_none() -> None:
    records = MemoryKeyRecords()
    keys = await some_keys(records)
    before = {key_id: records.rows[key_id].ciphertext for key_id in keys}
    ring = await ring_of(records, NEW, OLD)
    assert await ring.rewrap("online", NEW, actor="alice") == 3
    assert {key_id: records.rows[key_id].ciphertext for key_id in keys} == before
    assert len(records.kek_rows) == 1
    assert await code_of(ring_of(records, OLD)) is Code.WRONG_PASSPHRASE
    after = await ring_of(records, NEW)
    for key_id in keys:
        assert works(await ring.signer(key_id))
        assert works(await after.signer(key_id))
    assert [(event.action, event.actor) for event in records.events[-2:]] == [
        ("key.rotate-passphrase", "alice"),
        ("key.drop-kek", "alice"),
    ]


async def test_a_rotation_to_the_present_passphrase_changes_nothing() -> None:
    records = MemoryKeyRecords()
    await some_keys(records)
    before = (dict(records.rows), dict(records.kek_rows))
    assert await (await ring_of(records, OLD)).rewrap("online", OLD, actor="alice") == 0
    assert (records.rows, records.kek_rows) == before


async def test_a_rotation_without_the_old_passphrase_or_to_a_short_one_changes_nothing() -> None:
    records = MemoryKeyRecords()
    await some_keys(records)
    before = (dict(records.rows), dict(records.kek_rows))
    ring = await ring_of(records, OLD)
    assert await code_of(ring.rewrap("online", b"short", actor="alice")) is Code.CONFIGURATION
    records.kek_rows = {key: replace(row, verifier=bytes(len(row.verifier))) for key, row in records.kek_rows.items()}
    blind = KeyRing(records, {"online": Passphrases(THIRD)}, create=False, fips=True)
    assert await code_of(blind.rewrap("online", NEW, actor="alice")) is Code.WRONG_PASSPHRASE
    assert (records.rows, set(records.kek_rows)) == (before[0], set(before[1]))


async def test_a_rotation_with_no_keys_at_all_says_so() -> None:
    ring = await ring_of(MemoryKeyRecords(), OLD)
    assert await code_of(ring.rewrap("online", NEW, actor="alice")) is Code.KEY_UNAVAILABLE


@pytest.mark.parametrize("writes", range(6))
async def test_a_rotation_killed_at_any_write_leaves_all_keys_readable_and_goes_on(writes: int) -> None:
    records = MemoryKeyRecords()
    keys = await some_keys(records)
    ciphertexts = [records.rows[key_id].ciphertext for key_id in keys]
    # Five writes in all: the new KEK, three keys, and the old KEK's end.
    records.writes_left = writes
    ring = await ring_of(records, NEW, OLD)
    try:
        await ring.rewrap("online", NEW, actor="alice")
    except Killed:
        assert writes < 5
    records.writes_left = None
    replica = await ring_of(records, NEW, OLD)
    for key_id in keys:
        assert works(await replica.signer(key_id))
    again = await ring_of(records, NEW, OLD)
    await again.rewrap("online", NEW, actor="alice")
    assert len(records.kek_rows) == 1
    assert [records.rows[key_id].ciphertext for key_id in keys] == ciphertexts
    for key_id in keys:
        assert works(await (await ring_of(records, NEW)).signer(key_id))


async def test_an_interrupted_rotation_can_end_at_a_third_passphrase() -> None:
    records = MemoryKeyRecords()
    keys = await some_keys(records)
    records.writes_left = 2
    with pytest.raises(Killed):
        await (await ring_of(records, NEW, OLD)).rewrap("online", NEW, actor="alice")
    records.writes_left = None
    await (await ring_of(records, NEW, OLD)).rewrap("online", THIRD, actor="alice")
    ring = await ring_of(records, THIRD)
    assert len(records.kek_rows) == 1
    for key_id in keys:
        assert works(await ring.signer(key_id))


async def test_a_running_replica_follows_a_rotation_through_its_file(tmp_path: Path) -> None:
    records = MemoryKeyRecords()
    keys = await some_keys(records)
    file = tmp_path / "passphrase"
    file.write_bytes(OLD + b"\n")
    file.chmod(0o600)
    replica = await KeyRing.open(records, passphrases={"online": Passphrases(OLD, source=file)})
    file.write_bytes(NEW + b"\n" + OLD + b"\n")
    await (await ring_of(records, NEW, OLD)).rewrap("online", NEW, actor="alice")
    for key_id in keys:
        assert works(await replica.signer(key_id))


async def test_a_running_replica_without_the_new_passphrase_says_wrong_passphrase() -> None:
    records = MemoryKeyRecords()
    keys = await some_keys(records)
    replica = await ring_of(records, OLD)
    await (await ring_of(records, NEW, OLD)).rewrap("online", NEW, actor="alice")
    assert await code_of(replica.signer(keys[0])) is Code.WRONG_PASSPHRASE


async def test_new_keys_go_under_the_new_kek_after_a_rotation_by_another_process() -> None:
    records = MemoryKeyRecords()
    await some_keys(records)
    replica = await ring_of(records, NEW, OLD)
    await (await ring_of(records, NEW, OLD)).rewrap("online", NEW, actor="alice")
    key_id, _ = await replica.generate("ecdsa-p256", KeyPurpose.CA, "online", AUDIT)
    assert works(await (await ring_of(records, NEW)).signer(key_id))
