"""The vocabulary of conditions and events: each reason is defined once, used, and listed for people."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from spork.controller import reasons

PAGE = Path("docs/kubernetes.md").read_text("utf-8")
CONSTANTS = {name: value for name, value in vars(reasons).items() if isinstance(value, reasons.Reason)}


def test_no_reason_takes_the_place_of_another() -> None:
    module = ast.parse(Path(reasons.__file__).read_text("utf-8"))
    assigned = [
        target.id
        for statement in module.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    ]
    assert [name for name, times in Counter(assigned).items() if times > 1] == []


def test_every_reason_is_one_word_and_one_sentence() -> None:
    for one in CONSTANTS.values():
        assert re.fullmatch(r"[A-Z][A-Za-z]*", one.name), one
        assert re.fullmatch(r"[A-Z].*\.", one.sentence), one


def test_every_reason_is_used_by_a_reconciler() -> None:
    files = [file for file in Path("controller").rglob("*.py") if file.name != "reasons.py"]
    words = {word for file in files for word in re.findall(r"\b[A-Z][A-Z_]+\b", file.read_text("utf-8"))}
    assert set(CONSTANTS) - words == set()


def test_the_page_lists_every_reason_and_no_other() -> None:
    section = PAGE.partition("\n## Reasons\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| [^|]*\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)
    assert sorted(listed) == sorted((one.name, one.sentence) for one in CONSTANTS.values())
