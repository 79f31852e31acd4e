"""Operations on what stands behind certificates: CAs, issuers, CRLs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from spork.api.admin import models, present
from spork.api.admin.backend import Backend
from spork.api.admin.certificates import AuthorityName, Caller


def add_routes(router: APIRouter, backend: Backend) -> None:
    """Adds the operations to the router."""
    _add_authorities(router, backend)
    _add_issuers(router, backend)
    _add_crls(router, backend)


def _add_authorities(router: APIRouter, backend: Backend) -> None:
    @router.get("/authorities", operation_id="listAuthorities", summary="List the CAs", tags=["authorities"])
    async def list_authorities(caller: Caller) -> models.AuthorityList:
        """The current generation of each, roots first. Administrators with limits see the CAs of their issuers."""
        return models.AuthorityList(items=[present.authority_model(a) for a in await backend.authorities_of(caller)])

    @router.get("/authorities/{authority}", operation_id="showAuthority", summary="Show a CA", tags=["authorities"])
    async def show_authority(authority: AuthorityName, caller: Caller) -> models.Authority:
        return present.authority_model(await backend.authority(caller, authority))


def _add_issuers(router: APIRouter, backend: Backend) -> None:
    @router.get("/issuers", operation_id="listIssuers", summary="List the issuers", tags=["issuers"])
    async def list_issuers(caller: Caller) -> models.IssuerList:
        """Each with its CA, profiles, names and doors."""
        return models.IssuerList(items=[present.issuer_model(issuer) for issuer in await backend.issuers_of(caller)])

    @router.get("/issuers/{label}", operation_id="showIssuer", summary="Show an issuer", tags=["issuers"])
    async def show_issuer(label: Annotated[str, Path(max_length=128)], caller: Caller) -> models.Issuer:
        return present.issuer_model(await backend.issuer(caller, label))


def _add_crls(router: APIRouter, backend: Backend) -> None:
    @router.get("/crls", operation_id="listCRLs", summary="List the current CRLs", tags=["crls"])
    async def list_crls(
        caller: Caller, authority: Annotated[str | None, Query(max_length=63)] = None
    ) -> models.CRLList:
        """The newest of every CA, generation and shard, and the newest delta beside it."""
        visible = {a.id for a in await backend.authorities_of(caller)}
        if authority is not None:
            visible &= {(await backend.authority(caller, authority)).id}
        now = backend.clock.now()
        scopes = [s for s in await backend.reading.crl_scopes(now) if s.scope.authority_id in visible]
        return models.CRLList(items=[crl for state in scopes for crl in present.crl_models(state, now)])

    @router.post(
        "/crls/{authority}/publish", operation_id="publishCRL", summary="Publish a CA's CRLs now", tags=["crls"]
    )
    async def publish(authority: AuthorityName, caller: Caller) -> models.PublishedCRLs:
        """Signs and publishes without waiting for the schedule. A sealed or offline CA's CRLs are published where its key is."""
        found = await backend.authority(caller, authority)
        return models.PublishedCRLs(authority=found.id, numbers=list(await backend.publish(found.id, caller)))
