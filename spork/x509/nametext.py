"""Names as administrators write them: `kind:value`, or a bare value whose kind is plain to see."""

from __future__ import annotations

import ipaddress

from spork.errors import Code, SporkError
from spork.x509.names import NameKind, SubjectName, dns, ip
from spork.x509.namesyntax import name_fault

_KINDS = {kind.value: kind for kind in NameKind}


def name_from_text(text: str) -> SubjectName:
    """Reads `kind:value` (`dns:example.com`, `ip:192.0.2.1`, `email:`, `uri:`, `dn:`) into canonical form.

    Raises SporkError(UNSUPPORTED_IDENTIFIER) naming what is wrong.
    """
    word, colon, value = text.partition(":")
    kind = _KINDS.get(word.strip().lower())
    if not colon or kind is None:
        raise SporkError(
            Code.UNSUPPORTED_IDENTIFIER,
            f"{text!r} is not a name; write it as kind:value with a kind of {', '.join(_KINDS)}.",
        )
    return _canonical(kind, value.strip())


def name_from_plain_text(text: str) -> SubjectName:
    """As `name_from_text`, and takes bare addresses, mailboxes, URIs with `://` and DNS names too."""
    if text.partition(":")[0].strip().lower() in _KINDS and ":" in text:
        return name_from_text(text)
    try:
        return ip(text)
    except ValueError:
        pass
    if "://" in text:
        return _canonical(NameKind.URI, text)
    return _canonical(NameKind.EMAIL if "@" in text else NameKind.DNS, text)


def name_of_common_name(text: str) -> SubjectName | None:
    """The address or DNS name that a commonName spells, or None where it is merely a name."""
    try:
        return ip(text)
    except ValueError:
        name = dns(text)
    return name if "." in name.value and name_fault(name) is None else None


def _canonical(kind: NameKind, value: str) -> SubjectName:
    match kind:
        case NameKind.DNS:
            name = dns(value)
        case NameKind.IP:
            try:
                name = SubjectName(kind, ipaddress.ip_address(value).compressed)
            except ValueError:
                name = SubjectName(kind, value)
        case NameKind.EMAIL:
            local, at, domain = value.rpartition("@")
            name = SubjectName(kind, f"{local}{at}{domain.lower()}")
        case _:
            name = SubjectName(kind, value)
    if (fault := name_fault(name)) is not None:
        raise SporkError(Code.UNSUPPORTED_IDENTIFIER, f"{kind.value}:{value} {fault}.")
    return name
