"""The one table from error codes to ACME problem documents. Source: RFC 8555 sections 6.7 and 6.7.1, RFC 9457."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.responses import Response

from spork.errors import Code, SporkError
from spork.wire.jose import ALGORITHMS

_URN = "urn:ietf:params:acme:error:"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """How a code looks on the wire."""

    status: int
    kind: str
    """Last part of the ACME error URN."""
    withheld: bool = False
    """The detail is about this CA's inside: it is logged under a reference, and the requester gets the reference."""


PROBLEMS: Mapping[Code, Problem] = {
    Code.MALFORMED: Problem(400, "malformed"),
    Code.TOO_LARGE: Problem(413, "malformed"),
    Code.UNSUPPORTED_MEDIA_TYPE: Problem(415, "malformed"),
    Code.METHOD_NOT_ALLOWED: Problem(405, "malformed"),
    Code.NOT_FOUND: Problem(404, "malformed"),
    Code.CONFLICT: Problem(409, "malformed"),
    Code.PRECONDITION_FAILED: Problem(412, "malformed"),
    Code.UNAUTHENTICATED: Problem(401, "unauthorized"),
    Code.FORBIDDEN: Problem(403, "unauthorized"),
    Code.BAD_NONCE: Problem(400, "badNonce"),
    Code.BAD_SIGNATURE: Problem(400, "malformed"),
    Code.BAD_SIGNATURE_ALGORITHM: Problem(400, "badSignatureAlgorithm"),
    Code.BAD_PUBLIC_KEY: Problem(400, "badPublicKey"),
    Code.ACCOUNT_DOES_NOT_EXIST: Problem(400, "accountDoesNotExist"),
    Code.EXTERNAL_ACCOUNT_REQUIRED: Problem(403, "externalAccountRequired"),
    Code.INVALID_CONTACT: Problem(400, "invalidContact"),
    Code.UNSUPPORTED_CONTACT: Problem(400, "unsupportedContact"),
    Code.USER_ACTION_REQUIRED: Problem(403, "userActionRequired"),
    Code.RATE_LIMITED: Problem(429, "rateLimited"),
    Code.BAD_CSR: Problem(400, "badCSR"),
    Code.REJECTED_IDENTIFIER: Problem(400, "rejectedIdentifier"),
    Code.UNSUPPORTED_IDENTIFIER: Problem(400, "unsupportedIdentifier"),
    Code.POLICY_REFUSED: Problem(403, "unauthorized"),
    Code.ORDER_NOT_READY: Problem(403, "orderNotReady"),
    Code.ALREADY_REVOKED: Problem(400, "alreadyRevoked"),
    Code.BAD_REVOCATION_REASON: Problem(400, "badRevocationReason"),
    Code.ALREADY_REPLACED: Problem(409, "alreadyReplaced"),
    Code.CAA: Problem(403, "caa"),
    Code.CONNECTION: Problem(400, "connection"),
    Code.DNS: Problem(400, "dns"),
    Code.INCORRECT_RESPONSE: Problem(403, "incorrectResponse"),
    Code.TLS: Problem(400, "tls"),
    Code.CONFIGURATION: Problem(500, "serverInternal", withheld=True),
    Code.WRONG_PASSPHRASE: Problem(500, "serverInternal", withheld=True),
    Code.CORRUPTED_KEY: Problem(500, "serverInternal", withheld=True),
    Code.KEY_UNAVAILABLE: Problem(503, "serverInternal", withheld=True),
    Code.LINT_FAILED: Problem(500, "serverInternal"),
    Code.LEASE_LOST: Problem(503, "serverInternal"),
    Code.IN_PROGRESS: Problem(503, "serverInternal"),
    Code.UNAVAILABLE: Problem(503, "serverInternal", withheld=True),
    Code.INTERNAL: Problem(500, "serverInternal", withheld=True),
}


def problem_document(error: SporkError) -> dict[str, Any]:
    """The JSON of a refusal, also for the `error` member of a challenge."""
    row = PROBLEMS[error.code]
    detail = _withheld(error) if row.withheld else error.detail
    document: dict[str, Any] = {"type": _URN + row.kind, "detail": detail, "status": row.status}
    if error.code is Code.BAD_SIGNATURE_ALGORITHM:
        document["algorithms"] = list(ALGORITHMS)
    if error.subproblems:
        document["subproblems"] = [
            {
                "type": _URN + PROBLEMS[part.code].kind,
                "detail": part.detail,
                "identifier": {"type": part.identifier_type, "value": part.identifier_value},
            }
            for part in error.subproblems
        ]
    return document


def problem_response(error: SporkError) -> Response:
    """The whole reply, without the headers that every reply has."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return _response(problem_document(error), PROBLEMS[error.code].status, headers)


def internal_response(error: Exception) -> Response:
    """For what should not happen: the text stays here, under a reference."""
    reference = secrets.token_hex(8)
    _log.error("acme.internal", reference=reference, exc_info=error)
    return problem_response_of_reference(reference)


def problem_response_of_reference(reference: str) -> Response:
    """A serverInternal reply that only names the reference."""
    document = {"type": _URN + "serverInternal", "detail": _referred(reference), "status": 500}
    return _response(document, 500, {})


def _withheld(error: SporkError) -> str:
    reference = secrets.token_hex(8)
    _log.warning("acme.withheld", reference=reference, code=error.code.value, detail=error.detail)
    return _referred(reference)


def _referred(reference: str) -> str:
    return f"The CA cannot answer this at the moment; its log has the reason under reference {reference}."


def _response(document: Mapping[str, Any], status: int, headers: dict[str, str]) -> Response:
    return Response(json.dumps(document), status, headers, media_type="application/problem+json")
