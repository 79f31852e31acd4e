"""Single values of a hierarchy file: each function reads one, or notes the problem and gives a harmless stand-in.

A stand-in lets the checks go on, so that one run shows every fault; no value of a file with a problem ever leaves `load.py`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spork.hierarchy.model import Validity
from spork.hierarchy.positions import Path
from spork.hierarchy.problems import Problems
from spork.hierarchy.spec import LimitsSpec, NameConstraintsSpec, NamesSpec, SubjectSpec
from spork.x509.names import NameKind

MAX_VALIDITY_DAYS = 36525
"""A hundred years: longer than any key in the table can be trusted, short enough for every date type that clients use."""

STAND_IN_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "invalid")])

_DURATION = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,38})){1,31}")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?")
# From the country down to the common name, each with its upper bound of RFC 5280 appendix A.1.
_FIELDS = (
    ("country", NameOID.COUNTRY_NAME, 2),
    ("state", NameOID.STATE_OR_PROVINCE_NAME, 128),
    ("locality", NameOID.LOCALITY_NAME, 128),
    ("organization", NameOID.ORGANIZATION_NAME, 64),
    ("organizational_unit", NameOID.ORGANIZATIONAL_UNIT_NAME, 64),
    ("common_name", NameOID.COMMON_NAME, 64),
)
_UPPER_BOUNDS = {oid: bound for _, oid, bound in _FIELDS}
EXTENDED_KEY_USAGES = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH.dotted_string,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string,
    "codeSigning": ExtendedKeyUsageOID.CODE_SIGNING.dotted_string,
    "emailProtection": ExtendedKeyUsageOID.EMAIL_PROTECTION.dotted_string,
    "timeStamping": ExtendedKeyUsageOID.TIME_STAMPING.dotted_string,
    "OCSPSigning": ExtendedKeyUsageOID.OCSP_SIGNING.dotted_string,
    "anyExtendedKeyUsage": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string,
}


def subject_name(spec: SubjectSpec, path: Path, problems: Problems) -> x509.Name:
    """The distinguished name, from the fields or from `subject`."""
    given = [(key, oid, value) for key, oid, _ in _FIELDS if (value := getattr(spec, key)) is not None]
    for key, _, value in given:
        if not value.strip() or not value.isprintable():
            problems.add((*path, key), "a name is made of printable characters and is not empty.")
            return STAND_IN_NAME
    if spec.subject is not None:
        if given:
            problems.add((*path, "subject"), f"`subject` is the whole name; leave out {given[0][0]!r}.")
        return _from_rfc4514(spec.subject, (*path, "subject"), problems)
    if spec.common_name is None:
        problems.add(path, "a CA needs `common_name` or `subject`.")
        return STAND_IN_NAME
    attributes = []
    for key, oid, value in given:
        try:
            attributes.append(x509.NameAttribute(oid, value))
        except ValueError as error:
            problems.add((*path, key), f"{value!r} cannot stand in a name: {_lower_first(str(error))}.")
            return STAND_IN_NAME
        if len(value) > _UPPER_BOUNDS[oid]:
            problems.add((*path, key), f"it is {len(value)} characters long; at most {_UPPER_BOUNDS[oid]}.")
    return x509.Name(attributes)


def _from_rfc4514(text: str, path: Path, problems: Problems) -> x509.Name:
    try:
        name = x509.Name.from_rfc4514_string(text) if text.isprintable() else x509.Name([])
    except ValueError:
        name = x509.Name([])
    if not name.rdns:
        problems.add(
            path,
            f"{text!r} is not a distinguished name as RFC 4514 writes it, such as 'CN=Root CA,O=Example' without blanks.",
        )
        return STAND_IN_NAME
    for attribute in name:
        bound = _UPPER_BOUNDS.get(attribute.oid, len(attribute.value))
        if len(attribute.value) > bound:
            problems.add(
                path, f"{attribute.rfc4514_attribute_name} is {len(attribute.value)} characters long; at most {bound}."
            )
    return name


def validity(spec: LimitsSpec, path: Path, problems: Problems) -> Validity:
    """`validity_years` or `validity_days`, exactly one of the two."""
    years, days = spec.validity_years, spec.validity_days
    if (years is None) == (days is None):
        sentence = "say either" if years is not None else "a certificate needs"
        problems.add(
            (*path, "validity_days") if days is not None else path,
            f"{sentence} `validity_years` or `validity_days`{', not both' if years is not None else ''}.",
        )
        return Validity(days=1)
    key, value, limit = (
        ("validity_years", years, MAX_VALIDITY_DAYS // 365)
        if days is None
        else ("validity_days", days, MAX_VALIDITY_DAYS)
    )
    if value is None or not 1 <= value <= limit:
        problems.add((*path, key), f"{value} is out of range; at least 1, at most {limit}.")
        return Validity(days=1)
    return Validity(years=value) if days is None else Validity(days=value)


def path_length(value: int | None, path: Path, problems: Problems) -> int | None:
    """A path length, 0 to 10."""
    if value is not None and not 0 <= value <= 10:
        problems.add((*path, "path_length"), f"{value} is out of range; at least 0, at most 10.")
        return None
    return value


def duration(text: str, path: Path, problems: Problems) -> timedelta:
    """A whole number with its unit: s, m, h, d or w."""
    found = _DURATION.fullmatch(text)
    if found is None or int(found[1]) == 0:
        problems.add(path, f"{text!r} is not a duration; write a number above 0 and s, m, h, d or w, such as '24h'.")
        return timedelta(days=1)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def oid(text: str, path: Path, problems: Problems) -> str | None:
    """A dotted object identifier."""
    try:
        if _OID.fullmatch(text) is None:
            raise ValueError
        x509.ObjectIdentifier(text)
    except ValueError:
        problems.add(path, f"{text!r} is not an object identifier; write it with dots, such as '1.3.6.1.4.1.99999.1'.")
        return None
    return text


def oids(texts: Sequence[str], path: Path, problems: Problems) -> tuple[str, ...]:
    """A list of dotted object identifiers without doubles."""
    return _distinct([oid(text, (*path, index), problems) for index, text in enumerate(texts)], path, problems)


def extended_key_usages(texts: Sequence[str], path: Path, problems: Problems) -> tuple[str, ...]:
    """Names such as `serverAuth`, or dotted object identifiers; gives the latter."""
    found: list[str | None] = []
    for index, text in enumerate(texts):
        if text[:1].isdigit():
            found.append(oid(text, (*path, index), problems))
        elif text in EXTENDED_KEY_USAGES:
            found.append(EXTENDED_KEY_USAGES[text])
        else:
            problems.unknown((*path, index), "extended key usage", text, EXTENDED_KEY_USAGES)
    return _distinct(found, path, problems)


def _distinct(found: Sequence[str | None], path: Path, problems: Problems) -> tuple[str, ...]:
    known = [text for text in found if text is not None]
    if len(set(known)) != len(known):
        problems.add(path, "a value stands here twice.")
    return tuple(dict.fromkeys(known))


def urls(
    texts: Sequence[str] | None, path: Path, problems: Problems, *, sharded: bool = False
) -> tuple[str, ...] | None:
    """Plain http URLs. `{generation}` may stand in them, and `{shard}` must where the CA has shards."""
    for index, text in enumerate(texts or ()):
        if sentence := _wrong_url(text, sharded):
            problems.add((*path, index), sentence)
    return None if texts is None else tuple(texts)


def _wrong_url(text: str, sharded: bool) -> str | None:
    try:
        parts = urlsplit(text.replace("{generation}", "1").replace("{shard}", "1"))
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return f"{text!r} is not a URL."
    if not text.isascii() or not text.isprintable() or " " in text:
        return f"{text!r} is not a URL: it has characters that must be escaped."
    if parts.scheme == "https":
        # A client that must check a certificate to read the list that tells whether certificates are valid turns in a circle.
        return f"{text!r} must be plain http: who fetches it is just about to find out which certificates are valid."
    if parts.scheme != "http" or not host:
        return f"{text!r} is not an http URL with a host."
    if "{" in parts.path or "}" in parts.path:
        return f"{text!r} has a placeholder that is neither {{generation}} nor {{shard}}."
    if sharded and "{shard}" not in text:
        return f"{text!r} needs {{shard}}, because the CA has more than one CRL."
    if not sharded and "{shard}" in text:
        return f"{text!r} has {{shard}}, but there is one CRL only."
    return None


def name_constraints(spec: NameConstraintsSpec | None, path: Path, problems: Problems) -> x509.NameConstraints | None:
    """The subtrees by kind. An empty table is an error, because RFC 5280 section 4.2.1.10 forbids an empty extension."""
    if spec is None:
        return None
    permitted = _subtrees(spec.permitted, (*path, "permitted"), problems)
    excluded = _subtrees(spec.excluded, (*path, "excluded"), problems)
    if not permitted and not excluded:
        problems.add(
            path, "name constraints need at least one permitted or excluded subtree; leave the table out for no limit."
        )
        return None
    return x509.NameConstraints(permitted or None, excluded or None)


def _subtrees(spec: NamesSpec, path: Path, problems: Problems) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for kind in NameKind:
        for index, text in enumerate(getattr(spec, kind.value)):
            try:
                subtree = _subtree(kind, text)
            except ValueError as error:
                problems.add((*path, kind.value, index), f"{text!r} is not a subtree of kind {kind.value}: {error}.")
                continue
            if subtree in found:
                problems.add((*path, kind.value, index), f"{text!r} stands here twice.")
            found.append(subtree)
    return found


def _subtree(kind: NameKind, text: str) -> x509.GeneralName:
    """One subtree (RFC 5280 section 4.2.1.10). Raises ValueError with the reason."""
    match kind:
        case NameKind.DNS:
            if text.startswith("."):
                raise ValueError(f"write {text[1:]!r}, which covers the names below it as well")
            return x509.DNSName(_host(text))
        case NameKind.IP:
            return x509.IPAddress(ipaddress.ip_network(text))
        case NameKind.EMAIL:
            local, at, host = text.rpartition("@")
            if at and not re.fullmatch(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+", local):
                raise ValueError("the part before the @ is not one of an address")
            return x509.RFC822Name(f"{local}@{_host(host)}" if at else _host(text, dot=True))
        case NameKind.URI:
            if ":" in text or "/" in text:
                raise ValueError(
                    "a constraint on URIs is a host such as 'example.com', or '.example.com' for hosts below it"
                )
            return x509.UniformResourceIdentifier(_host(text, dot=True))
        case NameKind.DN:
            name = x509.Name.from_rfc4514_string(text)
            if not name.rdns:
                raise ValueError("it is empty")
            return x509.DirectoryName(name)


def _host(text: str, *, dot: bool = False) -> str:
    bare = text.removeprefix(".") if dot else text
    if not bare or len(bare) > 253 or any(_LABEL.fullmatch(label) is None for label in bare.split(".")):
        raise ValueError(
            "a host name has lower-case letters, digits and hyphens, and its labels are joined by single dots"
        )
    return text


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")
