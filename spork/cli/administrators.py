"""The work of `spork admin issue`: key, certificate and PKCS#12 file, by the API or straight from the database."""

from __future__ import annotations

import asyncio
import getpass
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from cryptography import x509

from spork.bootstrap import issue_admin, p12_bytes
from spork.cli.client import connect, fresh_idempotency_key, may_have_happened
from spork.cli.context import ContextOptions
from spork.cli.material import (
    NewKey,
    ask_new_password,
    der_of,
    new_key,
    password_from,
    pem_request,
    place_key,
    read_csr,
    require_absent,
    write_material,
)
from spork.cli.output import instant, show_data, show_fields, when
from spork.errors import Code, SporkError
from spork.ids import serial_from_text, serial_text
from spork.policy.levels import level_named
from spork.x509.csr import ParsedCSR, csr_from_pem
from spork.x509.der import KeyPurpose


@dataclass(frozen=True)
class AdminOptions:
    """What the command line said."""

    name: str
    level: str
    issuers: tuple[str, ...]
    algorithm: str
    validity: int | None
    csr: Path | None
    out: Path | None
    p12: bool
    p12_password_file: Path | None
    passphrase: bool
    local: bool
    force: bool
    output: str


@dataclass(frozen=True)
class _Files:
    certificate: Path
    key: Path | None
    p12: Path | None


def issue_administrator(connection: ContextOptions, options: AdminOptions) -> None:
    """Raises SporkError, click.ClickException."""
    files = _files(options)
    require_absent(files.certificate, files.key, files.p12, force=options.force)
    # Everything that is asked of a person is asked before anything is made.
    password = _p12_password(options, files)
    key, take_back = _placed_key(options, files)
    try:
        csr = _request(options, key)
        answer = (
            _issue_locally(options, csr_from_pem(csr)) if options.local else _issue_by_api(connection, options, csr)
        )
    except SporkError as error:
        # After a broken connection the certificate may exist, so the key stays; after a refusal it does not.
        if not may_have_happened(error):
            take_back()
        raise
    certificate = x509.load_der_x509_certificate(der_of(answer["pem"].encode("ascii"), "the answer"))
    if files.p12 is not None and key is not None and password is not None:
        write_material(files.p12, p12_bytes(key.key, certificate, (), password), secret=True, force=options.force)
    write_material(files.certificate, answer["pem"], secret=False, force=options.force)
    _report(options, files, answer)


def serial_of(text: str) -> str:
    """The serial that a text or a certificate file names. Raises click.ClickException, SporkError."""
    if Path(text).is_file():
        der = der_of(Path(text).read_bytes(), text)
        return serial_text(x509.load_der_x509_certificate(der).serial_number)
    try:
        return serial_text(serial_from_text(text.rpartition("/")[2]))
    except ValueError:
        raise click.ClickException(f"{text!r} is neither a file nor a serial number in hexadecimal.") from None


def _files(options: AdminOptions) -> _Files:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", options.name).strip("._") or "administrator"
    certificate = options.out or Path(f"{stem}.pem")
    if options.csr is not None:
        return _Files(certificate, None, None)
    key = certificate.with_suffix(".key")
    if key == certificate:
        raise click.UsageError("--out names the certificate; its name must not end in .key.")
    return _Files(certificate, key, certificate.with_suffix(".p12") if options.p12 else None)


def _p12_password(options: AdminOptions, files: _Files) -> str | None:
    if files.p12 is None:
        return None
    if options.p12_password_file is not None:
        return password_from(options.p12_password_file)
    return ask_new_password(str(files.p12))


def _placed_key(options: AdminOptions, files: _Files) -> tuple[NewKey | None, Callable[[], None]]:
    """A new key, on the disk already, and what takes it back; no key where a CSR was given."""
    if files.key is None:
        return None, lambda: None
    password = ask_new_password(str(files.key)) if options.passphrase else None
    key = new_key(options.algorithm, KeyPurpose.ADMIN, password)
    return key, place_key(files.key, key.pem, force=options.force)


def _request(options: AdminOptions, key: NewKey | None) -> str:
    if key is None:
        assert options.csr is not None
        return read_csr(options.csr)[0]
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, options.name)])
    return pem_request(key.key, subject, ())


def _issue_by_api(connection: ContextOptions, options: AdminOptions, csr: str) -> dict[str, Any]:
    body = {
        "name": options.name,
        "level": options.level,
        "issuers": list(options.issuers) or None,
        "validityS": options.validity,
        "csr": csr,
    }
    with connect(connection) as client:
        answer: dict[str, Any] = client.post("/admins", body, idempotency_key=fresh_idempotency_key())
    return answer


def _issue_locally(options: AdminOptions, csr: ParsedCSR) -> dict[str, Any]:
    """Break glass: whoever has the database and the passphrase is the owner of this CA, and the audit log names the login."""
    from spork.services import open_services
    from spork.settings import load_settings

    async def run() -> dict[str, Any]:
        async with open_services(load_settings(), terminal=True) as services:
            known = {issuer.label for issuer in await services.issuers.all()}
            if missing := sorted(set(options.issuers) - known):
                raise SporkError(
                    Code.NOT_FOUND, f"There is no issuer {', '.join(missing)}; known are {', '.join(sorted(known))}."
                )
            recorded = await issue_admin(
                services,
                level=level_named(options.level),
                name=options.name,
                spki=csr.spki,
                csr=csr.request,
                names=csr.names,
                issuers=options.issuers or None,
                validity=None if options.validity is None else timedelta(seconds=options.validity),
                actor=f"local:{getpass.getuser()}",
            )
        return {
            "authority": recorded.authority_id,
            "generation": recorded.generation,
            "serial": serial_text(recorded.serial),
            "notBefore": instant(recorded.not_before),
            "notAfter": instant(recorded.not_after),
            "pem": _pem(recorded.der),
            "chain": "",
        }

    return asyncio.run(run())


def _pem(der: bytes) -> str:
    import ssl

    return ssl.DER_cert_to_PEM_cert(der)


def _report(options: AdminOptions, files: _Files, answer: dict[str, Any]) -> None:
    paths = {
        "certificateFile": str(files.certificate),
        "keyFile": str(files.key) if files.key else None,
        "p12File": str(files.p12) if files.p12 else None,
    }
    if options.output in ("json", "yaml"):
        show_data({**answer, **paths}, options.output)
        return
    show_fields(
        [
            ("Administrator", f"{options.name} ({options.level})"),
            ("Limited to", list(options.issuers)),
            ("Certificate", paths["certificateFile"]),
            ("Private key", paths["keyFile"]),
            ("For browsers", paths["p12File"]),
            ("Serial", answer["serial"]),
            ("Expires", when(answer["notAfter"])),
        ]
    )
