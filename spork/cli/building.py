"""Carries out plans that others have left as jobs: for `spork serve`, `spork up` and `spork pki work`.

A plan is made anew under the tree's lock and must be the one that was asked for. What was accepted is kept with the job, so that
after a kill -9 in the middle the rest of it, which is another plan with another hash, is still known for what it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from enum import Enum

import structlog

from spork.api.crl.publication import ensure_crls
from spork.errors import Code, SporkError
from spork.hierarchy.build import Workshop, build
from spork.hierarchy.load import load_declaration
from spork.hierarchy.model import Hierarchy
from spork.hierarchy.offline import import_certificate, import_csr
from spork.hierarchy.steps import Plan, Step
from spork.ids import AuthorityId
from spork.issuance.ports import AuditEvent
from spork.keys.passphrase import find_passphrases
from spork.services import Services
from spork.store.building import IMPORT, KEYLESS, KINDS, RETIRE, BuildJob

log = structlog.get_logger("spork.building")

Progress = Callable[[str], None]

_LEASE_S = 60
_EXTEND_S = 15.0
_LOOK_S = 1.0
_MOST_TRIES = 30
_PASSING = frozenset({Code.UNAVAILABLE, Code.IN_PROGRESS, Code.LEASE_LOST})


async def run(services: Services, stop: asyncio.Event, *, sealed: bool = False) -> None:
    """The worker: takes jobs until `stop` is set. `sealed`: also those that need the sealed keys, opened only for them."""
    if "online" not in services.keys.kinds:
        return
    kinds = (*KEYLESS, *(KINDS if sealed else KINDS[:1]))
    while not stop.is_set():
        if await work(services, *kinds, progress=log.info) is Outcome.NONE:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_S)


class Outcome(Enum):
    """What became of a look for work."""

    NONE = "none"
    DONE = "done"
    FAILED = "failed"
    """Closed with an error, or to be tried again later."""


async def work(services: Services, *kinds: str, progress: Progress) -> Outcome:
    """Takes one job of these kinds, if there is one, and brings it to an end. Raises DatabaseUnavailable."""
    job = await services.building.claim(*kinds, lease_s=_LEASE_S)
    if job is None:
        return Outcome.NONE
    try:
        async with _alive(services, job):
            try:
                opened = await _open_keys(services, job)
            except SporkError as error:
                # A person has to see to the passphrase; the plan is as good as before.
                progress(f"{job.subject}: {error.detail}")
                await services.building.again(job, error.detail)
                return Outcome.FAILED
            try:
                await _carry_out(services, job, progress)
            finally:
                if opened:
                    services.keys.close("sealed")
        return Outcome.DONE
    except SporkError as error:
        await _failed(services, job, error, progress)
    except Exception as error:
        # The text of an error that nobody foresaw may hold anything.
        log.exception("a plan could not be carried out", subject=job.subject)
        await services.building.close(job, f"An internal error ({type(error).__name__}); the log of the signer has it.")
    return Outcome.FAILED


async def _failed(services: Services, job: BuildJob, error: SporkError, progress: Progress) -> None:
    progress(f"{job.subject}: {error.detail}")
    log.warning("not carried out", kind=job.kind, subject=job.subject, code=error.code.value, detail=error.detail)
    if _passes(error, job) and job.attempts < _MOST_TRIES:
        await services.building.again(job, error.detail)
    else:
        await services.building.close(job, error.detail)


def _passes(error: SporkError, job: BuildJob) -> bool:
    """Whether trying again may help."""
    # Another process builds right now. A conflict without a time to wait is one of names, and stays.
    if error.code is Code.CONFLICT:
        return error.retry_after_s is not None
    # What an import waits for, such as the certificate of the CA above, may still come.
    return error.code in _PASSING or (job.kind == IMPORT and error.code is Code.PRECONDITION_FAILED)


async def _carry_out(services: Services, job: BuildJob, progress: Progress) -> None:
    if job.kind == RETIRE:
        await _retire(services, job, progress)
        await services.building.done(job)
        return
    workshop = replace(services.workshop, actor=job.payload["actor"])
    declared_by = job.payload.get("declared_by", job.subject)
    hierarchy = load_declaration(job.payload["values"], declared_by, oid_base=services.settings.oid_base)
    if job.kind == IMPORT:
        take_in = import_certificate if job.payload["import"] == "certificate" else import_csr
        authority_id = await take_in(hierarchy, workshop, job.payload["pem"])
        progress(f"{declared_by}: the {job.payload['import']} of {authority_id} is stored")
    else:
        await _build(services, job, hierarchy, workshop, progress)
    await services.building.done(job)


async def _retire(services: Services, job: BuildJob, progress: Progress) -> None:
    """Only CAs that the declaration has made its own; those that are out of service already stay so."""
    async with services.authorities.lock():
        states = (await services.authorities.read_tree(counts=False)).authorities
        for name in job.payload["authorities"]:
            state = states.get(AuthorityId(name))
            if state is None or state.disabled or state.declared_by != job.subject:
                continue
            audit = AuditEvent("authority.disable", job.payload["actor"], f"authority:{name}")
            await services.authorities.disable_authority(AuthorityId(name), audit)
            progress(f"{job.subject}: {name} is out of service")


async def _build(
    services: Services, job: BuildJob, hierarchy: Hierarchy, workshop: Workshop, progress: Progress
) -> None:
    async def accept(plan: Plan) -> str | None:
        require_same_url(services.settings.url_of_status(), job)
        require_requested(plan, job)
        if "begun" not in job.payload:
            await services.building.begin(job, [_name(step) for step in plan.changes])
        return plan.hash if job.payload["approve"] else None

    progress(f"{job.subject}: carrying out plan {job.payload['plan_hash']}")
    await build(hierarchy, workshop, accept=accept, progress=progress)
    # Sealed keys are open only here, and a CA without a list leaves its verifiers at a loss.
    await ensure_crls(services)
    progress(f"{job.subject}: done")


def require_same_url(here: str, job: BuildJob) -> None:
    """URLs in certificates derive from it, so that two settings would make two plans. Raises SporkError(PRECONDITION_FAILED)."""
    there = job.payload.get("status_url")
    if there not in (None, here):
        raise SporkError(
            Code.PRECONDITION_FAILED,
            f"The operator derives URLs from {there} and the signer from {here}; set SPORK_STATUS_URL to the same for both.",
        )


def require_requested(plan: Plan, job: BuildJob) -> None:
    """The plan is the one that was asked for, or what an interrupted run has left of it.

    Raises SporkError(PRECONDITION_FAILED).
    """
    if plan.hash == job.payload["plan_hash"]:
        return
    begun = {tuple(one) for one in job.payload.get("begun", ())}
    # What was half done is called otherwise now (a key without a certificate), but what asks for approval must have been in it.
    things = {one[:2] for one in begun}
    foreign = [
        step.id
        for step in plan.changes
        if tuple(_name(step))[:2] not in things or (step.needs_approval and tuple(_name(step)) not in begun)
    ]
    if "begun" not in job.payload or foreign:
        raise SporkError(
            Code.PRECONDITION_FAILED,
            f"The plan has changed since it was asked for ({job.payload['plan_hash']}, now {plan.hash}); look at it again.",
        )


def _name(step: Step) -> list[str]:
    return [step.target.value, step.id, step.action.value]


async def _open_keys(services: Services, job: BuildJob) -> bool:
    """Opens the sealed keys for a job that needs them; whether they were shut before, and must be shut again."""
    if job.kind != KINDS[1] or "sealed" in services.keys.kinds:
        return False
    await services.keys.unlock("sealed", find_passphrases("sealed", services.settings.sealed_passphrase_file))
    return True


@contextlib.asynccontextmanager
async def _alive(services: Services, job: BuildJob) -> AsyncIterator[None]:
    """Renews the job's lease while the block runs: a key or a signature may take minutes."""

    async def extend() -> None:
        while True:
            await asyncio.sleep(_EXTEND_S)
            # If it fails, another worker may come, who then waits for the tree's lock.
            with contextlib.suppress(SporkError):
                await services.building.extend(job, lease_s=_LEASE_S)

    task = asyncio.create_task(extend(), name="lease of a build")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
