"""What building a tree needs of the world. `store` and `keys` satisfy these by shape; `services` hands them in."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Literal, Protocol

from spork.hierarchy.model import DeclaredIssuer
from spork.ids import AuthorityId, CertificateId, KeyId
from spork.issuance.ports import AuditEvent
from spork.issuance.tree import (
    AuthorityState,
    CrossState,
    GenerationState,
    ImportedCertificate,
    NewAuthority,
    NewGeneration,
    TreeState,
)
from spork.x509.algorithms import Algorithm
from spork.x509.authority import AuthorityURLs
from spork.x509.der import KeyPurpose

__all__ = [
    "AuthorityState",
    "CrossState",
    "GenerationState",
    "ImportedCertificate",
    "KeyMaker",
    "NewAuthority",
    "NewGeneration",
    "TreeState",
    "TreeStore",
]


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

    async def adopt_authority(self, authority_id: AuthorityId, declared_by: str, audit: AuditEvent) -> None:
        """From now on it is another declaration's."""
        ...

    async def put_issuer(self, issuer: DeclaredIssuer, audit: AuditEvent, *, declared_by: str) -> None:
        """Creates or replaces the issuer of that name with origin `file`, also one of another tree.

        Raises SporkError(CONFLICT) for another origin's or a resource's of its own.
        """
        ...

    async def disable_issuer(self, name: str, audit: AuditEvent, *, declared_by: str) -> None:
        """Only one of origin `file` and this declaration."""
        ...


class KeyMaker(Protocol):
    """Makes CA keys. `keys.KeyRing` is one."""

    async def generate(
        self, algorithm: Algorithm, purpose: KeyPurpose, kind: Literal["online", "sealed"], audit: AuditEvent
    ) -> tuple[KeyId, bytes]:
        """The new key's id and SubjectPublicKeyInfo; it is stored, wrapped, when this returns."""
        ...
