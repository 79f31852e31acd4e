"""The stored tree, read at once for a plan to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import class_row

from spork.ids import MANAGEMENT_AUTHORITY, AuthorityId, KeyId
from spork.issuance.tree import AuthorityState, CrossState, GenerationState, TreeState
from spork.store.database import Database
from spork.store.issuer import read_issuers
from spork.x509.authority import AuthorityKind, AuthorityURLs, KeyMode

_AUTHORITIES: LiteralString = """
SELECT a.id, a.kind, a.parent_id, a.subject_der, a.key_mode, a.spec, a.crl_shards, a.disabled_at, a.declared_by, g.generation,
       g.private_key_id, g.algorithm, g.spki, g.certificate_der, g.pending_csr, g.urls, coalesce(live.number, 0) AS live
  FROM authority a
  LEFT JOIN authority_generation g ON g.authority_id = a.id AND g.generation = a.current_generation
  LEFT JOIN LATERAL (
       SELECT count(*) AS number FROM certificate c
        WHERE %(counts)s AND c.authority_id = a.id AND c.state = 'issued' AND c.not_after >= now()
          AND c.profile <> 'ocsp-signing'
          AND NOT EXISTS (SELECT FROM authority_generation o WHERE o.authority_id = a.id AND o.spki_sha256 = c.spki_sha256)
          AND NOT EXISTS (SELECT FROM revocation r WHERE r.certificate_id = c.id AND r.released_at IS NULL)) AS live ON true
 WHERE a.id <> %(management)s
 ORDER BY a.created_at, a.id
"""
_CROSSES: LiteralString = """
SELECT DISTINCT ON (attributes -> 'cross' ->> 'id')
       attributes -> 'cross' ->> 'id' AS id, authority_id, spki_sha256, attributes -> 'cross' -> 'spec' AS spec, der
  FROM certificate c
 WHERE profile = 'cross' AND state = 'issued' AND attributes -> 'cross' ->> 'id' IS NOT NULL
   AND NOT EXISTS (SELECT FROM revocation r WHERE r.certificate_id = c.id AND r.released_at IS NULL)
 ORDER BY attributes -> 'cross' ->> 'id', id DESC
"""


@dataclass(frozen=True, slots=True)
class _AuthorityRow:
    id: str
    kind: str
    parent_id: str | None
    subject_der: bytes
    key_mode: str
    spec: Mapping[str, Any]
    crl_shards: int
    disabled_at: datetime | None
    declared_by: str
    generation: int | None
    private_key_id: str | None
    algorithm: str | None
    spki: bytes | None
    certificate_der: bytes | None
    pending_csr: bytes | None
    urls: Mapping[str, Any] | None
    live: int


@dataclass(frozen=True, slots=True)
class _CrossRow:
    id: str
    authority_id: str
    spki_sha256: bytes
    spec: Mapping[str, Any] | None
    der: bytes


async def read_tree(database: Database, *, counts: bool = True) -> TreeState:
    """CAs (the management CA is none of the tree), live cross-certificates and issuers, of one snapshot.

    Without `counts` every CA seems to have no live certificate, which spares a look at each of them.
    """
    values = {"management": MANAGEMENT_AUTHORITY, "counts": counts}
    async with database.transaction() as connection:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        reading = connection.cursor(row_factory=class_row(_AuthorityRow))
        authorities = await (await reading.execute(_AUTHORITIES, values)).fetchall()
        crossing = connection.cursor(row_factory=class_row(_CrossRow))
        crosses = await (await crossing.execute(_CROSSES)).fetchall()
        issuers = await read_issuers(connection)
    return TreeState(
        {AuthorityId(row.id): _authority(row) for row in authorities},
        tuple(_cross(row) for row in crosses),
        tuple(issuer for issuer in issuers if not issuer.namespace),
    )


def urls_as_json(urls: AuthorityURLs) -> dict[str, Any]:
    """As `authority_generation.urls` holds them."""
    return {name: list(values) for name, values in asdict(urls).items()}


def urls_from_json(urls: Mapping[str, Any]) -> AuthorityURLs:
    """Inverse of `urls_as_json`."""
    return AuthorityURLs(**{name: tuple(values) for name, values in urls.items()})


def _authority(row: _AuthorityRow) -> AuthorityState:
    return AuthorityState(
        id=AuthorityId(row.id),
        kind=AuthorityKind(row.kind),
        parent_id=None if row.parent_id is None else AuthorityId(row.parent_id),
        subject_der=bytes(row.subject_der),
        key_mode=KeyMode(row.key_mode),
        spec=row.spec,
        crl_shards=row.crl_shards,
        current=_generation(row),
        disabled=row.disabled_at is not None,
        live_certificates=row.live,
        declared_by=row.declared_by,
    )


def _generation(row: _AuthorityRow) -> GenerationState | None:
    if row.generation is None or row.spki is None or row.algorithm is None:
        return None
    return GenerationState(
        generation=row.generation,
        key_id=None if row.private_key_id is None else KeyId(row.private_key_id),
        algorithm=row.algorithm,
        spki=bytes(row.spki),
        certificate_der=row.certificate_der,
        pending_csr=row.pending_csr,
        urls=urls_from_json(row.urls or {}),
    )


def _cross(row: _CrossRow) -> CrossState:
    return CrossState(row.id, AuthorityId(row.authority_id), bytes(row.spki_sha256), row.spec or {}, bytes(row.der))
