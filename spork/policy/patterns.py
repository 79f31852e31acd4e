"""Name patterns of an issuer: which names may be certified.

    dns    example.com          this name only
           *.example.com        one label below it; also the wildcard name `*.example.com`
           **.example.com       any depth below it (`.example.com` means the same); also wildcard names there
    ip     192.0.2.0/24         a network; a bare address is a network of one
    email  user@example.com     this mailbox (the local part in exactly this case)
           @example.com         every mailbox of this domain
           @.example.com        every mailbox of the domains below it
    uri    https://host/path    this scheme, host and port, and the path or what lies below it
    dn     O=Example,C=DE       distinguished names below this one (RFC 4514); `*` is every name

A deny pattern beats every permit pattern, and is read more widely: it refuses a wildcard name that only covers a denied name,
a mailbox in another case, an IPv4 address written as an IPv6 one, and a URI on any port.

`{namespace}` in a pattern of any kind but ip stands for the Kubernetes namespace of who asks, a DNS label.

Internationalised names are written as A-labels (`xn--...`), as they stand in certificates.
Source: RFC 5280 sections 4.2.1.6 and 7; RFC 6125 section 6.4.3 (a wildcard is one whole label); RFC 3986 section 6.2.2.
"""

from __future__ import annotations

import ipaddress
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from cryptography import x509

from spork.errors import ConfigurationError
from spork.policy.issuer import NamePolicy
from spork.x509.names import NameKind, SubjectName
from spork.x509.namesyntax import dns_fault, name_fault

Matcher = Callable[[str, bool], bool]
"""Whether a name's value is matched; the flag says that the pattern denies, and therefore is read widely."""
NAMESPACE = "{namespace}"
_DEFAULT_PORTS = {"http": 80, "https": 443, "ldap": 389, "ldaps": 636}


@dataclass(frozen=True, slots=True)
class NameMatcher:
    """A policy's patterns, compiled."""

    permit: Mapping[NameKind, tuple[tuple[str, Matcher], ...]]
    deny: Mapping[NameKind, tuple[tuple[str, Matcher], ...]]

    def objection(self, name: SubjectName) -> str | None:
        """Why the name may not be certified, as the end of a sentence that starts with the name, or None if it may."""
        for pattern, matches in self.deny.get(name.kind, ()):
            if matches(name.value, True):
                return f"is denied by the issuer's pattern {pattern!r}"
        permitted = self.permit.get(name.kind, ())
        if any(matches(name.value, False) for _, matches in permitted):
            return None
        if not permitted:
            return f"is refused: the issuer permits no {name.kind.value} names"
        return "is not permitted by any of the issuer's patterns"


def check_pattern(kind: NameKind | str, text: str) -> None:
    """Raises ConfigurationError with a sentence if the text is not a pattern of that kind."""
    _compile(_kind(kind), text.replace(NAMESPACE, "namespace"))


def compiled(policy: NamePolicy, namespace: str = "") -> NameMatcher:
    """The policy's patterns for who asks from that namespace, compiled once. Raises ConfigurationError for a bad pattern."""
    # Policies hold mappings and cannot be hashed; they are immutable and live as long as the issuer's snapshot. The cache
    # keeps each policy alive beside its patterns, so that no other object can get the same address meanwhile.
    key = (id(policy), namespace if _speaks_of_namespaces(policy) else "")
    found = _CACHE.get(key)
    if found is not None:
        return found[1]
    matcher = NameMatcher(_compiled_all(policy.permit, namespace), _compiled_all(policy.deny, namespace))
    _CACHE[key] = (policy, matcher)
    while len(_CACHE) > _CACHE_SIZE:
        _CACHE.popitem(last=False)
    return matcher


_CACHE: OrderedDict[tuple[int, str], tuple[NamePolicy, NameMatcher]] = OrderedDict()
_CACHE_SIZE = 4096
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _speaks_of_namespaces(policy: NamePolicy) -> bool:
    return any(NAMESPACE in text for part in (policy.permit, policy.deny) for texts in part.values() for text in texts)


def _compiled_all(
    patterns: Mapping[str, tuple[str, ...]], namespace: str
) -> dict[NameKind, tuple[tuple[str, Matcher], ...]]:
    known = _LABEL.fullmatch(namespace) is not None
    return {
        _kind(kind): tuple(
            (text, _compile(_kind(kind), text.replace(NAMESPACE, namespace)))
            for text in texts
            if known or NAMESPACE not in text
        )
        for kind, texts in patterns.items()
    }


def _kind(kind: NameKind | str) -> NameKind:
    try:
        return NameKind(kind)
    except ValueError:
        raise ConfigurationError(
            f"There is no kind of name {str(kind)!r}; known are {', '.join(one.value for one in NameKind)}."
        ) from None


def _compile(kind: NameKind, text: str) -> Matcher:
    if not text or text != text.strip():
        raise ConfigurationError(f"The {kind.value} pattern {text!r} is empty or has blanks around it.")
    match kind:
        case NameKind.DNS:
            return _dns(text)
        case NameKind.IP:
            return _ip(text)
        case NameKind.EMAIL:
            return _email(text)
        case NameKind.URI:
            return _uri(text)
        case NameKind.DN:
            return _dn(text)


def _dns(text: str) -> Matcher:
    lowered = text.lower()
    depth, base = "", lowered
    for prefix, meaning in (("**.", "any"), ("*.", "one"), (".", "any")):
        if lowered.startswith(prefix):
            depth, base = meaning, lowered.removeprefix(prefix)
            break
    _check_domain("dns", text, base)
    below = f".{base}"
    if depth == "any":
        # A wildcard of the base itself (`*.example.com`) only covers names below it, so it belongs here too.
        return lambda name, denies: name.endswith(below)
    if depth == "one":
        return lambda name, denies: name.endswith(below) and "." not in name.removesuffix(below)
    parent = base.partition(".")[2]
    covering = f"*.{parent}" if parent else ""
    return lambda name, denies: name == base or (denies and name == covering)


def _check_domain(kind: str, text: str, domain: str) -> None:
    if not domain.isascii():
        try:
            hint = f"; write it as {domain.encode('idna').decode()}"
        except UnicodeError:
            hint = ""
        raise ConfigurationError(f"The {kind} pattern {text!r} is not in A-label form{hint}.")
    fault = dns_fault(domain, wildcard=False)
    if fault is not None:
        raise ConfigurationError(f"The {kind} pattern {text!r} {fault}.")


def _ip(text: str) -> Matcher:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        try:
            hint = f"; did you mean {ipaddress.ip_network(text, strict=False)}?"
        except ValueError:
            hint = "; write it as 192.0.2.0/24 or 2001:db8::/32."
        raise ConfigurationError(f"The ip pattern {text!r} is not a network{hint}") from None

    def matches(name: str, denies: bool) -> bool:
        address = ipaddress.ip_address(name)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return address in network or (denies and mapped is not None and mapped in network)

    return matches


def _email(text: str) -> Matcher:
    local, at, domain = text.rpartition("@")
    domain = domain.lower()
    if not at:
        raise ConfigurationError(
            f"The email pattern {text!r} has no @; write user@example.com, @example.com or @.example.com."
        )
    if local:
        if (fault := name_fault(SubjectName(NameKind.EMAIL, f"{local}@{domain}"))) is not None:
            raise ConfigurationError(f"The email pattern {text!r} {fault}.")
        exact = f"{local}@{domain}"
        return lambda name, denies: name == exact or (denies and name.lower() == exact.lower())
    below = domain.startswith(".")
    _check_domain("email", text, domain.removeprefix("."))
    return lambda name, denies: name.rpartition("@")[2].endswith(domain) if below else name.rpartition("@")[2] == domain


@dataclass(frozen=True, slots=True)
class _URI:
    """What counts of a URI, normalised. None of a URI that can be read in two ways is ever made."""

    scheme: str
    host: str
    port: int | None
    segments: tuple[str, ...]


_UNRESERVED_ESCAPE = re.compile(r"%(?:2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _uri(text: str) -> Matcher:
    wanted = _parsed_uri(text)
    if wanted is None or "?" in text or "#" in text:
        raise ConfigurationError(
            f"The uri pattern {text!r} must be scheme://host, perhaps with a port and a path, without user, query, "
            "fragment, empty or dot segments."
        )

    def matches(name: str, denies: bool) -> bool:
        uri = _parsed_uri(name)
        if uri is None:
            # It can be read in more than one way, so no pattern permits it, and every one may mean it.
            return denies
        same_place = (uri.scheme, uri.host) == (wanted.scheme, wanted.host) and (denies or uri.port == wanted.port)
        return same_place and uri.segments[: len(wanted.segments)] == wanted.segments

    return matches


def _parsed_uri(text: str) -> _URI | None:
    if not text.isascii() or "\\" in text or _PERCENT.search(text):
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").rstrip(".")
    if not parts.scheme or not host or "@" in parts.netloc or "%" in parts.netloc:
        return None
    segments = _segments(parts)
    if segments is None:
        return None
    scheme = parts.scheme.lower()
    return _URI(scheme, host, port or _DEFAULT_PORTS.get(scheme), segments)


def _segments(parts: SplitResult) -> tuple[str, ...] | None:
    """The path's segments, or None if servers disagree about what they mean."""
    path = _UNRESERVED_ESCAPE.sub(lambda escape: unquote(escape.group()), parts.path)
    segments = path.removeprefix("/").removesuffix("/").split("/") if path.strip("/") else []
    strange = any(one in ("", ".", "..") or "/" in unquote(one) or "\\" in unquote(one) for one in segments)
    return None if strange or "//" in path else tuple(segments)


def _dn(text: str) -> Matcher:
    if text == "*":
        return lambda name, denies: True
    wanted = tuple(_comparable(rdn) for rdn in _parsed_name(text))

    def matches(name: str, denies: bool) -> bool:
        # RFC 4514 writes the most significant RDN last, so a suffix of the text is a prefix of the sequence.
        return starts_with(x509.Name.from_rfc4514_string(name), wanted)

    return matches


def _parsed_name(text: str) -> list[x509.RelativeDistinguishedName]:
    try:
        rdns = list(x509.Name.from_rfc4514_string(text).rdns)
    except (ValueError, Warning) as error:
        raise ConfigurationError(f"The dn pattern {text!r} is not a distinguished name (RFC 4514): {error}.") from None
    if not rdns:
        raise ConfigurationError("An empty dn pattern would permit every name; write * if that is meant.")
    if any(not attribute.value for rdn in rdns for attribute in rdn):
        raise ConfigurationError(f"The dn pattern {text!r} has an attribute without a value.")
    return rdns


ComparableRDN = frozenset[tuple[str, str | bytes]]


def _comparable(rdn: x509.RelativeDistinguishedName) -> ComparableRDN:
    # RFC 5280 section 7.1: case and repeated blanks do not count, nor does the string type.
    return frozenset(
        (one.oid.dotted_string, " ".join(one.value.casefold().split()) if isinstance(one.value, str) else one.value)
        for one in rdn
    )


def comparable_rdns(name: x509.Name) -> tuple[ComparableRDN, ...]:
    """The RDNs in the order of the certificate, in a form in which equal means equal by RFC 5280 section 7.1."""
    return tuple(_comparable(rdn) for rdn in name.rdns)


def starts_with(name: x509.Name, above: tuple[ComparableRDN, ...]) -> bool:
    """Whether a name lies at or below another one. Compares RDN by RDN, never as text."""
    return comparable_rdns(name)[: len(above)] == above
