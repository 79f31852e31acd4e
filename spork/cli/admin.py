"""`spork admin`: issue, list and revoke administrators, and one-time tokens for enrolment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from spork.cli.context import ContextOptions, context_options
from spork.cli.output import output_option
from spork.cli.validity import Span

FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
LEVELS = ("viewer", "operator", "admin", "superadmin")


@click.group()
def admin() -> None:
    """Issue, list and revoke administrators, and tokens for enrolment."""


@admin.command()
@click.argument("name")
@click.option("--level", type=click.Choice(LEVELS), required=True, help="What the administrator may do.")
@click.option("--issuer", "issuers", multiple=True, metavar="LABEL", help="Limit to this issuer; repeatable.")
@click.option("--algorithm", default="ecdsa-p256", show_default=True, help="Of the new key.")
@click.option("--validity", type=Span(), metavar="SPAN", help="30d, 1y; 90d by default.")
@click.option("--csr", type=EXISTING, help="Use this request; the key then is elsewhere, and no .p12 is made.")
@click.option("--out", type=FILE, help="Certificate file; .key and .p12 stand beside it. Default: NAME.pem.")
@click.option("--p12/--no-p12", default=True, show_default=True, help="Whether to write a PKCS#12 file for browsers.")
@click.option("--p12-password-file", type=EXISTING, help="First line is its password; asked for otherwise.")
@click.option("--passphrase", is_flag=True, help="Encrypt the .key file, too, under a passphrase that is asked for.")
@click.option("--local", is_flag=True, help="Break glass: on this host's database and passphrase, without the API.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@output_option
@context_options
def issue(connection: ContextOptions, **options: Any) -> None:
    """Make the administrator NAME: key, certificate, and a PKCS#12 file for browsers.

    The private key is made here. With --local the certificate comes straight from this host's database, for when no administrator
    can get in any more; the audit log says so.
    """
    from spork.cli.administrators import AdminOptions, issue_administrator

    issue_administrator(connection, AdminOptions(**options))


@admin.command(name="list")
@click.option("--state", type=click.Choice(["issued", "revoked", "held", "expired"]))
@output_option
@context_options
def list_administrators(connection: ContextOptions, state: str | None, output: str) -> None:
    """List administrators, newest first."""
    from spork.cli.client import connect
    from spork.cli.output import expiry, show_list, when

    with connect(connection) as client:
        items = list(client.pages("/admins", {"state": state}, None))
    show_list(
        items,
        output,
        [
            ("NAME", lambda a: a["name"]),
            ("LEVEL", lambda a: a["level"]),
            ("STATE", lambda a: a["state"]),
            ("ISSUERS", lambda a: "all" if a["issuers"] is None else ", ".join(a["issuers"]) or "none"),
            ("EXPIRES", lambda a: expiry(a["notAfter"])),
            ("SERIAL", lambda a: a["serial"]),
        ],
        [("MADE BY", lambda a: a["requester"]), ("SINCE", lambda a: when(a["notBefore"]))],
        empty="There are no administrators in that state.",
    )


@admin.command()
@click.argument("administrator", metavar="SERIAL|FILE")
@click.option(
    "--reason",
    type=click.Choice(["unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation",
                       "privilegeWithdrawn"], case_sensitive=False),
    default="unspecified",
    show_default=True,
)  # fmt: skip
@click.option("--hold", is_flag=True, help="Put the certificate on hold; spork revoke --release ends that.")
@output_option
@context_options
def revoke(connection: ContextOptions, administrator: str, reason: str, hold: bool, output: str) -> None:
    """Revoke an administrator. The next request with that certificate is refused."""
    from spork.cli.administrators import serial_of
    from spork.cli.client import connect, path_segment
    from spork.cli.output import show_data

    with connect(connection) as client:
        path = f"/admins/{path_segment(serial_of(administrator))}/revoke"
        answer = client.post(path, {"reason": "certificateHold" if hold else reason})
    if output in ("json", "yaml"):
        show_data(answer, output)
    else:
        click.echo(f"The administrator {answer['serial']} is {'on hold' if answer['state'] == 'held' else 'revoked'}.")


@admin.group()
def token() -> None:
    """Make, list and revoke one-time tokens for enrolment."""


@token.command()
@click.option(
    "--issuer", required=True, metavar="LABEL", help="Issuer that will issue; its door for tokens must be open."
)
@click.option("--name", "names", multiple=True, required=True, metavar="NAME",
              help="A name of the certificate: example.com, or kind:value; repeatable.")  # fmt: skip
@click.option("--type", "--profile", "profile", metavar="PROFILE", help="The issuer's first by default.")
@click.option("--ttl", type=Span(), default="1h", show_default=True, metavar="SPAN", help="How long it can be used.")
@click.option("--validity", type=Span(), metavar="SPAN", help="Longest validity of the certificate.")
@click.option("--note", metavar="TEXT", help="For people: what it is for.")
@click.option("--out", type=FILE, help="Where the token goes, mode 0600; standard output by default.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@output_option
@context_options
def create(connection: ContextOptions, **options: Any) -> None:
    """Make a token that one certificate can be had with. It is shown this once."""
    from spork.cli.enrolment import TokenOptions, create_token

    create_token(connection, TokenOptions(**options))


@token.command(name="list")
@click.option("--issuer", metavar="LABEL")
@output_option
@context_options
def list_tokens(connection: ContextOptions, issuer: str | None, output: str) -> None:
    """List one-time tokens, newest first."""
    from spork.cli.client import connect
    from spork.cli.output import expiry, show_list, when

    with connect(connection) as client:
        items = list(client.pages("/enrolment-tokens", {"issuer": issuer}, None))
    show_list(
        items,
        output,
        [
            ("ID", lambda t: t["id"]),
            ("STATE", lambda t: t["state"]),
            ("ISSUER", lambda t: t["issuer"] or ""),
            ("NAMES", lambda t: ", ".join(t["names"])),
            ("EXPIRES", lambda t: expiry(t["expiresAt"])),
            ("NOTE", lambda t: t["note"]),
        ],
        [
            ("PROFILE", lambda t: t["profile"]),
            ("MADE BY", lambda t: t["madeBy"]),
            ("USED", lambda t: f"{when(t['usedAt'])} from {t['usedFrom']}" if t["usedAt"] else ""),
        ],
        empty="There are no tokens.",
    )


@token.command(name="revoke")
@click.argument("token_id", metavar="ID")
@output_option
@context_options
def revoke_token(connection: ContextOptions, token_id: str, output: str) -> None:
    """Revoke a one-time token by its ID. What it brought forth stays valid."""
    from spork.cli.client import connect, path_segment
    from spork.cli.output import show_data

    with connect(connection) as client:
        answer = client.post(f"/enrolment-tokens/{path_segment(token_id)}/revoke")
    if output in ("json", "yaml"):
        show_data(answer, output)
    else:
        click.echo(f"The token {answer['id']} is {answer['state']}.")
