"""Fetching a root certificate from an address that nobody trusts yet, and keeping it by its fingerprint."""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spork.errors import Code, ConfigurationError, SporkError
from spork.files import write_atomically
from spork.ids import is_slug
from spork.x509.chain import verify_chain

_MAX_OCTETS: Final = 64 * 1024
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


def fetch_root(url: str, fingerprint: str, ca: str | None, generation: int) -> x509.Certificate:
    """The root with that fingerprint.

    Raises SporkError: CONFIGURATION (URL, fingerprint), UNAVAILABLE (nobody answers), NOT_FOUND, TOO_LARGE,
    UNAUTHENTICATED (another certificate, or one that is no valid root).
    """
    wanted = read_fingerprint(fingerprint)
    address = root_url(url, ca, generation)
    found = _certificates(_fetch(address))
    for der in found:
        # In constant time out of habit; the fingerprint is no secret.
        if hmac.compare_digest(hashlib.sha256(der).digest(), wanted):
            return _checked_root(der)
    seen = ", ".join(hashlib.sha256(der).hexdigest().upper() for der in found) or "no certificate"
    raise SporkError(
        Code.UNAUTHENTICATED,
        f"{address} holds another certificate than the fingerprint says; nothing was written. Its fingerprint: {seen}.",
    )


def read_fingerprint(text: str) -> bytes:
    """SHA-256 in hexadecimal, with colons, blanks or a `SHA256:` before it. Raises ConfigurationError."""
    bare = re.sub(r"[:\s]", "", re.sub(r"^\s*sha-?256[:=\s]", "", text, flags=re.IGNORECASE))
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", bare):
        raise ConfigurationError(
            "The fingerprint must be a SHA-256 in hexadecimal, 64 digits, as "
            "`openssl x509 -fingerprint -sha256 -noout -in root.pem` prints it."
        )
    return bytes.fromhex(bare)


def root_url(url: str, ca: str | None, generation: int) -> str:
    """The address of the certificate itself. Raises ConfigurationError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{url!r} is not an http or https URL.")
    if parts.path.endswith((".pem", ".cer", ".crt", ".der")):
        return url
    if ca is None:
        raise ConfigurationError(
            f"{url} names no certificate: add the path of one, as in {url.rstrip('/')}/ca/spork-root-ca/1.pem, or --ca."
        )
    if not is_slug(ca):
        raise ConfigurationError(f"{ca!r} is not the id of a CA; ids are like spork-root-ca.")
    return f"{url.rstrip('/')}/ca/{ca}/{generation}.pem"


def pin_root(root: x509.Certificate, path: Path, *, force: bool) -> bool:
    """Writes the root, mode 0644; returns False if that very root was there. Raises click.ClickException, OSError."""
    pem = root.public_bytes(Encoding.PEM)
    if path.exists():
        if path.read_bytes().strip() == pem.strip():
            return False
        if not force:
            raise click.ClickException(f"{path} holds another root already; --force replaces it, --out keeps both.")
    write_atomically(path, pem, 0o644)
    return True


def _fetch(address: str) -> bytes:
    # The content is judged by its fingerprint, so the server's own TLS certificate, which this very root may stand above, is not.
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname = False
    anything.verify_mode = ssl.CERT_NONE
    try:
        with (
            httpx.Client(verify=anything, timeout=20.0, follow_redirects=False) as http,
            http.stream("GET", address) as answer,
        ):
            if answer.status_code != 200:
                raise SporkError(
                    Code.NOT_FOUND, f"{address} answered {answer.status_code}; is that the root's address?"
                )
            content = b""
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _MAX_OCTETS:
                    raise SporkError(Code.TOO_LARGE, f"{address} sends more than {_MAX_OCTETS} octets: no certificate.")
    except httpx.HTTPError as error:
        raise SporkError(Code.UNAVAILABLE, f"{address} cannot be reached ({type(error).__name__}).") from error
    return content


def _certificates(content: bytes) -> list[bytes]:
    if b"-----BEGIN" not in content:
        return [content] if content else []
    found = []
    for block in _PEM.findall(content.decode("ascii", "replace")):
        try:
            found.append(ssl.PEM_cert_to_DER_cert(f"{block}\n"))
        except ValueError:
            continue
    return found


def _checked_root(der: bytes) -> x509.Certificate:
    """A CA certificate that signed itself and is valid now. Raises SporkError(UNAUTHENTICATED)."""
    root = verify_chain(der, (), (der,), datetime.now(UTC))[0]
    try:
        is_ca = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca or root.issuer != root.subject:
        raise SporkError(
            Code.UNAUTHENTICATED, "The fingerprint is right, but the certificate is not that of a root CA."
        )
    root.verify_directly_issued_by(root)
    return root
