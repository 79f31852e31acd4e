"""When an object counts as deleted because its file is gone. Pure: nothing is read or deleted here.

A folder that is half checked out, or whose mount is lost, looks like one whose files were deleted, and a CA must not be taken apart
for that. So an object has to be missing in two scans without errors, 30 s apart; and where much is missing at once somebody has
to say that this is meant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from spork.controller.cluster import Ref

WAIT_S = 30.0
SHARE = 0.10
AT_LEAST = 2
"""The share means something only from so many on: one of three is a third."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows from one scan."""

    due: frozenset[Ref] = frozenset()
    """Are deleted now."""
    missing: frozenset[Ref] = frozenset()
    """Are missing, and not yet deleted."""
    frozen: str = ""
    """Why nothing is deleted however long it is missing; one sentence."""


@dataclass
class Deletions:
    """Remembers since when something is missing. After a restart the time begins anew."""

    _since: dict[Ref, float] = field(default_factory=dict)
    confirmed: str = ""
    """Hash of a set of missing objects that somebody wants deleted."""

    def judge(
        self, known: Mapping[Ref, str], present: Collection[Ref], *, clean: bool, empty: bool, now: float
    ) -> Judgement:
        """`known` are the objects that files have declared so far; `now` is in seconds on a clock that never jumps."""
        missing = frozenset(known.keys() - set(present))
        # A confirmation is for what is missing now; what goes missing later needs another one.
        confirmed, self.confirmed = self.confirmed, ""
        if not clean:
            # What was missing before the error may have been the beginning of it.
            self._since.clear()
            sentence = "Some files cannot be used, so nothing is deleted until they are mended."
            return Judgement(missing=missing, frozen=sentence if missing else "")
        if missing and confirmed == hash_of(missing):
            self._since.clear()
            return Judgement(due=missing)
        if (sentence := _doubt(len(missing), len(known), empty)) and missing:
            self._since.clear()
            return Judgement(missing=missing, frozen=sentence)
        self._since = {ref: self._since.get(ref, now) for ref in missing}
        due = frozenset(ref for ref, since in self._since.items() if now - since >= WAIT_S)
        for ref in due:
            del self._since[ref]
        return Judgement(due, missing - due)


def hash_of(missing: Collection[Ref]) -> str:
    """What names a set of missing objects when somebody confirms it."""
    text = "\n".join(sorted(f"{ref.kind}/{ref.namespace}/{ref.name}" for ref in missing))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _doubt(missing: int, known: int, empty: bool) -> str:
    if empty:
        return f"The folder is empty, and {known} object{'s were' if known > 1 else ' was'} declared in it."
    if missing >= AT_LEAST and missing > SHARE * known:
        return f"{missing} of {known} objects have vanished at once."
    return ""
