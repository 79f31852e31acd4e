"""CAs as the tree is built from them: what is stored, and what is to be stored.

`hierarchy` plans with these values and `store` keeps them; the two do not know each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from spork.ids import HIERARCHY_FILE, AuthorityId, KeyId
from spork.policy.issuer import Issuer
from spork.x509.authority import AuthorityKind, AuthorityURLs, KeyMode


@dataclass(frozen=True, slots=True)
class GenerationState:
    """One key of a CA as it is stored."""

    generation: int
    key_id: KeyId | None
    algorithm: str
    spki: bytes
    certificate_der: bytes | None
    pending_csr: bytes | None
    urls: AuthorityURLs


@dataclass(frozen=True, slots=True)
class AuthorityState:
    """One CA as it is stored, with its current generation."""

    id: AuthorityId
    kind: AuthorityKind
    parent_id: AuthorityId | None
    subject_der: bytes
    key_mode: KeyMode
    spec: Mapping[str, Any]
    """The declaration that was built last, in its canonical JSON form (`hierarchy`)."""
    crl_shards: int
    current: GenerationState | None
    disabled: bool = False
    live_certificates: int = 0
    """Certificates signed by it, of any generation, that are issued, not expired and not revoked; its own is not counted."""
    declared_by: str = HIERARCHY_FILE
    """Whose declaration it comes from; see `ids.HIERARCHY_FILE`."""


@dataclass(frozen=True, slots=True)
class CrossState:
    """A cross-certificate as it is recorded: profile `cross`, with `attributes` {"cross": {"id": ..., "spec": ...}}."""

    id: str
    issuer_id: AuthorityId
    spki_sha256: bytes
    spec: Mapping[str, Any]
    """The declaration in its canonical JSON form."""
    certificate_der: bytes


@dataclass(frozen=True, slots=True)
class TreeState:
    """All that a plan compares with: one consistent snapshot. The management CA is not in it."""

    authorities: Mapping[AuthorityId, AuthorityState] = field(default_factory=dict)
    cross_certificates: tuple[CrossState, ...] = ()
    """The latest of each id."""
    issuers: tuple[Issuer, ...] = ()
    """Those without a namespace that are not disabled, of every origin."""


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """A key that is to become a generation of a CA."""

    generation: int
    key_id: KeyId | None
    algorithm: str
    spki: bytes
    urls: AuthorityURLs


@dataclass(frozen=True, slots=True)
class NewAuthority:
    """A CA that is to be stored with its first generation, before it has a certificate."""

    id: AuthorityId
    kind: AuthorityKind
    parent_id: AuthorityId | None
    subject_der: bytes
    key_mode: KeyMode
    spec: Mapping[str, Any]
    crl_shards: int
    first: NewGeneration
    declared_by: str = HIERARCHY_FILE


@dataclass(frozen=True, slots=True)
class ImportedCertificate:
    """A CA's certificate that was signed elsewhere, to be recorded as issued by the CA that signed it."""

    authority_id: AuthorityId
    """Whose certificate it is."""
    generation: int
    issuer_id: AuthorityId
    issuer_generation: int
    serial: int
    profile: str
    subject: str
    """RFC 4514."""
    spki_sha256: bytes
    not_before: datetime
    not_after: datetime
    der: bytes
