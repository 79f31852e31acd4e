"""Every link between the pages leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = (Path("README.md"), Path("CHANGELOG.md"), *sorted(Path("docs").rglob("*.md")))
_BLOCK = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z]+:")


def prose(page: Path) -> str:
    """The page without its blocks of code, in which neither headings nor links are meant."""
    return _BLOCK.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """What a link may name behind `#`, as GitHub and GitLab make it from headings; a repeated heading gets a number."""
    found: dict[str, int] = {}
    made = set()
    for heading in _HEADING.findall(prose(page)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        made.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return made


def dead_links(page: Path) -> list[str]:
    dead = []
    for link in _LINK.findall(prose(page)):
        if _ELSEWHERE.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_pages_that_are_named_in_words_are_there() -> None:
    named = {(page, name) for page in PAGES for name in re.findall(r"`(docs/[\w./-]+\.md)`", page.read_text("utf-8"))}
    assert {(page, name) for page, name in named if not Path(name).exists()} == set()


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `first` page\n[itself](#a-first-page) [away](https://example.com) [gone](gone.md) [no heading](#nowhere)\n"
        "```sh\necho '[in code](gone.md)'\n```\n"
    )
    assert dead_links(page) == ["gone.md", "#nowhere"]
