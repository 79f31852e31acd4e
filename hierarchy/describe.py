"""Extensions in words: one name and a few lines each, for people who check a certificate before it is signed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from spork.hierarchy.model import subtree_text
from spork.hierarchy.values import EXTENDED_KEY_USAGES

_ANY_POLICY = "2.5.29.32.0"
_USAGE_NAMES = {oid: name for name, oid in EXTENDED_KEY_USAGES.items()}
_KEY_USAGES = (
    ("digital_signature", "digitalSignature"),
    ("content_commitment", "nonRepudiation"),
    ("key_encipherment", "keyEncipherment"),
    ("data_encipherment", "dataEncipherment"),
    ("key_agreement", "keyAgreement"),
    ("key_cert_sign", "keyCertSign"),
    ("crl_sign", "cRLSign"),
)


@dataclass(frozen=True, slots=True)
class Described:
    """One extension: RFC 5280's name of it, and its content, a line per value."""

    name: str
    critical: bool
    lines: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "critical": self.critical, "content": list(self.lines)}


def describe_extensions(extensions: x509.Extensions, shards: int | None = None) -> tuple[Described, ...]:
    """All extensions in their order. With `shards`, the shard's number in CRL URLs is shown as a range."""
    return tuple(_described(extension, shards) for extension in extensions)


def _described(extension: x509.Extension[Any], shards: int | None) -> Described:
    name, lines = _content(extension.value)
    if shards is not None and name in ("cRLDistributionPoints", "freshestCRL"):
        lines = [line.replace("/2.crl", f"/{{1..{shards}}}.crl").replace("/2/", f"/{{1..{shards}}}/") for line in lines]
    return Described(name, extension.critical, tuple(lines))


def _content(value: x509.ExtensionType) -> tuple[str, list[str]]:
    match value:
        case x509.BasicConstraints():
            length = "any path length" if value.path_length is None else f"path length {value.path_length}"
            return "basicConstraints", [f"CA, {length}" if value.ca else "no CA"]
        case x509.KeyUsage():
            return "keyUsage", [", ".join(name for flag, name in _KEY_USAGES if getattr(value, flag))]
        case x509.ExtendedKeyUsage():
            return "extendedKeyUsage", [", ".join(_USAGE_NAMES.get(o.dotted_string, o.dotted_string) for o in value)]
        case x509.SubjectKeyIdentifier():
            return "subjectKeyIdentifier", ["from its own key"]
        case x509.AuthorityKeyIdentifier():
            return "authorityKeyIdentifier", ["from its issuer's key"]
        case x509.CertificatePolicies():
            return "certificatePolicies", [_policy(one.policy_identifier.dotted_string) for one in value]
        case x509.NameConstraints():
            return "nameConstraints", list(_subtrees(value))
        case x509.CRLDistributionPoints():
            return "cRLDistributionPoints", list(_urls(value))
        case x509.FreshestCRL():
            return "freshestCRL", list(_urls(value))
        case x509.AuthorityInformationAccess():
            return "authorityInfoAccess", [_access(one) for one in value]
        case x509.UnrecognizedExtension():
            return value.oid.dotted_string, [value.value.hex()]
        case _:
            return value.oid._name, [str(value)]


def _policy(oid: str) -> str:
    return "anyPolicy" if oid == _ANY_POLICY else oid


def _subtrees(constraints: x509.NameConstraints) -> Iterator[str]:
    for word, subtrees in (
        ("permitted", constraints.permitted_subtrees),
        ("excluded", constraints.excluded_subtrees),
    ):
        yield from (f"{word} {subtree_text(subtree)}" for subtree in subtrees or ())


def _urls(points: Iterable[x509.DistributionPoint]) -> Iterator[str]:
    for point in points:
        yield from (str(name.value) for name in point.full_name or ())


def _access(description: x509.AccessDescription) -> str:
    kinds = {"1.3.6.1.5.5.7.48.1": "OCSP", "1.3.6.1.5.5.7.48.2": "CA issuers"}
    oid = description.access_method.dotted_string
    return f"{kinds.get(oid, oid)} {description.access_location.value}"
