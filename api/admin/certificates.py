"""Operations on certificates: issue, renew, list, show, export, revoke, release."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from cryptography import x509
from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import AwareDatetime

from spork.api.admin import models, present
from spork.api.admin.authenticate import Administrator
from spork.api.admin.backend import Backend
from spork.api.admin.gate import administrator_of
from spork.api.admin.operations import check_level
from spork.api.admin.pages import PAGE_SIZE, Limit, cursor, position
from spork.api.admin.translate import SubjectKey, issuance, names_of, subject_from, subject_key
from spork.errors import Code, SporkError
from spork.ids import AuthorityId, serial_text
from spork.issuance.ports import Recorded
from spork.issuance.request import IssuanceRequest
from spork.issuance.revoke import Reason, reason_named
from spork.policy.issuer import Issuer
from spork.policy.levels import ACTIONS, level_named
from spork.policy.proposal import Grant
from spork.store.certificate_search import CertificateDetail, CertificateFilter
from spork.x509.names import SubjectName
from spork.x509.nametext import name_from_text
from spork.x509.profiles import profile_named

Caller = Annotated[Administrator, Depends(administrator_of)]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="A retry with the same key and body gets the same certificate; another body with it is a conflict.",
    ),
]
AuthorityName = Annotated[str, Path(max_length=63, description="Id of the CA.")]
SerialText = Annotated[str, Path(max_length=64, pattern=r"^[0-9A-Fa-f:]+$", description="Serial number, hexadecimal.")]
_Shown = TypeVar("_Shown", bound=models.CertificateSummary)
PEM_CHAIN = "application/pem-certificate-chain"
_PEM_ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {PEM_CHAIN: {"schema": {"type": "string"}}}}}


def add_routes(router: APIRouter, backend: Backend) -> None:
    """Adds the operations to the router."""
    _add_issuing(router, backend)
    _add_search(router, backend)
    _add_reading(router, backend)
    _add_revoking(router, backend)


def _add_issuing(router: APIRouter, backend: Backend) -> None:
    @router.post(
        "/certificates",
        operation_id="issueCertificate",
        summary="Issue a certificate",
        tags=["certificates"],
        status_code=201,
    )
    async def issue(
        body: models.IssueCertificate, caller: Caller, response: Response, key: Key = None
    ) -> models.IssuedCertificate:
        """Issues from a CSR, or for a public key. The private key stays where it was made."""
        request = await request_to_issue(backend, caller, body, key)
        return await _issued(backend, await backend.pipeline.issue(request), response)

    @router.post(
        "/certificates/{authority}/{serial}/renew",
        operation_id="renewCertificate",
        summary="Issue a successor with the same names",
        tags=["certificates"],
        status_code=201,
    )
    async def renew(
        authority: AuthorityName,
        serial: SerialText,
        body: models.RenewCertificate,
        caller: Caller,
        response: Response,
        key: Key = None,
    ) -> models.IssuedCertificate:
        """Same issuer, profile, subject and names; the key of the new CSR. The predecessor stays valid."""
        row = await backend.certificate(caller, authority, serial)
        request = await request_to_renew(backend, caller, row, body, key)
        return await _issued(backend, await backend.pipeline.issue(request), response)


def _add_search(router: APIRouter, backend: Backend) -> None:
    @router.get("/certificates", operation_id="listCertificates", summary="Search certificates", tags=["certificates"])
    async def list_certificates(
        caller: Caller,
        text: Annotated[
            str | None,
            Query(min_length=3, max_length=253, description="Part of a name or of the subject, case ignored."),
        ] = None,
        name: Annotated[str | None, Query(max_length=2048, description="One whole name, as kind:value.")] = None,
        requester: Annotated[str | None, Query(max_length=256)] = None,
        authority: Annotated[str | None, Query(max_length=63)] = None,
        issuer: Annotated[str | None, Query(max_length=128, description="Label of an issuer.")] = None,
        profile: Annotated[str | None, Query(max_length=63)] = None,
        serial: Annotated[
            str | None,
            Query(max_length=64, pattern=r"^[0-9A-Fa-f:]+$", description="Of whichever CA; other filters are ignored."),
        ] = None,
        state: Annotated[
            str | None,
            Query(pattern="^(reserved|issued|abandoned|revoked|held|expired)$", description="Lifecycle state."),
        ] = None,
        expires_before: Annotated[AwareDatetime | None, Query(alias="expiresBefore")] = None,
        after: Annotated[str | None, Query(max_length=32, description="`next` of the page before.")] = None,
        limit: Limit = PAGE_SIZE,
    ) -> models.CertificatePage:
        """Newest first. Administrators with limits see the certificates of their issuers only."""
        now = backend.clock.now()
        labels = await backend.label_of()
        if serial is not None:
            found = await backend.certificates_with_serial(caller, serial)
            return models.CertificatePage(
                items=[_seen(caller, present.summary(r, labels.get(r.issuer_id or 0), now)) for r in found]
            )
        wanted = CertificateFilter(
            text=text,
            name=name,
            requester=requester,
            authority_id=authority,
            profile=profile,
            state=state,
            expires_before=expires_before,
            issuer_ids=[(await backend.issuer(caller, issuer)).id] if issuer else await backend.issuer_ids_of(caller),
        )
        rows = await backend.reading.certificates(wanted, now, position(after), limit + 1)
        return models.CertificatePage(
            items=[_seen(caller, present.summary(row, labels.get(row.issuer_id or 0), now)) for row in rows[:limit]],
            next=cursor(rows[limit - 1].id) if len(rows) > limit else None,
        )


def _add_reading(router: APIRouter, backend: Backend) -> None:
    @router.get(
        "/certificates/{authority}/{serial}",
        operation_id="showCertificate",
        summary="Show a certificate with its policy trace",
        tags=["certificates"],
    )
    async def show(authority: AuthorityName, serial: SerialText, caller: Caller) -> models.Certificate:
        row = await backend.certificate(caller, authority, serial)
        labels = await backend.label_of()
        return _seen(caller, present.certificate(row, labels.get(row.issuer_id or 0), backend.clock.now()))

    @router.get(
        "/certificates/{authority}/{serial}/pem",
        operation_id="exportCertificate",
        summary="The certificate as PEM",
        tags=["certificates"],
        response_class=Response,
        responses=_PEM_ANSWER,
    )
    async def export(authority: AuthorityName, serial: SerialText, caller: Caller) -> Response:
        return Response(
            present.pem(_der_of(await backend.certificate(caller, authority, serial))), media_type=PEM_CHAIN
        )

    @router.get(
        "/certificates/{authority}/{serial}/chain",
        operation_id="exportChain",
        summary="The certificate and those above it as PEM",
        tags=["certificates"],
        response_class=Response,
        responses=_PEM_ANSWER,
    )
    async def export_chain(
        authority: AuthorityName,
        serial: SerialText,
        caller: Caller,
        root: Annotated[bool, Query(description="Whether to end with the root.")] = False,
    ) -> Response:
        row = await backend.certificate(caller, authority, serial)
        issuer = await backend.authorities.authority(row.authority_id, row.generation)
        return Response(present.pem(_der_of(row)) + present.chain_pem(issuer, root=root), media_type=PEM_CHAIN)


def _add_revoking(router: APIRouter, backend: Backend) -> None:
    @router.post(
        "/certificates/{authority}/{serial}/revoke",
        operation_id="revokeCertificate",
        summary="Revoke a certificate, or put it on hold",
        tags=["certificates"],
    )
    async def revoke(
        authority: AuthorityName, serial: SerialText, body: models.RevokeCertificate, caller: Caller
    ) -> models.StatusChange:
        """Final, but for certificateHold. OCSP says so within a second; a CRL follows on schedule, at once for compromises."""
        row = await backend.certificate(caller, authority, serial)
        return await change_status(backend, caller, row, reason_named(body.reason), body)

    @router.post(
        "/certificates/{authority}/{serial}/release",
        operation_id="releaseCertificate",
        summary="Release a certificate from hold",
        tags=["certificates"],
    )
    async def release(authority: AuthorityName, serial: SerialText, caller: Caller) -> models.StatusChange:
        row = await backend.certificate(caller, authority, serial)
        return await change_status(backend, caller, row, Reason.removeFromCRL)


async def request_to_issue(
    backend: Backend, caller: Administrator, body: models.IssueCertificate, key_header: str | None
) -> IssuanceRequest:
    """Raises SporkError: NOT_FOUND and CONFLICT for the issuer, FORBIDDEN for the profile, and what reading the key raises."""
    if body.authority is not None:
        issuer = await backend.issuer_under(caller, body.authority, body.profile)
    else:
        issuer = await backend.issuer(caller, body.issuer)
    key = subject_key(body)
    name = body.profile or issuer.profiles[0]
    names = names_of(body.names, key, profile_named(name), body.common_name)
    subject = subject_from(body.subject, body.common_name)
    asked = body.model_dump(mode="json", exclude={"csr", "public_key"})
    return await _request(backend, caller, issuer, name, key, key_header, asked, names, subject, body.validity_s)


async def request_to_renew(
    backend: Backend,
    caller: Administrator,
    row: CertificateDetail,
    body: models.RenewCertificate,
    key_header: str | None,
) -> IssuanceRequest:
    """Raises SporkError: CONFLICT for what was revoked or never issued, FORBIDDEN for what no issuer stands behind."""
    label = (await backend.label_of()).get(row.issuer_id or 0)
    if label is None:
        raise SporkError(
            Code.FORBIDDEN, "Only what an issuer issued can be renewed here; administrators get a new certificate."
        )
    if row.state != "issued" or row.reason is not None:
        raise SporkError(
            Code.CONFLICT, f"The certificate is {present.state_of(row, backend.clock.now())}; issue a new one instead."
        )
    key = subject_key(body)
    names = tuple(name_from_text(text) for text in row.names)
    subject = _subject_of(row)
    asked = {"renews": f"{row.authority_id}/{serial_text(row.serial)}", "validityS": body.validity_s}
    issuer = await backend.issuer(caller, label)
    return await _request(
        backend, caller, issuer, row.profile, key, key_header, asked, names, subject, body.validity_s,
        grant=Grant(names=frozenset(names)), attributes={"renews": asked["renews"]},
    )  # fmt: skip


async def _request(
    backend: Backend,
    caller: Administrator,
    issuer: Issuer,
    profile_name: str,
    key: SubjectKey,
    key_header: str | None,
    asked: Any,
    names: tuple[SubjectName, ...],
    subject: x509.Name | None,
    validity_s: int | None,
    **more: Any,
) -> IssuanceRequest:
    profile = profile_named(profile_name)
    check_level(caller, level_named(profile.minimum_level), f"Issuing the profile {profile.name}")
    if profile.name not in issuer.profiles:
        raise SporkError(
            Code.POLICY_REFUSED,
            f"The issuer {issuer.label} does not offer the profile {profile.name}; it offers {', '.join(issuer.profiles)}.",
        )
    return issuance(
        administrator=caller,
        issuer=issuer,
        authority=await backend.authorities.authority(issuer.authority_id),
        profile=profile,
        key=key,
        key_header=key_header,
        asked=asked,
        names=names,
        subject=subject,
        validity_s=validity_s,
        **more,
    )


async def change_status(
    backend: Backend,
    caller: Administrator,
    row: CertificateDetail,
    reason: Reason,
    body: models.RevokeCertificate | None = None,
) -> models.StatusChange:
    """Revokes, holds or releases. Raises SporkError: FORBIDDEN, CONFLICT, ALREADY_REVOKED, BAD_REVOCATION_REASON."""
    # Who may not issue such a certificate may not end it either: an Admin must not lock out a SuperAdmin or revoke a CA.
    minimum = profile_named(row.profile).minimum_level
    check_level(caller, level_named(minimum), f"Changing the status of a certificate of the profile {row.profile}")
    invalid_since = body.invalidity_date if body is not None else None
    if invalid_since is not None and invalid_since > backend.clock.now():
        raise SporkError(Code.BAD_REVOCATION_REASON, "invalidityDate lies in the future.")
    version = await backend.revoker.revoke(
        row.id,
        reason,
        actor=caller.identity,
        subject=f"certificate:{row.authority_id}/{serial_text(row.serial)}",
        authority=row.authority_id,
        address=caller.address,
        invalidity_date=invalid_since,
    )
    state = {Reason.certificateHold: "held", Reason.removeFromCRL: row.state}.get(reason, "revoked")
    return models.StatusChange(
        authority=row.authority_id, serial=serial_text(row.serial), state=state, status_version=version
    )


async def _issued(backend: Backend, recorded: Recorded, response: Response) -> models.IssuedCertificate:
    authority = await backend.authorities.authority(AuthorityId(recorded.authority_id), recorded.generation)
    response.headers["Location"] = present.location(recorded)
    return present.issued(recorded, authority)


def _subject_of(row: CertificateDetail) -> x509.Name:
    """The subject as it stands in the certificate: its text form may lose the kinds of its strings."""
    return x509.load_der_x509_certificate(_der_of(row)).subject


def _seen(caller: Administrator, shown: _Shown) -> _Shown:
    """Why and when something was revoked is for operators; that it is revoked, everybody sees."""
    if caller.level >= ACTIONS["revocation.read"]:
        return shown
    return shown.model_copy(update={"revocation": None})


def _der_of(row: CertificateDetail) -> bytes:
    if row.der is None:
        raise SporkError(Code.NOT_FOUND, f"The certificate was not issued; it is {row.state}.")
    return row.der
