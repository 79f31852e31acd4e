"""`spork pki work` on a real database: what the operator left is done where the keys are."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from status_world import PASSPHRASES
from store_builders import one
from x509_world import a_signer

from spork.cli.main import run
from spork.clock import SystemClock
from spork.hierarchy.build import make_plan
from spork.hierarchy.load import load_declaration
from spork.hierarchy.snapshot import declared_snapshot
from spork.ids import new_serial
from spork.services import Services, wire
from spork.settings import Settings
from spork.store.database import OPERATOR_ROLE, Database
from spork.x509.der import sign
from spork.x509.profiles import profile_named
from spork.x509.template import build_tbs

pytestmark = pytest.mark.store

TREE = """
[root]
common_name = "Worked Root CA"
algorithm = "ecdsa-p256"
validity_years = 10

[[issuing_cas]]
id = "web"
common_name = "Worked Web CA"
algorithm = "ecdsa-p256"
validity_years = 5
"""
SUBJECT = "Hierarchy/tree"


@pytest.fixture
def home(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, kind in (("passphrase", "online"), ("sealed-passphrase", "sealed")):
        (tmp_path / name).write_bytes(PASSPHRASES[kind].current)
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("SPORK_HOME", str(tmp_path))
    monkeypatch.setenv("SPORK_DATABASE_URL", database_url)
    return tmp_path


async def work(*options: str) -> int:
    """In a thread of its own, because it runs an event loop of its own."""
    return await asyncio.to_thread(run, ["pki", "work", "--once", *options])


async def an_operator(database: Database) -> Services:
    settings = Settings(status_url="http://127.0.0.1:8080")
    return await wire(settings, database, {}, clock=SystemClock())


@pytest.fixture
async def operator(database: Database) -> Services:
    return await an_operator(database)


async def asked(operator: Services, text: str = TREE, plan_hash: str | None = None) -> None:
    values = tomllib.loads(text)
    plan = await make_plan(load_declaration(values, SUBJECT), operator.workshop)
    await operator.building.request(
        values, plan_hash or plan.hash, approve=False, actor="hierarchy:tree", sealed=True, subject=SUBJECT
    )


async def test_where_nothing_is_left_it_ends_well(home: Path) -> None:
    assert await work("--sealed") == 0


async def test_a_tree_is_built_by_the_keys_of_this_host_with_its_progress_and_its_crls(
    home: Path, operator: Services, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    await asked(operator)
    assert await work("--sealed") == 0
    said = capsys.readouterr().err
    assert "worked-root-ca: signing its certificate" in said
    assert f"{SUBJECT}: done" in said
    assert await operator.building.state(SUBJECT) is None
    assert await one(database, "SELECT count(*) FROM crl WHERE der IS NOT NULL") == (2,)


async def test_without_the_sealed_keys_it_leaves_what_needs_them(
    home: Path, operator: Services, database: Database
) -> None:
    await asked(operator)
    (home / "sealed-passphrase").unlink()
    assert await work() == 0
    state = await operator.building.state(SUBJECT)
    assert state is not None
    assert (state.pending, state.last_error) == (True, None)


async def test_a_plan_that_failed_is_told_by_the_exit_code(
    home: Path, operator: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    await asked(operator, plan_hash="0" * 64)
    assert await work("--sealed") == 1
    assert "The plan has changed since it was asked for" in capsys.readouterr().err


OFFLINE = TREE.replace("[root]", '[root]\nkey_mode = "offline"')


def signed_elsewhere() -> str:
    """The certificate of the offline root, made with its own key."""
    declared, signer, now = (
        load_declaration(tomllib.loads(OFFLINE), SUBJECT).authorities[0],
        a_signer(),
        SystemClock().now(),
    )
    authority = declared_snapshot(
        declared, generation=1, key_id=None, spki=signer.spki, certificate=None, chain=(),
        urls=declared.urls_of(1, "http://127.0.0.1:8080"),
    )  # fmt: skip
    tbs = build_tbs(
        profile=profile_named("root"), authority=authority, subject=declared.subject, names=(), spki=signer.spki,
        serial=new_serial(), not_before=now, not_after=declared.validity.end(now), signature=signer.algorithm,
        constraints=declared.constraints,
    )  # fmt: skip
    return x509.load_der_x509_certificate(sign(tbs, signer)).public_bytes(Encoding.PEM).decode()


async def test_a_root_that_was_signed_elsewhere_is_taken_in_by_a_job(home: Path, database: Database) -> None:
    login = await Database.open(database.url, min_size=1, max_size=2, role=OPERATOR_ROLE)
    try:
        operator, pem = await an_operator(login), signed_elsewhere()
        await operator.building.take_in(
            tomllib.loads(OFFLINE), pem, kind="certificate", actor="hierarchy:tree", subject=SUBJECT
        )
        assert await work() == 0
        assert await operator.building.import_state(SUBJECT, pem) is None
        (root,) = (await operator.authorities.read_tree()).authorities.values()
        assert root.current is not None
        assert root.current.certificate_der is not None
    finally:
        await login.close()
    event = "SELECT actor, detail ->> 'origin' FROM audit_event WHERE action = 'authority.certify'"
    assert await one(database, event) == ("hierarchy:tree", "import")


async def test_a_text_that_is_no_certificate_stays_refused_with_a_sentence(home: Path, operator: Services) -> None:
    for _ in range(2):
        await operator.building.take_in(
            tomllib.loads(TREE), "nothing", kind="certificate", actor="hierarchy:tree", subject=SUBJECT
        )
        await work()
        state = await operator.building.import_state(SUBJECT, "nothing")
        assert state is not None
        assert (state.pending, state.last_error) == (False, "The file holds no PEM certificate.")
