"""What commands print."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spork.cli.output import cell, json_text, show_list, yaml_text
from spork.cli.validity import Instant, seconds_of

_TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=15,
)


@given(_VALUES)
def test_any_yaml_reader_finds_the_same_data(data: Any) -> None:
    assert yaml.safe_load(yaml_text(data)) == data


@given(_VALUES)
def test_json_holds_the_same_data_and_nothing_that_steers_a_terminal(data: Any) -> None:
    text = json_text(data)
    assert json.loads(text) == data
    assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize(
    "word", ["yes", "NO", "null", "~", "1e3", "0x1", "2026-11-24", "12:30", "-", "a: b", "# a", "", " a", "=", "<<"]
)
def test_words_that_yaml_takes_for_something_else_stay_texts(word: str) -> None:
    assert yaml.safe_load(yaml_text({"k": word, word: [word]})) == {"k": word, word: [word]}


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in cell("\x1b[2Jhello")


def test_square_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_list([{"a": "[red]x[/red]"}], "table", [("A", lambda row: row["a"])])
    assert "[red]x[/red]" in capsys.readouterr().out


def test_an_empty_list_is_said_on_standard_error_and_is_an_array_for_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_list([], "table", [("A", str)], empty="None.")
    assert capsys.readouterr() == ("", "None.\n")
    show_list([], "json", [("A", str)])
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("12h", 43200), ("90d", 7776000), ("2w", 1209600), ("1Y", 31536000)]
)
def test_spans(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "d", "0d", "-1d", "1.5d", "1d1h", "\u0661d", "9999999d", "soon"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="span of time"):
        seconds_of(text)


def test_instants_without_a_zone_are_utc() -> None:
    assert Instant().convert("2026-11-24", None, None).isoformat() == "2026-11-24T00:00:00+00:00"
    assert Instant().convert("2026-11-24T12:00:00+02:00", None, None).isoformat() == "2026-11-24T10:00:00+00:00"
    with pytest.raises(click.BadParameter):
        Instant().convert("tomorrow", None, None)
