"""A TBSCertificate as the lint rules look at it: read back from its octets, never from what it was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Literal, TypeVar

from cryptography import x509
from cryptography.hazmat import asn1

from spork.x509.algorithms import Family
from spork.x509.authority import Authority
from spork.x509.der import CertificateTBS, TBSCertificate, wrap
from spork.x509.profile import Profile

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)
Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class IssuerLimits:
    """What the issuer's certificate and those above it say about what may stand below."""

    path_length: int | None
    """How many CA certificates may still follow the issuer's; negative where the path is too long already."""
    name_constraints: tuple[x509.NameConstraints, ...]
    extended_key_usages: tuple[frozenset[str], ...]
    """One set of OIDs for each CA that is limited."""
    not_before: datetime | None


@dataclass(slots=True)
class View:
    """One certificate to be. `certificate` and `extensions` are set once the fields were found sound."""

    tbs: CertificateTBS
    profile: Profile
    authority: Authority
    fields: TBSCertificate
    issuer: bytes
    subject: bytes
    spki: bytes
    family: Family | None
    """None where the key is of no known kind."""
    self_signed: bool
    certificate: x509.Certificate | None = None
    extensions: dict[type[x509.ExtensionType], x509.Extension[x509.ExtensionType]] = field(default_factory=dict)

    def value(self, kind: type[_Kind]) -> _Kind | None:
        """The value of an extension, or None where it is absent."""
        found = self.extensions.get(kind)
        return found.value if found is not None and isinstance(found.value, kind) else None

    def critical(self, kind: type[x509.ExtensionType]) -> bool:
        """Whether the extension is there and critical."""
        found = self.extensions.get(kind)
        return found is not None and found.critical

    @property
    def not_before(self) -> datetime:
        return self.fields.validity.not_before.as_datetime()

    @property
    def not_after(self) -> datetime:
        return self.fields.validity.not_after.as_datetime()

    @property
    def subject_name(self) -> x509.Name:
        assert self.certificate is not None
        return self.certificate.subject

    @property
    def alternative_names(self) -> list[x509.GeneralName]:
        return list(self.value(x509.SubjectAlternativeName) or ())

    @property
    def limits(self) -> IssuerLimits:
        """Of the issuer; a self-signed certificate has none above it."""
        own = self.authority.certificate
        return _NO_LIMITS if own is None or self.self_signed else _limits((own, *self.authority.chain))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `check` gives a sentence about what is wrong, or None."""

    code: str
    severity: Severity
    check: Callable[[View], str | None]


def parsed(tbs: CertificateTBS, authority: Authority) -> x509.Certificate:
    """The TBS as `cryptography` reads it, under a signature that is none. Raises what its parser raises."""
    return x509.load_der_x509_certificate(wrap(tbs, authority.algorithm, b"\x00"))


def octets(value: asn1.TLV) -> bytes:
    """The whole TLV."""
    return asn1.encode_der(value)


_NO_LIMITS = IssuerLimits(None, (), (), None)


@lru_cache(maxsize=256)
def _limits(path: tuple[x509.Certificate, ...]) -> IssuerLimits:
    """`path` runs from the issuer's certificate up to the root's."""
    lengths, constraints, usages = [], [], []
    for distance, certificate in enumerate(path):
        for extension in certificate.extensions:
            match extension.value:
                case x509.BasicConstraints(path_length=int(length)):
                    lengths.append(length - _intermediates(path[:distance]))
                case x509.NameConstraints():
                    constraints.append(extension.value)
                case x509.ExtendedKeyUsage():
                    usages.append(frozenset(oid.dotted_string for oid in extension.value))
    return IssuerLimits(
        path_length=min(lengths, default=None),
        name_constraints=tuple(constraints),
        extended_key_usages=tuple(usages),
        not_before=path[0].not_valid_before_utc,
    )


def _intermediates(path: Sequence[x509.Certificate]) -> int:
    """Self-issued certificates do not count towards a path's length (RFC 5280 section 4.2.1.9)."""
    return sum(1 for certificate in path if certificate.subject != certificate.issuer)
