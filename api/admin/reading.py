"""What the administration API reads, gathered from the store's lists.

Every list is newest first, with keyset pages: `after` is the row id of the last item of the page before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from spork.api.admin.authenticate import AdministratorRow
from spork.ids import AuthorityId, Serial
from spork.issuance.crl_schedule import ScopeState
from spork.policy.issuer import Issuer
from spork.store.audit import EventFilter, RecordedEvent, list_events
from spork.store.certificate_search import CertificateDetail, CertificateFilter, CertificateRecords, CertificateSummary
from spork.store.crl import CRLStore
from spork.x509.authority import Authority

if TYPE_CHECKING:
    from spork.services import Services


class Reading:
    """Everything that is read for administrators."""

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._authorities = services.authorities
        self._issuers = services.issuers
        self._records = CertificateRecords(services.database)
        self._lists = CRLStore(services.database)

    async def administrator_row(self, sha256: bytes) -> AdministratorRow | None:
        """One statement, and never from a cache: what was revoked a moment ago must show."""
        found = await self._records.by_sha256(sha256)
        if found is None:
            return None
        return AdministratorRow(
            certificate_id=found.id,
            authority_id=found.authority_id,
            state=found.state,
            der=None if found.der is None else bytes(found.der),
            revoked=found.reason is not None,
            attributes=found.attributes,
        )

    async def certificate(self, authority_id: str, serial: Serial) -> CertificateDetail | None:
        return await self._records.by_serial(AuthorityId(authority_id), serial)

    async def certificates(
        self, wanted: CertificateFilter, now: datetime, after: int | None, limit: int
    ) -> Sequence[CertificateSummary]:
        """Raises SporkError(MALFORMED) for a text of fewer than three characters."""
        return await self._records.search(wanted, now, after=after, limit=limit)

    async def attributes(self, certificate: CertificateSummary) -> CertificateDetail:
        """The whole row of a line of a list."""
        found = await self._records.by_id(certificate.id)
        assert found is not None, "rows of certificates are never deleted"
        return found

    async def authorities(self) -> Sequence[Authority]:
        """The current generation of every CA, parents before children."""
        return await self._authorities.all()

    async def issuers(self) -> Sequence[Issuer]:
        return await self._issuers.all()

    async def crl_scopes(self, now: datetime) -> Sequence[ScopeState]:
        """What every CRL of every CA looks like now."""
        return await self._lists.scopes(now)

    async def audit_events(self, wanted: EventFilter, after: int | None, limit: int) -> Sequence[RecordedEvent]:
        return await list_events(self._database, wanted, before=after, limit=limit)
