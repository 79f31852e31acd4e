"""A small world of trees for tests: hierarchy texts in a line, and a store, a key maker and a pipeline in memory.

The pipeline in memory signs for real; what it leaves out is policy, lint and leases, which have tests of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from spork.clock import FixedClock
from spork.hierarchy.build import Workshop, created_state
from spork.hierarchy.load import load_text
from spork.hierarchy.model import DeclaredIssuer, Hierarchy
from spork.hierarchy.ports import CrossState, ImportedCertificate, NewAuthority, TreeState
from spork.ids import AuthorityId, CertificateId, IssuerId, KeyId, new_serial
from spork.issuance.ports import AuditEvent, Recorded
from spork.issuance.request import IssuanceRequest
from spork.keys.software import SoftwareSigner, generate_private_key
from spork.policy.issuer import Issuer
from spork.x509.algorithms import Algorithm
from spork.x509.authority import AuthorityURLs
from spork.x509.der import KeyPurpose, sign
from spork.x509.template import build_tbs

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
STATUS_URL = "http://pki.example"

ROOT = '[root]\ncommon_name = "Root"\nalgorithm = "ecdsa-p256"\nvalidity_years = 20\n'
POLICY = '[[policy_cas]]\ncommon_name = "Policy"\nalgorithm = "ecdsa-p256"\nvalidity_years = 10\n'
ISSUING = '[[policy_cas.issuing_cas]]\ncommon_name = "Issuing"\nalgorithm = "ecdsa-p256"\nvalidity_years = 5\n'
ISSUER = '[[issuers]]\nname = "web"\nca = "issuing"\nprofiles = ["tls-server"]\nnames.permit.dns = ["**.example"]\n'
TREE = ROOT + POLICY + ISSUING + ISSUER


def a_tree(text: str = TREE, *changes: tuple[str, str]) -> Hierarchy:
    """The three-tier tree above, or another text; each change replaces a piece of text, which must be there."""
    for old, new in changes:
        assert old in text, f"{old!r} is not in the text"
        text = text.replace(old, new)
    return load_text(text)


class Killed(Exception):
    """What a test raises where a process would be killed."""


@dataclass
class MemoryTree:
    """A `TreeStore` in memory."""

    authorities: dict[AuthorityId, Any] = field(default_factory=dict)
    crosses: dict[str, CrossState] = field(default_factory=dict)
    issuers: dict[str, Issuer] = field(default_factory=dict)
    imported: list[ImportedCertificate] = field(default_factory=list)
    audits: list[AuditEvent] = field(default_factory=list)
    keys: dict[KeyId, tuple[AuthorityId, str, str, bytes]] = field(default_factory=dict)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        yield

    async def read_tree(self) -> TreeState:
        return TreeState(dict(self.authorities), tuple(self.crosses.values()), tuple(self.issuers.values()))

    async def unused_key(self, authority_id: AuthorityId, algorithm: str, kind: str) -> tuple[KeyId, bytes] | None:
        taken = {one.current.key_id for one in self.authorities.values()}
        for key_id, (owner, name, made, spki) in self.keys.items():
            if (owner, name, made) == (authority_id, algorithm, kind) and key_id not in taken:
                return key_id, spki
        return None

    async def create_authority(self, authority: NewAuthority, audit: AuditEvent) -> None:
        assert authority.id not in self.authorities
        assert authority.parent_id is None or authority.parent_id in self.authorities
        self.authorities[authority.id] = created_state(authority)
        self.audits.append(audit)

    async def set_certificate(
        self,
        authority_id: AuthorityId,
        generation: int,
        certificate_der: bytes,
        not_after: datetime,
        spec: Mapping[str, Any],
        audit: AuditEvent,
    ) -> None:
        self._change(authority_id, certificate_der=certificate_der, pending_csr=None)
        self.authorities[authority_id] = replace(self.authorities[authority_id], spec=spec)
        self.audits.append(audit)

    async def set_pending_csr(self, authority_id: AuthorityId, generation: int, csr: bytes, audit: AuditEvent) -> None:
        self._change(authority_id, pending_csr=csr)
        self.audits.append(audit)

    async def import_certificate(
        self, certificate: ImportedCertificate, spec: Mapping[str, Any], audit: AuditEvent
    ) -> CertificateId:
        self.imported.append(certificate)
        await self.set_certificate(
            certificate.authority_id, certificate.generation, certificate.der, certificate.not_after, spec, audit
        )
        return CertificateId(len(self.imported))

    async def update_authority(
        self,
        authority_id: AuthorityId,
        spec: Mapping[str, Any],
        crl_shards: int,
        generation: int,
        urls: AuthorityURLs,
        audit: AuditEvent,
    ) -> None:
        self._change(authority_id, urls=urls)
        self.authorities[authority_id] = replace(self.authorities[authority_id], spec=spec, crl_shards=crl_shards)
        self.audits.append(audit)

    async def disable_authority(self, authority_id: AuthorityId, audit: AuditEvent) -> None:
        self.authorities[authority_id] = replace(self.authorities[authority_id], disabled=True)
        self.audits.append(audit)

    async def adopt_authority(self, authority_id: AuthorityId, declared_by: str, audit: AuditEvent) -> None:
        self.authorities[authority_id] = replace(self.authorities[authority_id], declared_by=declared_by)
        self.audits.append(audit)

    async def put_issuer(self, issuer: DeclaredIssuer, audit: AuditEvent, *, declared_by: str) -> None:
        self.issuers[issuer.name] = Issuer(
            id=IssuerId(1),
            namespace="",
            name=issuer.name,
            authority_id=issuer.authority_id,
            profiles=issuer.profiles,
            names=issuer.names,
            keys=issuer.keys,
            max_validity=issuer.max_validity,
            protocols=issuer.protocols,
            origin="file",
            default=issuer.default,
            declared_by=declared_by,
        )
        self.audits.append(audit)

    async def disable_issuer(self, name: str, audit: AuditEvent, *, declared_by: str) -> None:
        del self.issuers[name]
        self.audits.append(audit)

    def _change(self, authority_id: AuthorityId, **changes: Any) -> None:
        state = self.authorities[authority_id]
        self.authorities[authority_id] = replace(state, current=replace(state.current, **changes))


@dataclass
class World:
    """Everything that building needs, and a place to be killed at: the calls are counted, and one of them is the last."""

    store: MemoryTree = field(default_factory=MemoryTree)
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    signers: dict[KeyId, SoftwareSigner] = field(default_factory=dict)
    recorded: dict[tuple[str, str], Recorded] = field(default_factory=dict)
    digests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    status_url: str = STATUS_URL
    calls: int = 0
    killed_at: int | None = None
    killed_before: bool = False

    @property
    def workshop(self) -> Workshop:
        return Workshop(
            store=_Killable(self.store, self),
            keys=_Killable(_Keys(self), self),
            signers=_Signers(self),
            pipeline=_Killable(_Pipeline(self), self),
            clock=self.clock,
            status_url=self.status_url,
        )


class _Killable:
    """Passes calls on, and kills the process before or after the call whose number comes up."""

    def __init__(self, inner: Any, world: World) -> None:
        self._inner = inner
        self._world = world

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name in ("lock", "read_tree", "unused_key"):
            return method

        async def call(*arguments: Any, **keywords: Any) -> Any:
            number = self._world.calls
            self._world.calls += 1
            if number == self._world.killed_at and self._world.killed_before:
                raise Killed
            result = await method(*arguments, **keywords)
            if number == self._world.killed_at:
                raise Killed
            return result

        return call


@dataclass
class _Keys:
    world: World

    async def generate(
        self, algorithm: Algorithm, purpose: KeyPurpose, kind: str, audit: AuditEvent
    ) -> tuple[KeyId, bytes]:
        signer = SoftwareSigner(generate_private_key(algorithm), purpose)
        key_id = KeyId(f"key-{len(self.world.signers)}")
        self.world.signers[key_id] = signer
        owner = AuthorityId(audit.subject.removeprefix("authority:"))
        self.world.store.keys[key_id] = (owner, algorithm.name, kind, signer.spki)
        return key_id, signer.spki


@dataclass
class _Signers:
    world: World

    async def signer(self, key_id: KeyId) -> SoftwareSigner:
        return self.world.signers[key_id]


@dataclass
class _Pipeline:
    world: World

    async def issue(self, request: IssuanceRequest) -> Recorded:
        place = (request.idempotency.scope, request.idempotency.key)
        if place in self.world.recorded:
            assert self.world.digests[place] == request.idempotency.digest, "the same key for something else"
            return self.world.recorded[place]
        assert request.authority.key_id is not None
        assert request.subject is not None
        assert request.not_before is not None
        assert request.not_after is not None
        signer = self.world.signers[request.authority.key_id]
        serial = new_serial()
        tbs = build_tbs(
            profile=request.profile,
            authority=request.authority,
            subject=request.subject,
            names=(),
            spki=request.spki,
            serial=serial,
            not_before=request.not_before,
            not_after=request.not_after,
            signature=signer.algorithm,
            constraints=request.constraints,
        )
        recorded = Recorded(
            CertificateId(len(self.world.recorded) + 1),
            request.authority.id,
            request.authority.generation,
            serial,
            sign(tbs, signer),
            request.not_before,
            request.not_after,
        )
        self.world.recorded[place] = recorded
        self.world.digests[place] = request.idempotency.digest
        if cross := request.attributes.get("cross"):
            self.world.store.crosses[cross["id"]] = CrossState(
                cross["id"], request.authority.id, hashlib.sha256(request.spki).digest(), cross["spec"], recorded.der
            )
        return recorded
