"""Which key of a CA's declaration has changed since it was built, and what class of change that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.model import DeclaredAuthority
from spork.hierarchy.ports import AuthorityState

_NEW_CERTIFICATE = "its certificate says this, so it needs a new one; name and key stay."
_CLASSES = {
    "kind": (ChangeClass.FORBIDDEN, "a CA keeps its place in the tree; declare a new CA with another id."),
    "parent": (
        ChangeClass.FORBIDDEN,
        "a CA keeps its parent; declare a cross-certificate, or a new CA with another id.",
    ),
    "subject": (
        ChangeClass.FORBIDDEN,
        "the name of a CA stands in every certificate below it; declare a new CA with another id.",
    ),
    "algorithm": (ChangeClass.REKEY, "another algorithm needs another key."),
    "key_mode": (
        ChangeClass.REKEY,
        "a key keeps the protection that it was made under; another one needs another key.",
    ),
    "validity": (ChangeClass.REISSUE, _NEW_CERTIFICATE),
    "path_length": (ChangeClass.REISSUE, _NEW_CERTIFICATE),
    "name_constraints": (ChangeClass.REISSUE, _NEW_CERTIFICATE),
    "extended_key_usage": (ChangeClass.REISSUE, _NEW_CERTIFICATE),
    "policies": (ChangeClass.REISSUE, _NEW_CERTIFICATE),
    "crl": (ChangeClass.IN_PLACE, "it holds from the next revocation list on."),
    "crl_shards": (ChangeClass.IN_PLACE, "certificates from now on are spread over that many lists."),
    "profiles": (ChangeClass.IN_PLACE, "it holds for requests from now on."),
    "urls": (
        ChangeClass.IN_PLACE,
        "certificates signed from now on carry it; those signed before keep the old one, which must go on working.",
    ),
}

CERTIFIED_FIELDS = tuple(field for field, (change, _) in _CLASSES.items() if change is ChangeClass.REISSUE)
"""The keys whose values stand in the CA's own certificate."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One key: what it was, what it is to be, and what that costs. Values are plain JSON."""

    field: str
    before: Any
    after: Any
    change: ChangeClass
    reason: str

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "change": self.change.value}


def changed_fields(authority: DeclaredAuthority, state: AuthorityState, status_url: str) -> tuple[FieldChange, ...]:
    """All differences, in the order of the declaration."""
    return tuple(_changes(authority, state, status_url))


def _changes(authority: DeclaredAuthority, state: AuthorityState, status_url: str) -> Iterator[FieldChange]:
    for field, after in authority.as_json().items():
        before = state.spec.get(field)
        if before == after:
            continue
        change, reason = _CLASSES[field]
        if field == "crl_shards" and after < state.crl_shards and state.live_certificates:
            change = ChangeClass.FORBIDDEN
            reason = f"{state.live_certificates} live certificates name lists that would be gone; it can only grow."
        yield FieldChange(field, before, after, change, reason)
    if state.current is not None:
        urls = authority.urls_of(state.current.generation, status_url)
        if urls != state.current.urls:
            yield FieldChange("urls", _plain(asdict(state.current.urls)), _plain(asdict(urls)), *_CLASSES["urls"])


def _plain(urls: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {kind: list(values) for kind, values in urls.items()}
