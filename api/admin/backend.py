"""What the routes work on: the parts of `Services` that this door uses, so that tests can hand in others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from spork.api.admin.authenticate import Administrator, Authenticator
from spork.api.admin.reading import Reading
from spork.api.admin.tokenreview import TokenReviewer
from spork.clock import Clock
from spork.errors import Code, SporkError
from spork.ids import AuthorityId, serial_from_text
from spork.issuance.ports import Authorities, Issuers, Recorded
from spork.issuance.request import IssuanceRequest
from spork.issuance.revoke import Revoker
from spork.policy.issuer import Issuer
from spork.policy.proposal import Decision, Proposal
from spork.store.certificate_search import CertificateDetail
from spork.store.enrolment_token import EnrolmentTokens
from spork.x509.authority import Authority
from spork.x509.names import common_name

Publish = Callable[[AuthorityId, Administrator], Awaitable[Sequence[int]]]
"""Publishes the CRLs of an authority now; returns their numbers."""


@dataclass(frozen=True, slots=True)
class Enrolling:
    """What enrolment with tokens needs."""

    tokens: EnrolmentTokens
    reviewer: TokenReviewer | None
    """None where there is no Kubernetes API server to ask."""


class Issuing(Protocol):
    """The pipeline, as this door sees it."""

    async def issue(self, request: IssuanceRequest) -> Recorded: ...

    async def judge(self, request: IssuanceRequest) -> tuple[Proposal, Decision]: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything below this door."""

    authenticator: Authenticator
    reading: Reading
    pipeline: Issuing
    revoker: Revoker
    authorities: Authorities
    issuers: Issuers
    clock: Clock
    publish: Publish
    oid_base: str
    enrolling: Enrolling

    async def issuers_of(self, administrator: Administrator) -> list[Issuer]:
        """The issuers that the caller may see."""
        return [issuer for issuer in await self.reading.issuers() if sees(administrator, issuer)]

    async def issuer_ids_of(self, administrator: Administrator) -> list[int] | None:
        """The row ids that lists are narrowed to; None for a caller without limits."""
        if administrator.issuers is None:
            return None
        return [issuer.id for issuer in await self.issuers_of(administrator)]

    async def issuer(self, administrator: Administrator, label: str | None) -> Issuer:
        """By label, or the default issuer. What a limited caller may not see is not found.

        Raises SporkError(NOT_FOUND).
        """
        issuer = await self.issuers.issuer(label)
        if not sees(administrator, issuer):
            raise SporkError(Code.NOT_FOUND, _no_issuer(label, [i.label for i in await self.issuers_of(administrator)]))
        return issuer

    async def issuer_under(self, administrator: Administrator, authority_name: str, profile: str | None) -> Issuer:
        """The one issuer of a CA, given by id or common name, that offers the profile; the default one among several.

        Raises SporkError: NOT_FOUND, CONFLICT (several; it names them).
        """
        authority_id = await self._authority_id(authority_name)
        bound = [i for i in await self.issuers_of(administrator) if i.authority_id == authority_id]
        fitting = [i for i in bound if profile is None or profile in i.profiles]
        if not fitting:
            offered = sorted({name for issuer in bound for name in issuer.profiles})
            hint = f" with the profile {profile}; it offers {', '.join(offered)}" if profile and bound else ""
            raise SporkError(Code.NOT_FOUND, f"No issuer of the CA {authority_name!r} is open to you{hint}.")
        chosen = fitting if len(fitting) == 1 else [i for i in fitting if i.default]
        if len(chosen) != 1:
            labels = ", ".join(sorted(i.label for i in fitting))
            raise SporkError(Code.CONFLICT, f"Several issuers stand under {authority_name!r}: name one of {labels}.")
        return chosen[0]

    async def _authority_id(self, name: str) -> AuthorityId:
        everything = await self.reading.authorities()
        for authority in everything:
            if authority.id == name:
                return authority.id
        wanted = name.casefold()
        found = [a.id for a in everything if title(a).casefold() == wanted]
        # People leave out the organisation's name: `TLS Issuing CA` is `SPORK TLS Issuing CA` if only one CA ends so.
        found = found or [a.id for a in everything if title(a).casefold().endswith(f" {wanted}")]
        if len(found) != 1:
            known = ", ".join(a.id for a in everything)
            raise SporkError(
                Code.NOT_FOUND, f"There is {'no' if not found else 'more than one'} CA {name!r}; known are {known}."
            )
        return found[0]

    async def certificate(self, administrator: Administrator, authority: str, serial: str) -> CertificateDetail:
        """By authority id and hexadecimal serial. Raises SporkError(NOT_FOUND), also for what the caller may not see."""
        missing = SporkError(Code.NOT_FOUND, f"There is no certificate {serial} of {authority}.")
        try:
            row = await self.reading.certificate(authority, serial_from_text(serial))
        except ValueError:
            raise missing from None
        limits = await self.issuer_ids_of(administrator)
        if row is None or (limits is not None and row.issuer_id not in limits):
            raise missing
        return row

    async def certificates_with_serial(self, administrator: Administrator, serial: str) -> list[CertificateDetail]:
        """The certificates of that serial, whichever CA issued them: serials are random, so there is hardly more than one."""
        found = []
        for authority in await self.reading.authorities():
            with suppress(SporkError):
                found.append(await self.certificate(administrator, authority.id, serial))
        return found

    async def authorities_of(self, administrator: Administrator) -> list[Authority]:
        """The CAs that the caller may see: all, or those of the caller's issuers."""
        everything = await self.reading.authorities()
        if administrator.issuers is None:
            return list(everything)
        bound = {issuer.authority_id for issuer in await self.issuers_of(administrator)}
        return [authority for authority in everything if authority.id in bound]

    async def authority(self, administrator: Administrator, authority_id: str) -> Authority:
        """Raises SporkError(NOT_FOUND)."""
        for authority in await self.authorities_of(administrator):
            if authority.id == authority_id:
                return authority
        raise SporkError(Code.NOT_FOUND, f"There is no CA {authority_id!r}.")

    async def label_of(self) -> dict[int, str]:
        """Labels of all issuers by row id."""
        return {issuer.id: issuer.label for issuer in await self.reading.issuers()}


def sees(administrator: Administrator, issuer: Issuer) -> bool:
    """Whether the caller's limits include the issuer."""
    return administrator.issuers is None or issuer.label in administrator.issuers


def title(authority: Authority) -> str:
    """What people call the CA."""
    return common_name(authority.subject) or authority.id


def _no_issuer(label: str | None, visible: Sequence[str]) -> str:
    wanted = "The default issuer is not among those you may use" if label is None else f"There is no issuer {label!r}"
    return f"{wanted}; yours are {', '.join(sorted(visible)) or 'none'}."
