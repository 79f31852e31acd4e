"""The one tree of errors.

    SporkError                  code: one of `Code`, detail: one sentence for a person
    ├── ConfigurationError      a file or setting is wrong; detail names file, key and line
    └── DatabaseUnavailable     PostgreSQL cannot be reached; always worth a retry

Everything that SPORK refuses on purpose is a `SporkError` with a code of the closed set below. Each door maps every code to
its own wire form once, in a total table (`api/*/problems.py`); any other exception is an internal error, whose text is
withheld from the requester and logged under a reference id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """What went wrong, independent of the door that reports it."""

    # The request itself
    MALFORMED = "malformed"
    TOO_LARGE = "tooLarge"
    UNSUPPORTED_MEDIA_TYPE = "unsupportedMediaType"
    METHOD_NOT_ALLOWED = "methodNotAllowed"
    NOT_FOUND = "notFound"
    CONFLICT = "conflict"
    PRECONDITION_FAILED = "preconditionFailed"
    # Who asks
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    BAD_NONCE = "badNonce"
    BAD_SIGNATURE = "badSignature"
    BAD_SIGNATURE_ALGORITHM = "badSignatureAlgorithm"
    BAD_PUBLIC_KEY = "badPublicKey"
    ACCOUNT_DOES_NOT_EXIST = "accountDoesNotExist"
    EXTERNAL_ACCOUNT_REQUIRED = "externalAccountRequired"
    INVALID_CONTACT = "invalidContact"
    UNSUPPORTED_CONTACT = "unsupportedContact"
    USER_ACTION_REQUIRED = "userActionRequired"
    RATE_LIMITED = "rateLimited"
    # What is asked for
    BAD_CSR = "badCSR"
    REJECTED_IDENTIFIER = "rejectedIdentifier"
    UNSUPPORTED_IDENTIFIER = "unsupportedIdentifier"
    POLICY_REFUSED = "policyRefused"
    ORDER_NOT_READY = "orderNotReady"
    ALREADY_REVOKED = "alreadyRevoked"
    BAD_REVOCATION_REASON = "badRevocationReason"
    ALREADY_REPLACED = "alreadyReplaced"
    # Proof of control over a name
    CAA = "caa"
    CONNECTION = "connection"
    DNS = "dns"
    INCORRECT_RESPONSE = "incorrectResponse"
    TLS = "tls"
    # This CA's own state
    CONFIGURATION = "configuration"
    WRONG_PASSPHRASE = "wrongPassphrase"
    CORRUPTED_KEY = "corruptedKey"
    KEY_UNAVAILABLE = "keyUnavailable"
    LINT_FAILED = "lintFailed"
    LEASE_LOST = "leaseLost"
    IN_PROGRESS = "inProgress"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Subproblem:
    """One name's own share of a refusal (RFC 8555 section 6.7.1)."""

    code: Code
    detail: str
    identifier_type: str
    identifier_value: str


class SporkError(Exception):
    """A refusal or failure with a code of the closed set.

    `detail` is one sentence for the requester: it says what to do next and never carries a secret.
    `retry_after_s` is whole seconds, or None where a retry does not help.
    """

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        retry_after_s: int | None = None,
        subproblems: Sequence[Subproblem] = (),
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.subproblems = tuple(subproblems)

    def __str__(self) -> str:
        return f"{self.code.value}: {self.detail}"


class ConfigurationError(SporkError):
    """A file or a setting is wrong. The detail names the file, the key, the line and the nearest valid word."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.CONFIGURATION, detail)


class DatabaseUnavailable(SporkError):
    """PostgreSQL cannot be reached, or went away in the middle of a transaction that did not commit."""

    def __init__(
        self, detail: str = "The database cannot be reached; try again shortly.", *, retry_after_s: int = 5
    ) -> None:
        super().__init__(Code.UNAVAILABLE, detail, retry_after_s=retry_after_s)
