"""What building a tree needs of the world. `store` and `keys` satisfy these by shape; `services` hands them in."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from spork.hierarchy.model import DeclaredIssuer
from spork.ids import AuthorityId, CertificateId, KeyId
from spork.issuance.ports import AuditEvent
from spork.policy.issuer import Issuer
from spork.x509.algorithms import Algorithm
from spork.x509.authority import AuthorityKind, AuthorityURLs, KeyMode
from spork.x509.der import KeyPurpose


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
    """`DeclaredAuthority.as_json()` of the declaration that was built last."""
    crl_shards: int
    current: GenerationState | None
    disabled: bool = False
    live_certificates: int = 0
    """Certificates signed by it, of any generation, that are issued, not expired and not revoked; its own is not counted."""


@dataclass(frozen=True, slots=True)
class CrossState:
    """A cross-certificate as it is recorded."""

    id: str
    issuer_id: AuthorityId
    spki_sha256: bytes
    spec: Mapping[str, Any]
    """`DeclaredCrossCertificate.as_json()`."""
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


class TreeStore(Protocol):
    """Where the tree is kept. Each method is one transaction, with its audit event inside; each may be repeated."""

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Held while a plan is made and carried out. Raises SporkError(CONFLICT) if another process holds it."""
        ...

    async def read_tree(self) -> TreeState: ...

    async def unused_key(
        self, authority_id: AuthorityId, algorithm: str, kind: Literal["online", "sealed"]
    ) -> tuple[KeyId, bytes] | None:
        """A key that was made for this CA (its audit event has the subject `authority:<id>`) and that no generation has taken.

        A process that was killed between making a key and storing its CA leaves one behind.
        """
        ...

    async def create_authority(self, authority: NewAuthority, audit: AuditEvent) -> None:
        """Raises SporkError(CONFLICT) if the id, the name or the key is taken."""
        ...

    async def set_certificate(
        self,
        authority_id: AuthorityId,
        generation: int,
        certificate_der: bytes,
        not_after: datetime,
        spec: Mapping[str, Any],
        audit: AuditEvent,
    ) -> None:
        """Makes a recorded certificate the one of this generation, and drops a pending request."""
        ...

    async def set_pending_csr(
        self, authority_id: AuthorityId, generation: int, csr: bytes, audit: AuditEvent
    ) -> None: ...

    async def import_certificate(
        self, certificate: ImportedCertificate, spec: Mapping[str, Any], audit: AuditEvent
    ) -> CertificateId:
        """Records a certificate as issued and makes it the one of its generation, in one transaction."""
        ...

    async def update_authority(
        self,
        authority_id: AuthorityId,
        spec: Mapping[str, Any],
        crl_shards: int,
        generation: int,
        urls: AuthorityURLs,
        audit: AuditEvent,
    ) -> None:
        """Changes what can change in place."""
        ...

    async def disable_authority(self, authority_id: AuthorityId, audit: AuditEvent) -> None: ...

    async def put_issuer(self, issuer: DeclaredIssuer, audit: AuditEvent) -> None:
        """Creates or replaces the issuer of that name with origin `file`. Raises SporkError(CONFLICT) for another origin's."""
        ...

    async def disable_issuer(self, name: str, audit: AuditEvent) -> None:
        """Only one of origin `file`."""
        ...


class KeyMaker(Protocol):
    """Makes CA keys. `keys.KeyRing` is one."""

    async def generate(
        self, algorithm: Algorithm, purpose: KeyPurpose, kind: Literal["online", "sealed"], audit: AuditEvent
    ) -> tuple[KeyId, bytes]:
        """The new key's id and SubjectPublicKeyInfo; it is stored, wrapped, when this returns."""
        ...
