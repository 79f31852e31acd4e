"""The work of `spork cert enrol` and `spork admin token create`: tokens go through files and pipes, never through arguments."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from spork.cli.client import connect, connect_with_token, fresh_idempotency_key, may_have_happened
from spork.cli.context import ContextOptions
from spork.cli.material import new_key, pem_request, place_key, read_csr, require_absent, write_material
from spork.cli.output import show_data, show_fields, when
from spork.errors import ConfigurationError, SporkError
from spork.x509.der import KeyPurpose
from spork.x509.names import EMPTY_NAME
from spork.x509.nametext import name_from_plain_text

_MAX_TOKEN = 16 * 1024
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


@dataclass(frozen=True)
class EnrolOptions:
    """What the command line said."""

    token_file: str
    issuer: str
    profile: str | None
    san: tuple[str, ...]
    algorithm: str
    validity: int | None
    csr: Path | None
    out: Path
    key_file: Path | None
    no_chain: bool
    force: bool
    output: str


@dataclass(frozen=True)
class TokenOptions:
    """What the command line said."""

    issuer: str
    names: tuple[str, ...]
    profile: str | None
    ttl: int
    validity: int | None
    note: str | None
    out: Path | None
    force: bool
    output: str


def enrol_with_token(connection: ContextOptions, options: EnrolOptions) -> None:
    """Raises SporkError, click.ClickException."""
    if options.csr is not None and (options.key_file is not None or options.san):
        raise click.UsageError("With --csr the names and the private key are given; --san and --key have no meaning.")
    token = token_from(options.token_file)
    body = {"issuer": options.issuer, "profile": options.profile, "validityS": options.validity}
    with connect_with_token(connection, token) as client:

        def ask(csr: str) -> Any:
            # The token makes a repetition safe, so a broken connection is tried once more.
            return client.post("/enrolments", {**body, "csr": csr}, idempotency_key=fresh_idempotency_key())

        if options.csr is not None:
            require_absent(options.out, force=options.force)
            _finish(options, None, ask(read_csr(options.csr)[0]))
        else:
            _with_new_key(options, ask)


def _with_new_key(options: EnrolOptions, ask: Callable[[str], Any]) -> None:
    """Key and request are on the disk before the token is spent on them, and are taken away again if the CA refuses."""
    key_file, csr_file = options.key_file or options.out.with_suffix(".key"), options.out.with_suffix(".csr")
    if len({options.out, key_file, csr_file}) != 3:
        raise click.UsageError("--out, --key and the request beside --out (.csr) must be different files.")
    require_absent(options.out, key_file, csr_file, force=options.force)
    key = new_key(options.algorithm, KeyPurpose.LEAF, None)
    names = tuple(dict.fromkeys(name_from_plain_text(text) for text in options.san))
    csr = pem_request(key.key, EMPTY_NAME, names)
    take_back = place_key(key_file, key.pem, force=options.force)
    write_material(csr_file, csr, secret=False, force=options.force)
    try:
        answer = ask(csr)
    except SporkError as error:
        if may_have_happened(error):
            click.echo(
                f"The token may have been used. With --csr {csr_file} the same certificate can be had once more; its private key "
                f"stays in {key_file}.",
                err=True,
            )
        else:
            take_back()
            csr_file.unlink(missing_ok=True)
        raise
    _finish(options, key_file, answer)
    csr_file.unlink(missing_ok=True)


def _finish(options: EnrolOptions, key_file: Path | None, answer: Any) -> None:
    chain = "" if options.no_chain else answer["chain"]
    write_material(options.out, answer["pem"] + chain, secret=False, force=options.force)
    files = {"certificateFile": str(options.out), "keyFile": str(key_file) if key_file else None}
    if options.output in ("json", "yaml"):
        show_data({**answer, **files}, options.output)
        return
    show_fields(
        [
            ("Certificate", files["certificateFile"]),
            ("Private key", files["keyFile"]),
            ("CA", answer["authority"]),
            ("Serial", answer["serial"]),
            ("Expires", when(answer["notAfter"])),
        ]
    )


def create_token(connection: ContextOptions, options: TokenOptions) -> None:
    """Raises SporkError, click.ClickException."""
    require_absent(options.out, force=options.force)
    body = {
        "issuer": options.issuer,
        "names": [str(name_from_plain_text(text)) for text in options.names],
        "profile": options.profile,
        "ttlS": options.ttl,
        "validityS": options.validity,
        "note": options.note,
    }
    with connect(connection) as client:
        answer = client.post("/enrolment-tokens", body)
    text = answer["token"]
    if options.out is not None:
        write_material(options.out, f"{text}\n", secret=True, force=options.force)
        answer = {**{key: value for key, value in answer.items() if key != "token"}, "tokenFile": str(options.out)}
    if options.output in ("json", "yaml"):
        show_data(answer, options.output)
        return
    if options.out is None:
        click.echo(text)
    where = f" in {options.out}" if options.out is not None else ""
    click.echo(
        f"The token {answer['id']}{where} is for one certificate of {answer['issuer']} ({answer['profile']}) with "
        f"{', '.join(answer['names'])}, until {when(answer['expiresAt'])}.",
        err=True,
    )


def token_from(place: str) -> str:
    """The first line of a file, or of standard input for `-`. Raises ConfigurationError."""
    try:
        text = sys.stdin.read(_MAX_TOKEN) if place == "-" else _read(Path(place))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The token in {place} cannot be read: {type(error).__name__}.") from error
    token = text.partition("\n")[0].strip()
    # What stands there instead may be another secret, so it is not repeated.
    if _TOKEN.fullmatch(token) is None:
        raise ConfigurationError(f"{place} does not begin with a token on a line of its own.")
    return token


def _read(file: Path) -> str:
    with file.open(encoding="ascii") as stream:
        return stream.read(_MAX_TOKEN)
