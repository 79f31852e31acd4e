"""`spork trust`: fetch a root by its fingerprint, and look at the one that is pinned."""

from __future__ import annotations

import os
from pathlib import Path

import click

FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def trust() -> None:
    """Install and check the trusted root."""


@trust.command()
@click.option(
    "--url", required=True, help="URL of the root certificate, or of the status address (then --ca is needed)."
)
@click.option(
    "--fingerprint",
    required=True,
    metavar="SHA256",
    help="Of the root certificate; from its operator, not from the net.",
)
@click.option("--ca", metavar="ID", help="Id of the root, such as spork-root-ca: fetches URL/ca/ID/GENERATION.pem.")
@click.option("--generation", type=click.IntRange(1), default=1, show_default=True)
@click.option("--out", type=FILE, help="Where the root goes. Default: trust/root.pem in SPORK_HOME (./.spork).")
@click.option("--force", is_flag=True, help="Replace another root that is pinned there.")
def bootstrap(url: str, fingerprint: str, ca: str | None, generation: int, out: Path | None, force: bool) -> None:
    """Fetch the root certificate, and keep it only if it has this fingerprint.

    The fingerprint is all that is trusted, so the connection may be plain HTTP. A wrong one ends in an error, and nothing
    is written.
    """
    from spork.cli.pinning import fetch_root, pin_root

    root = fetch_root(url, fingerprint, ca, generation)
    path = out or default_root()
    changed = pin_root(root, path, force=force)
    click.echo(f"{'Pinned' if changed else 'Already pinned'}: {root.subject.rfc4514_string()} in {path}")


@trust.command()
@click.argument("file", type=FILE, required=False)
def show(file: Path | None) -> None:
    """Show the pinned root, or the certificate in FILE, with its fingerprint."""
    from cryptography import x509

    from spork.cli.inspect import certificate_fields
    from spork.cli.material import der_of
    from spork.cli.output import show_fields

    path = file or default_root()
    if not path.is_file():
        raise click.ClickException(f"{path} does not exist; spork trust bootstrap fetches a root.")
    certificate = x509.load_der_x509_certificate(der_of(path.read_bytes(), str(path)))
    show_fields([("File", str(path)), *certificate_fields(certificate)])


def default_root() -> Path:
    """trust/root.pem in SPORK_HOME."""
    return Path(os.environ.get("SPORK_HOME", ".spork")).expanduser() / "trust" / "root.pem"
