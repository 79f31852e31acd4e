"""The declared tree as frozen, validated values. Only `load.py` makes them; whoever holds one may rely on every rule of it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from cryptography import x509

from spork.ids import HIERARCHY_FILE, AuthorityId
from spork.policy.issuer import Expression, KeyPolicy, NamePolicy
from spork.x509.algorithms import Algorithm
from spork.x509.authority import AuthorityKind, AuthorityURLs, KeyMode
from spork.x509.names import NameKind, common_name
from spork.x509.profile import CAConstraints


@dataclass(frozen=True, slots=True)
class Validity:
    """How long a CA certificate lives: calendar years or days, one of the two."""

    years: int = 0
    days: int = 0

    def end(self, not_before: datetime) -> datetime:
        """The last second, inclusive (RFC 5280 section 4.1.2.5). 29 February plus years ends on 28 February."""
        if not self.years:
            return not_before + timedelta(days=self.days, seconds=-1)
        try:
            later = not_before.replace(year=not_before.year + self.years)
        except ValueError:
            later = not_before.replace(year=not_before.year + self.years, day=28)
        return later - timedelta(seconds=1)

    def __str__(self) -> str:
        number, unit = (self.years, "year") if self.years else (self.days, "day")
        return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


@dataclass(frozen=True, slots=True)
class CRLSettings:
    """When a CA's revocation lists are made. The next update is stated as `interval` plus `overlap` after the last."""

    interval: timedelta
    overlap: timedelta
    delta_interval: timedelta | None = None
    """None: no delta CRLs."""


@dataclass(frozen=True, slots=True)
class URLTemplates:
    """URLs as declared; None means: derived from the public status URL. `{generation}` and `{shard}` are placeholders."""

    crl: tuple[str, ...] | None = None
    delta_crl: tuple[str, ...] | None = None
    ocsp: tuple[str, ...] | None = None
    ca_issuers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class DeclaredAuthority:
    """One CA of the tree. Its own certificate, and the URLs of what it signs."""

    id: AuthorityId
    kind: AuthorityKind
    parent_id: AuthorityId | None
    """None for the root."""
    subject: x509.Name
    algorithm: Algorithm
    validity: Validity
    constraints: CAConstraints
    key_mode: KeyMode
    crl: CRLSettings
    crl_shards: int = 1
    urls: URLTemplates = URLTemplates()
    profiles: tuple[str, ...] = ()
    """Profiles that issuers on this CA may offer; empty means all."""
    declared_by: str = HIERARCHY_FILE
    """Whose declaration this is; see `ids.HIERARCHY_FILE`."""

    @property
    def key_is_here(self) -> bool:
        return self.key_mode is not KeyMode.OFFLINE

    @property
    def common_name(self) -> str:
        """The name that people know it by; its id where it has no common name."""
        return common_name(self.subject) or self.id

    def urls_of(self, generation: int, status_url: str) -> AuthorityURLs:
        """The URLs that certificates signed by this generation carry; `{shard}` stays in them.

        A sealed or offline CA has no running OCSP responder, so it gets no OCSP URL unless one is declared.
        """
        base = f"{status_url.rstrip('/')}/crl/{self.id}/{generation}"
        shard = "/{shard}" if self.crl_shards > 1 else ""
        delta = (f"{base}{shard}/delta.crl",) if self.crl.delta_interval else ()
        ocsp = (f"{status_url.rstrip('/')}/ocsp/{self.id}",) if self.key_mode is KeyMode.ONLINE else ()
        issuers = (f"{status_url.rstrip('/')}/ca/{self.id}/{generation}.cer",)
        return AuthorityURLs(
            crl=_filled(self.urls.crl, generation, (f"{base}{shard}.crl",)),
            delta_crl=_filled(self.urls.delta_crl, generation, delta),
            ocsp=_filled(self.urls.ocsp, generation, ocsp),
            ca_issuers=_filled(self.urls.ca_issuers, generation, issuers),
        )

    def as_json(self) -> dict[str, Any]:
        """The canonical form that is stored with the authority and compared by the next plan."""
        return {
            "kind": self.kind.value,
            "parent": self.parent_id,
            "subject": self.subject.rfc4514_string(),
            "algorithm": self.algorithm.name,
            "validity": {"years": self.validity.years} if self.validity.years else {"days": self.validity.days},
            "path_length": self.constraints.path_length,
            "name_constraints": name_constraints_as_json(self.constraints.name_constraints),
            "extended_key_usage": list(self.constraints.extended_key_usage),
            "policies": list(self.constraints.policies),
            "key_mode": self.key_mode.value,
            "crl": crl_as_json(self.crl),
            "crl_shards": self.crl_shards,
            "profiles": list(self.profiles),
        }


@dataclass(frozen=True, slots=True)
class DeclaredCrossCertificate:
    """A further certificate for a CA's key, signed by another CA than its parent."""

    id: str
    issuer_id: AuthorityId
    subject_id: AuthorityId | None
    """A CA of this tree; None for a foreign one, whose name and key follow."""
    foreign_subject: x509.Name | None
    foreign_spki: bytes | None
    validity: Validity
    constraints: CAConstraints

    def as_json(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer_id,
            "subject": self.subject_id,
            "foreign_subject": self.foreign_subject.rfc4514_string() if self.foreign_subject is not None else None,
            "foreign_spki": base64.b64encode(self.foreign_spki).decode() if self.foreign_spki is not None else None,
            "validity": {"years": self.validity.years} if self.validity.years else {"days": self.validity.days},
            "path_length": self.constraints.path_length,
            "name_constraints": name_constraints_as_json(self.constraints.name_constraints),
            "extended_key_usage": list(self.constraints.extended_key_usage),
            "policies": list(self.constraints.policies),
        }


@dataclass(frozen=True, slots=True)
class DeclaredIssuer:
    """One `[[issuers]]` entry: a CA bound to profiles, policy, limits and doors."""

    name: str
    authority_id: AuthorityId
    profiles: tuple[str, ...]
    """The first is the default."""
    names: NamePolicy
    keys: KeyPolicy
    max_validity: timedelta | None
    protocols: Mapping[str, Mapping[str, Any]]
    default: bool
    expressions: tuple[Expression, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "authority": self.authority_id,
            "profiles": list(self.profiles),
            "names": names_as_json(self.names),
            "algorithms": list(self.keys.algorithms),
            "max_validity_s": int(self.max_validity.total_seconds()) if self.max_validity else None,
            "protocols": {name: dict(settings) for name, settings in self.protocols.items()},
            "default": self.default,
            "expressions": [asdict(expression) for expression in self.expressions],
        }


@dataclass(frozen=True)
class Hierarchy:
    """The whole declaration. `authorities` is ordered so that every parent stands before its children."""

    authorities: tuple[DeclaredAuthority, ...]
    cross_certificates: tuple[DeclaredCrossCertificate, ...]
    issuers: tuple[DeclaredIssuer, ...]

    @cached_property
    def by_id(self) -> Mapping[AuthorityId, DeclaredAuthority]:
        return {authority.id: authority for authority in self.authorities}

    @property
    def root(self) -> DeclaredAuthority:
        return self.authorities[0]

    @property
    def declared_by(self) -> str:
        """Whose declaration this is. A plan leaves what others have declared alone."""
        return self.root.declared_by

    def of(self, declarer: str) -> Hierarchy:
        """The same tree as somebody else's declaration."""
        return replace(self, authorities=tuple(replace(one, declared_by=declarer) for one in self.authorities))

    def children(self, authority_id: AuthorityId) -> tuple[DeclaredAuthority, ...]:
        return tuple(authority for authority in self.authorities if authority.parent_id == authority_id)

    def ancestors(self, authority_id: AuthorityId) -> Iterator[DeclaredAuthority]:
        """From the parent up to the root."""
        parent = self.by_id[authority_id].parent_id
        while parent is not None:
            yield self.by_id[parent]
            parent = self.by_id[parent].parent_id


def crl_as_json(crl: CRLSettings) -> dict[str, int | None]:
    """Whole seconds, as the schedule of revocation lists reads them."""
    return {
        "interval_s": int(crl.interval.total_seconds()),
        "overlap_s": int(crl.overlap.total_seconds()),
        "delta_interval_s": int(crl.delta_interval.total_seconds()) if crl.delta_interval else None,
    }


def name_constraints_as_json(constraints: x509.NameConstraints | None) -> dict[str, list[str]] | None:
    """`kind:value` texts, permitted and excluded; None where there are none."""
    if constraints is None:
        return None
    return {
        "permitted": [subtree_text(subtree) for subtree in constraints.permitted_subtrees or ()],
        "excluded": [subtree_text(subtree) for subtree in constraints.excluded_subtrees or ()],
    }


def subtree_text(subtree: x509.GeneralName) -> str:
    """One subtree of a name constraint as `kind:value`."""
    kinds: dict[type[x509.GeneralName], NameKind] = {
        x509.DNSName: NameKind.DNS,
        x509.IPAddress: NameKind.IP,
        x509.RFC822Name: NameKind.EMAIL,
        x509.UniformResourceIdentifier: NameKind.URI,
        x509.DirectoryName: NameKind.DN,
    }
    value = subtree.value.rfc4514_string() if isinstance(subtree, x509.DirectoryName) else str(subtree.value)
    return f"{kinds[type(subtree)].value}:{value}"


def names_as_json(names: NamePolicy) -> dict[str, Any]:
    """A name policy with sorted kinds, so that equal policies are equal texts."""
    return {
        "permit": {kind: list(patterns) for kind, patterns in sorted(names.permit.items())},
        "deny": {kind: list(patterns) for kind, patterns in sorted(names.deny.items())},
        "wildcards": names.wildcards,
    }


def _filled(declared: tuple[str, ...] | None, generation: int, derived: tuple[str, ...]) -> tuple[str, ...]:
    if declared is None:
        return derived
    return tuple(url.replace("{generation}", str(generation)) for url in declared)
