"""Where each key of a TOML text stands, so that an error can name its line.

`tomllib` keeps no positions. This scanner finds them in a text that `tomllib` has already accepted, which is why it may assume
well-formed input and stay small. It runs only when there is an error to report.
Source: TOML 1.0.0.
"""

from __future__ import annotations

import bisect
import re
import tomllib

Path = tuple[str | int, ...]
"""Keys and list indices from the top of a document, such as ("policy_cas", 0, "algorithm")."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)[ \t]*(\.?)""")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[^,\]}\n#]*")


def line_numbers(text: str) -> dict[Path, int]:
    """The line, from 1 on, of every table, key and list item of a valid TOML text."""
    return _Scanner(text).scan()


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of a path, or of the nearest thing around it that stands in the text; 1 if nothing does."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        self._skip_blank()
        while self._at < len(self._text):
            table = self._header() if self._text[self._at] == "[" else self._pair(table, table)
            self._skip_blank()
        return self._lines

    def _header(self) -> Path:
        start, double = self._at, self._text.startswith("[[", self._at)
        self._at += 2 if double else 1
        keys = self._dotted_key()
        self._at = self._text.index("]", self._at) + (2 if double else 1)
        path: Path = ()
        for key in keys[:-1]:
            path = self._inside((*path, key))
        path = (*path, keys[-1])
        if double:
            self._note(path, start)
            self._arrays[path] = self._arrays.get(path, 0) + 1
        path = self._inside(path)
        self._note(path, start)
        return path

    def _inside(self, path: Path) -> Path:
        """A name in a header that is an array of tables means the last table of that array."""
        return (*path, self._arrays[path] - 1) if path in self._arrays else path

    def _pair(self, table: Path, result: Path) -> Path:
        start = self._at
        path = table
        for key in self._dotted_key():
            path = (*path, key)
            self._note(path, start)
        self._at = self._text.index("=", self._at) + 1
        self._value(path)
        return result

    def _value(self, path: Path) -> None:
        self._skip_blank()
        self._note(path, self._at)
        match self._text[self._at : self._at + 1]:
            case "[":
                self._items("]", path)
            case "{":
                self._items("}", path)
            case '"' | "'":
                string = _STRING.match(self._text, self._at)
                self._at = string.end() if string else len(self._text)
            case _:
                bare = _BARE.match(self._text, self._at)
                self._at = bare.end() if bare else len(self._text)

    def _items(self, end: str, path: Path) -> None:
        self._at += 1
        index = 0
        self._skip_blank()
        while self._text[self._at : self._at + 1] not in (end, ""):
            if end == "]":
                self._value((*path, index))
            else:
                self._pair(path, path)
            index += 1
            self._skip_blank()
            if self._text[self._at : self._at + 1] == ",":
                self._at += 1
                self._skip_blank()
        self._at += 1

    def _dotted_key(self) -> list[str]:
        keys = []
        while found := _KEY.match(self._text, self._at):
            self._at = found.end()
            keys.append(_plain(found.group(1)))
            if not found.group(2):
                break
        return keys

    def _skip_blank(self) -> None:
        blank = _BLANK.match(self._text, self._at)
        self._at = blank.end() if blank else self._at

    def _note(self, path: Path, at: int) -> None:
        # A table may be opened again by a dotted key; the first place is where a reader looks.
        self._lines.setdefault(path, bisect.bisect_left(self._breaks, at) + 1)


def _plain(token: str) -> str:
    if token[0] == "'":
        return token[1:-1]
    return str(tomllib.loads(f"key = {token}")["key"]) if token[0] == '"' else token
