"""The list of blocked keys is read once, and one that cannot be read stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from spork.errors import ConfigurationError
from spork.services import _blocked_keys
from spork.settings import load_settings


def test_a_list_is_read_and_none_is_an_empty_one(tmp_path: Path) -> None:
    file = tmp_path / "blocked"
    file.write_text("# weak\n" + "0" * 20 + "\n" + "1" * 64 + "\n")
    assert _blocked_keys(file) == {"0" * 20, "1" * 64}
    assert _blocked_keys(None) == frozenset()
    assert load_settings(environment={"SPORK_BLOCKED_KEYS_FILE": str(file)}).blocked_keys_file == file


@pytest.mark.parametrize(
    "content", [b"nonsense\n", "0" * 19 + "\u00e9", b"\xff\xfe"], ids=["words", "letters", "octets"]
)
def test_a_list_that_cannot_be_read_is_no_empty_list(tmp_path: Path, content: bytes | str) -> None:
    file = tmp_path / "blocked"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigurationError, match="blocked"):
        _blocked_keys(file)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        _blocked_keys(tmp_path / "missing")
