"""Which failures end a request, and which are tried again.

A request of these APIs gets one answer. What only time or an administrator can mend keeps it waiting; what the issuer's policy
refuses ends it, as it would be refused again; what no issuer could ever sign is called invalid besides.
"""

from __future__ import annotations

from enum import Enum

from spork.controller.cluster import ClusterError
from spork.errors import Code, SporkError


class Outcome(Enum):
    """What becomes of a request after an error."""

    INVALID = "invalid"
    """It can never be signed, by whomever."""
    REFUSED = "refused"
    """This issuer does not sign it, as things are."""
    WAIT = "wait"
    """It is tried again."""


_INVALID = frozenset(
    {Code.MALFORMED, Code.TOO_LARGE, Code.BAD_CSR, Code.BAD_PUBLIC_KEY, Code.UNSUPPORTED_IDENTIFIER, Code.BAD_SIGNATURE}
)
_REFUSED = frozenset({Code.POLICY_REFUSED, Code.REJECTED_IDENTIFIER, Code.LINT_FAILED, Code.CONFLICT})


def outcome_of(error: SporkError) -> Outcome:
    """What the error means for the request. Codes that nobody thought of wait: nothing is lost by that."""
    if isinstance(error, ClusterError):
        return Outcome.WAIT
    if error.code in _INVALID:
        return Outcome.INVALID
    return Outcome.REFUSED if error.code in _REFUSED else Outcome.WAIT
