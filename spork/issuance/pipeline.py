"""The one pipeline. Every certificate of every door is made by `Pipeline.issue`; the steps are its private methods, in order.

1. authenticate   done by the door; arrives as Requester, Grant and Evidence
2. decide         pure: every policy rule over the proposal, the trace kept whole
3. prepare        serial, template, lint: gives a `Prepared`, good for one signature
4. reserve        transaction 1: serial, TBS, idempotency key and lease are durable before any signature exists
5. sign           redeems the `Prepared`; slow algorithms run off the event loop
6. record         transaction 2, only while the lease holds: certificate, audit event and outbox together
7. publish        the outbox worker's part

A kill at any point leaves either nothing, or a reservation that ends as `abandoned` and is shown as revoked, or the whole.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from cryptography import x509

from spork.clock import Clock
from spork.errors import Code, SporkError
from spork.ids import Serial, new_serial, serial_text
from spork.issuance.ports import AuditEvent, Authorities, Ledger, Recorded, Reservation, Reserved, SignerSource
from spork.issuance.prepared import Prepared
from spork.issuance.request import IssuanceRequest
from spork.issuance.resolve import subject_of, validity_of
from spork.policy.engine import refusal
from spork.policy.proposal import Decision, Proposal
from spork.x509.algorithms import load_public_key
from spork.x509.der import CertificateTBS, Signer, wrap
from spork.x509.lint import lint_certificate
from spork.x509.signatures import verify_signature
from spork.x509.template import build_tbs

LEASE_S = 60
"""How long a reservation may stay unrecorded. Longer than the slowest signature with a full queue before it."""

Decide = Callable[[Proposal], Decision]


class Pipeline:
    """Makes certificates. One instance serves all doors of a process; it holds no state between requests."""

    def __init__(
        self,
        ledger: Ledger,
        signers: SignerSource,
        authorities: Authorities,
        clock: Clock,
        decide: Decide,
        *,
        serials: Callable[[], Serial] = new_serial,
    ) -> None:
        self._ledger = ledger
        self._signers = signers
        self._authorities = authorities
        self._clock = clock
        self._rules = decide
        self._serials = serials

    async def issue(self, request: IssuanceRequest) -> Recorded:
        """Issues one certificate, or returns the one that the same idempotency key brought forth before.

        Raises SporkError: what policy refused (POLICY_REFUSED, REJECTED_IDENTIFIER, BAD_CSR, BAD_PUBLIC_KEY), LINT_FAILED,
        CONFLICT and IN_PROGRESS from the reservation, KEY_UNAVAILABLE, LEASE_LOST (the signature was thrown away; retry),
        UNAVAILABLE (the database is away).
        """
        proposal = await self._propose(request)
        decision = self._rules(proposal)
        if not decision.allowed:
            # A retry of what was issued gets its certificate, even if the rules have changed since.
            if (earlier := await self._ledger.find(request.idempotency)) is not None:
                return earlier
            raise refusal(decision)
        # Opened before anything is reserved: a key that is not there must not leave an abandoned serial behind.
        signer = await self._signer(request)
        prepared = self._prepare(proposal, signer)
        reserved = await self._reserve(request, proposal, decision, prepared)
        if isinstance(reserved, Recorded):
            return reserved
        der = await self._sign(prepared, signer)
        return await self._record(request, prepared, reserved, der)

    async def judge(self, request: IssuanceRequest) -> tuple[Proposal, Decision]:
        """What policy says of a request, without issuing: nothing is stored and no serial is taken."""
        proposal = await self._propose(request)
        return proposal, self._rules(proposal)

    async def _propose(self, request: IssuanceRequest) -> Proposal:
        not_before, not_after = validity_of(request, self._clock.now())
        return Proposal(
            requester=request.requester,
            grant=request.grant,
            evidence=request.evidence,
            authority=request.authority,
            issuer=request.issuer,
            profile=request.profile,
            subject=subject_of(request),
            names=request.names,
            spki=request.spki,
            not_before=not_before,
            not_after=not_after,
            csr=request.csr,
            constraints=request.constraints,
            policies=request.policies,
            ca_spkis=await self._authorities.ca_spkis(),
        )

    async def _signer(self, request: IssuanceRequest) -> Signer:
        key_id = request.authority.key_id
        if key_id is None:
            raise SporkError(
                Code.KEY_UNAVAILABLE,
                f"The key of {request.authority.id} is not here (key mode {request.authority.key_mode.value}); "
                "sign its request file where the key is.",
            )
        return await self._signers.signer(key_id)

    def _prepare(self, proposal: Proposal, signer: Signer) -> Prepared:
        serial = self._serials()
        tbs = build_tbs(
            profile=proposal.profile,
            authority=proposal.authority,
            subject=proposal.subject,
            names=proposal.names,
            spki=proposal.spki,
            serial=serial,
            not_before=proposal.not_before,
            not_after=proposal.not_after,
            signature=signer.algorithm,
            constraints=proposal.constraints,
            policies=proposal.policies,
        )
        errors = [f for f in lint_certificate(tbs, proposal.profile, proposal.authority) if f.severity == "error"]
        if errors:
            text = "; ".join(f"{finding.code}: {finding.message}" for finding in errors)
            raise SporkError(Code.LINT_FAILED, f"The certificate would break the standard and was not signed: {text}.")
        return Prepared(tbs, serial)

    async def _reserve(
        self, request: IssuanceRequest, proposal: Proposal, decision: Decision, prepared: Prepared
    ) -> Reserved | Recorded:
        reserved = await self._ledger.reserve(
            Reservation(
                idempotency=request.idempotency,
                authority_id=request.authority.id,
                generation=request.authority.generation,
                issuer_id=request.issuer.id if request.issuer else None,
                serial=prepared.serial,
                crl_shard=request.authority.shard_of(prepared.serial),
                profile=request.profile.name,
                subject=proposal.subject.rfc4514_string(),
                names=tuple(str(name) for name in request.names),
                spki_sha256=hashlib.sha256(request.spki).digest(),
                not_before=proposal.not_before,
                not_after=proposal.not_after,
                tbs=prepared.tbs_der,
                requester=request.requester.identity,
                evidence=asdict(request.evidence),
                trace=_trace(decision),
                attributes=request.attributes,
                lease_s=LEASE_S,
            )
        )
        prepared.mark_reserved()
        return reserved

    async def _sign(self, prepared: Prepared, signer: Signer) -> bytes:
        tbs = prepared.redeem()
        if signer.algorithm.slow:
            return await asyncio.to_thread(_signed, tbs, signer)
        return _signed(tbs, signer)

    async def _record(self, request: IssuanceRequest, prepared: Prepared, reserved: Reserved, der: bytes) -> Recorded:
        return await self._ledger.record(
            reserved,
            der,
            AuditEvent(
                action="certificate.issue",
                actor=request.requester.identity,
                subject=f"certificate:{request.authority.id}/{serial_text(prepared.serial)}",
                detail={
                    "profile": request.profile.name,
                    "issuer": request.issuer.label if request.issuer else None,
                    "names": [str(name) for name in request.names],
                    "door": request.requester.door.value,
                    "evidence": asdict(request.evidence),
                },
                address=request.requester.address,
            ),
        )


def _signed(tbs: CertificateTBS, signer: Signer) -> bytes:
    """Signs, and verifies before anybody sees it: a faulty key or module must not put a bad certificate into the world."""
    signature = signer.sign(tbs)
    verify_signature(load_public_key(signer.spki), signer.algorithm, tbs.der, signature)
    certificate = wrap(tbs, signer.algorithm, signature)
    x509.load_der_x509_certificate(certificate)
    return certificate


def _trace(decision: Decision) -> Sequence[dict[str, Any]]:
    return [asdict(verdict) for verdict in decision.verdicts]
