"""Which CA the command line talks to: options over variables over the context file."""

from __future__ import annotations

from pathlib import Path

import pytest

from spork.cli.context import ContextOptions, resolve, write_context
from spork.errors import ConfigurationError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("a.pem", "a.key", "ca.pem", "b.pem"):
        (tmp_path / name).write_text("x")
    return tmp_path


def _written(home: Path, **more: str) -> Path:
    return write_context(home, "https://localhost:8444", home / "a.pem", home / "a.key", home / "ca.pem", **more)


def test_what_was_written_is_resolved_from_any_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _written(home)
    assert "a.pem" in file.read_text()
    assert str(home) not in file.read_text()
    monkeypatch.chdir("/")
    found = resolve(ContextOptions(), {"SPORK_HOME": str(home)})
    assert (found.server, found.admin_cert, found.ca_file) == (
        "https://localhost:8444",
        home / "a.pem",
        home / "ca.pem",
    )
    assert resolve(ContextOptions(), {"SPORK_CONFIG": str(file)}) == found


def test_an_option_wins_over_the_file(home: Path) -> None:
    _written(home)
    found = resolve(
        ContextOptions(server="https://other/api/v1/", admin_cert=home / "b.pem"), {"SPORK_HOME": str(home)}
    )
    assert (found.server, found.admin_cert, found.admin_key) == ("https://other", home / "b.pem", home / "a.key")


def test_complete_options_need_no_file_and_trust_the_system(home: Path) -> None:
    (home / "context.toml").write_text("broken")
    options = ContextOptions(server="https://x", admin_cert=home / "a.pem", admin_key=home / "a.key")
    assert resolve(options, {"SPORK_HOME": str(home)}).ca_file is None


def test_writing_again_keeps_other_contexts_and_the_choice(home: Path) -> None:
    _written(home, name="one")
    file = _written(home, name='t"w\\o\n')
    assert file.read_text().startswith('current = "one"')
    assert resolve(ContextOptions(context='t"w\\o\n'), {"SPORK_HOME": str(home)}).server == "https://localhost:8444"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[contexts.a", "not valid TOML"),
        ("contexts = 1", "tables"),
        ("contexts.a = 1", "tables"),
        ('curent = "a"', "did you mean 'current'"),
        ('[contexts.a]\nadmin_crt = "x"', "did you mean 'admin_cert'"),
        ("[contexts.a]\nserver = 1", "a text is expected"),
        ('current = "b"\n[contexts.a]', "did you mean|it has a"),
        ('[contexts.a]\nserver = "http://localhost"\nadmin_cert = "a.pem"\nadmin_key = "a.key"', "https"),
        ('[contexts.a]\nserver = "https://"\nadmin_cert = "a.pem"\nadmin_key = "a.key"', "https"),
        ('[contexts.a]\nserver = "https://x"\nadmin_cert = "missing"\nadmin_key = "a.key"', "does not exist"),
        ('[contexts.a]\nserver = "https://x"\nadmin_key = "a.key"', "--admin-cert"),
        ("", "--server"),
    ],
)
def test_a_bad_file_is_explained(home: Path, content: str, words: str) -> None:
    (home / "context.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=words):
        resolve(ContextOptions(), {"SPORK_HOME": str(home)})


def test_a_missing_file_says_what_to_give(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="SPORK_SERVER"):
        resolve(ContextOptions(), {"SPORK_HOME": str(home)})
    with pytest.raises(ConfigurationError, match="no context file"):
        resolve(ContextOptions(context="a"), {"SPORK_HOME": str(home)})
