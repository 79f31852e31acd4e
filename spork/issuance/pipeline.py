"""The one pipeline. Every certificate of every door is made in these steps, in this order; `steps.py` has their substance.

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
from collections.abc import Callable

from spork.clock import Clock
from spork.ids import Serial, new_serial
from spork.issuance.ports import Authorities, Ledger, Recorded, Reserved, SignerSource
from spork.issuance.prepared import Prepared
from spork.issuance.request import IssuanceRequest
from spork.issuance.steps import issued_event, key_elsewhere, linted, proposal_of, reservation_of, signed, tbs_of
from spork.policy.engine import refusal
from spork.policy.proposal import Decision, Proposal
from spork.x509.der import Signer

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
        return await self._record(proposal, prepared, reserved, der)

    async def judge(self, request: IssuanceRequest) -> tuple[Proposal, Decision]:
        """What policy says of a request, without issuing: nothing is stored and no serial is taken."""
        proposal = await self._propose(request)
        return proposal, self._rules(proposal)

    async def _propose(self, request: IssuanceRequest) -> Proposal:
        return proposal_of(request, self._clock.now(), await self._authorities.ca_spkis())

    async def _signer(self, request: IssuanceRequest) -> Signer:
        key_id = request.authority.key_id
        if key_id is None:
            raise key_elsewhere(request)
        return await self._signers.signer(key_id)

    def _prepare(self, proposal: Proposal, signer: Signer) -> Prepared:
        serial = self._serials()
        return linted(tbs_of(proposal, serial, signer.algorithm), serial, proposal)

    async def _reserve(
        self, request: IssuanceRequest, proposal: Proposal, decision: Decision, prepared: Prepared
    ) -> Reserved | Recorded:
        reserved = await self._ledger.reserve(reservation_of(request, proposal, decision, prepared, lease_s=LEASE_S))
        prepared.mark_reserved()
        return reserved

    async def _sign(self, prepared: Prepared, signer: Signer) -> bytes:
        tbs = prepared.redeem()
        if signer.algorithm.slow:
            return await asyncio.to_thread(signed, tbs, signer)
        return signed(tbs, signer)

    async def _record(self, proposal: Proposal, prepared: Prepared, reserved: Reserved, der: bytes) -> Recorded:
        return await self._ledger.record(reserved, der, issued_event(proposal, prepared.serial))
