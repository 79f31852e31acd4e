"""What commands ask of the running process: small files in SPORK_HOME/requests, which it takes in and removes.

A command cannot write an object's file itself: the running process would not know of it, and might write over it. A request that
was taken in but not yet removed when the process died is taken in again, which changes nothing: it sets the same values.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spork.controller.cluster import Ref
from spork.controller.folder.places import requests_folder
from spork.controller.models.schema import GROUP
from spork.files import write_atomically

_MAX_OCTETS = 1 << 16
_MAX_VALUE = 4096


@dataclass(frozen=True, slots=True)
class Request:
    """Either annotations of one object, or the hash of missing objects that may be deleted."""

    ref: Ref | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    prune: str = ""


def leave(home: Path, request: Request) -> Path:
    """Writes the request; the running process, or the next one, takes it in. Raises OSError."""
    folder = requests_folder(home)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ref = request.ref
    values: dict[str, Any] = {"prune": request.prune} if request.prune else {}
    if ref is not None:
        values = {
            "kind": ref.kind,
            "namespace": ref.namespace,
            "name": ref.name,
            "annotations": dict(request.annotations),
        }
    file = folder / f"{secrets.token_hex(8)}.json"
    write_atomically(file, json.dumps(values).encode(), 0o600)
    return file


def pending(home: Path) -> list[tuple[Path, Request | None]]:
    """All requests, oldest first; None for a file that is none, or that somebody else has put there."""
    folder = requests_folder(home)
    files = [file for file in folder.glob("*.json") if not file.name.startswith(".")] if folder.is_dir() else []
    return [(file, _read(file)) for file in sorted(files, key=lambda one: one.lstat().st_mtime_ns)]


def _read(file: Path) -> Request | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if os.fstat(descriptor).st_uid not in (os.geteuid(), 0):
                return None
            values = json.loads(stream.read(_MAX_OCTETS))
    except (OSError, ValueError, RecursionError):
        return None
    return _checked(values)


def _checked(values: Any) -> Request | None:
    match values:
        case {"prune": str(prune)}:
            return Request(prune=prune)
        case {"kind": str(kind), "namespace": str(namespace), "name": str(name), "annotations": dict(annotations)}:
            # Only what people say to the operator comes this way; nothing else of an object can be changed.
            if all(
                key.startswith(f"{GROUP}/") and isinstance(one, str) and len(one) <= _MAX_VALUE
                for key, one in annotations.items()
            ):
                return Request(Ref(kind, namespace, name), annotations)
    return None
