"""Durations as Go writes them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spork.controller.requests.durations import go_duration, in_hours


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2160h0m0s", 2160 * 3600),
        ("90m", 5400),
        ("1.5h", 5400),
        (".5h", 1800),
        ("1h30m15.9s", 5415),
        ("1500ms", 1),
        ("1s999999999ns", 1),
        ("0h10s", 10),
    ],
)
def test_a_duration_is_read_in_whole_seconds(text: str, seconds: int) -> None:
    assert go_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "h",
        "1d",
        "-1h",
        "+1h",
        "1 h",
        "1h ",
        "0s",
        "999ms",
        "1e3s",
        "1..5h",
        "٣h",
        "999999999999h",
        "1h" * 40,
        "9" * 1000 + "s",
        "1h\n",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        go_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(7776000, "2160h"), (5400, "1h30m"), (61, "0h1m1s"), (1, "0h1s")])
def test_it_is_written_in_hours_minutes_and_seconds(seconds: int, text: str) -> None:
    assert in_hours(timedelta(seconds=seconds)) == text
    assert go_duration(text) == timedelta(seconds=seconds)
