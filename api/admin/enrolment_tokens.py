"""Operations on one-time tokens: make, list, revoke. For operators, within the issuers that they may use."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from spork.api.admin import models
from spork.api.admin.authenticate import Administrator
from spork.api.admin.backend import Backend, sees
from spork.api.admin.certificates import Caller
from spork.api.admin.operations import check_level
from spork.api.admin.pages import PAGE_SIZE, Limit, cursor, position
from spork.errors import Code, SporkError
from spork.issuance.onetime import NewToken, mint
from spork.issuance.ports import AuditEvent
from spork.policy.issuer import Issuer
from spork.policy.levels import level_named
from spork.policy.patterns import compiled
from spork.policy.tokendoor import token_door
from spork.store.enrolment_token import EnrolmentToken
from spork.x509.names import SubjectName
from spork.x509.nametext import name_from_text
from spork.x509.profiles import profile_named

TokenId = Annotated[str, Path(pattern="^[0-9a-f]{12}$", description="Id of the token, which is no secret.")]


def add_routes(router: APIRouter, backend: Backend) -> None:
    """Adds the operations to the router."""
    _add_making(router, backend)
    _add_keeping(router, backend)


def _add_making(router: APIRouter, backend: Backend) -> None:
    @router.post(
        "/enrolment-tokens",
        operation_id="createEnrolmentToken",
        summary="Make a one-time token",
        tags=["enrolment"],
        status_code=201,
    )
    async def create(body: models.CreateEnrolmentToken, caller: Caller, response: Response) -> models.NewEnrolmentToken:
        """The token is in this answer and nowhere else: what is stored cannot be turned back into it."""
        issuer = await backend.issuer(caller, body.issuer)
        text, presented = mint()
        now = backend.clock.now()
        new = NewToken(
            presented.id,
            presented.digest,
            issuer.id,
            _profile(caller, issuer, body.profile),
            tuple(str(name) for name in _names(issuer, body)),
            None if body.validity_s is None else timedelta(seconds=body.validity_s),
            body.note or "",
            caller.identity,
            now,
            now + timedelta(seconds=body.ttl_s),
        )
        await backend.enrolling.tokens.create(new, _created(new, issuer, caller))
        row = await backend.enrolling.tokens.token(new.id)
        assert row is not None, "it was stored a moment ago"
        response.headers["Cache-Control"] = "no-store"
        shown = _shown(row, issuer.label, now)
        return models.NewEnrolmentToken(**shown.model_dump(), token=text)


def _add_keeping(router: APIRouter, backend: Backend) -> None:
    @router.get(
        "/enrolment-tokens", operation_id="listEnrolmentTokens", summary="List one-time tokens", tags=["enrolment"]
    )
    async def list_tokens(
        caller: Caller,
        issuer: Annotated[str | None, Query(max_length=128, description="Label of an issuer.")] = None,
        after: Annotated[str | None, Query(max_length=32, description="`next` of the page before.")] = None,
        limit: Limit = PAGE_SIZE,
    ) -> models.EnrolmentTokenPage:
        """Newest first, until 90 days after their end."""
        ids = [(await backend.issuer(caller, issuer)).id] if issuer else await backend.issuer_ids_of(caller)
        rows = await backend.enrolling.tokens.tokens(ids, position(after), limit + 1)
        labels, now = await backend.label_of(), backend.clock.now()
        return models.EnrolmentTokenPage(
            items=[_shown(row, labels.get(row.issuer_id), now) for row in rows[:limit]],
            next=cursor(rows[limit - 1].number) if len(rows) > limit else None,
        )

    @router.post(
        "/enrolment-tokens/{token}/revoke",
        operation_id="revokeEnrolmentToken",
        summary="Revoke a one-time token",
        tags=["enrolment"],
    )
    async def revoke(token: TokenId, caller: Caller) -> models.EnrolmentToken:
        """It opens nothing from now on. A certificate that it brought forth already stays valid."""
        label = await _visible(backend, caller, token)
        now = backend.clock.now()
        audit = AuditEvent(
            "enrolment-token.revoke", caller.identity, f"enrolment-token:{token}", {"issuer": label}, caller.address
        )
        return _shown(await backend.enrolling.tokens.revoke(token, now, audit), label, now)


async def _visible(backend: Backend, caller: Administrator, token: str) -> str | None:
    """The issuer's label. Raises SporkError(NOT_FOUND), also for what the caller may not see."""
    row = await backend.enrolling.tokens.token(token)
    ids = await backend.issuer_ids_of(caller)
    if row is None or (ids is not None and row.issuer_id not in ids):
        raise SporkError(Code.NOT_FOUND, f"There is no token {token!r}.")
    return (await backend.label_of()).get(row.issuer_id)


def _profile(caller: Administrator, issuer: Issuer, wanted: str | None) -> str:
    """Raises SporkError: FORBIDDEN, POLICY_REFUSED."""
    name = wanted or issuer.profiles[0]
    assert sees(caller, issuer), "the backend gives no other one out"
    if token_door(issuer) is None:
        raise SporkError(
            Code.POLICY_REFUSED, f"The issuer {issuer.label} takes no tokens; open its door with protocols.token."
        )
    if name not in issuer.profiles:
        raise SporkError(
            Code.POLICY_REFUSED,
            f"The issuer {issuer.label} does not offer the profile {name}; it offers {', '.join(issuer.profiles)}.",
        )
    check_level(caller, level_named(profile_named(name).minimum_level), f"A token for the profile {name}")
    return name


def _names(issuer: Issuer, body: models.CreateEnrolmentToken) -> tuple[SubjectName, ...]:
    """A token for names that policy refuses would only disappoint its holder. Raises SporkError(REJECTED_IDENTIFIER)."""
    names = tuple(dict.fromkeys(name_from_text(text) for text in body.names))
    matcher = compiled(issuer.names, issuer.namespace)
    for name in names:
        if (objection := matcher.objection(name)) is not None:
            raise SporkError(Code.REJECTED_IDENTIFIER, f"The {name.kind.value} name {name.value!r} {objection}.")
    return names


def _created(new: NewToken, issuer: Issuer, caller: Administrator) -> AuditEvent:
    detail = {"issuer": issuer.label, "profile": new.profile, "names": list(new.names)}
    detail["expires"] = f"{new.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    return AuditEvent("enrolment-token.create", caller.identity, f"enrolment-token:{new.id}", detail, caller.address)


def _shown(row: EnrolmentToken, label: str | None, now: datetime) -> models.EnrolmentToken:
    return models.EnrolmentToken(
        id=row.id,
        state=row.state(now),
        issuer=label,
        profile=row.profile,
        names=row.names,
        validity_s=row.max_validity_s,
        note=row.note,
        made_by=row.created_by,
        made_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.redeemed_at,
        used_from=row.redeemed_from,
        revoked_at=row.revoked_at,
    )
