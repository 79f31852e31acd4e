"""From error codes to problem documents (RFC 9457): one total table, and the answers built from it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from spork.errors import Code, SporkError

log = structlog.get_logger("spork.api.admin")

MEDIA_TYPE: Final = "application/problem+json"
TYPE_BASE: Final = "https://spork-ca.org/problems/"
"""Prefix of every problem type; the code follows."""

# RFC 9110 section 15.5.2 asks for a challenge with every 401. No scheme is registered for a certificate of the TLS layer.
CHALLENGE: Final = 'TLS-Client-Certificate realm="SPORK administration"'

# Status and title of each code. The title is the same for each occurrence (RFC 9457 section 3.1.3); the detail says the rest.
PROBLEMS: Final[dict[Code, tuple[int, str]]] = {
    Code.MALFORMED: (400, "The request is malformed"),
    Code.TOO_LARGE: (413, "The request is too large"),
    Code.UNSUPPORTED_MEDIA_TYPE: (415, "The media type is not supported"),
    Code.METHOD_NOT_ALLOWED: (405, "The method is not allowed here"),
    Code.NOT_FOUND: (404, "There is no such thing"),
    Code.CONFLICT: (409, "The request conflicts with what exists"),
    Code.PRECONDITION_FAILED: (412, "The precondition does not hold"),
    Code.UNAUTHENTICATED: (401, "The caller is not authenticated"),
    Code.FORBIDDEN: (403, "The caller may not do this"),
    Code.BAD_NONCE: (400, "The nonce is not valid"),
    Code.BAD_SIGNATURE: (400, "A signature is not valid"),
    Code.BAD_SIGNATURE_ALGORITHM: (400, "The signature algorithm is not accepted"),
    Code.BAD_PUBLIC_KEY: (422, "The public key is not accepted"),
    Code.ACCOUNT_DOES_NOT_EXIST: (404, "There is no such account"),
    Code.EXTERNAL_ACCOUNT_REQUIRED: (403, "An external account is required"),
    Code.INVALID_CONTACT: (400, "A contact is not valid"),
    Code.UNSUPPORTED_CONTACT: (400, "A contact is of an unsupported kind"),
    Code.USER_ACTION_REQUIRED: (403, "A person must act first"),
    Code.RATE_LIMITED: (429, "There were too many requests"),
    Code.BAD_CSR: (422, "The certificate request is not acceptable"),
    Code.REJECTED_IDENTIFIER: (422, "A name may not be certified"),
    Code.UNSUPPORTED_IDENTIFIER: (422, "A name is of an unsupported kind"),
    Code.POLICY_REFUSED: (422, "The issuing policy refuses this"),
    Code.ORDER_NOT_READY: (409, "The order is not ready"),
    Code.ALREADY_REVOKED: (409, "The certificate's status does not allow this"),
    Code.BAD_REVOCATION_REASON: (422, "The revocation reason is not valid"),
    Code.ALREADY_REPLACED: (409, "The certificate was replaced already"),
    Code.CAA: (422, "CAA forbids the issuance"),
    Code.CONNECTION: (422, "A connection failed"),
    Code.DNS: (422, "A DNS query failed"),
    Code.INCORRECT_RESPONSE: (422, "An answer was not the expected one"),
    Code.TLS: (422, "A TLS handshake failed"),
    Code.CONFIGURATION: (422, "The configuration does not allow this"),
    # A passphrase or key at fault is this CA's own trouble: the caller can only try again after the operator acted.
    Code.WRONG_PASSPHRASE: (503, "A key of this CA cannot be opened"),
    Code.CORRUPTED_KEY: (503, "A key of this CA is damaged"),
    Code.KEY_UNAVAILABLE: (503, "A key of this CA is not available here"),
    Code.LINT_FAILED: (422, "The certificate would break the standard"),
    Code.LEASE_LOST: (503, "The issuance took too long"),
    Code.IN_PROGRESS: (409, "The same request is in progress"),
    Code.UNAVAILABLE: (503, "The service is not available now"),
    Code.INTERNAL: (500, "Internal error"),
}

_CODE_OF_STATUS: Final = {
    400: Code.MALFORMED,
    401: Code.UNAUTHENTICATED,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
    503: Code.UNAVAILABLE,
}


def problem(error: SporkError) -> JSONResponse:
    """The answer for a refusal or a failure with a code of the closed set."""
    if error.code is Code.INTERNAL:
        return internal_problem(error)
    status, title = PROBLEMS[error.code]
    body: dict[str, Any] = {
        "type": TYPE_BASE + error.code.value,
        "title": title,
        "status": status,
        "detail": error.detail,
        "code": error.code.value,
    }
    if error.subproblems:
        body["subproblems"] = [
            {
                "type": TYPE_BASE + sub.code.value,
                "code": sub.code.value,
                "detail": sub.detail,
                "name": f"{sub.identifier_type}:{sub.identifier_value}",
            }
            for sub in error.subproblems
        ]
    return _answer(status, body, retry_after_s=error.retry_after_s)


def validation_problem(error: RequestValidationError) -> JSONResponse:
    """The answer for a body or a parameter that the models refuse: 400, each fault with its place. Inputs are not echoed."""
    faults = [{"pointer": _pointer(fault["loc"]), "detail": str(fault["msg"])} for fault in error.errors()][:20]
    status, title = PROBLEMS[Code.MALFORMED]
    first = f"{faults[0]['pointer']}: {faults[0]['detail']}" if faults else "The request does not fit its description."
    return _answer(
        status,
        {
            "type": TYPE_BASE + Code.MALFORMED.value,
            "title": title,
            "status": status,
            "detail": first,
            "code": Code.MALFORMED.value,
            "errors": faults,
        },
    )


def http_problem(error: HTTPException) -> JSONResponse:
    """The answer for what the web framework itself refuses, such as an unknown path."""
    code = _CODE_OF_STATUS.get(error.status_code, Code.INTERNAL if error.status_code >= 500 else Code.MALFORMED)
    answer = problem(SporkError(code, str(error.detail)))
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


def internal_problem(error: BaseException) -> JSONResponse:
    """The answer for an error that nobody foresaw: its text stays in the log, under the reference id that the answer gives."""
    reference = uuid.uuid4().hex[:12]
    log.error("internal error", reference=reference, exc_info=error)
    status, title = PROBLEMS[Code.INTERNAL]
    return _answer(
        status,
        {
            "type": TYPE_BASE + Code.INTERNAL.value,
            "title": title,
            "status": status,
            "detail": f"Something failed inside; the log of this CA has the rest under the reference {reference}.",
            "code": Code.INTERNAL.value,
            "reference": reference,
        },
    )


def _pointer(location: Iterable[Any]) -> str:
    return "/".join(str(part) for part in location)


def _answer(status: int, body: Mapping[str, Any], *, retry_after_s: int | None = None) -> JSONResponse:
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return JSONResponse(body, status, headers, MEDIA_TYPE)
