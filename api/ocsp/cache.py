"""Answers that are known to be true still, by the octets of their CertID.

An answer was read together with its authority's status counter. It may stay while every later change of the counter is known
here and none of them was about its certificate.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from spork.ids import AuthorityId

Headers = list[tuple[bytes, bytes]]

MAX_OCTETS = 64 * 1024 * 1024
"""Of response bodies: some 60,000 answers with ECDSA, 6,000 with ML-DSA."""


@dataclass(slots=True)
class Answer:
    """A whole response as it goes out."""

    body: bytes
    get_headers: Headers
    post_headers: Headers
    etag: bytes | None = None
    not_modified_headers: Headers | None = None
    """Of a 304."""


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


class AnswerCache:
    """A bounded cache; the answer that was not asked for longest goes first."""

    def __init__(self, max_octets: int = MAX_OCTETS) -> None:
        self._answers: OrderedDict[bytes, CachedAnswer] = OrderedDict()
        # One certificate has several CertIDs: one for each hash algorithm and form of its parameters.
        self._by_serial: dict[tuple[AuthorityId, bytes], set[bytes]] = {}
        self._applied: dict[AuthorityId, int] = {}
        self._octets = 0
        self._max_octets = max_octets

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, cert_id: bytes) -> CachedAnswer | None:
        """The answer, fresh or not."""
        found = self._answers.get(cert_id)
        if found is not None:
            self._answers.move_to_end(cert_id)
        return found

    def put(self, cert_id: bytes, cached: CachedAnswer) -> bool:
        """Keeps an answer, unless a change that it may not show was applied since it was read. Tells whether it was kept."""
        applied = self._applied.get(cached.authority_id)
        if applied is None or cached.version < applied:
            return False
        self._drop(cert_id)
        self._answers[cert_id] = cached
        self._by_serial.setdefault((cached.authority_id, cached.serial), set()).add(cert_id)
        self._octets += len(cached.answer.body)
        while self._octets > self._max_octets:
            self._drop(next(iter(self._answers)))
        return True

    def apply(self, authority_id: AuthorityId, version: int, serials: Sequence[bytes] | None) -> None:
        """The authority's counter stands at `version`: answers about these serials are void, with None all of the authority."""
        self._applied[authority_id] = version
        if serials is None:
            serials = [serial for owner, serial in self._by_serial if owner == authority_id]
        for serial in serials:
            for cert_id in list(self._by_serial.get((authority_id, serial), ())):
                # One that was read after the change shows it already.
                if self._answers[cert_id].version < version:
                    self._drop(cert_id)

    def clear(self) -> None:
        """Forgets every answer, but no counter."""
        self._answers.clear()
        self._by_serial.clear()
        self._octets = 0

    def _drop(self, cert_id: bytes) -> None:
        cached = self._answers.pop(cert_id, None)
        if cached is None:
            return
        self._octets -= len(cached.answer.body)
        owner = (cached.authority_id, cached.serial)
        names = self._by_serial[owner]
        names.discard(cert_id)
        if not names:
            del self._by_serial[owner]
