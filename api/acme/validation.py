"""The validation worker: takes answered challenges, checks them, writes down what came of it.

A challenge is taken by whichever replica comes first, at once in the process that got the answer, otherwise within a second.
A failure that may pass (no connection, no DNS answer) is tried again; a wrong answer is final.
Source: RFC 8555 sections 7.1.6 and 8.2.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from spork.api.acme.challenges import CHALLENGES, Claim, Surroundings
from spork.api.acme.configuration import configuration_of
from spork.api.acme.problems import problem_document
from spork.api.acme.resolver import DNSResolver, Resolver
from spork.api.acme.wake import wake_of
from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.store import acme_challenge
from spork.store.acme_purge import ExpiredOrders
from spork.store.job import ClaimedJob, Jobs
from spork.store.nonce import purge

if TYPE_CHECKING:
    from spork.services import Services

CONCURRENCY = 64
"""Validations under way at once in one process."""
MAX_ATTEMPTS = 4
"""With 1, 2 and 4 seconds between them, and a quarter more or less."""
POLL_S = 1.0
LEASE_S = 30
"""Longer than one attempt can take; after a crash another replica takes over then."""
AUTHORIZATION_LIFETIME = timedelta(hours=24)
"""How long a proof is good, for this order and for later ones of the same account."""

_PURGE_EVERY_S = 60.0
_WRITE_TRIES = 20
_WRITE_PAUSE_S = 0.5
"""Ten seconds in all: longer than the bundled server takes to come back, and well below the lease."""
_log = structlog.get_logger(__name__)


async def run(services: Services, stop: asyncio.Event) -> None:
    """Works until `stop` is set, and then finishes what is under way."""
    worker = Validator(services, DNSResolver(services.settings.acme_resolver))
    wake = wake_of(services.database)
    loop = asyncio.get_running_loop()
    expired, purged_at = ExpiredOrders(services.database), loop.time()
    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(_wake_on(stop, wake))
        while not stop.is_set():
            wake.clear()
            for job in await worker.claim():
                tasks.create_task(worker.work(job))
            if loop.time() - purged_at > _PURGE_EVERY_S:
                purged_at = loop.time()
                await _purge(services, expired)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), POLL_S)
        await stopping


async def _wake_on(stop: asyncio.Event, wake: asyncio.Event) -> None:
    await stop.wait()
    wake.set()


async def _purge(services: Services, expired: ExpiredOrders) -> None:
    """Forgets what has expired. Never raises: what stays is only room on a disk, and validations go on."""
    try:
        await purge(services.database, services.clock.now())
        if (orders := await expired.purge(services.clock.now())) > 0:
            _log.info("acme.orders.purged", orders=orders)
    except DatabaseUnavailable:
        pass
    except Exception:
        _log.exception("acme.purge.failed")


class Validator:
    """Checks challenges for one process."""

    def __init__(self, services: Services, resolver: Resolver) -> None:
        self._services = services
        self._resolver = resolver
        self._jobs = Jobs(services.database)
        self._busy = 0

    async def claim(self) -> Sequence[ClaimedJob]:
        """As many due jobs as there are free places. None while the database is away."""
        free = CONCURRENCY - self._busy
        if free <= 0:
            return []
        try:
            jobs = await self._jobs.claim(acme_challenge.JOB_KIND, free, lease_s=LEASE_S)
        except DatabaseUnavailable:
            return []
        self._busy += len(jobs)
        return jobs

    async def work(self, job: ClaimedJob) -> None:
        """One attempt, and its outcome. Never raises: a job that could not be written back comes again when its lease ends."""
        try:
            await self._write_back(job, await self._attempt(job))
        except Exception:
            _log.exception("acme.validation.lost", challenge=job.subject, attempt=job.attempts)
        finally:
            if self._busy == CONCURRENCY:
                # A place becomes free; there may be more jobs than there were places.
                wake_of(self._services.database).set()
            self._busy -= 1

    async def _write_back(self, job: ClaimedJob, error: SporkError | None) -> None:
        """The outcome outlives a database that is away for a moment; otherwise the order would wait for the end of the lease."""
        for left in reversed(range(_WRITE_TRIES)):
            try:
                if error is not None and error.retry_after_s is not None and job.attempts < MAX_ATTEMPTS:
                    await self._jobs.failed(job, error.code.value)
                else:
                    await self._finish(job, error)
                return
            except DatabaseUnavailable:
                if not left:
                    raise
                await asyncio.sleep(_WRITE_PAUSE_S)

    async def _attempt(self, job: ClaimedJob) -> SporkError | None:
        payload = job.payload
        claim = Claim(payload["identifier_type"], payload["identifier_value"], payload["token"], payload["thumbprint"])
        try:
            issuer = await self._services.issuers.issuer(payload["issuer"])
            surroundings = Surroundings(self._resolver, self._services.settings, configuration_of(issuer))
            await CHALLENGES[payload["type"]].validate(claim, surroundings)
        except SporkError as error:
            return error
        except Exception:
            _log.exception("acme.validation.failed", challenge=job.subject, attempt=job.attempts)
            return SporkError(Code.INTERNAL, "The validator failed.", retry_after_s=1)
        return None

    async def _finish(self, job: ClaimedJob, error: SporkError | None) -> None:
        now = self._services.clock.now()
        _log.info("acme.validated", challenge=job.subject, outcome="valid" if error is None else error.code.value)
        await acme_challenge.finish(
            self._services.database,
            job,
            error=None if error is None else problem_document(error),
            validated_at=now if error is None else None,
            expires_at=now + AUTHORIZATION_LIFETIME if error is None else None,
        )
