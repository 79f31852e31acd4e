"""Tables of what was measured, and percentiles. Figures are printed, never asserted: machines differ."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table as wide as it needs to be, also where nobody watches."""
    table = Table(title=f"{title} ({os.cpu_count()} cores)", title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(width=160)
    console.print()
    console.print(table)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent of all do not exceed."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def each(seconds: float, count: int) -> str:
    """Milliseconds of each of `count` things."""
    return milliseconds(seconds / count) if count else "-"
