"""Issuing where no private key is: decide, prepare and reserve here, and leave the signature to a signer.

`RemoteIssuing.issue` takes steps 2 to 4 of the pipeline. The reservation opens a job `sign` in the same statement, a signer
(`signing.py`) takes it, checks everything again, signs and records, and this process waits for the row.

**Leases.** A reservation left to a signer has a lease of `QUEUE_LEASE_S`, for nobody works on it yet: a queue of thousands and a
signer that is restarted must fit into it. When a signer claims the job it takes the lease over, under an id of its own and for
`pipeline.LEASE_S` only. So whoever holds the lease is the one who may record, and a signer that lost it throws its signature away.

**A kill -9**, wherever it strikes:
- here, before the reservation: nothing is left. After it: the job is there, the signer signs, and the next call with the same
  request finds the certificate (idempotency key), or joins the reservation while it is still open.
- signer, after the claim or the signature: its job lease ends (`signing.JOB_LEASE_S`) before the lease of the reservation does;
  another signer claims the row, whose lease gets a new id, and signs the same octets. What the first one signed was in its memory
  only. If nobody takes over in time, the reservation ends as abandoned and revoked, and its job with it.
- no signer at all: the reservation ends as abandoned, but not as revoked, since no signer has ever had it.
- signer, in the middle of recording: certificates, audit events and the end of the jobs are one transaction.
- the database, after a claim: the claim waited for the disk, so that no claim is forgotten while its signature may exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from spork.clock import Clock
from spork.errors import Code, SporkError
from spork.ids import CertificateId, Serial, new_serial
from spork.issuance.pipeline import Decide
from spork.issuance.ports import Authorities, Outcome, Recorded, RequestLedger
from spork.issuance.request import IssuanceRequest
from spork.issuance.steps import key_elsewhere, linted, proposal_of, reservation_of, tbs_of
from spork.policy.engine import refusal
from spork.x509.authority import KeyMode

QUEUE_LEASE_S = 15 * 60
"""Longer than 2,000 certificates and the restart of the only signer take; short beside what a notBefore may lie back."""
_EVERY_S = 0.075


class RemoteIssuing:
    """The pipeline for processes without keys. One instance per process; its callers share one poller."""

    def __init__(
        self,
        ledger: RequestLedger,
        authorities: Authorities,
        clock: Clock,
        decide: Decide,
        *,
        serials: Callable[[], Serial] = new_serial,
    ) -> None:
        self._ledger = ledger
        self._authorities = authorities
        self._clock = clock
        self._rules = decide
        self._serials = serials
        self._poller = _Poller(ledger)

    async def issue(self, request: IssuanceRequest, *, wait_s: float = 5.0) -> Recorded | None:
        """Has one certificate issued, or returns the one that the same idempotency key brought forth before.

        None: not signed yet; call again later with the same request. Two trips beside the shared polling, one waiting commit.
        Raises SporkError as `Pipeline.issue` does, with what the signer refused (its code, sentence and subproblems), and
        LEASE_LOST with retry_after_s where the reservation ended unsigned: the next call takes a new serial.
        """
        proposal = proposal_of(request, self._clock.now(), await self._authorities.ca_spkis())
        decision = self._rules(proposal)
        if not decision.allowed:
            if (earlier := await self._ledger.find(request.idempotency)) is not None:
                return earlier
            raise refusal(decision)
        if request.authority.key_id is None or request.authority.key_mode is not KeyMode.ONLINE:
            raise key_elsewhere(request)
        serial = self._serials()
        prepared = linted(tbs_of(proposal, serial, request.authority.algorithm), serial, proposal)
        reservation = reservation_of(request, proposal, decision, prepared, lease_s=QUEUE_LEASE_S)
        reserved = await self._ledger.request(replace(reservation, for_signer=True))
        if isinstance(reserved, Recorded):
            return reserved
        return _answer(await self._poller.outcome(reserved, wait_s))


def _answer(outcome: Outcome | None) -> Recorded | None:
    if outcome is None or outcome.recorded is not None:
        return None if outcome is None else outcome.recorded
    if outcome.refused is not None:
        raise outcome.refused
    raise SporkError(
        Code.LEASE_LOST, "No signer took the request in time and it was closed; try again.", retry_after_s=1
    )


class _Poller:
    """Asks for all awaited reservations in one statement, as long as there are any."""

    def __init__(self, ledger: RequestLedger) -> None:
        self._ledger = ledger
        self._waiting: dict[CertificateId, list[asyncio.Future[Outcome]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def outcome(self, certificate_id: CertificateId, wait_s: float) -> Outcome | None:
        """How the reservation ended, or None while it stands after `wait_s`."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(certificate_id, []).append(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="awaited certificates")
        try:
            return await asyncio.wait_for(future, wait_s)
        except TimeoutError:
            return None
        finally:
            self._forget(certificate_id, future)

    def _forget(self, certificate_id: CertificateId, future: asyncio.Future[Outcome]) -> None:
        waiting = self._waiting.get(certificate_id, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiting.pop(certificate_id, None)

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(_EVERY_S)
            if not (awaited := tuple(self._waiting)):
                break
            try:
                outcomes = await self._ledger.outcomes(awaited)
            except SporkError:
                # The database is away for a moment: the callers wait for their time, and their next call says what is wrong.
                continue
            for outcome in outcomes:
                for future in self._waiting.get(outcome.certificate_id, ()):
                    if not future.done():
                        future.set_result(outcome)
