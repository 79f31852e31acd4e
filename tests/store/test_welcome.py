"""What `spork up` prints is true of the tree that it runs."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spork.bootstrap import ensure_management_ca
from spork.cli.welcome import certbot_command, welcome
from spork.clock import FixedClock
from spork.hierarchy.build import Workshop, build
from spork.hierarchy.load import load_text
from spork.keys.passphrase import Passphrases
from spork.services import wire
from spork.settings import load_settings
from spork.store.database import Database

pytestmark = pytest.mark.store

_TREE = """
[root]
common_name = "Root CA"
algorithm = "ecdsa-p384"
validity_years = 20
[[issuing_cas]]
common_name = "Issuing CA"
algorithm = "ecdsa-p256"
validity_years = 5
[[issuers]]
name = "one"
ca = "issuing-ca"
profiles = ["tls-server"]
"""


async def _printed(database: Database, home: Path, issuer: str, capsys: pytest.CaptureFixture[str]) -> str:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    passphrases = {kind: Passphrases(b"a passphrase for tests") for kind in ("online", "sealed")}
    services = await wire(load_settings(environment={}, home=home), database, passphrases, create=True, clock=clock)
    await ensure_management_ca(services)
    workshop = Workshop(
        services.authorities, services.keys, services.keys, services.pipeline, clock, services.settings.url_of_status()
    )
    hierarchy = load_text(_TREE + issuer)
    await build(hierarchy, workshop)
    await welcome(services, hierarchy)
    return capsys.readouterr().out


async def test_a_tree_without_acme_prints_no_certbot_command(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = await _printed(database, tmp_path, 'names.permit.dns = ["**.localhost"]\n', capsys)
    assert "Root CA is running" in printed
    assert "certbot" not in printed
    assert "ACME" not in printed


async def test_the_command_asks_for_a_name_that_the_issuer_permits(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = 'names.permit.dns = ["**.localhost"]\nprotocols.acme = { networks = ["127.0.0.0/8"] }\n'
    printed = await _printed(database, tmp_path, lines, capsys)
    assert "as it stands" in printed
    assert "-d hello.localhost" in printed
    assert "/acme/directory" in printed


async def test_the_command_leaves_the_name_open_where_the_example_is_not_permitted(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = await _printed(database, tmp_path, 'names.permit.dns = ["**.test"]\nprotocols.acme = {}\n', capsys)
    assert "-d NAME" in printed
    assert "hello.localhost" not in printed


def test_the_command_survives_a_home_with_a_space(tmp_path: Path) -> None:
    home = tmp_path / "my state"
    settings = load_settings(environment={}, home=home)
    command = certbot_command(settings, "https://ca.test/acme/directory", home / "trust" / "root.pem", "a.test")
    words = shlex.split(command.replace("\\\n", ""))
    assert words[0] == f"REQUESTS_CA_BUNDLE={home}/trust/root.pem"
    assert words[words.index("--config-dir") + 1] == f"{home}/certbot"


async def test_a_long_path_is_printed_whole(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / ("a-folder-with-a-long-name-" * 4)
    printed = await _printed(database, home, 'names.permit.dns = ["**.test"]\n', capsys)
    assert f"{home}/admin/superadmin.pem" in printed
