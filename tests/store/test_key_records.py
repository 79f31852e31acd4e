from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from store_builders import an_event, one

from spork.errors import Code, SporkError
from spork.ids import KeyId
from spork.issuance.ports import KeyEncryptionKey, WrappedKey
from spork.store.database import Database
from spork.store.private_key import KeyRecords
from spork.x509.der import KeyPurpose

pytestmark = pytest.mark.store

KEK = KeyEncryptionKey("kek-1", "online", b"salt", 65536, 3, 4, b"verifier", True)
KEY = WrappedKey(KeyId("key-1"), KeyPurpose.CA, "ecdsa-p256", b"spki", "kek-1", b"wrapped", b"ciphertext")
AUDIT = an_event("key.generate", "key:key-1")


@pytest.fixture
def records(database: Database) -> KeyRecords:
    return KeyRecords(database)


async def test_what_was_stored_is_read_octet_for_octet(records: KeyRecords, database: Database) -> None:
    await records.add_kek(KEK)
    await records.add_key(KEY, AUDIT)
    assert await records.keks() == [KEK]
    assert await records.key(KEY.key_id) == KEY
    assert await one(database, "SELECT action FROM audit_event") == ("key.generate",)


async def test_a_new_kek_becomes_the_active_one_of_its_kind(records: KeyRecords) -> None:
    await records.add_kek(KEK)
    await records.add_kek(replace(KEK, kek_id="sealed-1", kind="sealed"))
    await records.add_kek(replace(KEK, kek_id="kek-2"), AUDIT)
    assert {kek.kek_id: kek.active for kek in await records.keks()} == {"kek-1": False, "sealed-1": True, "kek-2": True}


async def test_racing_keks_of_one_kind_leave_one_active(records: KeyRecords) -> None:
    work = [records.add_kek(replace(KEK, kek_id=f"kek-{number}")) for number in range(6)]
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, SporkError) for outcome in outcomes)
    assert sum(kek.active for kek in await records.keks()) == 1


async def test_rewrapping_changes_only_the_wrapping_and_only_once(records: KeyRecords) -> None:
    await records.add_kek(KEK)
    await records.add_kek(replace(KEK, kek_id="kek-2"))
    await records.add_key(KEY, AUDIT)
    await records.rewrap(KEY.key_id, "kek-1", "kek-2", b"new")
    await records.rewrap(KEY.key_id, "kek-1", "kek-2", b"late")
    assert await records.key(KEY.key_id) == replace(KEY, kek_id="kek-2", wrapped_data_key=b"new")
    assert await records.keys_under("kek-1") == []
    assert await records.keys_under("kek-2") == [KEY.key_id]


async def test_a_kek_is_dropped_only_when_it_wraps_nothing(records: KeyRecords, database: Database) -> None:
    await records.add_kek(KEK)
    await records.add_key(KEY, AUDIT)
    await records.add_kek(replace(KEK, kek_id="kek-2"))
    with pytest.raises(SporkError) as caught:
        await records.drop_kek("kek-1", AUDIT)
    assert caught.value.code is Code.CONFLICT
    await records.rewrap(KEY.key_id, "kek-1", "kek-2", b"new")
    await records.drop_kek("kek-1", AUDIT)
    await records.drop_kek("kek-1", AUDIT)
    assert [kek.kek_id for kek in await records.keks()] == ["kek-2"]
    assert await one(database, "SELECT count(*) FROM audit_event") == (2,)


async def test_the_active_kek_is_not_dropped(records: KeyRecords) -> None:
    await records.add_kek(KEK)
    with pytest.raises(SporkError) as caught:
        await records.drop_kek("kek-1")
    assert caught.value.code is Code.CONFLICT


async def test_a_key_that_is_not_there_is_not_found(records: KeyRecords) -> None:
    with pytest.raises(SporkError) as caught:
        await records.key(KeyId("nobody"))
    assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("case", ["the id is taken", "the kek is gone"])
async def test_a_key_that_cannot_be_stored_leaves_no_audit_event(
    records: KeyRecords, database: Database, case: str
) -> None:
    await records.add_kek(KEK)
    await records.add_key(KEY, AUDIT)
    bad = KEY if case == "the id is taken" else replace(KEY, key_id=KeyId("key-2"), kek_id="nobody")
    with pytest.raises(SporkError) as caught:
        await records.add_key(bad, AUDIT)
    assert caught.value.code is Code.CONFLICT
    assert await one(database, "SELECT count(*) FROM audit_event") == (1,)
