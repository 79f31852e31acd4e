"""What commands print: tables for people, JSON and YAML for programs.

JSON and YAML are what the API answered, member for member; tables may change. Lists are one array.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

FORMATS: Final = ("table", "wide", "json", "yaml")
_Command = TypeVar("_Command", bound=Callable[..., Any])
_WHOLE: Final = frozenset({"SERIAL", "STATE", "EXPIRES", "WHEN", "ID"})
Column = tuple[str, Callable[[Mapping[str, Any]], Any]]
"""A heading, and what of an item stands below it."""


def output_option(command: _Command) -> _Command:
    """Adds `-o`; the command gets it as `output`."""
    return click.option(
        "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="Form of the output."
    )(command)


def show_list(
    items: Iterable[Mapping[str, Any]],
    output: str,
    columns: Sequence[Column],
    wide: Sequence[Column] = (),
    empty: str = "",
) -> None:
    """Prints a list. `wide` columns come last, and only with -o wide; `empty` is said on standard error."""
    rows = list(items)
    if output in ("json", "yaml"):
        show_data(rows, output)
        return
    if not rows:
        click.echo(empty or "Nothing found.", err=True)
        return
    shown = [*columns, *wide] if output == "wide" else list(columns)
    _print_table([heading for heading, _ in shown], [[cell(of(row)) for _, of in shown] for row in rows])


def show_fields(fields: Sequence[tuple[str, Any]]) -> None:
    """Prints one thing as labelled lines. Values of several lines are indented; None and empty ones are left out."""
    present = [(label, cell(value)) for label, value in fields]
    width = max((len(label) for label, text in present if text), default=0)
    for label, text in present:
        if text:
            first, *rest = text.splitlines()
            click.echo(f"{click.style(label.ljust(width), bold=True)}  {first}")
            for line in rest:
                click.echo(f"{' ' * width}  {line}")


def show_data(data: Any, output: str) -> None:
    """Prints JSON or YAML."""
    click.echo(json_text(data) if output == "json" else yaml_text(data), nl=output == "json")


def json_text(data: Any) -> str:
    """JSON with letters of every script as they are, and with escapes for what could steer a terminal."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def cell(value: Any) -> str:
    """A value as people read it. Control characters cannot steer the terminal."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return "\n".join(cell(item) for item in value)
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def instant(moment: datetime | None) -> str | None:
    """An instant to the second in UTC, as the API writes it: `2026-11-24T20:59:46Z` (RFC 3339)."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment is not None else None


def when(text: str | None) -> str:
    """An instant of the API, to the minute, UTC."""
    return "" if not text else f"{_instant(text):%Y-%m-%d %H:%M}Z"


def left(text: str | None) -> str:
    """How long until an instant of the API: `89d`, `5h`, `3m`, or `past`."""
    if not text:
        return ""
    seconds = int((_instant(text) - datetime.now(UTC)).total_seconds())
    if seconds < 0:
        return "past"
    for unit, size in (("d", 86400), ("h", 3600)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds // 60}m"


def expiry(text: str) -> str:
    """The date of an instant of the API with how long it is until then: `2027-02-22 (89d)`."""
    return f"{_instant(text):%Y-%m-%d} ({left(text)})"


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns without lines. On a terminal, long cells are folded to its width; in a pipe, nothing is cut."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for heading in headings:
        # What is copied from the screen must not be broken over lines.
        table.add_column(heading, overflow="fold", no_wrap=heading in _WHOLE)
    for row in rows:
        # Text objects, so that square brackets in a name are no markup.
        table.add_row(*(Text(text) for text in row))
    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    plain = io.StringIO()
    Console(file=plain, width=10_000, highlight=False).print(table)
    # Columns are padded to their width, the last one as well, which nobody wants in a pipe.
    click.echo("\n".join(line.rstrip() for line in plain.getvalue().splitlines()))


def yaml_text(data: Any) -> str:
    """YAML in block form. Strings are JSON strings where they could be taken for something else, so any YAML reader agrees."""
    return "\n".join(_yaml(data, 0)) + "\n"


def _yaml(data: Any, depth: int) -> list[str]:
    indent = "  " * depth
    if isinstance(data, Mapping) and data:
        lines = []
        for key, value in data.items():
            block = _yaml(value, depth + 1)
            inline = len(block) == 1 and not (isinstance(value, (Mapping, list)) and value)
            lines += (
                [f"{indent}{_scalar(str(key))}: {block[0].strip()}"]
                if inline
                else [f"{indent}{_scalar(str(key))}:", *block]
            )
        return lines
    if isinstance(data, list) and data:
        lines = []
        for item in data:
            first, *rest = _yaml(item, depth + 1)
            lines += [f"{indent}- {first[len(indent) + 2 :]}", *rest]
        return lines
    return [indent + _scalar(data)]


def _scalar(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    plain = value.replace("-", "").replace("_", "").replace(".", "").replace("/", "")
    # Words that YAML 1.1 takes for booleans or null, and what could be a number or a date, are quoted.
    ambiguous = value.lower() in ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
    if plain.isascii() and plain.isalnum() and value[0].isalpha() and not ambiguous:
        return value
    # YAML forbids some characters that JSON leaves as they are, and does not join surrogates, which JSON escapes with.
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in json.dumps(value, ensure_ascii=False))
