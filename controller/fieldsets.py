"""Which fields an applier has set, and what server-side apply makes of them.

Lists are atomic, except `metadata.finalizers` (a set) and `metadata.ownerReferences` (told apart by uid), of which each applier
owns its own entries. Source: the Kubernetes reference, "Server-Side Apply".
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

Fields = Mapping[str, Any]
"""The tree of keys that were set. A leaf is None; an entry of a keyed list stands under its key."""
_KEYED = ("finalizers", "ownerReferences")
_IDENTITY = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp")


def fields_of(item: Any) -> Any:
    """The keys of what is applied, without its values: those may be secret."""
    if not isinstance(item, Mapping):
        return None
    return {key: fields_of(_by_key(key, value)) for key, value in item.items()}


def merged(old: Any, new: Any) -> Any:
    """`new` laid over `old`."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return copy.deepcopy(new)
    found = dict(old)
    for key, value in new.items():
        if key in _KEYED and isinstance(value, Sequence):
            found[key] = list({**_by_key(key, old.get(key) or []), **copy.deepcopy(_by_key(key, value))}.values())
        else:
            found[key] = merged(old.get(key), value)
    return found


def without(item: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """The object without those fields. What names it stays."""
    kept = _without(item, fields)
    metadata = item["metadata"]
    named = {key: metadata[key] for key in _IDENTITY if key in metadata}
    return {
        **kept,
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "metadata": {**kept.get("metadata", {}), **named},
    }


def _without(item: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in item.items():
        inner = fields.get(key, {})
        if key not in fields:
            kept[key] = value
        elif key in _KEYED and isinstance(inner, Mapping):
            if rest := [one for name, one in _by_key(key, value).items() if name not in inner]:
                kept[key] = rest
        elif isinstance(inner, Mapping) and isinstance(value, Mapping):
            rest_of = _without(value, inner)
            if rest_of or not inner:
                kept[key] = rest_of
    return kept


def minus(fields: Fields, others: Sequence[Fields]) -> dict[str, Any]:
    """What of the fields nobody else has set."""
    found: dict[str, Any] = {}
    for key, inner in fields.items():
        theirs = [other[key] for other in others if key in other]
        if isinstance(inner, Mapping):
            found[key] = minus(inner, [one for one in theirs if isinstance(one, Mapping)])
        elif not theirs:
            found[key] = None
    return found


def _by_key(key: str, value: Any) -> Any:
    """A keyed list as a mapping; everything else as it is."""
    if key == "finalizers" and isinstance(value, Sequence):
        return {str(one): one for one in value}
    if key == "ownerReferences" and isinstance(value, Sequence):
        return {one["uid"]: one for one in value}
    return value
