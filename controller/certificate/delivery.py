"""Writing the target Secret: once, whole, and only over what was read."""

from __future__ import annotations

import asyncio

from spork.controller import reasons
from spork.controller.certificate import marks
from spork.controller.certificate.contents import Contents, Password, secret_of
from spork.controller.certificate.reading import Reader, password_version, secret_ref
from spork.controller.certificate.snapshot import Finding, Snapshot
from spork.controller.certificate.statuses import Statuses
from spork.controller.certificate.stored import key_of, octets
from spork.controller.certificate.wanted import Wanted
from spork.controller.cluster import AlreadyExists, Conflict
from spork.controller.reconciler import Context
from spork.errors import Code, SporkError
from spork.issuance.ports import Recorded


class Obstacle(Exception):
    """Something that others have to mend was found on the way."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.sentence)
        self.finding = finding


class Delivery:
    """Puts a certificate with its key into the Secret: a new one, or the one that was in it before."""

    def __init__(self, context: Context, reader: Reader, statuses: Statuses) -> None:
        self._cluster = context.cluster
        self._ledger = context.services.ledger
        self._clock = context.clock
        self._reader = reader
        self._statuses = statuses

    async def write(self, snapshot: Snapshot, wanted: Wanted, contents: Contents) -> Snapshot:
        """The snapshot with the Secret as it was written. Raises Conflict if somebody else has written it since it was read."""
        if contents.password is not None:
            # Deriving keys from passwords takes its time, as it should.
            secret = await asyncio.to_thread(secret_of, snapshot, wanted, contents)
        else:
            secret = secret_of(snapshot, wanted, contents)
        if snapshot.target is not None:
            return await self._reader.with_target(snapshot, await self._cluster.replace(secret))
        try:
            return await self._reader.with_target(snapshot, await self._cluster.create(secret))
        except AlreadyExists as error:
            # It was not there a moment ago: look again, and decide anew.
            raise Conflict(secret_ref(snapshot.owner.namespace, snapshot.spec.secret_name)) from error

    async def rewrite(self, snapshot: Snapshot, wanted: Wanted) -> Snapshot:
        """The same key and certificate, with everything around them as it should be. Raises as `write`, and Obstacle."""
        target = snapshot.target
        key = key_of(target.item) if target is not None else None
        assert target is not None and key is not None, "the checks have found both readable"
        handled = target.said(marks.HANDLED_RENEWAL)
        revision = max(target.revision, snapshot.past.revision, 1)
        password = await self.password(snapshot)
        contents = Contents(key, target.der, wanted.authority, revision, password, handled)
        return await self.write(snapshot, wanted, contents)

    async def restore(self, snapshot: Snapshot, wanted: Wanted) -> Snapshot | None:
        """Writes the certificate that the database has for the key in the Secret, if one is as the spec wants it now."""
        target = snapshot.target
        key = key_of(target.item) if target is not None else None
        if target is None or key is None:
            return None
        for revision in sorted({target.revision, snapshot.past.revision} - {0}):
            found = await self._issued_for(snapshot, wanted, revision, key.spki)
            if found is not None and await self._is_good(found, wanted):
                handled = target.said(marks.HANDLED_RENEWAL) or snapshot.renewal_requested
                password = await self.password(snapshot)
                contents = Contents(key, found.der, wanted.authority, revision, password, handled)
                return await self.write(snapshot, wanted, contents)
        return None

    async def password(self, snapshot: Snapshot) -> Password | None:
        """Read at need alone: the Secret is not ours, and usually not watched. Raises Obstacle."""
        stores = snapshot.spec.keystores.pkcs12 if snapshot.spec.keystores is not None else None
        if stores is None or not (stores.create or stores.trust_store):
            return None
        reference = stores.password_secret_ref
        found = await self._cluster.read(secret_ref(snapshot.owner.namespace, reference.name))
        value = octets(found, reference.key) if found is not None else None
        if found is not None and value:
            return Password(value, password_version(found))
        what = "does not exist" if found is None else f"has no value under the key {reference.key!r}"
        sentence = f"The Secret {reference.name!r} with the password of the keystores {what}."
        raise Obstacle(Finding(reasons.PASSWORD_MISSING, sentence))

    async def _issued_for(self, snapshot: Snapshot, wanted: Wanted, revision: int, spki: bytes) -> Recorded | None:
        try:
            return await self._ledger.find(wanted.request(snapshot.owner, revision, spki).idempotency)
        except SporkError as error:
            if error.code is Code.CONFLICT:
                return None
            raise

    async def _is_good(self, recorded: Recorded, wanted: Wanted) -> bool:
        if (recorded.authority_id, recorded.generation) != (wanted.authority.id, wanted.authority.generation):
            return False
        reason = await self._statuses.reason(recorded.authority_id, recorded.serial)
        return reason is None and self._clock.now() <= recorded.not_after
