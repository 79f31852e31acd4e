"""Where things lie under SPORK_HOME. Names were checked before (`spork.controller.admission`), so none leads out of its folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from spork.controller.cluster import KINDS, Ref

_LONGEST = 200
"""A file name has 255 octets at most, of which the suffix and the name of a temporary file take their part."""
DATA_KINDS = {"Secret": ("secrets", True), "ConfigMap": ("configmaps", False)}
"""Kinds whose content lies in files of its own: their folder, and whether it is secret."""


def status_file(home: Path, ref: Ref) -> Path:
    """The file of an object that is no Secret or ConfigMap."""
    folder = home / "status" / ref.kind.lower()
    return (folder / ref.namespace if KINDS[ref.kind].namespaced else folder) / f"{_short(ref.name)}.json"


def data_folder(home: Path, ref: Ref) -> Path:
    """The link through which the files of a Secret or ConfigMap are read."""
    return home / DATA_KINDS[ref.kind][0] / ref.namespace / ref.name


def summary_file(home: Path) -> Path:
    """What is wrong with the folder as a whole."""
    return home / "status" / "folder.json"


def requests_folder(home: Path) -> Path:
    """Where commands leave what they ask of the running process."""
    return home / "requests"


def _short(name: str) -> str:
    # No object's name has a tilde, so a shortened one is never taken for another.
    return name if len(name) <= _LONGEST else f"{name[:120]}~{hashlib.sha256(name.encode()).hexdigest()[:32]}"
