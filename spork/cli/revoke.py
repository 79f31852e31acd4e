"""`spork revoke`: revoke a certificate, put it on hold, or release it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from spork.cli.context import ContextOptions, context_options
from spork.cli.output import output_option
from spork.cli.validity import Instant

if TYPE_CHECKING:
    from datetime import datetime

# As RFC 5280 section 5.3.1 spells them; hold and release have options of their own.
REASONS = (
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
    "aACompromise",
)


@click.command()
@click.argument("certificate", metavar="[SERIAL|FILE]", required=False)
@click.option("--cert", "cert_option", metavar="SERIAL|FILE", help="The same as the argument.")
@click.option(
    "--reason",
    type=click.Choice([*REASONS, "certificateHold"], case_sensitive=False),
    help="Why, as RFC 5280 spells it; unspecified by default.",
)
@click.option("--hold", is_flag=True, help="Put it on hold, which can be released again.")
@click.option("--release", is_flag=True, help="Release it from hold.")
@click.option("--invalid-since", type=Instant(), metavar="INSTANT", help="Since when the key is not to be trusted.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
@context_options
def revoke(
    connection: ContextOptions,
    certificate: str | None,
    cert_option: str | None,
    reason: str | None,
    hold: bool,
    release: bool,
    invalid_since: datetime | None,
    yes: bool,
    output: str,
) -> None:
    """Revoke a certificate: by serial, by CA/SERIAL, or by its file.

    Revocation is final, but for --hold. OCSP says so within a second; the CRL follows on schedule, and at once for a compromise.
    """
    which = _one(certificate, cert_option)
    if hold + release + (reason is not None and reason.lower() != "certificatehold") > 1:
        raise click.UsageError("--hold, --release and --reason exclude each other.")
    if release and invalid_since is not None:
        raise click.UsageError("--invalid-since has no meaning with --release.")
    from spork.cli.client import connect
    from spork.cli.lookup import certificate_path, find

    body: dict[str, Any] = {
        "reason": "certificateHold" if hold else reason or "unspecified",
        "invalidityDate": invalid_since.isoformat() if invalid_since else None,
    }
    with connect(connection) as client:
        found = find(client, which)
        path = certificate_path(found)
        final = not release and body["reason"] != "certificateHold"
        if final and not yes and output == "table":
            _confirm(found)
        answer = client.post(f"{path}/release") if release else client.post(f"{path}/revoke", body)
    _report(found, answer, output)


def _one(argument: str | None, option: str | None) -> str:
    if (argument is None) == (option is None):
        raise click.UsageError("Name one certificate: a serial, CA/SERIAL, or a file.")
    return argument or option or ""


def _confirm(found: dict[str, Any]) -> None:
    """On a terminal, asks once. A script has said what it wants by running the command."""
    import sys

    if sys.stdin.isatty():
        name = found["subject"] or ", ".join(found["names"])
        click.confirm(f"Revoke {found['authority']}/{found['serial']} ({name}) for good?", abort=True, err=True)


def _report(found: dict[str, Any], answer: dict[str, Any], output: str) -> None:
    from spork.cli.output import show_data

    if output in ("json", "yaml"):
        show_data(answer, output)
        return
    done = {"revoked": "is revoked", "held": "is on hold", "issued": "is released and valid again"}
    name = found["subject"] or ", ".join(found["names"])
    click.echo(f"{answer['authority']}/{answer['serial']} ({name}) {done.get(answer['state'], answer['state'])}.")
