"""Whether a subject alternative name is written as its kind demands. Who may have it is for the policy rules.

Source: RFC 5280 section 4.2.1.6; RFC 1034 section 3.5 and RFC 1123 section 2.1 (DNS names); RFC 5321 section 4.1.2 (mailboxes);
RFC 3986 section 3 (URIs).
"""

from __future__ import annotations

import ipaddress
import re

from cryptography import x509

from spork.x509.names import NameKind, SubjectName, from_general_name, to_general_name

_DNS_NAME_LIMIT = 253
"""Characters of a name in text form: 255 octets on the wire less the first length octet and the root."""
_VALUE_LIMIT = 2048
"""Characters of any name: generous for URIs and distinguished names, and still far below a certificate's size limit."""
_LOCAL_PART_LIMIT = 64
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?P<rest>[!-~]+)")
_URI_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")

_UPPER_BOUNDS = {
    x509.NameOID.COMMON_NAME: 64,
    x509.NameOID.ORGANIZATION_NAME: 64,
    x509.NameOID.ORGANIZATIONAL_UNIT_NAME: 64,
    x509.NameOID.LOCALITY_NAME: 128,
    x509.NameOID.STATE_OR_PROVINCE_NAME: 128,
    x509.NameOID.SERIAL_NUMBER: 64,
    x509.NameOID.TITLE: 64,
    x509.NameOID.PSEUDONYM: 128,
    x509.NameOID.EMAIL_ADDRESS: 255,
}
_OTHER_ATTRIBUTES_LIMIT = 32_768
"""Characters: ub-name, the largest bound there."""


def subject_fault(subject: x509.Name) -> str | None:
    """Why the subject cannot stand in a certificate, as the end of a sentence, or None.

    Source: RFC 5280 appendix A.1 (upper bounds), ISO 3166 (two letters for a country).
    """
    for attribute in subject:
        label, value = attribute.rfc4514_attribute_name, attribute.value
        limit = _UPPER_BOUNDS.get(attribute.oid, _OTHER_ATTRIBUTES_LIMIT)
        if not 0 < len(value) <= limit:
            return f"has the attribute {label} with {len(value)} characters; 1 to {limit} are allowed"
        if isinstance(value, str) and any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
            return f"has the attribute {label} with a control character in it"
        if attribute.oid == x509.NameOID.COUNTRY_NAME and not re.fullmatch(r"[A-Za-z]{2}", str(value)):
            return "has a country that is not a two-letter code"
    return None


def name_fault(name: SubjectName) -> str | None:
    """Why the value is not a name of its kind, as the end of a sentence (`has an empty label`), or None if it is one."""
    if not name.value:
        return "is empty"
    if len(name.value) > _VALUE_LIMIT:
        return f"is longer than {_VALUE_LIMIT} characters"
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in name.value):
        return "contains a control character"
    if name.kind is not NameKind.DN and not name.value.isascii():
        return "contains characters outside ASCII"
    match name.kind:
        case NameKind.DNS:
            return dns_fault(name.value)
        case NameKind.IP:
            return _ip_fault(name.value)
        case NameKind.EMAIL:
            return _email_fault(name.value)
        case NameKind.URI:
            return _uri_fault(name.value)
        case NameKind.DN:
            return _dn_fault(name)


def dns_fault(value: str, *, wildcard: bool = True) -> str | None:
    """As `name_fault` for a DNS name; a leftmost label `*` is a name here unless `wildcard` is false."""
    if len(value) > _DNS_NAME_LIMIT:
        return f"is longer than {_DNS_NAME_LIMIT} characters"
    labels = value.split(".")
    if wildcard and labels[0] == "*" and len(labels) > 1:
        labels = labels[1:]
    for label in labels:
        if (fault := _label_fault(label)) is not None:
            return fault
    if labels[-1].isdigit():
        return "ends in a number, as only an IP address does"
    return None


def _label_fault(label: str) -> str | None:
    if _LABEL.fullmatch(label):
        return None
    if not label:
        return "has an empty label (two dots in a row, or one at an end)"
    if "*" in label:
        return "has a wildcard elsewhere than as its whole leftmost label"
    if len(label) > 63:
        return "has a label of more than 63 characters"
    return f"has the label {label!r}, which is not made of letters, digits and inner hyphens"


def _ip_fault(value: str) -> str | None:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return "is not an IP address"
    # A zone says something about one host's interfaces; it has no place in eight or sixteen octets.
    return "has a zone index" if "%" in str(address) else None


def _email_fault(value: str) -> str | None:
    local, at, domain = value.rpartition("@")
    if not at:
        return "has no @"
    if len(local) > _LOCAL_PART_LIMIT or not _LOCAL_PART.fullmatch(local):
        return "has a local part that is not a dot-separated sequence of at most 64 plain characters"
    return dns_fault(domain, wildcard=False)


def _uri_fault(value: str) -> str | None:
    parts = _URI.fullmatch(value)
    if parts is None:
        return "is not an absolute URI: it needs a scheme, a colon and something after it, without blanks"
    if not _URI_CHARACTERS.fullmatch(value):
        return "contains a character that a URI must write in percent form"
    rest = parts["rest"]
    if not rest.startswith("//"):
        return None
    return _host_fault(re.split(r"[/?#]", rest[2:], maxsplit=1)[0])


def _host_fault(authority: str) -> str | None:
    """RFC 5280 section 4.2.1.6: where a URI has an authority, it must name a host by DNS name or address."""
    host_port = authority.rpartition("@")[2]
    if host_port.startswith("["):
        host, bracket, port = host_port[1:].partition("]")
        if not bracket or _ip_fault(host) is not None or (port and not re.fullmatch(r":[0-9]*", port)):
            return "has a bracketed host that is not an IPv6 address"
        return None
    host, _, port = host_port.partition(":")
    if port and not port.isdigit():
        return "has a port that is not a number"
    if _ip_fault(host) is None:
        return None
    fault = dns_fault(host, wildcard=False)
    return None if fault is None else f"has a host that {fault}"


def _dn_fault(name: SubjectName) -> str | None:
    try:
        same = from_general_name(to_general_name(name)) == name
    except (ValueError, Warning):
        return "is not a distinguished name in RFC 4514 form"
    return None if same else "is a distinguished name that does not keep its form when it is written and read again"
