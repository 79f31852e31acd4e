"""Operations that only look: who am I, the audit log, what policy would say, and the description of this API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime

from spork.api.admin import models
from spork.api.admin.backend import Backend
from spork.api.admin.certificates import Caller, request_to_issue
from spork.api.admin.operations import may
from spork.api.admin.pages import PAGE_SIZE, Limit, cursor, position
from spork.ids import serial_text
from spork.issuance.request import IssuanceRequest
from spork.store.audit import EventFilter

TraceAlgorithm = Literal[
    "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-2048", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"
]


def add_routes(router: APIRouter, backend: Backend, description: Callable[[], dict[str, Any]]) -> None:
    """Adds the operations to the router. `description` gives the OpenAPI document."""
    _add_self(router, description)
    _add_audit(router, backend)
    _add_policy(router, backend)


def _add_self(router: APIRouter, description: Callable[[], dict[str, Any]]) -> None:
    @router.get("/whoami", operation_id="whoAmI", summary="Show the calling administrator", tags=["admins"])
    async def who_am_i(caller: Caller) -> models.WhoAmI:
        return models.WhoAmI(
            name=caller.name,
            identity=caller.identity,
            level=caller.level.name.lower(),
            issuers=None if caller.issuers is None else sorted(caller.issuers),
            serial=serial_text(caller.serial),
            not_after=caller.not_after,
            may=may(caller),
        )

    @router.get(
        "/openapi.json",
        operation_id="describe",
        summary="This description",
        tags=["description"],
        response_class=JSONResponse,
    )
    async def describe(caller: Caller) -> JSONResponse:
        """OpenAPI 3.1."""
        return JSONResponse(description())


def _add_audit(router: APIRouter, backend: Backend) -> None:
    @router.get("/audit", operation_id="listAuditEvents", summary="Read the audit log", tags=["audit"])
    async def list_audit_events(
        caller: Caller,
        actor: Annotated[str | None, Query(max_length=256)] = None,
        action: Annotated[
            str | None, Query(max_length=128, description="Whole, or a beginning that ends with a dot: `certificate.`")
        ] = None,
        subject: Annotated[str | None, Query(max_length=256)] = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        after: Annotated[str | None, Query(max_length=32)] = None,
        limit: Limit = PAGE_SIZE,
    ) -> models.AuditPage:
        """Newest first. Events have no issuer, so administrators with limits are refused."""
        wanted = EventFilter(actor, action, subject, since, until)
        rows = await backend.reading.audit_events(wanted, position(after), limit + 1)
        return models.AuditPage(
            items=[
                models.AuditEvent(
                    id=row.id,
                    at=row.at,
                    actor=row.actor,
                    action=row.action,
                    subject=row.subject,
                    detail=dict(row.detail),
                    address=row.address,
                )
                for row in rows[:limit]
            ],
            next=cursor(rows[limit - 1].id) if len(rows) > limit else None,
        )


def _add_policy(router: APIRouter, backend: Backend) -> None:
    @router.get("/policy/check", operation_id="checkPolicy", summary="Ask policy about names", tags=["policy"])
    async def check_policy(
        caller: Caller,
        issuer: Annotated[str | None, Query(max_length=128)] = None,
        authority: Annotated[str | None, Query(max_length=128)] = None,
        profile: Annotated[str | None, Query(max_length=63)] = None,
        name: Annotated[
            list[str] | None, Query(max_length=models.MAX_NAMES, description="kind:value, repeatable.")
        ] = None,
        common_name: Annotated[str | None, Query(alias="commonName", max_length=64)] = None,
        algorithm: Annotated[TraceAlgorithm, Query(description="Kind of key to suppose.")] = "ecdsa-p256",
        validity_s: Annotated[int | None, Query(alias="validityS", ge=1, le=models.MAX_VALIDITY_S)] = None,
    ) -> models.PolicyTrace:
        """Dry run with a key made up for it. Nothing is stored and nothing is signed."""
        fields = {
            "publicKey": await asyncio.to_thread(_some_public_key, algorithm),
            "issuer": issuer,
            "authority": authority,
            "profile": profile,
            "names": name,
            "commonName": common_name,
            "validityS": validity_s,
        }
        return await _traced(backend, await request_to_issue(backend, caller, _body(fields), None))

    @router.post("/policy/check", operation_id="checkRequest", summary="Ask policy about a request", tags=["policy"])
    async def check_request(body: models.IssueCertificate, caller: Caller) -> models.PolicyTrace:
        """Dry run of POST /certificates with the same body."""
        return await _traced(backend, await request_to_issue(backend, caller, body, None))


def _body(fields: dict[str, Any]) -> models.IssueCertificate:
    from fastapi.exceptions import RequestValidationError
    from pydantic import ValidationError

    try:
        return models.IssueCertificate.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("query", *e["loc"])} for e in error.errors()]) from error


def _some_public_key(algorithm: str) -> str:
    import base64

    from spork.keys.ephemeral import EphemeralKey
    from spork.x509.der import KeyPurpose

    spki = base64.encodebytes(EphemeralKey.generate(algorithm, KeyPurpose.LEAF).spki).decode("ascii")
    return f"-----BEGIN PUBLIC KEY-----\n{spki}-----END PUBLIC KEY-----\n"


async def _traced(backend: Backend, request: IssuanceRequest) -> models.PolicyTrace:
    proposal, decision = await backend.pipeline.judge(request)
    return models.PolicyTrace(
        allowed=decision.allowed,
        issuer=proposal.issuer.label if proposal.issuer else "",
        authority=proposal.authority.id,
        profile=proposal.profile.name,
        subject=proposal.subject.rfc4514_string(),
        names=[str(name) for name in proposal.names],
        not_before=proposal.not_before,
        not_after=proposal.not_after,
        verdicts=[
            models.Verdict(rule=v.rule, passed=v.passed, reason=v.reason, name=v.name) for v in decision.verdicts
        ],
    )
