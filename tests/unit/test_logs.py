"""What a logged failure shows, and what it must not."""

from __future__ import annotations

import json

import pytest
import structlog

from spork.cli.logs import configure_logging
from spork.settings import load_settings

SECRET = "a passphrase that nobody may read"


@pytest.fixture(autouse=True)
def _configuration_restored() -> object:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def fail_beside_a_secret() -> None:
    passphrases = (SECRET.encode(),)
    raise RuntimeError(f"failed with {len(passphrases)} of them")


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_logged_exception_shows_where_it_happened_and_no_local_variable(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(load_settings(None, {"SPORK_LOG_FORMAT": form}))
    try:
        fail_beside_a_secret()
    except RuntimeError:
        structlog.get_logger(f"spork.test.{form}").exception("a worker failed")
    shown = capsys.readouterr().err
    assert "fail_beside_a_secret" in shown
    assert "failed with 1 of them" in shown
    assert SECRET not in shown
    if form == "json":
        assert json.loads(shown)["event"] == "a worker failed"
