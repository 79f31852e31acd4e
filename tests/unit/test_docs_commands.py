"""Each `spork …` that the pages show is a command with these options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from spork.cli.main import cli

PAGES = (Path("README.md"), Path("CHANGELOG.md"), *sorted(Path("docs").rglob("*.md")))
_IN_WORDS = re.compile(r"`(spork [^`\n]+)`")
_IN_BLOCK = re.compile(r"^ *(?:\$ )?(?:[^\n]*\| |[A-Z_]+=\S* )?(spork [a-z][^\n]*)$", re.MULTILINE)
_BLOCK = re.compile(r"^```\w*\n(.*?)^```|^((?:    [^\n]*\n)+)", re.MULTILINE | re.DOTALL)
_END = re.compile(r"\s(?:#|>|2>|<|\||&|\|\|)\s?|;|\s·\s")
_OPTION = re.compile(r"\[?(-[a-zA-Z]|--[a-z][a-z0-9-]*)(?:=.*)?\]?")


def shown(page: Path) -> Iterator[str]:
    """The command lines of a page, each up to its first redirection, pipe or comment."""
    text = page.read_text("utf-8")
    yield from (_END.split(line)[0] for line in _IN_WORDS.findall(text))
    for fenced, indented in _BLOCK.findall(text):
        block = (fenced or indented).replace("\\\n", " ")
        yield from (_END.split(line)[0] for line in _IN_BLOCK.findall(block))


def fault(line: str) -> str | None:
    """What of the command line does not exist."""
    command: click.Command = cli
    context = click.Context(cli)
    words = line.split()[1:]
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        found = command.get_command(context, words[0])
        if found is None:
            return f"{words[0]} is no command"
        command, words = found, words[1:]
        context = click.Context(command, parent=context)
    known = {"--help", "-h"}
    for one in command.params:
        if isinstance(one, click.Option):
            known |= {*one.opts, *one.secondary_opts}
    return next(
        (f"{m[1]} is no option" for word in words if (m := _OPTION.fullmatch(word)) and m[1] not in known), None
    )


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_command_line_of_a_page_can_be_typed(page: Path) -> None:
    assert {line: why for line in shown(page) if (why := fault(line)) is not None} == {}


def test_the_pages_show_command_lines() -> None:
    assert len({line for page in PAGES for line in shown(page)}) > 80


@pytest.mark.parametrize(
    ("line", "why"),
    [
        pytest.param("spork pki work --sealed --once", None, id="one that exists"),
        pytest.param("spork pki wrok --sealed", "wrok is no command", id="a misspelt command"),
        pytest.param("spork controller --kubeconfg x", "--kubeconfg is no option", id="a misspelt option"),
        pytest.param("spork get -q", "-q is no option", id="an unknown letter"),
    ],
)
def test_what_does_not_exist_is_found(line: str, why: str | None) -> None:
    assert fault(line) == why
