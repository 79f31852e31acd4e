"""Names: distinguished names as the octets that stand in certificates, and the kinds of subject alternative name.

Source: RFC 5280 sections 4.1.2.4 and 4.2.1.6; RFC 4514 for the text form.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509


class NameKind(StrEnum):
    """Kinds of subject alternative name that can be issued."""

    DNS = "dns"
    IP = "ip"
    URI = "uri"
    EMAIL = "email"
    DN = "dn"


@dataclass(frozen=True, slots=True, order=True)
class SubjectName:
    """One subject alternative name in canonical form.

    DNS is lower-case A-label form, a wildcard with its `*.`; IP is the compressed text form; email keeps the local part's
    case; DN is RFC 4514 text.
    """

    kind: NameKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.value}"


def dns(value: str) -> SubjectName:
    """A DNS name, lower-cased, without a trailing dot."""
    return SubjectName(NameKind.DNS, value.lower().rstrip("."))


def ip(value: str) -> SubjectName:
    """An address in compressed form. Raises ValueError."""
    return SubjectName(NameKind.IP, ipaddress.ip_address(value).compressed)


def to_general_name(name: SubjectName) -> x509.GeneralName:
    """The X.509 form. Raises ValueError for text that the kind cannot hold."""
    match name.kind:
        case NameKind.DNS:
            return x509.DNSName(name.value)
        case NameKind.IP:
            return x509.IPAddress(ipaddress.ip_address(name.value))
        case NameKind.URI:
            return x509.UniformResourceIdentifier(name.value)
        case NameKind.EMAIL:
            return x509.RFC822Name(name.value)
        case NameKind.DN:
            return x509.DirectoryName(x509.Name.from_rfc4514_string(name.value))


def from_general_name(name: x509.GeneralName) -> SubjectName | None:
    """The canonical form, or None for a kind that SPORK does not issue (otherName, registeredID, an IP network)."""
    match name:
        case x509.DNSName():
            return dns(name.value)
        case x509.IPAddress() if isinstance(name.value, ipaddress.IPv4Address | ipaddress.IPv6Address):
            return ip(str(name.value))
        case x509.UniformResourceIdentifier():
            return SubjectName(NameKind.URI, name.value)
        case x509.RFC822Name():
            local, at, domain = name.value.rpartition("@")
            return SubjectName(NameKind.EMAIL, f"{local}{at}{domain.lower()}")
        case x509.DirectoryName():
            return SubjectName(NameKind.DN, name.value.rfc4514_string())
        case _:
            return None


EMPTY_NAME = x509.Name([])


def common_name(name: x509.Name) -> str | None:
    """The first commonName, or None."""
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else None
