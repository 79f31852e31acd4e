"""Publishing revocation lists: reserve a number, read one snapshot, encode, sign, record.

The number is durable before any signature exists. A kill between the two leaves a number that is never used, so the line of
numbers rises strictly, over all replicas. Full lists, deltas and shards of a CA share it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from spork.clock import Clock
from spork.errors import Code, SporkError
from spork.issuance.crl_schedule import GAP, CRLKind, CRLScope, ScopeState, due
from spork.issuance.crl_worker import EntryEncoder
from spork.issuance.ports import AuditEvent, Authorities, SignerSource
from spork.x509.algorithms import load_public_key
from spork.x509.authority import Authority, AuthorityKind
from spork.x509.crl import CRLHeader, ReadCRL, RevokedEntry, build_tbs, entries_of, read_crl, verify_crl
from spork.x509.der import CRLTBS, Signer, wrap
from spork.x509.signatures import verify_signature

_CLOCK_SKEW_S = 300


class Snapshot(Protocol):
    """The statuses of one scope at one instant."""

    status_version: int

    def batches(self) -> AsyncIterator[Sequence[RevokedEntry]]:
        """The entries, in batches. May be read once."""
        ...


class CRLStore(Protocol):
    """Where lists and their numbers are kept."""

    async def scopes(self, now: datetime) -> Sequence[ScopeState]:
        """Every scope of every CA whose certificate has not expired."""
        ...

    def lock(self, scope: CRLScope) -> AbstractAsyncContextManager[bool]:
        """Tells whether this process alone may build lists of the scope while the block runs."""
        ...

    async def reserve(
        self,
        scope: CRLScope,
        base_number: int | None,
        this_update: datetime,
        next_update: datetime,
        distribution_points: Sequence[str],
    ) -> int:
        """Takes the next number of the CA, in a transaction of its own."""
        ...

    def snapshot(self, scope: CRLScope, base_number: int | None) -> AbstractAsyncContextManager[Snapshot]:
        """Opens a reading of the scope; for a delta, only what changed since its base."""
        ...

    async def keep_tbs(self, scope: CRLScope, number: int, status_version: int, entries: int, tbs: bytes) -> None:
        """Keeps what was handed out to be signed elsewhere. Raises SporkError(NOT_FOUND)."""
        ...

    async def record(
        self,
        scope: CRLScope,
        number: int,
        der: bytes,
        status_version: int,
        entries: int,
        audit: AuditEvent,
        dates: tuple[datetime, datetime] | None = None,
    ) -> None:
        """Publishes a list under its reserved number; `dates` are thisUpdate and nextUpdate where they differ from it.

        Raises SporkError(CONFLICT) if the number is used, or a list with a higher number stands published.
        """
        ...

    async def missing_from(self, scope: CRLScope, listed: Sequence[int]) -> Sequence[int]:
        """Serials that are revoked in this scope and not among the listed ones."""
        ...

    async def reserved(self, scope: CRLScope, number: int) -> int:
        """The status version that the list handed out under this number shows. Raises SporkError(NOT_FOUND)."""
        ...


@dataclass(frozen=True, slots=True)
class PublishedCRL:
    """A list that was just published."""

    scope: CRLScope
    kind: CRLKind
    number: int
    entries: int
    der: bytes


class CRLPublisher:
    """Makes lists. One instance per process; any number of replicas may run one."""

    def __init__(
        self,
        store: CRLStore,
        signers: SignerSource,
        authorities: Authorities,
        clock: Clock,
        encoder: EntryEncoder | None = None,
    ) -> None:
        self._store = store
        self._signers = signers
        self._authorities = authorities
        self._clock = clock
        self._encoder = encoder or EntryEncoder()

    async def scopes(self) -> Sequence[ScopeState]:
        """Every scope as it stands now."""
        return await self._store.scopes(self._clock.now())

    async def state(self, scope: CRLScope) -> ScopeState:
        """One scope as it stands now. Raises SporkError(NOT_FOUND)."""
        for state in await self.scopes():
            if state.scope == scope:
                return state
        raise SporkError(Code.NOT_FOUND, f"There is no CA with a certificate that publishes lists as {scope}.")

    async def due(self, state: ScopeState) -> CRLKind | None:
        """Which list of a scope must be made now, if any."""
        authority = await self._authority(state.scope)
        return due(state, self._clock.now(), distribution_points(authority, state.scope.shard))

    async def publish(self, scope: CRLScope, kind: CRLKind = CRLKind.FULL, *, actor: str = "host") -> PublishedCRL:
        """Makes and publishes one list.

        Raises SporkError: NOT_FOUND, KEY_UNAVAILABLE (sealed, offline or closed), IN_PROGRESS (another process is at it),
        CONFLICT, UNAVAILABLE.
        """
        async with self._alone(scope):
            return await self._publish(await self.state(scope), kind, actor)

    async def publish_if_due(self, scope: CRLScope) -> PublishedCRL | None:
        """Makes the list that is due, judged while no other process can publish one. Raises SporkError as `publish`."""
        async with self._alone(scope):
            state = await self.state(scope)
            kind = await self.due(state)
            return None if kind is None else await self._publish(state, kind, "host")

    async def prepare_offline(self, scope: CRLScope) -> tuple[int, bytes]:
        """Reserves a number and returns it with the TBSCertList, for a key that is elsewhere."""
        async with self._alone(scope):
            state = await self.state(scope)
            authority = await self._authority(scope)
            number, version, count, tbs = await self._build(authority, state, CRLKind.FULL)
            await self._store.keep_tbs(scope, number, version, count, tbs.der)
        return number, tbs.der

    async def import_signed(self, data: bytes, *, actor: str = "host") -> PublishedCRL:
        """Publishes a list that was signed elsewhere.

        Its signature, issuer, number, dates and completeness are checked. Raises SporkError: MALFORMED, NOT_FOUND (no such CA
        or number), BAD_SIGNATURE, PRECONDITION_FAILED, CONFLICT.
        """
        read = read_crl(data)
        state, authority = await self._scope_of(read)
        verify_crl(read.der, authority.spki)
        number = self._check_header(read, state, authority)
        version = await self._store.reserved(state.scope, number)
        await self._check_entries(read, state)
        audit = _audit(state.scope, CRLKind.FULL, number, len(read.crl), read.sha256, actor)
        dates = (read.this_update, read.next_update or read.this_update)
        await self._store.record(state.scope, number, read.der, version, len(read.crl), audit, dates)
        return PublishedCRL(state.scope, CRLKind.FULL, number, len(read.crl), read.der)

    def close(self) -> None:
        """Ends the worker process."""
        self._encoder.close()

    @asynccontextmanager
    async def _alone(self, scope: CRLScope) -> AsyncIterator[None]:
        async with self._store.lock(scope) as alone:
            if not alone:
                raise SporkError(
                    Code.IN_PROGRESS,
                    f"A list of {scope} is being made by another process.",
                    retry_after_s=int(GAP.total_seconds()),
                )
            yield

    async def _publish(self, state: ScopeState, kind: CRLKind, actor: str) -> PublishedCRL:
        authority = await self._authority(state.scope)
        # Opened first, so that a key that is not there costs no number.
        signer = await self._signer(authority)
        number, version, count, tbs = await self._build(authority, state, kind)
        der, digest = await asyncio.to_thread(_signed, tbs, signer)
        audit = _audit(state.scope, kind, number, count, digest, actor)
        await self._store.record(state.scope, number, der, version, count, audit)
        return PublishedCRL(state.scope, kind, number, count, der)

    async def _authority(self, scope: CRLScope) -> Authority:
        return await self._authorities.authority(scope.authority_id, scope.generation)

    async def _signer(self, authority: Authority) -> Signer:
        if authority.key_id is None:
            raise SporkError(
                Code.KEY_UNAVAILABLE,
                f"The key of {authority.id} is not here; write the list with `spork crl tbs` and sign it where the key is.",
            )
        return await self._signers.signer(authority.key_id)

    async def _build(self, authority: Authority, state: ScopeState, kind: CRLKind) -> tuple[int, int, int, CRLTBS]:
        now = self._clock.now()
        base = _base_of(state, kind)
        points = distribution_points(authority, state.scope.shard)
        next_update = state.policy.next_update(now, kind)
        number = await self._store.reserve(state.scope, base, now, next_update, points)
        count, parts = 0, []
        async with self._store.snapshot(state.scope, base) as snapshot:
            async for batch in snapshot.batches():
                count += len(batch)
                parts.append(await self._encoder.encode(batch))
        header = CRLHeader(
            issuer_der=authority.subject_der,
            signature=authority.algorithm.identifier,
            authority_key_identifier=authority.subject_key_identifier,
            number=number,
            this_update=now,
            next_update=next_update,
            distribution_points=points,
            base_number=base,
            freshest=_freshest(authority, state) if base is None else (),
        )
        return number, snapshot.status_version, count, await asyncio.to_thread(build_tbs, header, b"".join(parts))

    async def _scope_of(self, read: ReadCRL) -> tuple[ScopeState, Authority]:
        for state in await self.scopes():
            authority = await self._authority(state.scope)
            points = distribution_points(authority, state.scope.shard)
            same_key = read.authority_key_identifier == authority.subject_key_identifier
            if same_key and read.distribution_points == points:
                return state, authority
        raise SporkError(
            Code.NOT_FOUND, "No CA here has this list's authorityKeyIdentifier and issuingDistributionPoint."
        )

    def _check_header(self, read: ReadCRL, state: ScopeState, authority: Authority) -> int:
        now = self._clock.now()
        if read.crl.issuer.public_bytes() != authority.subject_der:
            raise SporkError(Code.PRECONDITION_FAILED, f"The list's issuer is not the subject of {authority.id}.")
        if read.number is None or read.base_number is not None:
            raise SporkError(Code.PRECONDITION_FAILED, "A full list with a CRLNumber is expected.")
        if state.full is not None and read.number <= state.full.number:
            raise SporkError(
                Code.PRECONDITION_FAILED,
                f"Number {read.number} does not rise above {state.full.number}, the current one.",
            )
        if read.next_update is None or read.next_update <= now:
            raise SporkError(Code.PRECONDITION_FAILED, "The list's nextUpdate is missing or lies in the past.")
        if (read.this_update - now).total_seconds() > _CLOCK_SKEW_S:
            raise SporkError(Code.PRECONDITION_FAILED, "The list's thisUpdate lies in the future.")
        return read.number

    async def _check_entries(self, read: ReadCRL, state: ScopeState) -> None:
        listed = [entry.serial for entry in entries_of(read.crl)]
        missing = await self._store.missing_from(state.scope, listed)
        if missing:
            raise SporkError(
                Code.PRECONDITION_FAILED,
                f"The list lacks {len(missing)} revoked certificates, such as serial {missing[0]:X}; write a new one with "
                "`spork crl tbs`.",
            )


def distribution_points(authority: Authority, shard: int) -> tuple[str, ...]:
    """The URIs of a shard's list, exactly as they stand in the certificates that it covers.

    None for the complete list of a root: the root's own certificate names no distribution point, and OpenSSL, which looks for
    that certificate's status too (-crl_check_all), takes a list that names one to be of another scope.
    """
    if authority.kind is AuthorityKind.ROOT and not shard:
        return ()
    return tuple(_for_shard(url, shard) for url in authority.urls.crl)


def _freshest(authority: Authority, state: ScopeState) -> tuple[str, ...]:
    if state.policy.delta_interval is None:
        return ()
    return tuple(_for_shard(url, state.scope.shard) for url in authority.urls.delta_crl)


def _for_shard(url: str, shard: int) -> str:
    # The complete list stands beside the shards, where certificates from before the CA got shards look for it.
    return url.replace("{shard}", str(shard)) if shard else url.replace("/{shard}", "").replace("{shard}", "0")


def _base_of(state: ScopeState, kind: CRLKind) -> int | None:
    if kind is CRLKind.FULL:
        return None
    if state.full is None:
        raise SporkError(Code.PRECONDITION_FAILED, f"{state.scope} has no full list yet that a delta could change.")
    return state.full.number


def _signed(tbs: CRLTBS, signer: Signer) -> tuple[bytes, bytes]:
    """Signs, and verifies before anybody sees it; gives the list and its SHA-256."""
    signature = signer.sign(tbs)
    verify_signature(load_public_key(signer.spki), signer.algorithm, tbs.der, signature)
    der = wrap(tbs, signer.algorithm, signature)
    return der, hashlib.sha256(der).digest()


def _audit(scope: CRLScope, kind: CRLKind, number: int, entries: int, sha256: bytes, actor: str) -> AuditEvent:
    return AuditEvent(
        action="crl.publish",
        actor=actor,
        subject=f"crl:{scope}",
        detail={
            "kind": kind.value,
            "number": number,
            "entries": entries,
            "sha256": sha256.hex(),
        },
    )
