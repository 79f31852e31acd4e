"""The work of `spork cert issue` and `renew`: a key here, a CSR there, files in the right order."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from cryptography import x509

from spork.cli.client import AdminClient, connect, fresh_idempotency_key, may_have_happened
from spork.cli.context import ContextOptions
from spork.cli.lookup import certificate_path, find
from spork.cli.material import (
    ask_new_password,
    der_of,
    new_key,
    password_from,
    pem_request,
    place_key,
    read_csr,
    read_key,
    require_absent,
    write_material,
)
from spork.cli.output import show_data, show_fields, when
from spork.cli.showing import trace_lines
from spork.errors import Code, ConfigurationError, SporkError
from spork.x509.algorithms import algorithm_of, load_public_key
from spork.x509.der import KeyPurpose
from spork.x509.names import EMPTY_NAME, NameKind, SubjectName
from spork.x509.nametext import name_from_plain_text, name_of_common_name


@dataclass(frozen=True)
class Destination:
    """Where the result goes."""

    out: Path | None
    key_file: Path | None
    no_chain: bool
    passphrase: bool
    passphrase_file: Path | None
    force: bool
    output: str


@dataclass(frozen=True)
class IssueOptions(Destination):
    issuer: str | None
    ca: str | None
    profile: str | None
    cn: str | None
    subject: str | None
    san: tuple[str, ...]
    algorithm: str
    validity: int | None
    csr: Path | None
    dry_run: bool


@dataclass(frozen=True)
class RenewOptions(Destination):
    algorithm: str | None
    csr: Path | None
    reuse_key: Path | None
    validity: int | None


def issue_certificate(connection: ContextOptions, options: IssueOptions) -> None:
    """Raises SporkError, click.ClickException."""
    _check_together(options)
    names = _names(options)
    subject = _subject(options)
    body: dict[str, Any] = {
        "issuer": options.issuer,
        "authority": options.ca,
        "profile": options.profile,
        "commonName": options.cn,
        "subject": options.subject,
        "names": [str(name) for name in names] or None,
        "validityS": options.validity,
    }
    if options.dry_run:
        with connect(connection) as client:
            body["csr"] = _request(options.csr, options.algorithm, subject, names)
            _show_trace(client.post("/policy/check", body), options.output)
        return
    stem = options.cn or (names[0].value if names else options.csr.stem if options.csr else "certificate")
    with connect(connection) as client:
        key = fresh_idempotency_key()
        _obtain(
            client,
            options,
            stem,
            options.csr,
            lambda: options.algorithm,
            (subject, names),
            lambda csr: client.post("/certificates", {**body, "csr": csr}, idempotency_key=key),
        )


def renew_certificate(connection: ContextOptions, which: str, options: RenewOptions) -> None:
    """Raises SporkError, click.ClickException."""
    if options.csr is not None and options.reuse_key is not None:
        raise click.UsageError("--csr and --reuse-key exclude each other.")
    with connect(connection) as client:
        old = find(client, which)
        if old["pem"] is None:
            raise SporkError(Code.CONFLICT, f"The certificate was never issued; it is {old['state']}.")
        certificate = x509.load_der_x509_certificate(der_of(old["pem"].encode("ascii"), "the answer"))
        names = tuple(name_from_plain_text(text) for text in old["names"])
        body = {"validityS": options.validity}
        path = f"{certificate_path(old)}/renew"
        key = fresh_idempotency_key()

        def ask(csr: str) -> Any:
            return client.post(path, {**body, "csr": csr}, idempotency_key=key)

        stem = _common_name(certificate) or (names[0].value if names else old["serial"])
        if options.reuse_key is not None:
            _obtain_with_key(client, options, stem, options.reuse_key, (certificate.subject, names), ask)
        else:
            algorithm = options.algorithm or _algorithm_of(certificate)
            _obtain(client, options, stem, options.csr, lambda: algorithm, (certificate.subject, names), ask)


def _obtain(
    client: AdminClient,
    to: Destination,
    stem: str,
    csr: Path | None,
    algorithm: Callable[[], str],
    wanted: tuple[x509.Name, tuple[SubjectName, ...]],
    ask: Callable[[str], Any],
) -> None:
    """Makes the key if there is no CSR, asks for the certificate, and writes both.

    The key is on the disk before its certificate is asked for, and is taken away again if the CA refuses.
    """
    out = to.out or Path(f"{_file_stem(stem)}.pem")
    if csr is not None:
        require_absent(out, force=to.force)
        _finish(to, out, None, ask(read_csr(csr)[0]))
        return
    key_file = to.key_file or out.with_suffix(".key")
    if key_file == out:
        raise click.UsageError("--out and --key must be different files.")
    require_absent(out, key_file, force=to.force)
    key = new_key(algorithm(), KeyPurpose.LEAF, _password(to, key_file))
    take_back = place_key(key_file, key.pem, force=to.force)
    try:
        answer = ask(pem_request(key.key, *wanted))
    except SporkError as error:
        # After a broken connection the certificate may exist, so the key stays; after a refusal it does not.
        if not may_have_happened(error):
            take_back()
        else:
            click.echo(
                f"The private key stays in {key_file}, because its certificate may have been issued: `spork cert list` tells. "
                "If it was not, run the same command again with --force.",
                err=True,
            )
        raise
    _finish(to, out, key_file, answer)


def _obtain_with_key(
    client: AdminClient,
    to: Destination,
    stem: str,
    key_file: Path,
    wanted: tuple[x509.Name, tuple[SubjectName, ...]],
    ask: Callable[[str], Any],
) -> None:
    out = to.out or Path(f"{_file_stem(stem)}.pem")
    require_absent(out, force=to.force)
    _finish(to, out, key_file, ask(pem_request(read_key(key_file, KeyPurpose.LEAF), *wanted)))


def _finish(to: Destination, out: Path, key_file: Path | None, answer: Any) -> None:
    chain = "" if to.no_chain else answer["chain"]
    write_material(out, answer["pem"] + chain, secret=False, force=to.force)
    if to.output in ("json", "yaml"):
        files = {"certificateFile": str(out), "keyFile": str(key_file) if key_file else None}
        show_data({**answer, **files}, to.output)
        return
    show_fields(
        [
            ("Certificate", str(out)),
            ("Private key", str(key_file) if key_file else None),
            ("CA", answer["authority"]),
            ("Serial", answer["serial"]),
            ("Expires", when(answer["notAfter"])),
        ]
    )


def _request(csr: Path | None, algorithm: str, subject: x509.Name, names: tuple[SubjectName, ...]) -> str:
    if csr is not None:
        return read_csr(csr)[0]
    return pem_request(new_key(algorithm, KeyPurpose.LEAF, None).key, subject, names)


def _show_trace(answer: dict[str, Any], output: str) -> None:
    """Prints the verdicts. Raises SporkError(POLICY_REFUSED) at the end if policy would refuse, so that scripts can tell."""
    if output in ("json", "yaml"):
        show_data(answer, output)
    else:
        show_fields(
            [
                ("Issuer", f"{answer['issuer']} (CA {answer['authority']}, profile {answer['profile']})"),
                ("Subject", answer["subject"] or "(empty)"),
                ("Names", answer["names"]),
                ("Validity", f"{when(answer['notBefore'])} to {when(answer['notAfter'])}"),
                ("Policy", trace_lines(answer["verdicts"], output)),
            ]
        )
    if not answer["allowed"]:
        raise SporkError(Code.POLICY_REFUSED, "Policy would refuse this certificate; nothing was issued.")


def _check_together(options: IssueOptions) -> None:
    if options.issuer is not None and options.ca is not None:
        raise click.UsageError("--issuer and --ca exclude each other.")
    if options.cn is not None and options.subject is not None:
        raise click.UsageError("--cn and --subject exclude each other.")
    if options.csr is not None and (options.key_file is not None or options.passphrase or options.passphrase_file):
        raise click.UsageError("With --csr the private key is elsewhere; --key and --passphrase have no meaning.")
    if options.csr is None and not (options.cn or options.subject or options.san):
        raise click.UsageError("Say what to certify: --cn, --subject, --san or --csr.")


def _names(options: IssueOptions) -> tuple[SubjectName, ...]:
    """The names of --san, and the one that --cn spells. None with a CSR and no --san: then the CSR's own count."""
    wanted = [name_from_plain_text(_to_ascii(text)) for text in options.san]
    spelled = (
        name_of_common_name(_to_ascii(options.cn)) if options.cn and (options.csr is None or options.san) else None
    )
    if spelled is not None and spelled not in wanted and _is_for_hosts(options.profile):
        wanted.insert(0, spelled)
    return tuple(dict.fromkeys(wanted))


def _is_for_hosts(profile: str | None) -> bool:
    from spork.x509.profiles import PROFILES

    return profile is None or profile not in PROFILES or NameKind.DNS in PROFILES[profile].name_kinds


def _to_ascii(text: str) -> str:
    """A DNS name in other scripts becomes its A-label form (IDNA 2008), which is what certificates carry."""
    if text.isascii() or "@" in text or "://" in text:
        return text
    import idna

    prefix, bare = ("dns:", text[4:]) if text.lower().startswith("dns:") else ("", text)
    try:
        return prefix + idna.encode(bare, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise SporkError(Code.UNSUPPORTED_IDENTIFIER, f"{text!r} has no form as a DNS name: {error}.") from error


def _subject(options: IssueOptions) -> x509.Name:
    try:
        if options.subject is not None:
            return x509.Name.from_rfc4514_string(options.subject)
        if options.cn is not None:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, options.cn)])
    except ValueError as error:
        raise ConfigurationError(f"The subject cannot be used: {error}.") from error
    return EMPTY_NAME


def _password(to: Destination, key_file: Path) -> str | None:
    if to.passphrase_file is not None:
        return password_from(to.passphrase_file)
    return ask_new_password(str(key_file)) if to.passphrase else None


def _file_stem(name: str) -> str:
    """A name as a file's: without anything that a shell or a file system takes for more than a letter."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name.replace("*", "wildcard")).strip("._") or "certificate"


def _common_name(certificate: x509.Certificate) -> str | None:
    from spork.x509.names import common_name

    return common_name(certificate.subject)


def _algorithm_of(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    row = algorithm_of(load_public_key(spki))
    if row is None:
        raise ConfigurationError("The old key is of a kind that cannot be made here; name one with --algorithm.")
    return row.name
