"""A bundle as text: PEM certificates in a fixed order, so that the same roots always give the same octets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spork.controller.trust.roots import Root, fingerprint_of

_CERTIFICATE = re.compile(r"^-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+?-----END CERTIFICATE-----$", re.MULTILINE)


def bundle_text(roots: Iterable[Root]) -> str:
    """The certificates by subject and SHA-256, each once, with both in a comment above it. Empty for no roots.

    Readers of PEM skip what stands between the blocks (RFC 7468 section 2).
    """
    unique = {root.fingerprint: root.certificate for root in roots}
    ordered = sorted(unique.items(), key=lambda item: (item[1].subject.rfc4514_string(), item[0]))
    return "\n".join(_entry(certificate, fingerprint) for fingerprint, certificate in ordered)


# Nearly all bundles of a cluster are the same text.
@lru_cache(maxsize=64)
def fingerprints_in(text: str) -> frozenset[str]:
    """SHA-256 of each certificate that the text holds. What cannot be read is left out."""
    found = set()
    for block in _CERTIFICATE.findall(text):
        try:
            found.add(fingerprint_of(x509.load_pem_x509_certificate(block.encode("ascii"))))
        except ValueError:
            continue
    return frozenset(found)


def _entry(certificate: x509.Certificate, fingerprint: str) -> str:
    pem = certificate.public_bytes(Encoding.PEM).decode("ascii")
    return f"# {_comment(certificate.subject.rfc4514_string())}\n# SHA-256 {fingerprint}\n{pem}"


def _comment(text: str) -> str:
    """One line of ASCII in which no reader of PEM, however lenient, can find a boundary."""
    line = text.encode("ascii", "backslashreplace").decode("ascii")
    return "".join(c if c.isprintable() else "?" for c in line).replace("-----", "- - -")
