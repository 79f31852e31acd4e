"""Exit codes: what a script may rely on. Documented for users in `spork --help`.

Imported only when a command ends in an error, so that the ordinary start stays free of it.
"""

from enum import IntEnum
from typing import Final

from spork.errors import Code


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    CONFLICT = 5
    TRY_LATER = 6


# Total over the closed set of codes; a test fails when a code is added without a decision here.
EXIT_OF_CODE: Final[dict[Code, Exit]] = {
    Code.MALFORMED: Exit.FAILURE,
    Code.TOO_LARGE: Exit.FAILURE,
    Code.UNSUPPORTED_MEDIA_TYPE: Exit.FAILURE,
    Code.METHOD_NOT_ALLOWED: Exit.FAILURE,
    Code.NOT_FOUND: Exit.NOT_FOUND,
    Code.CONFLICT: Exit.CONFLICT,
    Code.PRECONDITION_FAILED: Exit.CONFLICT,
    # Who asks was not believed or is not allowed: asking again in the same way will be refused again.
    Code.UNAUTHENTICATED: Exit.REFUSED,
    Code.FORBIDDEN: Exit.REFUSED,
    Code.BAD_NONCE: Exit.TRY_LATER,
    Code.BAD_SIGNATURE: Exit.REFUSED,
    Code.BAD_SIGNATURE_ALGORITHM: Exit.REFUSED,
    Code.BAD_PUBLIC_KEY: Exit.REFUSED,
    Code.ACCOUNT_DOES_NOT_EXIST: Exit.NOT_FOUND,
    Code.EXTERNAL_ACCOUNT_REQUIRED: Exit.REFUSED,
    Code.INVALID_CONTACT: Exit.FAILURE,
    Code.UNSUPPORTED_CONTACT: Exit.FAILURE,
    Code.USER_ACTION_REQUIRED: Exit.REFUSED,
    Code.RATE_LIMITED: Exit.TRY_LATER,
    Code.BAD_CSR: Exit.REFUSED,
    Code.REJECTED_IDENTIFIER: Exit.REFUSED,
    Code.UNSUPPORTED_IDENTIFIER: Exit.FAILURE,
    Code.POLICY_REFUSED: Exit.REFUSED,
    Code.ORDER_NOT_READY: Exit.TRY_LATER,
    Code.ALREADY_REVOKED: Exit.CONFLICT,
    Code.BAD_REVOCATION_REASON: Exit.FAILURE,
    Code.ALREADY_REPLACED: Exit.CONFLICT,
    # Control over a name was not proven.
    Code.CAA: Exit.REFUSED,
    Code.CONNECTION: Exit.FAILURE,
    Code.DNS: Exit.FAILURE,
    Code.INCORRECT_RESPONSE: Exit.FAILURE,
    Code.TLS: Exit.FAILURE,
    # The state of this CA.
    Code.CONFIGURATION: Exit.FAILURE,
    Code.WRONG_PASSPHRASE: Exit.FAILURE,
    Code.CORRUPTED_KEY: Exit.FAILURE,
    Code.KEY_UNAVAILABLE: Exit.FAILURE,
    Code.LINT_FAILED: Exit.FAILURE,
    Code.LEASE_LOST: Exit.TRY_LATER,
    Code.IN_PROGRESS: Exit.TRY_LATER,
    Code.UNAVAILABLE: Exit.TRY_LATER,
    Code.INTERNAL: Exit.FAILURE,
}
