"""Durations as Go writes them (`2160h0m0s`, `90m`, `1.5h`), which cert-manager's fields and annotations have.

Source: Go time.ParseDuration.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

_UNITS = {"ns": "1e-9", "us": "1e-6", "µs": "1e-6", "μs": "1e-6", "ms": "1e-3", "s": "1", "m": "60", "h": "3600"}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ns|us|µs|μs|ms|s|m|h)")
_MAX_TEXT = 64
_MAX_SECONDS = 100 * 366 * 86400


def go_duration(text: str) -> timedelta:
    """The duration in whole seconds, rounded down. Raises ValueError for what is no duration, none at all, or beyond a century."""
    parts = _PART.findall(text)
    if len(text) > _MAX_TEXT or not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text[:_MAX_TEXT]!r} is not a duration such as 2160h or 1h30m")
    seconds = int(sum((Decimal(number) * Decimal(_UNITS[unit]) for number, unit in parts), Decimal()))
    if not 0 < seconds <= _MAX_SECONDS:
        raise ValueError(f"{text!r} is not between a second and a hundred years")
    return timedelta(seconds=seconds)


def in_hours(duration: timedelta) -> str:
    """The same in hours, minutes and seconds, as SPORK's own fields have it."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h" + (f"{minutes}m" if minutes else "") + (f"{seconds}s" if seconds else "")
