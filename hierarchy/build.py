"""Carries out a plan: makes keys, has certificates signed through the one pipeline, and stores the tree.

Whatever is done is done under a lock and in steps that can be repeated. A process that is killed anywhere leaves a state from
which the next run goes on: a key without a CA is found again, and a certificate that was recorded but not yet made its CA's own
is found by its idempotency key, so that no CA gets two.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from cryptography import x509

from spork.clock import Clock
from spork.errors import Code, SporkError
from spork.hierarchy.approval import require_executable
from spork.hierarchy.fields import CERTIFIED_FIELDS, changed_fields
from spork.hierarchy.model import DeclaredAuthority, DeclaredCrossCertificate, Hierarchy
from spork.hierarchy.plan import plan
from spork.hierarchy.ports import (
    AuthorityState,
    CrossState,
    GenerationState,
    KeyMaker,
    NewAuthority,
    NewGeneration,
    TreeState,
    TreeStore,
)
from spork.hierarchy.preview import validity_window
from spork.hierarchy.snapshot import PROFILE_OF, stored_chain, stored_snapshot
from spork.hierarchy.steps import Action, Plan, Step, Target
from spork.ids import AuthorityId, KeyId
from spork.issuance.ports import AuditEvent, IdempotencyKey, Recorded, SignerSource
from spork.issuance.request import IssuanceRequest
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.x509.authority import Authority, KeyMode
from spork.x509.csr import build_csr
from spork.x509.der import KeyPurpose
from spork.x509.profiles import profile_named

_LONGEST_WAIT_S = 180
"""How long an interrupted signature may hold up the next run: its lease is shorter."""


class Issuing(Protocol):
    """`issuance.pipeline.Pipeline`, or what stands in for it in tests."""

    async def issue(self, request: IssuanceRequest) -> Recorded: ...


Progress = Callable[[str], None]
Accept = Callable[[Plan], Awaitable[str | None]]


@dataclass(frozen=True)
class Workshop:
    """All that building needs. `status_url` is the public base of the URLs that certificates carry."""

    store: TreeStore
    keys: KeyMaker
    signers: SignerSource
    pipeline: Issuing
    clock: Clock
    status_url: str
    actor: str = "host"
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True)
class Built:
    """What a run did, and the tree as it stands afterwards."""

    plan: Plan
    state: TreeState

    @property
    def requests(self) -> dict[AuthorityId, bytes]:
        """Certification requests (DER) that wait to be signed elsewhere."""
        found = {}
        for authority in self.state.authorities.values():
            if authority.current is not None and authority.current.pending_csr is not None:
                found[authority.id] = authority.current.pending_csr
        return found


async def make_plan(hierarchy: Hierarchy, workshop: Workshop) -> Plan:
    """The plan against the state as it is now."""
    state = await workshop.store.read_tree()
    return plan(hierarchy, state, status_url=workshop.status_url, now=workshop.clock.now())


async def build(
    hierarchy: Hierarchy,
    workshop: Workshop,
    *,
    approve: str | None = None,
    accept: Accept | None = None,
    progress: Progress = lambda _: None,
) -> Built:
    """Plans and carries out the plan, once, under the lock. `approve` is the hash of a plan that needs approval.

    `accept` sees the plan before anything is done, and gives the hash in the place of `approve`, or raises.

    Raises SporkError: CONFLICT (another build runs), PRECONDITION_FAILED (forbidden changes, or approval is missing), and what
    the pipeline, the keys and the store raise. Nothing is done if the plan as a whole cannot be carried out.
    """
    async with workshop.store.lock():
        state = await workshop.store.read_tree()
        steps = plan(hierarchy, state, status_url=workshop.status_url, now=workshop.clock.now())
        require_executable(steps, approve if accept is None else await accept(steps))
        run = _Run(hierarchy, workshop, state, progress)
        for step in steps.changes:
            await run.execute(step)
        return Built(steps, run.state)


@dataclass
class _Run:
    """One run: the state moves along with what is done, so that a child finds the parent that was made a moment ago."""

    hierarchy: Hierarchy
    workshop: Workshop
    state: TreeState
    progress: Progress
    authorities: dict[AuthorityId, AuthorityState] = field(init=False)

    def __post_init__(self) -> None:
        self.authorities = dict(self.state.authorities)
        self.state = replace(self.state, authorities=self.authorities)

    async def execute(self, step: Step) -> None:
        match step.target:
            case Target.AUTHORITY:
                await self._execute_authority(step)
            case Target.CROSS_CERTIFICATE:
                cross = next(one for one in self.hierarchy.cross_certificates if one.id == step.id)
                self.progress(f"{step.id}: signing the cross-certificate")
                await self._issue_cross(cross)
            case Target.ISSUER:
                await self._execute_issuer(step)

    async def _execute_authority(self, step: Step) -> None:
        authority_id = AuthorityId(step.id)
        if step.action is Action.DISABLE:
            self.progress(f"{step.id}: taking it out of service")
            await self.workshop.store.disable_authority(authority_id, self._audit("authority.disable", authority_id))
            self.authorities[authority_id] = replace(self.authorities[authority_id], disabled=True)
            return
        declared = self.hierarchy.by_id[authority_id]
        if authority_id not in self.authorities:
            await self._create(declared)
        match step.action:
            case Action.ADOPT:
                await self._adopt(declared)
            case Action.REQUEST:
                await self._request(declared)
            case Action.UPDATE:
                await self._update(declared)
            case _:
                await self._issue(declared)
                if changed_fields(declared, self.authorities[authority_id], self.workshop.status_url):
                    await self._update(declared)

    async def _adopt(self, declared: DeclaredAuthority) -> None:
        self.progress(f"{declared.id}: taking it over from {self.authorities[declared.id].declared_by}")
        audit = self._audit("authority.adopt", declared.id, declared_by=declared.declared_by)
        await self.workshop.store.adopt_authority(declared.id, declared.declared_by, audit)
        self.authorities[declared.id] = replace(self.authorities[declared.id], declared_by=declared.declared_by)

    async def _create(self, declared: DeclaredAuthority) -> None:
        self.progress(f"{declared.id}: making its {declared.algorithm.name} key")
        key_id, spki = await self._key(declared)
        urls = declared.urls_of(1, self.workshop.status_url)
        first = NewGeneration(generation=1, key_id=key_id, algorithm=declared.algorithm.name, spki=spki, urls=urls)
        new = NewAuthority(
            id=declared.id,
            kind=declared.kind,
            parent_id=declared.parent_id,
            subject_der=declared.subject.public_bytes(),
            key_mode=declared.key_mode,
            spec=declared.as_json(),
            crl_shards=declared.crl_shards,
            first=first,
            declared_by=declared.declared_by,
        )
        await self.workshop.store.create_authority(new, self._audit("authority.create", declared.id))
        self.authorities[declared.id] = created_state(new)

    async def _key(self, declared: DeclaredAuthority) -> tuple[KeyId, bytes]:
        kind: Literal["online", "sealed"] = "online" if declared.key_mode is KeyMode.ONLINE else "sealed"
        found = await self.workshop.store.unused_key(declared.id, declared.algorithm.name, kind)
        if found is not None:
            return found
        audit = self._audit("key.generate", declared.id)
        return await self.workshop.keys.generate(declared.algorithm, KeyPurpose.CA, kind, audit)

    async def _request(self, declared: DeclaredAuthority) -> None:
        self.progress(f"{declared.id}: writing the request for {declared.parent_id}")
        current = self._current(declared.id)
        assert current.key_id is not None, "a request is made only for a key that is here"
        signer = await self.workshop.signers.signer(current.key_id)
        csr = await asyncio.to_thread(build_csr, declared.subject, (), signer)
        audit = self._audit("authority.request", declared.id, generation=current.generation)
        await self.workshop.store.set_pending_csr(declared.id, current.generation, csr, audit)
        self._set_current(declared.id, replace(current, pending_csr=csr))

    async def _update(self, declared: DeclaredAuthority) -> None:
        self.progress(f"{declared.id}: changing its settings")
        generation = self._current(declared.id).generation
        spec, urls = declared.as_json(), declared.urls_of(generation, self.workshop.status_url)
        audit = self._audit("authority.configure", declared.id, generation=generation)
        await self.workshop.store.update_authority(declared.id, spec, declared.crl_shards, generation, urls, audit)
        state = self.authorities[declared.id]
        self.authorities[declared.id] = replace(state, spec=spec, crl_shards=declared.crl_shards)
        self._set_current(declared.id, replace(self._current(declared.id), urls=urls))

    async def _issue(self, declared: DeclaredAuthority) -> None:
        self.progress(f"{declared.id}: signing its certificate")
        own = stored_snapshot(self.authorities, declared.id)
        issuer = own if declared.parent_id is None else stored_snapshot(self.authorities, declared.parent_id)
        if declared.parent_id is None:
            # While a root signs itself it has no certificate yet, and an earlier one must not limit the new one.
            issuer = replace(own, certificate=None, not_after=None)
        current = self._current(declared.id)
        content = {
            **{key: declared.as_json()[key] for key in ("subject", *CERTIFIED_FIELDS)},
            "issuer": f"{issuer.id}/{issuer.generation}",
        }
        superseded = hashlib.sha256(current.certificate_der or b"").hexdigest()[:16]
        recorded = await self._issued(
            role=f"ca:{declared.id}/{current.generation}:{superseded}",
            content=content,
            issuer=issuer,
            profile=PROFILE_OF[declared.kind],
            subject=_subject(own, declared.subject),
            spki=current.spki,
            declared=declared,
        )
        # Only what the new certificate says is stored with it. Settings that change in place follow in a step of their own, and
        # until then the next plan still sees that they differ.
        after = declared.as_json()
        spec = {**self.authorities[declared.id].spec, **{key: after[key] for key in CERTIFIED_FIELDS}}
        audit = self._audit(
            "authority.certify", declared.id, generation=current.generation, serial=f"{recorded.serial:X}"
        )
        await self.workshop.store.set_certificate(
            declared.id, current.generation, recorded.der, recorded.not_after, spec, audit
        )
        self.authorities[declared.id] = replace(self.authorities[declared.id], spec=spec)
        self._set_current(declared.id, replace(current, certificate_der=recorded.der, pending_csr=None))

    async def _issue_cross(self, cross: DeclaredCrossCertificate) -> None:
        issuer = stored_snapshot(self.authorities, cross.issuer_id)
        if cross.subject_id is not None:
            subject = stored_snapshot(self.authorities, cross.subject_id)
            name, spki = subject.subject, subject.spki
        else:
            assert cross.foreign_subject is not None
            assert cross.foreign_spki is not None
            name, spki = cross.foreign_subject, cross.foreign_spki
        known = next((one for one in self.state.cross_certificates if one.id == cross.id), None)
        superseded = hashlib.sha256(known.certificate_der if known is not None else b"").hexdigest()[:16]
        recorded = await self._issued(
            role=f"cross:{cross.id}:{superseded}",
            content=cross.as_json(),
            issuer=issuer,
            profile="cross",
            subject=name,
            spki=spki,
            declared=cross,
            attributes={"cross": {"id": cross.id, "spec": cross.as_json()}},
        )
        new = CrossState(cross.id, cross.issuer_id, hashlib.sha256(spki).digest(), cross.as_json(), recorded.der)
        others = tuple(one for one in self.state.cross_certificates if one.id != cross.id)
        self.state = replace(self.state, cross_certificates=(*others, new))

    async def _issued(
        self,
        *,
        role: str,
        content: dict[str, Any],
        issuer: Authority,
        profile: str,
        subject: x509.Name,
        spki: bytes,
        declared: DeclaredAuthority | DeclaredCrossCertificate,
        attributes: dict[str, Any] | None = None,
    ) -> Recorded:
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
        # The role says which certificate it is and what it replaces, the digest what it says. So a repeated run finds what it
        # recorded, and a declaration that was changed in between gets a certificate of its own.
        key = f"{role}:{hashlib.sha256(spki).hexdigest()}:{digest.hex()[:16]}"
        not_before, not_after = validity_window(declared.validity, issuer, self.workshop.clock.now())
        request = IssuanceRequest(
            requester=Requester(Door.BOOTSTRAP, self.workshop.actor),
            grant=Grant(),
            evidence=Evidence("local", "hierarchy"),
            idempotency=IdempotencyKey(f"authority:{issuer.id}", Door.BOOTSTRAP, key, digest),
            authority=issuer,
            issuer=None,
            profile=profile_named(profile),
            spki=spki,
            subject=subject,
            not_before=not_before,
            not_after=not_after,
            constraints=declared.constraints,
            attributes=attributes or {},
        )
        return await self._patiently(request)

    async def _patiently(self, request: IssuanceRequest) -> Recorded:
        waited = 0.0
        while True:
            try:
                return await self.workshop.pipeline.issue(request)
            except SporkError as error:
                if error.code not in (Code.IN_PROGRESS, Code.LEASE_LOST) or waited >= _LONGEST_WAIT_S:
                    raise
                delay = float(error.retry_after_s or 1)
            if not waited:
                self.progress("waiting until the reservation of an interrupted run lapses")
            waited += delay
            await self.workshop.sleep(delay)

    async def _execute_issuer(self, step: Step) -> None:
        store = self.workshop.store
        if step.action is Action.DISABLE:
            self.progress(f"{step.id}: shutting the doors of this issuer")
            audit = self._issuer_audit("issuer.disable", step)
            await store.disable_issuer(step.id, audit, declared_by=self.hierarchy.declared_by)
            return
        self.progress(f"{step.id}: configuring this issuer")
        issuer = next(one for one in self.hierarchy.issuers if one.name == step.id)
        await store.put_issuer(
            issuer, self._issuer_audit("issuer.configure", step), declared_by=self.hierarchy.declared_by
        )

    def _issuer_audit(self, action: str, step: Step) -> AuditEvent:
        detail = {"fields": [one.field for one in step.fields], "origin": "file", "by": self.hierarchy.declared_by}
        return AuditEvent(action, self.workshop.actor, f"issuer:{step.id}", detail)

    def _audit(self, action: str, authority_id: AuthorityId, **detail: Any) -> AuditEvent:
        return AuditEvent(action, self.workshop.actor, f"authority:{authority_id}", detail)

    def _current(self, authority_id: AuthorityId) -> GenerationState:
        current = self.authorities[authority_id].current
        assert current is not None, "an authority is stored together with its first generation"
        return current

    def _set_current(self, authority_id: AuthorityId, current: GenerationState) -> None:
        self.authorities[authority_id] = replace(self.authorities[authority_id], current=current)


def created_state(new: NewAuthority) -> AuthorityState:
    """A CA right after `create_authority`, as `read_tree` would show it."""
    first = new.first
    current = GenerationState(
        generation=first.generation,
        key_id=first.key_id,
        algorithm=first.algorithm,
        spki=first.spki,
        certificate_der=None,
        pending_csr=None,
        urls=first.urls,
    )
    return AuthorityState(
        id=new.id,
        kind=new.kind,
        parent_id=new.parent_id,
        subject_der=new.subject_der,
        key_mode=new.key_mode,
        spec=new.spec,
        crl_shards=new.crl_shards,
        current=current,
        declared_by=new.declared_by,
    )


def chain_of(state: TreeState, authority_id: AuthorityId) -> tuple[x509.Certificate, ...]:
    """A CA's certificate and those above it, up to and without the root's, which relying parties have already."""
    own = stored_snapshot(state.authorities, authority_id).certificate
    assert own is not None
    line = (own, *stored_chain(state.authorities, authority_id))
    return tuple(certificate for certificate in line if certificate.subject != certificate.issuer)


def _subject(own: Authority, declared: x509.Name) -> x509.Name:
    """The stored name where a certificate has it already: its octets must never change."""
    return own.subject if own.certificate is not None else declared
