"""Spans of time as people write them: `90d`, `12h`, `1y`, `2w`, `30m`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import click

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_SPAN = re.compile(r"([1-9][0-9]{0,5})([mhdwy])")


def seconds_of(text: str) -> int:
    """Seconds of a span. A year has 365 days. Raises ValueError with a sentence."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a span of time; write it as 90d, 12h, 2w or 1y")
    return int(match[1]) * _UNITS[match[2]]


class Span(click.ParamType[int]):
    """A span of time, converted to seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return seconds_of(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Instant(click.ParamType[datetime]):
    """An instant: RFC 3339, a date (its first second), or a span from now where the option says so. UTC if no zone is given."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            instant = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not an instant; write it as 2026-11-24 or 2026-11-24T12:00:00Z.", param, ctx)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
