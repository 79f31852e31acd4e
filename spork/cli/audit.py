"""`spork audit`: read the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from spork.cli.context import ContextOptions, context_options
from spork.cli.output import output_option
from spork.cli.validity import Instant

if TYPE_CHECKING:
    from datetime import datetime


@click.group()
def audit() -> None:
    """Read the audit log."""


@audit.command(name="list")
@click.option("--actor", help="Who did it: host, admin:alice#1A2B, acme-account:17.")
@click.option("--action", help="certificate.issue, or a beginning that ends with a dot: certificate.")
@click.option("--subject", help="What it was done to: certificate:CA/SERIAL, authority:ID.")
@click.option("--since", type=Instant(), metavar="INSTANT", help="2026-11-24, or RFC 3339.")
@click.option("--until", type=Instant(), metavar="INSTANT", help="Exclusive.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many; newest first.")
@click.option("--all", "everything", is_flag=True, help="No limit.")
@output_option
@context_options
def list_events(
    connection: ContextOptions,
    output: str,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    everything: bool,
    **filters: str | None,
) -> None:
    """List events, newest first."""
    from spork.cli.client import connect
    from spork.cli.output import show_list, when

    parameters = {
        **filters,
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
    }
    with connect(connection) as client:
        items = list(client.pages("/audit", parameters, None if everything else limit))
    show_list(
        items,
        output,
        [
            ("ID", lambda e: e["id"]),
            ("WHEN", lambda e: when(e["at"])),
            ("ACTOR", lambda e: e["actor"]),
            ("ACTION", lambda e: e["action"]),
            ("SUBJECT", lambda e: e["subject"]),
        ],
        [("FROM", lambda e: e["address"]), ("DETAIL", lambda e: _detail(e["detail"]))],
        empty="No event fits.",
    )


def _detail(detail: dict[str, Any]) -> str:
    """The detail in one line: `profile=tls-server names=dns:a.test`."""
    return " ".join(f"{key}={_short(value)}" for key, value in detail.items() if value not in (None, [], {}))


def _short(value: Any) -> str:
    import json

    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
