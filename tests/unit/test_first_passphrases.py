"""The passphrases that a first start makes: whole after a kill at any point, and never beside what a person brought."""

from __future__ import annotations

from pathlib import Path

import pytest

from spork.cli import first_start
from spork.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return load_settings(None, {"SPORK_HOME": str(tmp_path / "home")})


def names(settings: Settings) -> set[str]:
    return {file.name for file in settings.home.iterdir()} if settings.home.exists() else set()


def test_a_start_that_was_killed_between_the_two_files_is_gone_on_with(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = first_start.write_atomically, []

    def killed_after_the_first(path: Path, *arguments: object, **more: object) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(first_start, "write_atomically", killed_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        first_start.make_passphrases(settings)
    kept = written[0].read_bytes()
    monkeypatch.setattr(first_start, "write_atomically", write)
    first_start.make_passphrases(settings)
    assert names(settings) == {"passphrase", "sealed-passphrase"}
    assert written[0].read_bytes() == kept


def test_a_second_start_changes_nothing(settings: Settings) -> None:
    first_start.make_passphrases(settings)
    before = {file: file.read_bytes() for file in settings.home.iterdir()}
    first_start.make_passphrases(settings)
    assert {file: file.read_bytes() for file in settings.home.iterdir()} == before


def test_nothing_is_made_beside_a_passphrase_that_a_person_brought(settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / "passphrase").write_text("brought by a person\n")
    first_start.make_passphrases(settings)
    assert names(settings) == {"passphrase"}


def test_nothing_is_made_where_there_is_a_database(settings: Settings) -> None:
    (settings.home / "postgres").mkdir(parents=True)
    first_start.make_passphrases(settings)
    assert names(settings) == {"postgres"}
