"""`spork cert`: issue, list, show, export and renew certificates over the administration API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spork.cli.context import ContextOptions, context_options
from spork.cli.output import output_option
from spork.cli.validity import Instant, Span

if TYPE_CHECKING:
    from datetime import datetime

FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
_OF_FILES = ("csr", "reuse_key", "validity", "out", "key_file", "passphrase", "passphrase_file")
STATES = ("reserved", "issued", "abandoned", "revoked", "held", "expired")


@click.group()
def cert() -> None:
    """Issue, enrol, list, show, export and renew certificates."""


@cert.command()
@click.option("--issuer", metavar="LABEL", help="Issuer to ask; the default one if neither it nor --ca is given.")
@click.option("--ca", metavar="NAME", help="Instead: id or common name of the CA.")
@click.option("--type", "--profile", "profile", metavar="PROFILE", help="tls-server, tls-client, email, device, ...")
@click.option(
    "--cn", metavar="NAME", help="Common name; a DNS name or address also becomes a subject alternative name."
)
@click.option("--subject", metavar="DN", help="Instead of --cn: the whole subject, as CN=...,O=...,C=...")
@click.option(
    "--san", multiple=True, metavar="NAME", help="example.com, 192.0.2.1, a@example.com, or kind:value; repeatable."
)
@click.option(
    "--algorithm", default="ecdsa-p256", show_default=True, help="Of the new key: rsa-3072, ecdsa-p384, ml-dsa-65, ..."
)
@click.option("--validity", type=Span(), metavar="SPAN", help="90d, 12h, 1y; the profile's by default.")
@click.option("--csr", type=EXISTING, help="Use this request (PEM or DER) instead of making a key.")
@click.option(
    "--out", type=FILE, help="Where the certificate and its chain go. Default: named after the subject, .pem."
)
@click.option(
    "--key", "key_file", type=FILE, help="Where the private key goes, mode 0600. Default: as --out, with .key."
)
@click.option("--no-chain", is_flag=True, help="Write the certificate alone.")
@click.option("--passphrase", is_flag=True, help="Encrypt the private key; the passphrase is asked for.")
@click.option("--passphrase-file", type=EXISTING, help="Encrypt the private key with the first line of this file.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@click.option("--dry-run", is_flag=True, help="Ask policy only, and show the verdict of each rule.")
@output_option
@context_options
def issue(connection: ContextOptions, **options: Any) -> None:
    """Issue a certificate. The private key is made here and never leaves this machine."""
    from spork.cli.issuing import IssueOptions, issue_certificate

    issue_certificate(connection, IssueOptions(**options))


@cert.command()
@click.option(
    "--token-file",
    required=True,
    metavar="FILE",
    help="First line is a one-time token or a ServiceAccount's token; - reads standard input.",
)
@click.option("--issuer", required=True, metavar="LABEL", help="Issuer to ask.")
@click.option(
    "--type", "--profile", "profile", metavar="PROFILE", help="The token's, or the issuer's first, by default."
)
@click.option(
    "--san", multiple=True, metavar="NAME", help="example.com, or kind:value; all that the token stands for by default."
)
@click.option("--algorithm", default="ecdsa-p256", show_default=True, help="Of the new key.")
@click.option("--validity", type=Span(), metavar="SPAN", help="90d, 12h, 1y; the profile's by default.")
@click.option("--csr", type=EXISTING, help="Use this request (PEM or DER) instead of making a key.")
@click.option("--out", type=FILE, required=True, help="Where the certificate and its chain go.")
@click.option(
    "--key", "key_file", type=FILE, help="Where the private key goes, mode 0600. Default: as --out, with .key."
)
@click.option("--no-chain", is_flag=True, help="Write the certificate alone.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@output_option
@context_options
def enrol(connection: ContextOptions, **options: Any) -> None:
    """Get a certificate for a token, without an administrator's certificate.

    The private key is made here and never leaves this machine. Of the connection only --server and --ca-file count.
    """
    from spork.cli.enrolment import EnrolOptions, enrol_with_token

    enrol_with_token(connection, EnrolOptions(**options))


@cert.command(name="list")
@click.option("--name", "text", help="Part of a name or of the subject, three characters or more.")
@click.option("--requester", help="Who asked for it, such as admin:alice#1A2B.")
@click.option("--ca", "authority", metavar="ID", help="Id of the CA.")
@click.option("--issuer", metavar="LABEL")
@click.option("--type", "--profile", "profile", metavar="PROFILE")
@click.option("--state", type=click.Choice(STATES))
@click.option("--expires-before", type=Instant(), metavar="INSTANT", help="2026-12-31, or RFC 3339.")
@click.option("--expires-within", type=Span(), metavar="SPAN", help="30d: what has to be renewed soon.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many; newest first.")
@click.option("--all", "everything", is_flag=True, help="No limit.")
@output_option
@context_options
def list_certificates(
    connection: ContextOptions,
    output: str,
    limit: int,
    everything: bool,
    expires_before: datetime | None,
    expires_within: int | None,
    **filters: str | None,
) -> None:
    """List certificates, newest first."""
    from datetime import UTC, datetime, timedelta

    from spork.cli.client import connect
    from spork.cli.output import expiry, show_list, when

    if expires_within is not None:
        expires_before = datetime.now(UTC) + timedelta(seconds=expires_within)
        filters["state"] = filters.get("state") or "issued"
    parameters = {**filters, "expiresBefore": expires_before.isoformat() if expires_before else None}
    with connect(connection) as client:
        items = list(client.pages("/certificates", parameters, None if everything else limit))
    show_list(
        items,
        output,
        [
            ("SERIAL", lambda c: c["serial"]),
            ("STATE", lambda c: c["state"]),
            ("EXPIRES", lambda c: expiry(c["notAfter"])),
            ("PROFILE", lambda c: c["profile"]),
            ("SUBJECT", lambda c: c["subject"] or ", ".join(c["names"][:1])),
        ],
        [
            ("CA", lambda c: c["authority"]),
            ("ISSUER", lambda c: c["issuer"]),
            ("REQUESTER", lambda c: c["requester"]),
            ("NAMES", lambda c: ", ".join(c["names"])),
            (
                "REVOKED",
                lambda c: (
                    f"{when(c['revocation']['revokedAt'])} {c['revocation']['reason']}" if c["revocation"] else ""
                ),
            ),
        ],
        empty="No certificate fits.",
    )
    if not everything and len(items) == limit and output in ("table", "wide"):
        click.echo(f"Only the newest {limit} are shown; there may be more (--limit, --all).", err=True)


@cert.command()
@click.argument("certificate", metavar="SERIAL|FILE")
@click.option("--offline", is_flag=True, help="Look into the file only; ask no CA.")
@output_option
@context_options
def show(connection: ContextOptions, certificate: str, offline: bool, output: str) -> None:
    """Show what is in a certificate, its status, and why policy allowed it."""
    from spork.cli.showing import show_certificate, show_file

    if offline:
        show_file(Path(certificate), output)
    else:
        show_certificate(connection, certificate, output)


@cert.command()
@click.argument("certificate", metavar="SERIAL|FILE")
@click.option("--format", "form", type=click.Choice(["pem", "der", "chain", "full"]), default="pem", show_default=True,
              help="chain: with the CAs above it; full: with the root, too.")  # fmt: skip
@click.option("--out", type=FILE, help="Where it goes; standard output by default.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@context_options
def export(connection: ContextOptions, certificate: str, form: str, out: Path | None, force: bool) -> None:
    """Write a certificate as PEM or DER, or with its chain."""
    from spork.cli.client import connect
    from spork.cli.lookup import certificate_path, find
    from spork.cli.material import der_of, require_absent, write_material

    require_absent(out, force=force)
    with connect(connection) as client:
        path = certificate_path(find(client, certificate))
        if form in ("chain", "full"):
            text = client.text(f"{path}/chain", {"root": "true" if form == "full" else None})
        else:
            text = client.text(f"{path}/pem")
    content = der_of(text.encode("ascii"), "the answer") if form == "der" else text.encode("ascii")
    if out is not None:
        write_material(out, content, secret=False, force=force)
    else:
        click.echo(content, nl=False)


@cert.command()
@click.argument("certificate", metavar="SERIAL|FILE|NAMESPACE/NAME")
@click.option("--algorithm", help="Of the new key; by default that of the old one.")
@click.option("--csr", type=EXISTING, help="Use this request instead of making a key.")
@click.option("--reuse-key", type=EXISTING, help="Keep this private key instead of making a new one.")
@click.option("--validity", type=Span(), metavar="SPAN", help="90d, 12h, 1y; the profile's by default.")
@click.option(
    "--out", type=FILE, help="Where the certificate and its chain go. Default: named after the subject, .pem."
)
@click.option("--key", "key_file", type=FILE, help="Where the new private key goes, mode 0600.")
@click.option("--no-chain", is_flag=True, help="Write the certificate alone.")
@click.option("--passphrase", is_flag=True, help="Encrypt the private key; the passphrase is asked for.")
@click.option("--passphrase-file", type=EXISTING, help="Encrypt the private key with the first line of this file.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@click.option("--kubeconfig", type=EXISTING, help="NAMESPACE/NAME is a Certificate of this cluster.")
@output_option
@context_options
def renew(connection: ContextOptions, certificate: str, kubeconfig: Path | None, **options: Any) -> None:
    """Issue a successor with the same issuer, profile, subject and names. The old certificate stays valid.

    NAMESPACE/NAME is a Certificate of the folder that `spork up` runs on this machine, or with --kubeconfig of a cluster: it is
    renewed now, into its Secret.
    """
    from spork.cli.issuing import RenewOptions, renew_certificate
    from spork.cli.resources import renew as renew_resource

    if not any(options[name] for name in _OF_FILES) and renew_resource(certificate, kubeconfig):
        return
    renew_certificate(connection, certificate, RenewOptions(**options))
