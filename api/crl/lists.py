"""Published lists in memory: refreshed when another replica tells of a new one, and looked after when it did not."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from spork.errors import DatabaseUnavailable
from spork.ids import AuthorityId
from spork.issuance.crl_schedule import CRLScope
from spork.store.crl import CRLStore, StoredCRL

_RECHECK_S = 5.0
"""A notification may be missed while the connection is opened anew; after this long the number is asked for."""
_MAX_OCTETS = 256 * 1024 * 1024


@dataclass(slots=True)
class HeldList:
    """A list as it is served."""

    stored: StoredCRL
    etag: bytes
    checked_at: float


class PublishedLists:
    """The current list of each scope and kind that was asked for. Implements `store.feed.FeedListener`."""

    def __init__(self, store: CRLStore) -> None:
        self._store = store
        self._held: dict[tuple[CRLScope, bool], HeldList] = {}

    def statuses_changed(self, authority_id: AuthorityId, version: int, serials: Sequence[bytes] | None) -> None:
        """See `FeedListener`; a changed status shows on the next list only."""

    def configuration_changed(self) -> None:
        """See `FeedListener`."""

    def crl_published(self, scope: str) -> None:
        """The next request reads the new list."""
        for key in [key for key in self._held if str(key[0]) == scope]:
            self._held[key].checked_at = float("-inf")

    async def current(self, scope: CRLScope, *, delta: bool) -> HeldList | None:
        """The list to serve, or None where there is none. With the database away, the last one known.

        Raises DatabaseUnavailable if none is known.
        """
        held = self._held.get((scope, delta))
        if held is not None and time.monotonic() - held.checked_at < _RECHECK_S:
            return held
        started = time.monotonic()
        try:
            if held is not None and await self._store.current_number(scope, delta=delta) == held.stored.number:
                held.checked_at = started
                return held
            stored = await self._store.current(scope, delta=delta)
        except DatabaseUnavailable:
            if held is None:
                raise
            return held
        if stored is None:
            return None
        etag = f'"{hashlib.sha256(stored.der).hexdigest()[:32]}"'.encode()
        self._keep(scope, delta, found := HeldList(stored, etag, started))
        return found

    def _keep(self, scope: CRLScope, delta: bool, held: HeldList) -> None:
        self._held[scope, delta] = held
        # Scopes are few and only real ones are kept; the limit is for installations with very long lists in many shards.
        while len(self._held) > 1 and sum(len(h.stored.der) for h in self._held.values()) > _MAX_OCTETS:
            self._held.pop(next(iter(self._held)))
