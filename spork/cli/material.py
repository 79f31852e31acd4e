"""Keys and requests that are made on this machine: the private key never leaves it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
from cryptography import x509

from spork.errors import Code, ConfigurationError, SporkError
from spork.files import write_atomically
from spork.keys.ephemeral import EphemeralKey
from spork.x509.csr import ParsedCSR, build_csr, csr_from_pem, parse_csr
from spork.x509.der import KeyPurpose
from spork.x509.names import SubjectName

MIN_PASSWORD = 8


@dataclass(frozen=True)
class NewKey:
    """A key with the file that holds it, or will."""

    key: EphemeralKey
    pem: bytes


def new_key(algorithm: str, purpose: KeyPurpose, password: str | None) -> NewKey:
    """Makes a key; its PEM is encrypted if there is a password. Raises SporkError(CONFIGURATION) for an unknown algorithm."""
    key = EphemeralKey.generate(algorithm, purpose)
    return NewKey(key, key.pkcs8_pem(password.encode("utf-8") if password else None))


def pem_request(key: EphemeralKey, subject: x509.Name, names: tuple[SubjectName, ...]) -> str:
    """A CSR in PEM, signed by the key."""
    import base64

    text = base64.encodebytes(build_csr(subject, names, key.signer)).decode("ascii")
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


def read_csr(path: Path) -> tuple[str, ParsedCSR]:
    """A CSR file, PEM or DER, as PEM and parsed. Raises SporkError(BAD_CSR), OSError."""
    import base64

    content = path.read_bytes()
    if b"-----BEGIN" in content:
        try:
            text = content.decode("ascii")
        except UnicodeDecodeError:
            raise SporkError(Code.BAD_CSR, f"{path} is not a CSR in PEM: it has other than ASCII characters.") from None
        return text, csr_from_pem(text)
    parsed = parse_csr(content)
    encoded = base64.encodebytes(content).decode("ascii")
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{encoded}-----END CERTIFICATE REQUEST-----\n", parsed


def read_key(path: Path, purpose: KeyPurpose) -> EphemeralKey:
    """An existing private key, PEM, for a renewal that keeps it. Asks for the passphrase of an encrypted one.

    Raises ConfigurationError.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = path.read_bytes()
    password = None
    if b"ENCRYPTED" in content:
        password = str(click.prompt(f"Passphrase of {path}", hide_input=True, err=True)).encode("utf-8")
    try:
        return EphemeralKey(load_pem_private_key(content, password), purpose)  # type: ignore[arg-type]  # refuses others itself
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path} is not a private key in PEM, or the passphrase is wrong.") from error


def require_absent(*paths: Path | None, force: bool) -> None:
    """Raises click.ClickException if one of the files exists and `force` is false: before anything is asked of a CA."""
    for path in paths:
        if path is not None and not force and path.exists():
            raise click.ClickException(f"{path} exists already; choose another name, or overwrite it with --force.")


def write_material(path: Path, content: bytes | str, *, secret: bool, force: bool) -> None:
    """Writes durably, mode 0600 or 0644. Raises click.ClickException for a file that appeared meanwhile, OSError."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        write_atomically(path, data, 0o600 if secret else 0o644, replace=force)
    except FileExistsError:
        raise click.ClickException(f"{path} exists already; overwrite it with --force.") from None


def place_key(path: Path, pem: bytes, *, force: bool) -> Callable[[], None]:
    """Writes a private key before its certificate is asked for; returns what takes it back if the CA refuses.

    With `force`, taking back restores the key that was there before. Raises as `write_material` does.
    """
    before = path.read_bytes() if force and path.exists() else None
    write_material(path, pem, secret=True, force=force)

    def take_back() -> None:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            write_material(path, before, secret=True, force=True)

    return take_back


def ask_new_password(what: str) -> str:
    """Asks twice. Raises click.ClickException for one that is too short to mean anything."""
    password = str(click.prompt(f"New passphrase for {what}", hide_input=True, confirmation_prompt=True, err=True))
    return checked_password(password)


def checked_password(password: str) -> str:
    """Raises click.ClickException for fewer than 8 characters."""
    if len(password) < MIN_PASSWORD:
        raise click.ClickException(f"The passphrase has fewer than {MIN_PASSWORD} characters.")
    return password


def password_from(file: Path) -> str:
    """The first line of a password file. Raises click.ClickException, OSError."""
    return checked_password(file.read_text("utf-8").partition("\n")[0].rstrip("\r"))


def der_of(content: bytes, what: str) -> bytes:
    """The first certificate of a PEM or DER file, as DER. Raises ConfigurationError."""
    try:
        if b"-----BEGIN CERTIFICATE-----" in content:
            text = content[content.index(b"-----BEGIN CERTIFICATE-----") :].decode("ascii")
            end = "-----END CERTIFICATE-----"
            content = ssl.PEM_cert_to_DER_cert(text[: text.index(end) + len(end)] + "\n")
        x509.load_der_x509_certificate(content)
    except (ValueError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{what} is not a certificate in PEM or DER.") from error
    return content
