"""What is wrong with a hierarchy file: all of it at once, one line each, with file, line, key and the nearest valid word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from spork.errors import ConfigurationError
from spork.hierarchy.positions import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault. `path` leads to the key that has to be changed."""

    path: Path
    sentence: str


@dataclass(slots=True)
class Problems:
    """Collects faults, so that one run shows them all."""

    found: list[Problem] = field(default_factory=list)

    def add(self, path: Path, sentence: str) -> None:
        self.found.append(Problem(path, sentence))

    def unknown(self, path: Path, what: str, word: str, known: Iterable[str]) -> None:
        """`word` is none of the known ones."""
        self.add(path, f"unknown {what} {word!r}{did_you_mean(word, known)}")


class HierarchyError(ConfigurationError):
    """A hierarchy file cannot be used. `lines` holds one sentence per fault, `detail` all of them."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest one, or all there are."""
    words = list(known)
    near = difflib.get_close_matches(word, words, 1) or difflib.get_close_matches(word.lower(), words, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(words)}." if words else "."


def key_text(path: Path) -> str:
    """A path as people write it: `policy_cas[0].issuing_cas[1].algorithm`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
