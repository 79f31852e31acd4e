"""The key ring over PostgreSQL: what the scenarios in memory promise must hold for the real rows too, and for the commands."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from key_memory import Killed

from spork.cli.main import run
from spork.errors import Code, SporkError
from spork.ids import KeyId
from spork.issuance.ports import AuditEvent
from spork.keys.passphrase import Passphrases
from spork.keys.ring import KeyRing
from spork.keys.software import SoftwareSigner
from spork.store.database import Database
from spork.store.private_key import KeyRecords
from spork.x509.algorithms import load_public_key
from spork.x509.der import CertificateTBS, KeyPurpose
from spork.x509.signatures import verify_signature

pytestmark = pytest.mark.store

OLD, NEW = b"the old passphrase", b"the new passphrase"
AUDIT = AuditEvent("key.generate", "host", "authority:tls")


async def ring_of(records: KeyRecords, *passphrases: bytes, create: bool = False) -> KeyRing:
    return await KeyRing.open(records, passphrases={"online": Passphrases(*passphrases)}, create=create)


async def some_keys(records: KeyRecords) -> list[KeyId]:
    ring = await ring_of(records, OLD, create=True)
    return [(await ring.generate("ecdsa-p256", KeyPurpose.CA, "online", AUDIT))[0] for _ in range(3)]


def works(signer: SoftwareSigner) -> bool:
    signature = signer.sign(CertificateTBS(b"tbs"))
    verify_signature(load_public_key(signer.spki), signer.algorithm, b"tbs", signature)
    return True


async def actions(database: Database) -> list[str]:
    cursor = await database.execute("SELECT action FROM audit_event ORDER BY id")
    return [row[0] for row in await cursor.fetchall()]


@pytest.mark.parametrize("algorithm", ["rsa-2048", "ecdsa-p521", "ed25519", "ml-dsa-87"])
async def test_a_stored_key_opens_in_another_process(database: Database, algorithm: str) -> None:
    ring = await ring_of(KeyRecords(database), OLD, create=True)
    key_id, spki = await ring.generate(algorithm, KeyPurpose.CA, "online", AUDIT)
    signer = await (await ring_of(KeyRecords(database), OLD)).signer(key_id)
    assert signer.spki == spki
    assert works(signer)
    assert await actions(database) == ["key.create-kek", "key.generate"]


async def test_wrong_passphrases_and_damaged_rows_are_told_apart(database: Database) -> None:
    records = KeyRecords(database)
    first, second, _ = await some_keys(records)
    with pytest.raises(SporkError) as caught:
        await ring_of(records, NEW)
    assert caught.value.code is Code.WRONG_PASSPHRASE
    ring = await ring_of(records, OLD)
    await database.execute(
        "UPDATE private_key SET ciphertext = set_byte(ciphertext, 20, get_byte(ciphertext, 20) # 1) WHERE id = %s",
        [first],
    )
    with pytest.raises(SporkError) as caught:
        await ring.signer(first)
    assert caught.value.code is Code.CORRUPTED_KEY
    # One row's contents over another's: both are sound, and neither opens in the other's place.
    await database.execute(
        "UPDATE private_key SET (wrapped_data_key, ciphertext, spki) = "
        "(SELECT wrapped_data_key, ciphertext, spki FROM private_key WHERE id = %s) WHERE id = %s",
        [second, first],
    )
    with pytest.raises(SporkError) as caught:
        await ring.signer(first)
    assert caught.value.code is Code.CORRUPTED_KEY
    assert works(await ring.signer(second))


@pytest.mark.parametrize("writes", [0, 1, 3, 4, 5])
async def test_a_rotation_killed_between_two_statements_goes_on(
    database: Database, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = KeyRecords(database)
    keys = await some_keys(records)
    ciphertexts = {key_id: (await records.key(key_id)).ciphertext for key_id in keys}
    left = [writes]

    def limited(name: str) -> None:
        original = getattr(KeyRecords, name)

        async def call(self: KeyRecords, *arguments: object) -> object:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return await original(self, *arguments)

        monkeypatch.setattr(KeyRecords, name, call)

    for name in ("add_kek", "rewrap", "drop_kek"):
        limited(name)
    try:
        await (await ring_of(records, NEW, OLD)).rewrap("online", actor="host")
    except Killed:
        assert writes < 5
    monkeypatch.undo()
    replica = await ring_of(records, NEW, OLD)
    for key_id in keys:
        assert works(await replica.signer(key_id))
    await (await ring_of(records, NEW, OLD)).rewrap("online", actor="host")
    assert [kek.active for kek in await records.keks()] == [True]
    after = await ring_of(records, NEW)
    for key_id in keys:
        assert works(await after.signer(key_id))
        assert (await records.key(key_id)).ciphertext == ciphertexts[key_id]
    assert (await actions(database)).count("key.rotate-passphrase") == 1
    assert (await actions(database)).count("key.drop-kek") == 1


async def test_the_database_refuses_weak_parameters_too(database: Database) -> None:
    records = KeyRecords(database)
    await some_keys(records)
    (kek,) = await records.keks()
    for change in ({"memory_kib": 1024}, {"iterations": 1}):
        with pytest.raises(Exception, match="check constraint"):
            await records.add_kek(replace(kek, kek_id="weak", **change))


# The commands


@pytest.fixture
def home(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("SPORK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SPORK_HOME", str(tmp_path))
    monkeypatch.setenv("SPORK_DATABASE_URL", database_url)
    write_passphrases(tmp_path, OLD)
    return tmp_path


def write_passphrases(home: Path, *passphrases: bytes) -> None:
    file = home / "passphrase"
    file.write_bytes(b"\n".join(passphrases) + b"\n")
    file.chmod(0o600)


def make_keys_in(url: str) -> None:
    async def work() -> None:
        database = await Database.open(url, min_size=1, max_size=2)
        try:
            await some_keys(KeyRecords(database))
        finally:
            await database.close()

    asyncio.run(work())


def test_keys_are_listed_without_a_passphrase_and_without_their_contents(
    home: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_keys_in(database_url)
    (home / "passphrase").unlink()
    assert run(["key", "list", "-o", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 3
    assert {(row["purpose"], row["algorithm"], row["kind"]) for row in rows} == {("ca", "ecdsa-p256", "online")}
    assert set(rows[0]) == {"id", "purpose", "algorithm", "kind", "authority", "kek", "spki_sha256"}


def test_the_command_rotates_with_a_file_of_two_lines(
    home: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_keys_in(database_url)
    assert run(["key", "rewrap", "--kind", "online"]) == 1
    assert "above the old one" in capsys.readouterr().err
    write_passphrases(home, NEW, OLD)
    assert run(["key", "rewrap", "--kind", "online"]) == 0
    said = capsys.readouterr().out
    assert "3 online keys" in said
    assert "second line" in said
    assert run(["key", "rewrap", "--kind", "online"]) == 0
    assert "nothing left" in capsys.readouterr().out
    write_passphrases(home, OLD)
    assert run(["key", "rewrap", "--kind", "online"]) == 1
    assert "does not open" in capsys.readouterr().err
    write_passphrases(home, NEW)
    assert run(["key", "rewrap", "--kind", "online"]) == 1
    assert "one line" in capsys.readouterr().err


def test_the_command_reports_the_module_and_claims_no_validation(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["key", "fips", "-o", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["validated"] is False
    assert report["policy_switch"] is True
    assert run(["key", "fips"]) == 0
    assert "not validated" in " ".join(capsys.readouterr().out.split())
