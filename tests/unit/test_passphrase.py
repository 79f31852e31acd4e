"""Where a passphrase may come from, and from where it may not."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest

from spork.errors import ConfigurationError
from spork.keys import passphrase as module
from spork.keys.passphrase import Passphrases, find_passphrases, prompt_passphrase, read_passphrases


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "current", "previous"),
    [
        pytest.param(b"new secret", b"new secret", None, id="one line without a newline"),
        pytest.param(b"new secret\n", b"new secret", None, id="one line"),
        pytest.param(b"new secret\nold secret\n", b"new secret", b"old secret", id="two lines"),
        pytest.param(b"new secret\nold secret", b"new secret", b"old secret", id="two lines without the last newline"),
        pytest.param(b"  spaces count \n", b"  spaces count ", None, id="spaces are part of it"),
        pytest.param("Schlüssel\n".encode(), "Schlüssel".encode(), None, id="letters beyond ASCII"),
        pytest.param(b"\xff\xfe\x80 raw\n", b"\xff\xfe\x80 raw", None, id="octets that are no UTF-8"),
        pytest.param(b"x" * 1024 + b"\n", b"x" * 1024, None, id="the longest"),
    ],
)
def test_a_file_holds_the_current_and_the_previous_passphrase(
    tmp_path: Path, content: bytes, current: bytes, previous: bytes | None
) -> None:
    path = written(tmp_path / "passphrase", content)
    assert read_passphrases(path) == Passphrases(current, previous, path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\n", id="only a newline"),
        pytest.param(b"secret\n\n", id="an empty second line"),
        pytest.param(b"\nsecret\n", id="an empty first line"),
        pytest.param(b"one\ntwo\nthree\n", id="three lines"),
        pytest.param(b"secret\r\n", id="a carriage return"),
        pytest.param(b"sec\0ret\n", id="a NUL"),
        pytest.param(b"x" * 1025, id="too long a line"),
        pytest.param(b"x" * 100_000, id="a file of 100 kB"),
    ],
)
def test_a_file_with_other_content_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError, match="passphrase"):
        read_passphrases(written(tmp_path / "passphrase", content))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o666, 0o610])
def test_a_file_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "passphrase", b"secret words\n", mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_passphrases(path)


def test_a_missing_file_a_folder_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, word in (("missing", "cannot be read"), (".", "regular file"), ("pipe", "regular file")):
        with pytest.raises(ConfigurationError, match=word):
            read_passphrases(tmp_path / name)


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "passphrase", b"secret words\n")
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(ConfigurationError, match="another user"):
        read_passphrases(path)


def test_a_systemd_credential_may_show_the_group_bits_of_its_access_control_list(tmp_path: Path) -> None:
    path = written(tmp_path / "spork-passphrase", b"secret words\n", 0o440)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert read_passphrases(path, environment=environment).current == b"secret words"
    path.chmod(0o460)
    with pytest.raises(ConfigurationError, match="0460"):
        read_passphrases(path, environment=environment)


def test_a_kubernetes_secret_volume_is_known_by_its_links(tmp_path: Path) -> None:
    stamped = tmp_path / "..2026_11_24"
    stamped.mkdir()
    written(stamped / "passphrase", b"secret words\n", 0o644)
    (tmp_path / "..data").symlink_to(stamped.name)
    (tmp_path / "passphrase").symlink_to("..data/passphrase")
    assert read_passphrases(tmp_path / "passphrase").current == b"secret words"
    elsewhere = written(tmp_path / "elsewhere", b"secret words\n", 0o644)
    (tmp_path / "stray").symlink_to(elsewhere)
    for path in (tmp_path / "stray", elsewhere):
        with pytest.raises(ConfigurationError, match="0644"):
            read_passphrases(path)


def test_the_credential_comes_before_the_file_and_the_file_before_the_terminal(tmp_path: Path) -> None:
    file = written(tmp_path / "file", b"from the file\n")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert find_passphrases("online", file, terminal=True, environment=environment).current == b"from the file"
    written(tmp_path / "spork-passphrase", b"from systemd\n", 0o400)
    assert find_passphrases("online", file, environment=environment).current == b"from systemd"
    assert find_passphrases("sealed", file, environment=environment).current == b"from the file"


def test_without_any_source_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing.*SPORK_SEALED_PASSPHRASE_FILE"):
        find_passphrases("sealed", tmp_path / "missing", environment={})


def test_the_value_of_a_variable_is_never_a_passphrase(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        find_passphrases("online", tmp_path / "missing", environment={"SPORK_PASSPHRASE": "secret words"})


def test_the_terminal_is_asked_only_when_that_was_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller, terminal = pty.openpty()
    with os.fdopen(terminal) as stdin, os.fdopen(controller):
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(module.getpass, "getpass", lambda prompt: "typed words")
        assert find_passphrases("online", None, terminal=True, environment={}).current == b"typed words"
        with pytest.raises(ConfigurationError):
            find_passphrases("online", tmp_path / "missing", environment={})


def test_a_repetition_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["first words", "other words", "", "same words", "same words"])
    monkeypatch.setattr(module.getpass, "getpass", lambda prompt: next(answers))
    with pytest.raises(ConfigurationError, match="differ"):
        prompt_passphrase("online", confirm=True)
    with pytest.raises(ConfigurationError, match="empty"):
        prompt_passphrase("online")
    assert prompt_passphrase("online", confirm=True).current == b"same words"


def test_the_text_of_passphrases_shows_none_of_them(tmp_path: Path) -> None:
    held = Passphrases(b"current words", b"previous words", tmp_path)
    assert "words" not in repr(held)


def test_a_file_is_read_again_and_typed_words_stay(tmp_path: Path) -> None:
    path = written(tmp_path / "passphrase", b"old secret\n")
    held = read_passphrases(path)
    written(path, b"new secret\nold secret\n")
    assert held.reread().candidates == (b"new secret", b"old secret")
    typed = Passphrases(b"typed words")
    assert typed.reread() is typed
