"""What becomes of certificates when their object goes, and when it comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from spork.controller import reasons
from spork.controller.certificate import marks
from spork.controller.certificate.snapshot import Finding, Snapshot, owner_of, past_of
from spork.controller.certificate.statuses import Statuses
from spork.controller.cluster import Object, Ref
from spork.controller.reconciler import Context
from spork.errors import Code, SporkError
from spork.ids import AuthorityId, CertificateId, Serial, serial_from_text, serial_text
from spork.issuance.revoke import Reason
from spork.store.cessation import Cessations, LiveCertificate

GRACE = timedelta(days=7)
"""How long certificates stay on hold after the deletion of an object with the policy Hold."""
_POLICIES_WITH_WORK = frozenset({"Hold", "Revoke"})


class Deletion:
    """Holds, revokes and releases. What is done is done by the time a method returns, and doing it twice changes nothing."""

    def __init__(self, context: Context, statuses: Statuses, grace: timedelta = GRACE) -> None:
        self._cluster = context.cluster
        self._services = context.services
        self._clock = context.clock
        self._statuses = statuses
        self._cessations = Cessations(context.services.database)
        self._grace = grace

    async def guarded(self, item: Object) -> Object:
        """The Certificate with the finalizer, if its policy needs one, and without it otherwise. At most one request."""
        return await self._cluster.set_finalizer(item, marks.FINALIZER, present=_policy(item) in _POLICIES_WITH_WORK)

    async def finish(self, item: Object) -> Object:
        """Does what the policy says and lets the object go. Needs nothing of the cluster but the object itself.

        Raises DatabaseUnavailable: then the object stays.
        """
        if marks.FINALIZER not in (item["metadata"].get("finalizers") or ()):
            return item
        policy = _policy(item)
        if policy in _POLICIES_WITH_WORK:
            done = [one for one in await self._live(item) if await self._end(one, item, policy)]
            await self._tell(item, policy, done)
        return await self._cluster.set_finalizer(item, marks.FINALIZER, present=False)

    async def came_back(self, snapshot: Snapshot) -> bool:
        """Lifts the hold that the deletion of an earlier object of this name has put on the certificate in the Secret.

        A hold that somebody else has put on it stays. Raises SporkError(IN_PROGRESS): it is becoming final just now.
        """
        target = snapshot.target
        if target is None or target.leaf is None or not snapshot.ours or target.key_spki != target.leaf_spki:
            return False
        authority = AuthorityId(target.said(marks.AUTHORITY).partition("/")[0])
        serial = Serial(target.leaf.serial_number)
        held = await self._cessations.planned(authority, serial, snapshot.owner.identity)
        if held is None:
            return False
        await self._cessations.take(held)
        with _already_so():
            await self._change(held, authority, serial, Reason.removeFromCRL, snapshot.owner.identity)
        await self._cessations.drop(held)
        self._statuses.forget(authority, serial)
        message = f"The certificate {serial_text(serial)} is good again, for its Certificate has come back."
        await self._cluster.report(snapshot.item, reasons.HOLD_RELEASED.name, message)
        return True

    async def _live(self, item: Object) -> Sequence[LiveCertificate]:
        owner = owner_of(item)
        return await self._cessations.live(owner.identity, owner.uid, self._serial(item), self._clock.now())

    def _serial(self, item: Object) -> Serial | None:
        """Of the certificate in use: one that was taken over from an earlier object does not know this one's uid."""
        ref = Ref("Secret", item["metadata"].get("namespace") or "", str((item.get("spec") or {}).get("secretName")))
        secret = self._cluster.get(ref)
        said = (secret["metadata"].get("annotations") or {}) if secret is not None else {}
        ours = said.get(marks.CERTIFICATE_NAME) == item["metadata"]["name"]
        for text in (said.get(marks.SERIAL) if ours else None, past_of(item).serial):
            with suppress(ValueError):
                return serial_from_text(text or "")
        return None

    async def _end(self, one: LiveCertificate, item: Object, policy: str) -> bool:
        identity = owner_of(item).identity
        if policy == "Revoke":
            with _already_so():
                await self._change(one.id, one.authority_id, one.serial, Reason.cessationOfOperation, identity)
            return True
        if one.reason is not None:
            # On hold already: by somebody else, or by this very deletion before it was interrupted.
            return False
        # The plan comes first: a hold without one would last for ever. A plan without a hold does nothing.
        await self._cessations.plan(one.id, self._clock.now() + self._grace)
        with _already_so():
            await self._change(one.id, one.authority_id, one.serial, Reason.certificateHold, identity)
        return True

    async def _change(
        self, certificate: CertificateId, authority: AuthorityId, serial: Serial, reason: Reason, actor: str
    ) -> None:
        await self._services.revoker.revoke(
            certificate,
            reason,
            actor=actor,
            subject=f"certificate:{authority}/{serial_text(serial)}",
            authority=authority,
        )
        self._statuses.forget(authority, serial)

    async def _tell(self, item: Object, policy: str, done: Sequence[LiveCertificate]) -> None:
        if not done:
            return
        serials = ", ".join(serial_text(one.serial) for one in done)
        if policy == "Revoke":
            await self._cluster.report(item, reasons.REVOKED_ON_DELETION.name, f"Revoked: {serials}.")
        else:
            message = f"On hold, to be revoked in {self._grace.days} days unless the Certificate comes back: {serials}."
            await self._cluster.report(item, reasons.HELD_ON_DELETION.name, message)


def waiting(error: SporkError) -> Finding:
    """What is said of an object that cannot go yet."""
    return Finding(reasons.UNAVAILABLE, f"The object goes when its certificates are taken care of: {error.detail}")


def _policy(item: Object) -> str:
    """Also of a spec that is not valid otherwise: such an object must be able to go."""
    spec: Mapping[str, Any] = item.get("spec") or {}
    return str(spec.get("deletionPolicy") or "Retain")


@contextmanager
def _already_so() -> Iterator[None]:
    """Passes over what an earlier run, or somebody else, has done before."""
    try:
        yield
    except SporkError as error:
        if error.code is not Code.ALREADY_REVOKED:
            raise
