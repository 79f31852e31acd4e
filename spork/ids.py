"""Names for the identifiers that cross module boundaries, so that one kind is never passed for another."""

from __future__ import annotations

import re
import secrets
from typing import NewType

AuthorityId = NewType("AuthorityId", str)
"""Immutable id of a CA, a slug such as `tls-web-server-issuing-ca`."""

CertificateId = NewType("CertificateId", int)
"""Row id of a certificate, from reserved on."""

IssuerId = NewType("IssuerId", int)
"""Row id of an issuer: one authority bound to profiles, policy, limits and doors."""

KeyId = NewType("KeyId", str)
"""Id of a private key (UUID text)."""

Serial = NewType("Serial", int)
"""Certificate serial number, positive, at most 20 octets (RFC 5280 section 4.1.2.2)."""

MANAGEMENT_AUTHORITY = AuthorityId("management")
"""The internal CA of administrators and listeners; outside of every declared tree."""

HIERARCHY_FILE = "hierarchy.toml"
"""Who declares the CAs and issuers of the hierarchy file. The others are `Hierarchy/<name>` for a resource, and for an Issuer or
ClusterIssuer `cluster:<uid>`, which names the cluster that the object is in."""

_SERIAL_OCTETS = 16
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def new_serial() -> Serial:
    """A serial of 16 octets with 127 random bits: the top bit is clear, so that it is positive, and never zero."""
    while True:
        value = secrets.randbits(_SERIAL_OCTETS * 8 - 1)
        # A shorter number would still be valid; requiring the full length keeps every serial at one size.
        if value >> ((_SERIAL_OCTETS - 1) * 8):
            return Serial(value)


def serial_octets(serial: int) -> bytes:
    """The serial as unsigned big-endian octets without leading zeros: the form in which the database stores it."""
    return serial.to_bytes(max(1, (serial.bit_length() + 7) // 8), "big")


def serial_from_octets(octets: bytes) -> Serial:
    """Inverse of `serial_octets`."""
    return Serial(int.from_bytes(octets, "big"))


def serial_text(serial: int) -> str:
    """The serial as people see it: upper-case hexadecimal with an even number of digits, as OpenSSL prints it."""
    return serial_octets(serial).hex().upper()


def serial_from_text(text: str) -> Serial:
    """Reads hexadecimal with or without colons and `0x`. Raises ValueError."""
    value = int(text.strip().replace(":", "").removeprefix("0x").removeprefix("0X"), 16)
    if not 0 < value < 1 << 160:
        raise ValueError("a serial number is positive and has at most 20 octets")
    return Serial(value)


def slug(name: str) -> str:
    """The default id of a CA: its common name in lower case, words joined by hyphens; `SPORK Root CA` is `spork-root-ca`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-")


def is_slug(text: str) -> bool:
    """Whether a text can be an id in URLs, file names and Kubernetes (a DNS label, RFC 1123)."""
    return _SLUG.fullmatch(text) is not None
