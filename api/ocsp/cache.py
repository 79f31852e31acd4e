"""Answers and statuses that are known to be true still, by the octets of their CertID.

Each was read together with its authority's status counter. It may stay while every later change of the counter is known here
and none of them was about its certificate.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from spork.ids import AuthorityId
from spork.store.revocation import CertificateStatus

Headers = list[tuple[bytes, bytes]]

MAX_OCTETS = 64 * 1024 * 1024
"""Of one cache: some 60,000 answers with ECDSA, 6,000 with ML-DSA, 130,000 statuses."""
_STATUS_OCTETS = 512
"""What a status takes in memory, roughly."""


@dataclass(slots=True)
class Answer:
    """A whole response as it goes out."""

    body: bytes
    get_headers: Headers
    post_headers: Headers
    etag: bytes | None = None
    not_modified_headers: Headers | None = None
    """Of a 304."""


class Fact(Protocol):
    """What a cache keeps: something that was true of a certificate when its authority's counter was read."""

    @property
    def authority_id(self) -> AuthorityId: ...
    @property
    def serial(self) -> bytes: ...
    @property
    def version(self) -> int:
        """The authority's counter, read in one statement with the status."""
        ...

    @property
    def octets(self) -> int:
        """What it counts for against the bound of the cache."""
        ...


Kept = TypeVar("Kept", bound=Fact)


@dataclass(slots=True)
class CachedAnswer:
    """An answer, and until when and for what it holds."""

    answer: Answer
    authority_id: AuthorityId
    serial: bytes
    version: int
    """The authority's counter, read in one statement with the status."""
    fresh_until: float
    """Seconds since 1970; then a new one is signed."""
    next_update: float
    """Seconds since 1970; from then on the answer says nothing."""

    @property
    def octets(self) -> int:
        """See `Fact`."""
        return len(self.answer.body)


@dataclass(slots=True)
class CachedStatus:
    """A status to sign answers from that cannot be kept themselves, since each carries a nonce."""

    status: CertificateStatus
    authority_id: AuthorityId
    serial: bytes
    version: int
    """As of an answer."""
    fresh_until: float
    """Seconds since 1970; then it is read again, as for an answer that is signed anew."""

    @property
    def octets(self) -> int:
        """See `Fact`."""
        return _STATUS_OCTETS


class FactCache(Generic[Kept]):
    """A bounded cache; the fact that was not asked for longest goes first."""

    def __init__(self, max_octets: int = MAX_OCTETS) -> None:
        self._facts: OrderedDict[bytes, Kept] = OrderedDict()
        # One certificate has several CertIDs: one for each hash algorithm and form of its parameters.
        self._by_serial: dict[tuple[AuthorityId, bytes], set[bytes]] = {}
        self._applied: dict[AuthorityId, int] = {}
        self._octets = 0
        self._max_octets = max_octets

    def __len__(self) -> int:
        return len(self._facts)

    def get(self, cert_id: bytes) -> Kept | None:
        """The fact, fresh or not."""
        found = self._facts.get(cert_id)
        if found is not None:
            self._facts.move_to_end(cert_id)
        return found

    def version_of(self, kept: Kept) -> int:
        """The counter at which a fact that is kept is known to be true: later changes that are known were about others."""
        return max(kept.version, self._applied.get(kept.authority_id, kept.version))

    def put(self, cert_id: bytes, cached: Kept) -> bool:
        """Keeps a fact, unless a change that it may not show was applied since it was read. Tells whether it was kept."""
        applied = self._applied.get(cached.authority_id)
        if applied is None or cached.version < applied:
            return False
        self._drop(cert_id)
        self._facts[cert_id] = cached
        self._by_serial.setdefault((cached.authority_id, cached.serial), set()).add(cert_id)
        self._octets += cached.octets
        while self._octets > self._max_octets:
            self._drop(next(iter(self._facts)))
        return True

    def apply(self, authority_id: AuthorityId, version: int, serials: Sequence[bytes] | None) -> None:
        """The authority's counter stands at `version`: facts about these serials are void, with None all of the authority."""
        # Nothing that was read before a counter went back, as in a database that was restored, is newer than it.
        restored = version < self._applied.get(authority_id, version)
        self._applied[authority_id] = version
        if serials is None:
            serials = [serial for owner, serial in self._by_serial if owner == authority_id]
        for serial in serials:
            for cert_id in list(self._by_serial.get((authority_id, serial), ())):
                # One that was read after the change shows it already.
                if self._facts[cert_id].version < version or restored:
                    self._drop(cert_id)

    def clear(self) -> None:
        """Forgets every fact, but no counter."""
        self._facts.clear()
        self._by_serial.clear()
        self._octets = 0

    def _drop(self, cert_id: bytes) -> None:
        cached = self._facts.pop(cert_id, None)
        if cached is None:
            return
        self._octets -= cached.octets
        owner = (cached.authority_id, cached.serial)
        names = self._by_serial[owner]
        names.discard(cert_id)
        if not names:
            del self._by_serial[owner]
