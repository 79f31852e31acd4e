"""Operations on administrators themselves. Only a SuperAdmin without limits comes here."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from cryptography import x509
from fastapi import APIRouter, Query, Response

from spork.api.admin import models, present
from spork.api.admin.authenticate import Administrator, limits_of
from spork.api.admin.backend import Backend
from spork.api.admin.certificates import Caller, Key, SerialText, change_status
from spork.api.admin.pages import PAGE_SIZE, Limit, cursor, position
from spork.api.admin.translate import evidence_of, idempotency, requester_of
from spork.errors import Code, SporkError
from spork.ids import MANAGEMENT_AUTHORITY, serial_text
from spork.issuance.administrator import administrator_request
from spork.issuance.request import IssuanceRequest
from spork.issuance.revoke import reason_named
from spork.policy.levels import PROFILE_PREFIX, level_named
from spork.store.certificate_search import CertificateDetail, CertificateFilter
from spork.x509.csr import csr_from_pem
from spork.x509.names import common_name


def add_routes(router: APIRouter, backend: Backend) -> None:
    """Adds the operations to the router."""

    @router.post(
        "/admins", operation_id="issueAdministrator", summary="Make an administrator", tags=["admins"], status_code=201
    )
    async def issue(
        body: models.IssueAdministrator, caller: Caller, response: Response, key: Key = None
    ) -> models.IssuedCertificate:
        """Issues an administrator's certificate from a CSR. The name of the body becomes the subject, whatever the CSR says."""
        await _check_issuers(backend, body.issuers)
        recorded = await backend.pipeline.issue(await _request(backend, caller, body, key))
        response.headers["Location"] = present.location(recorded)
        return present.issued(recorded, None)

    @router.get("/admins", operation_id="listAdministrators", summary="List administrators", tags=["admins"])
    async def list_administrators(
        caller: Caller,
        state: Annotated[str | None, Query(pattern="^(issued|revoked|held|expired)$")] = None,
        after: Annotated[str | None, Query(max_length=32)] = None,
        limit: Limit = PAGE_SIZE,
    ) -> models.AdministratorPage:
        """Newest first."""
        now = backend.clock.now()
        wanted = CertificateFilter(authority_id=MANAGEMENT_AUTHORITY, profile_prefix=PROFILE_PREFIX, state=state)
        rows = await backend.reading.certificates(wanted, now, position(after), limit + 1)
        return models.AdministratorPage(
            items=[_summary(await backend.reading.attributes(row), present.state_of(row, now)) for row in rows[:limit]],
            next=cursor(rows[limit - 1].id) if len(rows) > limit else None,
        )

    @router.post(
        "/admins/{serial}/revoke",
        operation_id="revokeAdministrator",
        summary="Revoke an administrator",
        tags=["admins"],
    )
    async def revoke(serial: SerialText, body: models.RevokeCertificate, caller: Caller) -> models.StatusChange:
        """The next request with that certificate is refused, on open connections too."""
        row = await backend.certificate(caller, MANAGEMENT_AUTHORITY, serial)
        if not row.profile.startswith(PROFILE_PREFIX):
            raise SporkError(Code.NOT_FOUND, f"The certificate {serial} is not an administrator's.")
        return await change_status(backend, caller, row, reason_named(body.reason), body)


async def _check_issuers(backend: Backend, labels: list[str] | None) -> None:
    """A limit to an issuer that does not exist would be a typing error that nobody notices. Raises SporkError(NOT_FOUND)."""
    known = {issuer.label for issuer in await backend.reading.issuers()}
    if missing := sorted(set(labels or ()) - known):
        raise SporkError(
            Code.NOT_FOUND, f"There is no issuer {', '.join(missing)}; known are {', '.join(sorted(known))}."
        )


async def _request(
    backend: Backend, caller: Administrator, body: models.IssueAdministrator, key_header: str | None
) -> IssuanceRequest:
    csr = csr_from_pem(body.csr)
    asked = {**body.model_dump(mode="json", exclude={"csr"}), "spki": csr.spki.hex()}
    return administrator_request(
        requester=requester_of(caller),
        evidence=evidence_of(caller),
        idempotency=idempotency(key_header, caller, f"authority:{MANAGEMENT_AUTHORITY}", asked),
        authority=await backend.authorities.authority(MANAGEMENT_AUTHORITY),
        name=body.name,
        level=level_named(body.level),
        issuers=body.issuers,
        oid_base=backend.oid_base,
        spki=csr.spki,
        csr=csr.request,
        names=csr.names,
        validity=None if body.validity_s is None else timedelta(seconds=body.validity_s),
    )


def _summary(row: CertificateDetail, state: str) -> models.AdministratorSummary:
    limits = limits_of(row.attributes)
    return models.AdministratorSummary(
        name=_name(row),
        serial=serial_text(row.serial),
        level=row.profile.removeprefix(PROFILE_PREFIX),
        issuers=None if limits is None else sorted(limits),
        state=state,
        not_before=row.not_before,
        not_after=row.not_after,
        requester=row.requester,
    )


def _name(row: CertificateDetail) -> str:
    return common_name(x509.Name.from_rfc4514_string(row.subject)) or row.subject
