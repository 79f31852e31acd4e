"""`spork ocsp query`: an OCSP client of our own, by GET or POST, that checks what it is told."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from spork.cli.output import instant, output_option, show_list

if TYPE_CHECKING:
    from cryptography import x509

_NONCE_OCTETS = 32
"""What RFC 9654 section 2.1 tells clients to send."""


@click.group()
def ocsp() -> None:
    """Ask an OCSP responder about a certificate."""


@ocsp.command()
@click.argument(
    "files", nargs=-1, metavar="[CERTIFICATE]...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--issuer", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
    help="Certificate of the CA, PEM or DER.",
)  # fmt: skip
@click.option(
    "--cert", "certificates", type=click.Path(exists=True, dir_okay=False, path_type=Path), multiple=True,
    help="The same as an argument; may be given several times.",
)  # fmt: skip
@click.option("--serial", "serials", multiple=True, metavar="HEX", help="A serial number to ask about.")
@click.option("--url", help="The responder.  [default: what the certificate names]")
@click.option("--get", "by_get", is_flag=True, help="Ask by GET instead of POST.")
@click.option("--nonce/--no-nonce", default=True, show_default=True, help="Ask for an answer signed just now.")
@click.option(
    "--hash", "hash_name", type=click.Choice(["sha1", "sha256", "sha384", "sha512"]), default="sha1", show_default=True,
    help="How the CA is named in the request.",
)  # fmt: skip
@output_option
def query(
    files: tuple[Path, ...],
    issuer: Path,
    certificates: tuple[Path, ...],
    serials: tuple[str, ...],
    url: str | None,
    by_get: bool,
    nonce: bool,
    hash_name: str,
    output: str,
) -> None:
    """Ask about certificates of one CA, in files (PEM or DER) or by their serial numbers.

    The answer's signature is checked under the CA or a responder that the CA named, its nonce against the one that was sent, and
    its dates against the clock. Exit code 3 tells that a certificate is revoked.
    """
    from spork.cli.exits import Exit
    from spork.ids import serial_from_text, serial_text
    from spork.x509.ocsp import build_request
    from spork.x509.ocspcheck import check_response

    ca, asked = _load(issuer), [_load(path) for path in (*files, *certificates)]
    try:
        numbers = [c.serial_number for c in asked] + [serial_from_text(text) for text in serials]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--serial") from error
    if not numbers:
        raise click.UsageError("Say what to ask about: a certificate's file, or --serial.")
    responder = url or _responder_url(asked)
    if responder is None:
        raise click.UsageError("The certificate names no OCSP responder; say which one with --url.")
    sent = secrets.token_bytes(_NONCE_OCTETS) if nonce else None
    spki = _spki(ca)
    request = build_request(ca.subject.public_bytes(), spki, numbers, hash_name, sent)
    checked = check_response(_ask(responder, request, by_get), ca, numbers, nonce=sent, now=_now())
    rows: list[dict[str, Any]] = [
        {
            "serial": serial_text(single.serial),
            "status": single.status,
            "revoked_at": instant(single.revoked_at),
            "reason": single.reason,
            "this_update": instant(single.this_update),
            "next_update": instant(single.next_update),
        }
        for single in checked
    ]
    columns = [(name.replace("_", " ").upper(), lambda row, name=name: row[name]) for name in rows[0]]
    show_list(rows, output, columns)
    if any(row["status"] == "revoked" for row in rows):
        click.get_current_context().exit(Exit.REFUSED)


def _load(path: Path) -> x509.Certificate:
    from cryptography import x509

    from spork.errors import Code, SporkError

    data = path.read_bytes()
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise SporkError(Code.MALFORMED, f"{path} is not a certificate in PEM or DER.") from error


def _spki(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _responder_url(certificates: list[x509.Certificate]) -> str | None:
    from cryptography import x509
    from cryptography.x509.oid import AuthorityInformationAccessOID

    for certificate in certificates:
        try:
            access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        except x509.ExtensionNotFound:
            continue
        for description in access:
            if description.access_method == AuthorityInformationAccessOID.OCSP:
                return str(description.access_location.value)
    return None


def _now() -> Any:
    from spork.clock import SystemClock

    return SystemClock().now()


def _ask(url: str, request: bytes, by_get: bool) -> bytes:
    import httpx

    from spork.errors import Code, SporkError

    try:
        if by_get:
            answer = httpx.get(f"{url.rstrip('/')}/{quote(base64.b64encode(request).decode(), safe='')}", timeout=30)
        else:
            headers = {"Content-Type": "application/ocsp-request", "Accept": "application/ocsp-response"}
            answer = httpx.post(url, content=request, headers=headers, timeout=30)
    except httpx.HTTPError as error:
        raise SporkError(Code.UNAVAILABLE, f"{url} cannot be reached ({type(error).__name__}).") from error
    if answer.status_code != httpx.codes.OK:
        raise SporkError(Code.UNAVAILABLE, f"{url} answers {answer.status_code}.")
    return answer.content
