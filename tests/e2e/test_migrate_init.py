"""What an installation on a database of its own starts with: `spork migrate --init`, then any number of `spork serve`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.running import SPORK, RunningCA
from tests.postgres import PostgresServer

pytestmark = [pytest.mark.e2e, pytest.mark.store]


def test_a_new_database_is_initialised_once_and_then_served(postgres_server: PostgresServer, tmp_path: Path) -> None:
    url = postgres_server.create("spork_migrate_init")
    passphrase = tmp_path / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text("only for this test\n")
    ca = RunningCA(
        tmp_path / "home",
        extra={"SPORK_DATABASE_URL": url, "SPORK_PASSPHRASE_FILE": str(passphrase)},
        command=[*SPORK, "serve"],
        arguments=[],
    )

    def spork(*arguments: str, **more: str) -> tuple[int, str]:
        done = replace(ca, extra={**ca.extra, **more}).spork(*arguments, check=False)
        return done.returncode, done.stdout + done.stderr

    try:
        assert spork("migrate")[0] == 0
        too_early = spork("serve")
        no_passphrase = spork("migrate", "--init", SPORK_PASSPHRASE_FILE=str(tmp_path / "absent"))
        first, second = spork("migrate", "--init"), spork("migrate", "--init")
        ca.start()

        assert too_early[0] != 0
        assert "spork migrate --init" in too_early[1]
        assert "Traceback" not in too_early[1]
        assert no_passphrase[0] != 0
        assert "absent" in no_passphrase[1]
        assert (first[0], "The management CA was made" in first[1]) == (0, True)
        assert (second[0], "The management CA is there" in second[1]) == (0, True)
    finally:
        ca.discard()
        postgres_server.drop("spork_migrate_init")
