"""Enrolment with a token instead of an administrator's certificate: the door of workloads and of machines that are set up.

A ServiceAccount's token entitles to the names that the issuer's `token` door gives it; a one-time token to what it was made for.
Either way the issuer's own policy has the last word, and the request goes through the one pipeline.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Request, Response

from spork.api.admin import models, present
from spork.api.admin.addresses import AddressLimit
from spork.api.admin.backend import Backend
from spork.api.admin.enrolment_gate import address_of, bearing
from spork.api.admin.tokenreview import Reviewed, looks_like_service_account_token
from spork.api.admin.translate import SubjectKey, names_of
from spork.errors import Code, SporkError
from spork.ids import AuthorityId
from spork.issuance.onetime import Presented, read
from spork.issuance.ports import AuditEvent, IdempotencyKey, Recorded
from spork.issuance.request import IssuanceRequest
from spork.policy.engine import refusal
from spork.policy.issuer import Issuer
from spork.policy.levels import AdminLevel, level_named
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.policy.tokendoor import DEFAULT_AUDIENCE, TokenDoor, token_door
from spork.store.enrolment_token import EnrolmentToken
from spork.x509.csr import csr_from_pem
from spork.x509.names import SubjectName
from spork.x509.nametext import name_from_text
from spork.x509.profiles import profile_named

OPERATION: Final = "enrol"
"""The one operation that is no administrator's, and so has no line in the table of operations."""
FAILURES: Final = (20.0, 1 / 3)
"""Tries at once and each second of an address that turns out not to be entitled: nobody guesses 256 bits with them."""
TRIES: Final = (240.0, 4.0)
"""The same for all tries: pods of a node come from one address."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The request as it came, read but not believed."""

    body: models.Enrol
    key: SubjectKey
    address: str | None

    @property
    def digest(self) -> bytes:
        """Of everything that the certificate depends on."""
        assert self.key.csr is not None
        asked = {
            **self.body.model_dump(mode="json", exclude={"csr"}),
            "csr": self.key.csr.request.public_bytes(Encoding.DER).hex(),
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()


def add_routes(router: APIRouter, backend: Backend) -> None:
    """Adds the operation to the router, behind a gate of its own."""

    async def enrol(body: models.Enrol, request: Request, response: Response) -> models.IssuedCertificate:
        """Issues from a CSR to whoever shows a token. The same token with the same request gets the same certificate again."""
        csr = csr_from_pem(body.csr)
        asked = _Asked(body, SubjectKey(csr.spki, csr), address_of(request))
        token: str = request.state.token
        if (presented := read(token)) is not None:
            recorded = await _with_one_time_token(backend, presented, asked, request)
        elif looks_like_service_account_token(token):
            recorded = await _with_service_account(backend, token, asked, request)
        else:
            raise SporkError(
                Code.UNAUTHENTICATED, "The token is neither a one-time token of this CA nor a ServiceAccount's."
            )
        return await _issued(backend, recorded, response)

    router.add_api_route(
        "/enrolments",
        enrol,
        methods=["POST"],
        operation_id=OPERATION,
        summary="Enrol with a token",
        tags=["enrolment"],
        status_code=201,
        route_class_override=bearing(AddressLimit(*FAILURES), AddressLimit(*TRIES)),
    )


# ServiceAccounts


async def _with_service_account(backend: Backend, token: str, asked: _Asked, request: Request) -> Recorded:
    """Raises SporkError: UNAUTHENTICATED, UNAVAILABLE, FORBIDDEN, and what the pipeline raises."""
    if backend.enrolling.reviewer is None:
        raise SporkError(
            Code.UNAUTHENTICATED, "ServiceAccounts cannot enrol here: this CA knows no Kubernetes API server to ask."
        )
    issuer, door = await _issuer(backend, asked.body.issuer)
    # Who is not believed learns nothing of the issuers here, so the token is looked at in any case.
    reviewed = await backend.enrolling.reviewer.review(
        token, door.audiences if door is not None else (DEFAULT_AUDIENCE,)
    )
    if issuer is None or door is None:
        raise _shut(asked.body.issuer)
    _check_entitled(issuer, door, reviewed)
    request.state.entitled()
    profile = _profile(issuer, asked.body.profile)
    allowed = door.names_of(reviewed.account)
    names = _names(asked, allowed, profile)
    account = reviewed.account
    marker = f"{account.uid}:{hashlib.sha256(token.encode()).hexdigest()[:32]}:{asked.digest.hex()[:32]}"
    return await backend.pipeline.issue(
        await _request(
            backend, issuer, profile, asked, names,
            requester=Requester(Door.REST, account.identity, asked.address, namespace=account.namespace),
            grant=Grant(frozenset({profile}), frozenset(allowed) & frozenset(names)),
            evidence=Evidence("service-account", f"{account.namespace}:{account.name}#{account.uid} {reviewed.credential}".strip()),
            key=f"service-account:{marker}",
        )
    )  # fmt: skip


def _check_entitled(issuer: Issuer, door: TokenDoor, reviewed: Reviewed) -> None:
    """Raises SporkError(FORBIDDEN) unless the issuer is open to the account."""
    account = reviewed.account
    foreign = issuer.namespace not in ("", account.namespace)
    if foreign or not door.admits(account):
        raise SporkError(
            Code.FORBIDDEN,
            f"The issuer {issuer.label} does not serve the ServiceAccount {account.namespace}:{account.name}.",
        )


def _profile(issuer: Issuer, wanted: str | None) -> str:
    """Raises SporkError: FORBIDDEN for what an administrator above the level of an operator would have to ask for."""
    name = wanted or issuer.profiles[0]
    if name not in issuer.profiles:
        raise SporkError(
            Code.POLICY_REFUSED,
            f"The issuer {issuer.label} does not offer the profile {name}; it offers {', '.join(issuer.profiles)}.",
        )
    if level_named(profile_named(name).minimum_level) > AdminLevel.OPERATOR:
        raise SporkError(Code.FORBIDDEN, f"Certificates of the profile {name} are for administrators to ask for.")
    return name


# One-time tokens


async def _with_one_time_token(backend: Backend, presented: Presented, asked: _Asked, request: Request) -> Recorded:
    """Raises SporkError: UNAUTHENTICATED, FORBIDDEN, CONFLICT (spent on another request), and what the pipeline raises."""
    row = await backend.enrolling.tokens.token(presented.id)
    if not presented.is_that_of(bytes(row.digest) if row is not None else None) or row is None:
        raise SporkError(Code.UNAUTHENTICATED, "There is no such one-time token.")
    _check_usable(row, asked.digest, backend)
    issuer, door = await _issuer(backend, asked.body.issuer)
    if issuer is None or door is None or issuer.id != row.issuer_id:
        raise _shut(asked.body.issuer, "The token is not for the issuer, or the issuer takes no tokens any more:")
    if asked.body.profile not in (None, row.profile):
        raise SporkError(Code.FORBIDDEN, f"The token is for the profile {row.profile}.")
    request.state.entitled()
    granted = tuple(name_from_text(text) for text in row.names)
    wanted = await _request(
        backend, issuer, row.profile, asked, _names(asked, granted, row.profile),
        requester=Requester(Door.REST, f"token:{row.id}", asked.address),
        grant=Grant(
            frozenset({row.profile}), frozenset(granted),
            None if row.max_validity_s is None else timedelta(seconds=row.max_validity_s),
        ),
        evidence=Evidence("one-time-token", f"{row.id}, made by {row.created_by}"),
        key=f"token:{row.id}",
    )  # fmt: skip
    await _spend(backend, row, wanted, asked)
    return await backend.pipeline.issue(wanted)


async def _spend(backend: Backend, row: EnrolmentToken, wanted: IssuanceRequest, asked: _Asked) -> None:
    """The token is for this request from here on, so that a crash before the signature costs nothing but a retry."""
    if row.request_digest is not None:
        return
    # What policy refuses must not spend it: the holder corrects the request and comes again.
    _, decision = await backend.pipeline.judge(wanted)
    if not decision.allowed:
        raise refusal(decision)
    audit = AuditEvent(
        "enrolment-token.redeem",
        wanted.requester.identity,
        f"enrolment-token:{row.id}",
        {"issuer": asked.body.issuer, "request": asked.digest.hex()},
        asked.address,
    )
    spent = await backend.enrolling.tokens.redeem(row.id, asked.digest, backend.clock.now(), asked.address, audit)
    if spent is None:
        raise SporkError(Code.UNAUTHENTICATED, "There is no such one-time token.")
    _check_usable(spent, asked.digest, backend)


def _check_usable(row: EnrolmentToken, digest: bytes, backend: Backend) -> None:
    """Raises SporkError: UNAUTHENTICATED for one that is over, CONFLICT for one that another request had."""
    if row.revoked_at is not None:
        raise SporkError(Code.UNAUTHENTICATED, "The one-time token was revoked.")
    if row.expires_at <= backend.clock.now():
        raise SporkError(Code.UNAUTHENTICATED, "The one-time token has expired.")
    if row.request_digest is not None and bytes(row.request_digest) != digest:
        raise SporkError(Code.CONFLICT, "The one-time token was used already, for another request.")


# Both


async def _issuer(backend: Backend, label: str) -> tuple[Issuer | None, TokenDoor | None]:
    try:
        issuer = await backend.issuers.issuer(label)
    except SporkError as error:
        if error.code is not Code.NOT_FOUND:
            raise
        return None, None
    return issuer, token_door(issuer)


def _shut(label: str, why: str = "There is no such issuer, or it takes no tokens:") -> SporkError:
    return SporkError(Code.FORBIDDEN, f"{why} {label}.")


def _names(asked: _Asked, entitled: Sequence[SubjectName], profile: str) -> tuple[SubjectName, ...]:
    """The names of the CSR; where it has none, all that the caller is entitled to and the profile can hold."""
    found = names_of(None, asked.key, profile_named(profile), None)
    kinds = profile_named(profile).name_kinds
    return found or tuple(name for name in entitled if name.kind in kinds)


async def _request(
    backend: Backend,
    issuer: Issuer,
    profile: str,
    asked: _Asked,
    names: tuple[SubjectName, ...],
    *,
    requester: Requester,
    grant: Grant,
    evidence: Evidence,
    key: str,
) -> IssuanceRequest:
    assert asked.key.csr is not None
    validity = asked.body.validity_s
    return IssuanceRequest(
        requester=requester,
        grant=grant,
        evidence=evidence,
        idempotency=IdempotencyKey(f"issuer:{issuer.id}", Door.REST, key, asked.digest),
        authority=await backend.authorities.authority(issuer.authority_id),
        issuer=issuer,
        profile=profile_named(profile),
        spki=asked.key.spki,
        names=names,
        csr=asked.key.csr.request,
        validity=None if validity is None else timedelta(seconds=validity),
    )


async def _issued(backend: Backend, recorded: Recorded, response: Response) -> models.IssuedCertificate:
    """The certificate with its chain. There is no Location: who enrols may not read there."""
    authority = await backend.authorities.authority(AuthorityId(recorded.authority_id), recorded.generation)
    response.headers["Cache-Control"] = "no-store"
    return present.issued(recorded, authority)
