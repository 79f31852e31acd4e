"""The administration API as one router, and its description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi

from spork import __version__
from spork.api.admin import administrators, authorities, certificates, enrolment, enrolment_tokens, models, oversight
from spork.api.admin.backend import Backend
from spork.api.admin.gate import guarded
from spork.api.admin.operations import OPERATIONS
from spork.api.admin.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from spork.services import Services

PREFIX: Final = "/api/v1"
SECURITY_SCHEME: Final = "administratorCertificate"
TOKEN_SCHEME: Final = "enrolmentToken"

# Statuses that any operation may answer with; each body is a problem document.
_PROBLEM_STATUSES: Final = {
    400: "The request is malformed.",
    401: "No administrator certificate was presented (no token, for enrolment), or it is not to be believed.",
    403: "The administrator's level or limits, or the token, do not allow this.",
    404: "There is no such thing, or the administrator may not see it.",
    409: "The request conflicts with what exists.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "Policy, or the standard, refuses what is asked for.",
    429: "There were too many requests; Retry-After says how long to wait. Only for enrolment.",
    500: "Something failed inside; the answer carries a reference to the log.",
    503: "The database or a key is not available; Retry-After may say for how long.",
}
_TAGS: Final = [
    {"name": "certificates", "description": "Issue, find, export, renew and revoke certificates."},
    {"name": "authorities", "description": "The CAs of this installation."},
    {"name": "issuers", "description": "What binds a CA to profiles, names and doors."},
    {"name": "enrolment", "description": "Certificates for tokens: of ServiceAccounts, and one-time ones."},
    {"name": "crls", "description": "Certificate revocation lists."},
    {"name": "policy", "description": "Dry runs."},
    {"name": "admins", "description": "Administrators and their certificates."},
    {"name": "audit", "description": "What happened, and who did it."},
    {"name": "description", "description": "This document."},
]


def router(services: Services) -> APIRouter:
    """The routes of `/api/v1`, guarded by level, over the services of a process."""
    from spork.api.admin.wiring import backend_of

    return router_over(backend_of(services))


def router_over(backend: Backend) -> APIRouter:
    """The same over any backend."""
    api = APIRouter(
        prefix=PREFIX,
        route_class=guarded(backend.authenticator),
        responses={status: _problem_response(text) for status, text in _PROBLEM_STATUSES.items()},
    )
    certificates.add_routes(api, backend)
    authorities.add_routes(api, backend)
    administrators.add_routes(api, backend)
    enrolment_tokens.add_routes(api, backend)
    enrolment.add_routes(api, backend)
    oversight.add_routes(api, backend, lambda: describe(api))
    return api


def describe(api: APIRouter) -> dict[str, Any]:
    """The OpenAPI 3.1 document. FastAPI knows no scheme for certificates of the TLS layer, so it is put in here."""
    document = get_openapi(
        title="SPORK CA administration",
        version=__version__,
        openapi_version="3.1.0",
        summary="Certificates, CAs, administrators and the audit log over mutual TLS",
        routes=api.routes,
        tags=_TAGS,
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = models.Problem.model_json_schema()
    components["securitySchemes"] = {
        SECURITY_SCHEME: {
            "type": "mutualTLS",
            "description": "A client certificate of the management CA, with one administrator level among its policies.",
        },
        TOKEN_SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "A one-time token, or a Kubernetes ServiceAccount's token for the issuer's audience.",
        },
    }
    document["security"] = [{SECURITY_SCHEME: []}]
    for item in document["paths"].values():
        for operation in item.values():
            if operation["operationId"] == enrolment.OPERATION:
                operation["security"] = [{TOKEN_SCHEME: []}]
            else:
                operation["x-spork-minimum-level"] = OPERATIONS[operation["operationId"]].level.name.lower()
    return document


def _problem_response(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
