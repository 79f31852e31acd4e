"""Which certificates are revoked: asked once for all of a CA's, then followed by its counter.

A restart costs one statement for each CA, however many Certificates there are. From then on the feed tells which serials
changed, and only those are asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from spork.controller.certificate.index import Index
from spork.controller.cluster import Ref
from spork.errors import Code, SporkError
from spork.ids import AuthorityId, Serial, serial_from_octets, serial_from_text, serial_text
from spork.services import Services
from spork.store.feed import StatusFeed


class Statuses:
    """The CRLReasons of the certificates in Secrets. Implements `FeedListener`."""

    def __init__(self, services: Services, index: Index) -> None:
        self._services = services
        self._index = index
        self._known: dict[AuthorityId, dict[Serial, int | None]] = {}
        self._reading = asyncio.Lock()
        self._wake: Callable[[Ref], None] = lambda ref: None

    async def reason(self, authority_id: AuthorityId, serial: Serial) -> int | None:
        """The CRLReason of a certificate, None while it is good. At most one statement. Raises DatabaseUnavailable."""
        known = self._known.get(authority_id, {})
        if serial not in known:
            async with self._reading:
                # Whoever waited finds what the one before has read for all.
                if serial not in self._known.get(authority_id, {}):
                    await self._read(authority_id, serial)
        return self._known.get(authority_id, {}).get(serial)

    def issued(self, authority_id: AuthorityId, serial: Serial) -> None:
        """A certificate was issued just now, so that it need not be asked about."""
        self._known.setdefault(authority_id, {}).setdefault(serial, None)

    def forget(self, authority_id: AuthorityId, serial: Serial) -> None:
        """Its status was changed from here."""
        self._known.get(authority_id, {}).pop(serial, None)

    async def follow(self, wake: Callable[[Ref], None], stop: asyncio.Event) -> None:
        """Learns of changes that others make, and wakes those whose certificate is concerned, until `stop` is set."""
        self._wake = wake
        feed = StatusFeed(self._services.database)
        feed.subscribe(self)
        following = asyncio.create_task(feed.run(), name="certificate statuses")
        try:
            await stop.wait()
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    def statuses_changed(self, authority_id: AuthorityId, version: int, serials: Sequence[bytes] | None) -> None:
        """See `FeedListener`. Only certificates in Secrets wake anybody."""
        # None: the feed begins to follow, or has lost its place. Whatever was known is asked again, by whoever comes next.
        known = list(self._known.pop(authority_id, {})) if serials is None else []
        for serial in known or [serial_from_octets(octets) for octets in serials or ()]:
            self.forget(authority_id, serial)
            for ref in self._index.with_serial(authority_id, serial_text(serial)):
                self._wake(ref)

    def configuration_changed(self) -> None:
        """See `FeedListener`. Snapshots of CAs look after themselves, and issuers say in their status what changed."""

    def crl_published(self, scope: str) -> None:
        """See `FeedListener`."""

    async def _read(self, authority_id: AuthorityId, serial: Serial) -> None:
        known = self._known.setdefault(authority_id, {})
        wanted = {serial, *self._in_secrets(authority_id)} - set(known)
        try:
            statuses = await self._services.revocations.statuses(authority_id, sorted(wanted))
        except SporkError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            # There is no such CA here, as after a move to another database: nothing can be said of its certificates.
            found = {}
        else:
            found = dict(statuses.by_serial)
        for one in wanted:
            known[one] = found[one].reason if one in found else None

    def _in_secrets(self, authority_id: AuthorityId) -> set[Serial]:
        found = set()
        for text in self._index.serials(authority_id):
            with contextlib.suppress(ValueError):
                found.add(serial_from_text(text))
        return found
