"""CAs as snapshots for those who issue: every generation with its certificate and the chain above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, LiteralString

from cryptography import x509
from psycopg.rows import class_row

from spork.errors import Code, SporkError
from spork.ids import AuthorityId, KeyId
from spork.store.database import Database
from spork.store.tree import TreeRecords
from spork.store.tree_state import urls_from_json
from spork.x509.algorithms import algorithm_named
from spork.x509.authority import Authority, AuthorityKind, KeyMode

_SELECT: LiteralString = """
SELECT a.id, a.kind, a.parent_id, a.subject_der, a.key_mode, a.crl_shards, a.current_generation, a.declared_by,
       coalesce(a.spec -> 'profiles', '[]') AS profiles, a.disabled_at IS NOT NULL AS disabled,
       g.generation, g.private_key_id, g.algorithm, g.spki, g.spki_sha256,
       g.key_identifier, g.certificate_der, g.urls,
       EXISTS (SELECT FROM certificate c JOIN revocation r ON r.certificate_id = c.id AND r.released_at IS NULL
                WHERE c.sha256 = sha256(g.certificate_der)) AS revoked
  FROM authority a JOIN authority_generation g ON g.authority_id = a.id
 ORDER BY a.created_at, a.id, g.generation
"""
_CROSSES: LiteralString = """
SELECT c.der FROM certificate c
  JOIN authority_generation g ON g.spki_sha256 = c.spki_sha256
 WHERE g.authority_id = %s AND g.generation = %s AND c.profile = 'cross' AND c.state = 'issued' AND c.not_after >= now()
   AND NOT EXISTS (SELECT FROM revocation r WHERE r.certificate_id = c.id AND r.released_at IS NULL)
 ORDER BY c.id
"""


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    kind: str
    parent_id: str | None
    subject_der: bytes
    key_mode: str
    crl_shards: int
    current_generation: int
    declared_by: str
    profiles: list[str]
    disabled: bool
    generation: int
    private_key_id: str | None
    algorithm: str
    spki: bytes
    spki_sha256: bytes
    key_identifier: bytes
    certificate_der: bytes | None
    urls: Mapping[str, Any]
    revoked: bool


@dataclass(frozen=True, slots=True)
class _Snapshot:
    version: int
    by_key: Mapping[tuple[str, int], Authority]
    current: Mapping[str, int]
    disabled: frozenset[str]
    spkis: frozenset[bytes]


class Authorities(TreeRecords):
    """Implements `issuance.ports.Authorities` from a snapshot that is read again when the configuration's version moves.

    Writing, which `TreeRecords` adds, is seen at once by readers of the same `Database`, by others within half a second.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._snapshot = _Snapshot(-1, {}, {}, frozenset(), frozenset())

    async def authority(self, authority_id: AuthorityId, generation: int | None = None) -> Authority:
        """The given generation, by default the current one, of a disabled CA as well. Raises SporkError(NOT_FOUND)."""
        snapshot = await self._fresh()
        found = snapshot.by_key.get((authority_id, generation or snapshot.current.get(authority_id, 0)))
        if found is None:
            which = f"generation {generation} of the CA" if generation else "CA"
            raise SporkError(Code.NOT_FOUND, f"There is no {which} {authority_id!r}.")
        return found

    async def all(self) -> tuple[Authority, ...]:
        """The current generation of every CA that is not disabled, parents before children, the management CA included."""
        snapshot = await self._fresh()
        current = (snapshot.by_key.get((name, number)) for name, number in snapshot.current.items())
        found = [authority for authority in current if authority is not None and authority.id not in snapshot.disabled]
        return tuple(sorted(found, key=lambda authority: len(authority.chain)))

    async def generations(self, authority_id: AuthorityId) -> tuple[Authority, ...]:
        """Every generation of a CA, oldest first; empty for one that is not there."""
        snapshot = await self._fresh()
        return tuple(authority for (name, _), authority in sorted(snapshot.by_key.items()) if name == authority_id)

    async def ca_spkis(self) -> frozenset[bytes]:
        """SHA-256 of every CA key's SubjectPublicKeyInfo."""
        return (await self._fresh()).spkis

    async def cross_certificates(self, authority_id: AuthorityId, generation: int) -> Sequence[x509.Certificate]:
        """Live certificates of this generation's key that other CAs signed, beside the one in its chain."""
        rows = await (await self._database.execute(_CROSSES, [authority_id, generation])).fetchall()
        return [x509.load_der_x509_certificate(bytes(row[0])) for row in rows]

    def configuration_changed(self) -> None:
        """Tells it of a notification, so that it does not wait for its own next look."""
        self._watch.forget()

    async def _fresh(self) -> _Snapshot:
        version = await self._watch.version()
        if version != self._snapshot.version:
            cursor = await self._database.execute(_SELECT, row_factory=class_row(_Row))
            self._snapshot = _built(version, await cursor.fetchall())
        return self._snapshot


def _built(version: int, rows: Sequence[_Row]) -> _Snapshot:
    loaded = {
        (row.id, row.generation): x509.load_der_x509_certificate(bytes(row.certificate_der))
        for row in rows
        if row.certificate_der is not None
    }
    without_chain = {(row.id, row.generation): _authority(row, loaded.get((row.id, row.generation))) for row in rows}
    revoked = {certificate for row in rows if row.revoked and (certificate := loaded.get((row.id, row.generation)))}
    return _Snapshot(
        version,
        {key: _with_chain(authority, without_chain, revoked) for key, authority in without_chain.items()},
        {row.id: row.current_generation for row in rows},
        frozenset(row.id for row in rows if row.disabled),
        frozenset(bytes(row.spki_sha256) for row in rows),
    )


def _with_chain(
    authority: Authority, every: Mapping[tuple[str, int], Authority], revoked: set[x509.Certificate]
) -> Authority:
    chain = _chain(authority, every)
    stopped = "its certificate, or one above it, is revoked" if revoked & {authority.certificate, *chain} else None
    return replace(authority, chain=chain, stopped=authority.stopped or stopped)


def _authority(row: _Row, certificate: x509.Certificate | None) -> Authority:
    return Authority(
        id=AuthorityId(row.id),
        kind=AuthorityKind(row.kind),
        generation=row.generation,
        key_mode=KeyMode(row.key_mode),
        key_id=None if row.private_key_id is None else KeyId(row.private_key_id),
        subject=x509.Name.from_bytes(bytes(row.subject_der)),
        subject_der=bytes(row.subject_der),
        spki=bytes(row.spki),
        subject_key_identifier=bytes(row.key_identifier),
        algorithm=algorithm_named(row.algorithm),
        certificate=certificate,
        chain=(),
        not_after=None if certificate is None else certificate.not_valid_after_utc,
        urls=urls_from_json(row.urls),
        crl_shards=row.crl_shards,
        parent_id=None if row.parent_id is None else AuthorityId(row.parent_id),
        stopped="it is disabled" if row.disabled else None,
        profiles=tuple(row.profiles),
        declared_by=row.declared_by,
    )


def _chain(authority: Authority, every: Mapping[tuple[str, int], Authority]) -> tuple[x509.Certificate, ...]:
    """From the generation of the parent whose key signed the certificate up to the root, as far as it is stored."""
    chain: list[x509.Certificate] = []
    while authority.certificate is not None and authority.parent_id is not None:
        signer = _signer(
            authority.certificate, [parent for parent in every.values() if parent.id == authority.parent_id]
        )
        # A tree has no loops; the limit only keeps damaged rows from hanging the process.
        if signer is None or signer.certificate is None or len(chain) > 16:
            break
        chain.append(signer.certificate)
        authority = signer
    return tuple(chain)


def _signer(certificate: x509.Certificate, candidates: Sequence[Authority]) -> Authority | None:
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (x509.ExtensionNotFound, ValueError):
        identifier = None
    with_certificate = [candidate for candidate in candidates if candidate.certificate is not None]
    named = [candidate for candidate in with_certificate if candidate.subject_key_identifier == identifier]
    if named:
        return named[0]
    # A certificate made elsewhere may name its issuer's key in another way; if there is one key only, there is no doubt.
    return with_certificate[0] if len(with_certificate) == 1 else None
