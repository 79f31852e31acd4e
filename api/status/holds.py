"""Makes holds final whose grace has passed: of certificates whose object was deleted and did not come back.

The plan stands in the database, so that neither the operator nor the cluster has to be there when it is due.
"""

from __future__ import annotations

import structlog

from spork.errors import Code, SporkError
from spork.ids import CertificateId, serial_text
from spork.issuance.revoke import Reason
from spork.services import Services
from spork.store.cessation import JOB, Cessations
from spork.store.job import ClaimedJob, Jobs

log = structlog.get_logger("spork.status")

_ACTOR = "host"


async def make_holds_final(services: Services) -> int:
    """Works through one batch of plans that are due; returns how many there were. Raises DatabaseUnavailable."""
    jobs = Jobs(services.database)
    claimed = await jobs.claim(JOB, 50)
    for job in claimed:
        try:
            await _make_final(services, job)
        except SporkError as error:
            if error.code is Code.UNAVAILABLE:
                raise
            log.warning("a hold could not be made final", certificate=job.subject, reason=error.detail)
            await jobs.failed(job, error.detail)
        else:
            await jobs.done(job)
    return len(claimed)


async def _make_final(services: Services, job: ClaimedJob) -> None:
    certificate = await Cessations(services.database).held(CertificateId(int(job.subject)))
    if certificate is None:
        # The hold was released, or became a revocation by another hand.
        return
    await services.revoker.revoke(
        certificate.id,
        Reason.cessationOfOperation,
        actor=_ACTOR,
        subject=f"certificate:{certificate.authority_id}/{serial_text(certificate.serial)}",
        authority=certificate.authority_id,
    )
