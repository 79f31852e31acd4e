"""Time as an argument: whoever needs the time is handed a clock, so that tests own it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Every datetime in SPORK is aware and UTC."""

    def now(self) -> datetime:
        """The current instant, UTC, with whole seconds: what certificates, CRLs and OCSP answers carry."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0)


class FixedClock:
    """A clock that stands until it is set: for tests and for reproducible output."""

    def __init__(self, now: datetime) -> None:
        self.current = now

    def now(self) -> datetime:
        return self.current
