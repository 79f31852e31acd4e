"""From a decision to a written Secret, so that a kill between any two writes costs nothing.

    pending Secret -> record in the database -> target Secret -> pending Secret gone -> status

Whoever dies on the way leaves a key in the pending Secret; with it the next run makes the same request, and gets the same
certificate by its idempotency key.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Protocol

from spork.controller import reasons
from spork.controller.certificate.contents import Contents, Password
from spork.controller.certificate.decide import Action, Decision, decide
from spork.controller.certificate.delivery import Delivery
from spork.controller.certificate.pending import pending_key, pending_ref
from spork.controller.certificate.reading import Reader, secret_ref
from spork.controller.certificate.snapshot import Snapshot
from spork.controller.certificate.statement import ISSUING
from spork.controller.certificate.statuses import Statuses
from spork.controller.certificate.stored import key_of
from spork.controller.certificate.wanted import Wanted
from spork.controller.cluster import Conflict, Object, ref_of
from spork.controller.conditions import condition_of
from spork.controller.reconciler import Context
from spork.errors import Code, SporkError
from spork.issuance.ports import Recorded
from spork.issuance.request import IssuanceRequest
from spork.keys.ephemeral import EphemeralKey
from spork.x509.csr import build_csr, parse_csr

_REVISIONS_TRIED = 5


class Refusal(Exception):
    """The request was refused, or could not be answered."""

    def __init__(self, error: SporkError, request: IssuanceRequest) -> None:
        super().__init__(error.detail)
        self.error = error
        self.request = request


class Issuing(Protocol):
    """`spork.issuance.remote.RemoteIssuing`."""

    async def issue(self, request: IssuanceRequest, *, wait_s: float = 5.0) -> Recorded | None: ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it came."""

    snapshot: Snapshot
    """With what was written."""
    issued: bool = False
    restored: bool = False
    waiting_for: str | None = None
    """The name of the Secret whose key awaits its certificate."""


class Issuer:
    """Acts on decisions. Every method may die at any await and be called again."""

    def __init__(self, context: Context, reader: Reader, statuses: Statuses, issuing: Issuing | None = None) -> None:
        self._cluster = context.cluster
        self._authorities = context.services.authorities
        self._clock = context.clock
        self._reader = reader
        self._statuses = statuses
        self._delivery = Delivery(context, reader, statuses)
        self._issuing: Issuing = issuing or context.services.issuing

    async def act(self, snapshot: Snapshot) -> Progress:
        """Does what the snapshot asks for. Raises Obstacle, Refusal, ClusterError and other SporkErrors."""
        decision = self._decision(snapshot)
        if decision.action is Action.ISSUE and snapshot.target is None and _may_be_in_the_way(snapshot):
            snapshot = await self._looked_again(snapshot)
            decision = self._decision(snapshot)
        if decision.action is Action.ISSUE and snapshot.target is None and snapshot.past.revision:
            await self._require_alive(snapshot)
        wanted = snapshot.wanted
        if wanted is None:
            return Progress(snapshot)
        if decision.action is Action.RESTORE:
            if (restored := await self._delivery.restore(snapshot, wanted)) is not None:
                return Progress(restored, restored=True)
            decision = self._decision(snapshot, restorable=False)
        if decision.action is Action.REWRITE:
            return Progress(await self._delivery.rewrite(snapshot, wanted), restored=True)
        return await self._issued(snapshot, wanted) if decision.action is Action.ISSUE else Progress(snapshot)

    async def tidy(self, snapshot: Snapshot) -> Snapshot:
        """Takes away a pending key whose certificate is delivered."""
        if snapshot.pending is None:
            return snapshot
        metadata = snapshot.pending["metadata"]
        await self._cluster.delete(secret_ref(snapshot.owner.namespace, metadata["name"]), uid=metadata["uid"])
        return replace(snapshot, pending=None)

    def _decision(self, snapshot: Snapshot, *, restorable: bool = True) -> Decision:
        return decide(snapshot, self._clock.now(), restorable=restorable)

    async def _looked_again(self, snapshot: Snapshot) -> Snapshot:
        """The copy knows only Secrets that carry our label, and those a moment late. The same snapshot if all is as it says."""
        found = await self._cluster.read(secret_ref(snapshot.owner.namespace, snapshot.spec.secret_name))
        if found is None or (snapshot.target is not None and _is_same(found, snapshot.target.item)):
            return snapshot
        return await self._reader.with_target(snapshot, found)

    async def _require_alive(self, snapshot: Snapshot) -> None:
        """Who deletes an object with its Secret may be heard of the Secret first. Raises Conflict if the object has gone."""
        ref = ref_of(snapshot.item)
        now = await self._cluster.read(ref)
        if now is None or now["metadata"]["uid"] != snapshot.owner.uid or "deletionTimestamp" in now["metadata"]:
            raise Conflict(ref)

    async def _issued(self, snapshot: Snapshot, wanted: Wanted) -> Progress:
        password = await self._delivery.password(snapshot)
        kept = _kept_key(snapshot, wanted)
        for revision in range(snapshot.revision + 1, snapshot.revision + 1 + _REVISIONS_TRIED):
            known = kept is not None or self._cluster.get(pending_ref(snapshot, revision)) is not None
            key = kept or await pending_key(self._cluster, snapshot, wanted, revision)
            if not known and (looked := await self._looked_again(snapshot)) is not snapshot:
                # Another operator may have finished while this key was made, and have taken its own away: only after this one
                # stands there can nobody else have another. Nor is anything issued for a Secret of somebody else.
                return await self.act(looked) if looked.ours else Progress(await self.tidy(looked))
            try:
                recorded = await self._recorded(snapshot, wanted, revision, key)
            except Refusal as refusal:
                # A kept key was certified under this number for what the spec said then. The next number is free.
                if refusal.error.code is Code.CONFLICT and kept is not None:
                    continue
                raise
            if recorded is None:
                name = snapshot.spec.secret_name if kept is not None else pending_ref(snapshot, revision).name
                return Progress(snapshot, waiting_for=name)
            return await self._delivered(snapshot, wanted, recorded, key, revision, password)
        raise SporkError(Code.CONFLICT, "The key was used for other requests too often; set rotationPolicy to Always.")

    async def _recorded(self, snapshot: Snapshot, wanted: Wanted, revision: int, key: EphemeralKey) -> Recorded | None:
        subject = wanted.subject(snapshot.owner)
        if key.signer.algorithm.slow:
            der = await asyncio.to_thread(build_csr, subject, wanted.names, key.signer)
        else:
            der = build_csr(subject, wanted.names, key.signer)
        request = wanted.request(snapshot.owner, revision, key.spki, parse_csr(der).request)
        try:
            return await self._issuing.issue(request)
        except SporkError as error:
            raise Refusal(error, request) from error

    async def _delivered(
        self,
        snapshot: Snapshot,
        wanted: Wanted,
        recorded: Recorded,
        key: EphemeralKey,
        revision: int,
        password: Password | None,
    ) -> Progress:
        authority = await self._authorities.authority(recorded.authority_id, recorded.generation)
        contents = Contents(key, recorded.der, authority, revision, password, snapshot.renewal_requested)
        self._statuses.issued(recorded.authority_id, recorded.serial)
        written = await self._delivery.write(snapshot, wanted, contents)
        return Progress(self._with_pending(written, revision), issued=True)

    def _with_pending(self, snapshot: Snapshot, revision: int) -> Snapshot:
        return replace(snapshot, pending=self._cluster.get(pending_ref(snapshot, revision)))


def _may_be_in_the_way(snapshot: Snapshot) -> bool:
    """Whether it is worth a look before a key is made; else the look after it tells as much."""
    before = condition_of(snapshot.item, ISSUING)
    return snapshot.pending is not None or (before is not None and before["reason"] == reasons.SECRET_NOT_OURS.name)


def _is_same(one: Object, other: Object) -> bool:
    mine, theirs = one["metadata"], other["metadata"]
    return bool((mine["uid"], mine["resourceVersion"]) == (theirs["uid"], theirs["resourceVersion"]))


def _kept_key(snapshot: Snapshot, wanted: Wanted) -> EphemeralKey | None:
    """The key in the Secret, where it shall stay and may: not after a revocation, and not if it is of another algorithm."""
    if (
        snapshot.spec.private_key.rotation_policy != "Never"
        or snapshot.target is None
        or not snapshot.ours
        or snapshot.revoked is not None
    ):
        return None
    key = key_of(snapshot.target.item)
    return key if key is not None and key.signer.algorithm == wanted.algorithm else None
