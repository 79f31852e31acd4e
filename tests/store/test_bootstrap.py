"""First start: the management CA and the first administrator, whole after a kill at any step."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

import spork.bootstrap
from spork.bootstrap import FirstAdministrator, ensure_first_admin, ensure_management_ca, issue_admin
from spork.clock import FixedClock
from spork.errors import ConfigurationError, SporkError
from spork.ids import MANAGEMENT_AUTHORITY
from spork.keys.ephemeral import EphemeralKey
from spork.keys.passphrase import Passphrases
from spork.keys.ring import KeyRing
from spork.policy.levels import AdminLevel, level_of
from spork.services import Services, wire
from spork.settings import load_settings
from spork.store.authority import Authorities
from spork.store.certificate import CertificateLedger
from spork.store.certificate_search import CertificateFilter, CertificateRecords
from spork.store.database import Database
from spork.x509.der import KeyPurpose

pytestmark = pytest.mark.store


class Killed(BaseException):
    """What a test raises where a process would be killed."""


async def _services(database: Database, home: Path) -> Services:
    """A fresh process on the same database."""
    settings = load_settings(environment={}, home=home)
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    passphrases = {"online": Passphrases(b"a passphrase for tests")}
    return await wire(settings, database, passphrases, create=True, clock=clock)


async def _start(database: Database, home: Path) -> FirstAdministrator:
    services = await _services(database, home)
    await ensure_management_ca(services)
    return await ensure_first_admin(services, home)


async def _certificates(database: Database, home: Path, **wanted: Any) -> list[Any]:
    services = await _services(database, home)
    found = await CertificateRecords(database).search(CertificateFilter(**wanted), services.clock.now())
    return list(found)


async def test_the_management_ca_signs_itself_and_nothing_but_leaves(database: Database, tmp_path: Path) -> None:
    authority = await ensure_management_ca(await _services(database, tmp_path))
    certificate = authority.certificate
    assert certificate is not None
    certificate.verify_directly_issued_by(certificate)
    assert certificate.subject.rfc4514_string().startswith("CN=SPORK Management CA ")
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert 3649 <= (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days <= 3650


async def test_a_second_start_makes_nothing_new(database: Database, tmp_path: Path) -> None:
    first = await _start(database, tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "admin").iterdir()}
    second = await _start(database, tmp_path)
    assert (first.made, second.made) == (True, False)
    assert {path: path.read_bytes() for path in (tmp_path / "admin").iterdir()} == before
    assert len(await _certificates(database, tmp_path, authority_id="management")) == 2


async def test_the_files_fit_together_and_only_the_owner_reads_the_keys(database: Database, tmp_path: Path) -> None:
    files = await _start(database, tmp_path)
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    key = load_pem_private_key(files.key.read_bytes(), None)
    assert key.public_key() == certificate.public_key()
    assert level_of(certificate, "1.3.6.1.4.1.56266.1") is AdminLevel.SUPERADMIN
    password = files.p12_password.read_text().strip().encode()
    p12_key, p12_certificate, above = pkcs12.load_key_and_certificates(files.p12.read_bytes(), password)
    assert p12_key is not None
    assert p12_certificate == certificate
    assert len(above) == 1
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in (tmp_path / "admin").iterdir()}
    assert modes == {".pem": 0o644, ".key": 0o600, ".p12": 0o600, ".password": 0o600}
    assert (tmp_path / "admin").stat().st_mode & 0o777 == 0o700


# Each step with the number of its calls in a whole first start.
_STEPS: list[tuple[Any, str, int]] = [
    (KeyRing, "generate", 1),
    (Authorities, "create_authority", 1),
    (CertificateLedger, "reserve", 2),
    (CertificateLedger, "record", 2),
    (Authorities, "set_certificate", 1),
    (spork.bootstrap, "write_atomically", 4),
]
_KILLS = [(where, name, call) for where, name, calls in _STEPS for call in range(1, calls + 1)]


def _kill(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, call: int, after: bool) -> None:
    """Makes the n-th call of a step end the process, before it did anything or after it did all."""
    real = getattr(where, name)
    calls = 0

    async def awaited(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise Killed
        result = await real(*arguments, **named)
        if calls == call:
            raise Killed
        return result

    def plain(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise Killed
        result = real(*arguments, **named)
        if calls == call:
            raise Killed
        return result

    monkeypatch.setattr(where, name, plain if where is spork.bootstrap else awaited)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("where", "name", "call"), _KILLS, ids=[f"{name} {call}" for _, name, call in _KILLS])
async def test_a_kill_at_any_step_leaves_what_the_next_start_completes(
    database: Database, tmp_path: Path, where: Any, name: str, call: int, after: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _kill(patch, where, name, call, after)
        with pytest.raises(Killed):
            await _start(database, tmp_path)
    # A lease of the killed process would hold the next one up for a minute; it has run out here.
    await database.execute("UPDATE certificate SET lease_until = now() - interval '1 second' WHERE state = 'reserved'")
    files = await _start(database, tmp_path)
    assert not list((tmp_path / "admin").glob(".*")), "no temporary file stays"
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert load_pem_private_key(files.key.read_bytes(), None).public_key() == certificate.public_key()
    assert files.p12.exists()
    issued = await _certificates(database, tmp_path, authority_id="management", state="issued")
    assert sorted(row.profile for row in issued) == ["admin-superadmin", "root"]
    keys = await (await database.execute("SELECT count(*) FROM private_key")).fetchone()
    assert keys == (1,)


async def test_the_administrator_is_not_made_again_once_the_files_were_taken_away(
    database: Database, tmp_path: Path
) -> None:
    files = await _start(database, tmp_path)
    for path in (files.certificate, files.key, files.p12, files.p12_password):
        path.unlink()
    again = await _start(database, tmp_path)
    assert not again.made
    assert not again.certificate.exists()
    assert len(await _certificates(database, tmp_path, profile="admin-superadmin")) == 1


async def test_a_lost_certificate_file_is_written_again_from_the_record(database: Database, tmp_path: Path) -> None:
    files = await _start(database, tmp_path)
    before = files.certificate.read_bytes()
    files.certificate.unlink()
    assert (await _start(database, tmp_path)).certificate.read_bytes() == before


async def test_a_broken_key_file_is_explained_and_kept(database: Database, tmp_path: Path) -> None:
    (tmp_path / "admin").mkdir()
    (tmp_path / "admin" / "superadmin.key").write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match="move it away"):
        await _start(database, tmp_path)
    assert (tmp_path / "admin" / "superadmin.key").read_bytes() == b"nothing"


async def test_one_key_is_no_two_administrators(database: Database, tmp_path: Path) -> None:
    services = await _services(database, tmp_path)
    await ensure_management_ca(services)
    key = EphemeralKey.generate("ecdsa-p256", KeyPurpose.ADMIN)
    first = await issue_admin(services, level=AdminLevel.VIEWER, name="a", spki=key.spki)
    assert await issue_admin(services, level=AdminLevel.VIEWER, name="a", spki=key.spki) == first
    with pytest.raises(SporkError, match="conflict"):
        await issue_admin(services, level=AdminLevel.ADMIN, name="a", spki=key.spki)


async def test_without_a_management_ca_there_are_no_administrators(database: Database, tmp_path: Path) -> None:
    services = await _services(database, tmp_path)
    key = EphemeralKey.generate("ecdsa-p256", KeyPurpose.ADMIN)
    with pytest.raises(SporkError, match="notFound"):
        await issue_admin(services, level=AdminLevel.VIEWER, name="a", spki=key.spki)
    assert MANAGEMENT_AUTHORITY not in {authority.id for authority in await services.authorities.all()}
