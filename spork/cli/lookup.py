"""From what a person types to one certificate of the CA: a serial, `authority/serial`, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from spork.cli.client import AdminClient, path_segment
from spork.errors import Code, SporkError
from spork.ids import serial_from_text, serial_text


def looks_like_file(text: str) -> bool:
    """Whether the text names a file: it exists, or it cannot be a serial."""
    return Path(text).is_file()


def find(client: AdminClient, text: str) -> dict[str, Any]:
    """The certificate as the API shows it.

    Raises SporkError(NOT_FOUND), click.ClickException for a text that stands for none, or for more than one.
    """
    from spork.cli.material import der_of

    if not looks_like_file(text):
        return _by_serial(client, text)
    from cryptography import x509

    der = der_of(Path(text).read_bytes(), text)
    serial = serial_text(x509.load_der_x509_certificate(der).serial_number)
    for item in _with_serial(client, serial):
        shown: dict[str, Any] = client.get(certificate_path(item))
        if shown["pem"] is not None and der_of(shown["pem"].encode("ascii"), "the answer") == der:
            return shown
    raise SporkError(Code.NOT_FOUND, f"This CA did not issue the certificate in {text}, or you may not see it.")


def certificate_path(item: dict[str, Any]) -> str:
    """Where a certificate of the API lies below /api/v1."""
    return f"/certificates/{path_segment(item['authority'])}/{path_segment(item['serial'])}"


def _by_serial(client: AdminClient, text: str) -> dict[str, Any]:
    authority, slash, serial = text.rpartition("/")
    try:
        number = serial_text(serial_from_text(serial))
    except ValueError:
        raise click.ClickException(f"{text!r} is neither a file nor a serial number in hexadecimal.") from None
    if slash:
        shown: dict[str, Any] = client.get(certificate_path({"authority": authority, "serial": number}))
        return shown
    found = _with_serial(client, number)
    if not found:
        raise SporkError(Code.NOT_FOUND, f"There is no certificate with the serial {number}, or you may not see it.")
    if len(found) > 1:
        choices = ", ".join(f"{item['authority']}/{number}" for item in found)
        raise click.ClickException(f"Several CAs have a certificate with this serial; say which: {choices}.")
    one: dict[str, Any] = client.get(certificate_path(found[0]))
    return one


def _with_serial(client: AdminClient, serial: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get("/certificates", {"serial": serial})["items"]
    return items
