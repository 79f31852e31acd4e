"""Reading the record of certificates: one by one, in pages newest first, by expiry, and in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import class_row

from spork.errors import Code, SporkError
from spork.ids import AuthorityId, CertificateId, Serial, serial_from_octets, serial_octets
from spork.store.audit import LARGEST_PAGE, PAGE
from spork.store.database import Database

_FIELDS: LiteralString = """
       c.id, c.authority_id, c.generation, c.serial AS serial_octets, c.state, c.issuer_id, c.profile, c.subject, c.names,
       c.not_before, c.not_after, c.requester, c.door, c.created_at, c.issued_at, r.reason, r.revoked_at, r.invalidity_date
"""
_FROM: LiteralString = """
  FROM certificate c LEFT JOIN revocation r ON r.certificate_id = c.id AND r.released_at IS NULL
"""
_DETAIL: LiteralString = f"""
SELECT {_FIELDS}, c.der, c.sha256, c.spki_sha256, c.evidence, c.attributes, c.trace {_FROM}
"""
_SUMMARY: LiteralString = f"SELECT {_FIELDS} {_FROM}"
# Reasons in the language of lists: what is expired may be revoked as well and is then called revoked.
_STATES: Mapping[str, LiteralString] = {
    "reserved": "c.state = 'reserved'",
    "abandoned": "c.state = 'abandoned'",
    "issued": "c.state = 'issued' AND c.not_after >= %(now)s AND r.certificate_id IS NULL",
    "revoked": "c.state = 'issued' AND r.certificate_id IS NOT NULL AND r.reason <> 6",
    "held": "c.state = 'issued' AND r.reason = 6",
    "expired": "c.state = 'issued' AND c.not_after < %(now)s AND r.certificate_id IS NULL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSummary:
    """One certificate as lists show it."""

    id: CertificateId
    authority_id: AuthorityId
    generation: int
    serial_octets: bytes
    state: str
    """reserved, issued or abandoned."""
    issuer_id: int | None
    profile: str
    subject: str
    names: list[str]
    """`kind:value`."""
    not_before: datetime
    not_after: datetime
    requester: str
    door: str
    created_at: datetime
    issued_at: datetime | None
    reason: int | None
    """CRLReason while it is revoked or on hold (6); a released hold leaves None."""
    revoked_at: datetime | None
    invalidity_date: datetime | None

    @property
    def serial(self) -> Serial:
        return serial_from_octets(self.serial_octets)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateDetail(CertificateSummary):
    """One certificate with all that was kept of its issuance."""

    der: bytes | None
    sha256: bytes | None
    spki_sha256: bytes
    evidence: Mapping[str, Any]
    attributes: Mapping[str, Any]
    trace: list[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class CertificateFilter:
    """What a list is narrowed to; None means no limit."""

    text: str | None = None
    """Part of a subject alternative name (`kind:value`) or of the subject, case ignored, three characters at least."""
    name: str | None = None
    """One whole name: `dns:www.example.com`."""
    requester: str | None = None
    authority_id: str | None = None
    profile: str | None = None
    profile_prefix: str | None = None
    state: str | None = None
    """reserved, issued, abandoned, revoked, held or expired; `issued` leaves out the later three."""
    expires_before: datetime | None = None
    issuer_ids: Sequence[int] | None = None
    """Limits of the caller; an empty sequence matches nothing."""


class CertificateRecords:
    """Reads what `CertificateLedger` writes. Lookups are one trip and use an index at any number of certificates."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_serial(self, authority_id: AuthorityId, serial: Serial) -> CertificateDetail | None:
        """A serial is unique within an authority, across its generations."""
        return await self._detail("c.authority_id = %s AND c.serial = %s", [authority_id, serial_octets(serial)])

    async def by_id(self, certificate_id: CertificateId) -> CertificateDetail | None:
        return await self._detail("c.id = %s", [certificate_id])

    async def by_sha256(self, sha256: bytes) -> CertificateDetail | None:
        """By the SHA-256 of the whole certificate."""
        return await self._detail("c.sha256 = %s", [sha256])

    async def search(
        self, wanted: CertificateFilter, now: datetime, *, after: int | None = None, limit: int = PAGE
    ) -> Sequence[CertificateSummary]:
        """A page, newest first; `after` is the row id of the last item of the page before. At most 1000 rows.

        Raises SporkError(MALFORMED): a state that is none, or a text of fewer than three characters.
        """
        conditions, values = _conditions(wanted)
        if after is not None:
            conditions.append("c.id < %(after)s")
        where: LiteralString = " AND ".join(conditions) or "true"
        return await self._summaries(f"{where} ORDER BY c.id DESC", {**values, "now": now, "after": after}, limit)

    async def _detail(self, where: LiteralString, values: Sequence[Any]) -> CertificateDetail | None:
        query: LiteralString = f"{_DETAIL} WHERE {where}"
        cursor = await self._database.execute(query, values, row_factory=class_row(CertificateDetail))
        found: CertificateDetail | None = await cursor.fetchone()
        return found

    async def _summaries(
        self, where: LiteralString, values: Mapping[str, Any], limit: int
    ) -> Sequence[CertificateSummary]:
        query: LiteralString = f"{_SUMMARY} WHERE {where} LIMIT %(limit)s"
        cursor = await self._database.execute(
            query, {**values, "limit": max(1, min(limit, LARGEST_PAGE))}, row_factory=class_row(CertificateSummary)
        )
        return await cursor.fetchall()


def _conditions(wanted: CertificateFilter) -> tuple[list[LiteralString], dict[str, Any]]:
    conditions: list[LiteralString] = []
    values: dict[str, Any] = {}

    def add(condition: LiteralString, name: str, value: Any) -> None:
        if value is not None:
            conditions.append(condition)
            values[name] = value

    add("certificate_search_text(c.subject, c.names) LIKE %(text)s", "text", _pattern(wanted.text))
    add("c.names @> ARRAY[%(name)s]::text[]", "name", wanted.name)
    add("c.requester = %(requester)s", "requester", wanted.requester)
    add("c.authority_id = %(authority)s", "authority", wanted.authority_id)
    add("c.profile = %(profile)s", "profile", wanted.profile)
    add("starts_with(c.profile, %(prefix)s)", "prefix", wanted.profile_prefix)
    add("c.not_after < %(expires_before)s", "expires_before", wanted.expires_before)
    add("c.issuer_id = ANY(%(issuers)s)", "issuers", None if wanted.issuer_ids is None else list(wanted.issuer_ids))
    if wanted.state is not None:
        if wanted.state not in _STATES:
            raise SporkError(Code.MALFORMED, f"{wanted.state!r} is no state; known are {', '.join(_STATES)}.")
        conditions.append(_STATES[wanted.state])
    return conditions, values


def _pattern(text: str | None) -> str | None:
    if text is None:
        return None
    if len(text) < 3:
        raise SporkError(Code.MALFORMED, "Search for three characters or more.")
    escaped = text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
