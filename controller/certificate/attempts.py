"""What a failed attempt means: whose fault it is, what is said of it, and whether it makes the next one wait longer."""

from __future__ import annotations

from spork.controller import reasons
from spork.controller.certificate.snapshot import Finding
from spork.controller.certificate.statement import Failure
from spork.errors import Code, SporkError
from spork.issuance.request import IssuanceRequest
from spork.policy.proposal import Verdict
from spork.services import Services

_PASSING = frozenset({Code.UNAVAILABLE, Code.IN_PROGRESS, Code.LEASE_LOST, Code.RATE_LIMITED})
"""Says nothing of this Certificate: the database is away, or the signers are busy."""
_OF_POLICY = frozenset(
    {
        Code.POLICY_REFUSED,
        Code.REJECTED_IDENTIFIER,
        Code.UNSUPPORTED_IDENTIFIER,
        Code.BAD_CSR,
        Code.BAD_PUBLIC_KEY,
        Code.CAA,
    }
)


async def failure_of(error: SporkError, request: IssuanceRequest | None, services: Services) -> Failure:
    """With the verdict of every rule, where it was the policy that refused."""
    if error.code in _PASSING:
        return Failure(Finding(reasons.UNAVAILABLE, error.detail), counts=False)
    if error.code in _OF_POLICY:
        return Failure(Finding(reasons.POLICY_REFUSED, error.detail), await _trace(request, services))
    return Failure(Finding(reasons.ISSUANCE_FAILED, error.detail))


async def _trace(request: IssuanceRequest | None, services: Services) -> tuple[Verdict, ...]:
    if request is None:
        return ()
    try:
        _, decision = await services.pipeline.judge(request)
    except SporkError:
        # It was refused before the rules, or the database has gone meanwhile: the error itself says enough.
        return ()
    return decision.verdicts
