"""Reads a folder of manifests, again and again, and parses only what has changed. Blocking: for a thread.

Recursive. Hidden files and folders are left out, and so is the state folder where it lies inside. A link may lead to another place
in the folder, as git-sync and mounted ConfigMaps have them, and nowhere else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spork.controller.cluster import Ref
from spork.controller.folder.declared import Content, Declared, parse
from spork.controller.manifests import MAX_TEXT_OCTETS

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILES = 10_000
MAX_DEPTH = 16
MAX_OCTETS = 64 << 20
"""Of all files together. A thousand Certificates have less than a megabyte."""
_Signature = tuple[int, ...]


@dataclass(frozen=True)
class Scan:
    """The folder as it was found."""

    root: Path
    """Where the folder's own link, if it is one, has led."""
    declared: Mapping[Ref, Declared]
    """Objects that stand in exactly one place, in the order of their files."""
    faults: tuple[str, ...]
    """Sentences, each about a file that cannot be used. None: the scan is free of errors."""
    foreign: frozenset[str]
    files: int


@dataclass
class FolderReader:
    """One folder. `excluded` is left out where the walk comes across it."""

    directory: Path
    excluded: Path | None = None
    _cache: dict[tuple[str, str], tuple[_Signature, Content]] = field(default_factory=dict)

    def read(self) -> Scan:
        """Never raises for what is in the folder, nor for a folder that is not there."""
        return _Walk(self).scan()


class _Walk:
    """One reading."""

    def __init__(self, reader: FolderReader) -> None:
        self._reader = reader
        self._root = os.path.realpath(reader.directory)
        self._excluded = None if reader.excluded is None else os.path.realpath(reader.excluded)
        self._old, self._new = reader._cache, dict[tuple[str, str], tuple[_Signature, Content]]()
        self._seen: set[str] = set()
        self._faults: list[str] = []
        self._octets = self._files = 0

    def scan(self) -> Scan:
        places: dict[Ref, list[Declared]] = {}
        foreign: set[str] = set()
        for content in self._folder(self._root, "", 0):
            self._faults += content.faults
            foreign |= content.foreign
            for one in content.declared:
                places.setdefault(one.ref, []).append(one)
        self._reader._cache = self._new
        for ref, found in places.items():
            if len(found) > 1:
                self._faults.append(f"{ref} is declared twice: in {' and in '.join(one.place for one in found)}.")
        declared = {ref: found[0] for ref, found in places.items() if len(found) == 1}
        return Scan(Path(self._root), declared, tuple(self._faults), frozenset(foreign), self._files)

    def _folder(self, real: str, shown: str, depth: int) -> Iterator[Content]:
        if real in self._seen or real == self._excluded:
            return
        self._seen.add(real)
        if depth > MAX_DEPTH:
            self._faults.append(f"{shown}: lies more than {MAX_DEPTH} folders deep and is not read.")
            return
        try:
            with os.scandir(real) as found:
                entries = sorted(found, key=lambda one: one.name)
        except OSError as error:
            self._faults.append(f"{shown or self._reader.directory}: cannot be read: {error.strerror}.")
            return
        for entry in entries:
            if not entry.name.startswith("."):
                yield from self._entry(entry, _printable(f"{shown}{entry.name}"), depth)

    def _entry(self, entry: os.DirEntry[str], shown: str, depth: int) -> Iterator[Content]:
        wanted = entry.name.endswith(SUFFIXES)
        real = entry.path
        if entry.is_symlink():
            try:
                real = os.path.realpath(entry.path, strict=True)
            except OSError:
                if wanted:
                    self._faults.append(f"{shown}: is a link that leads nowhere.")
                return
            if real != self._root and not real.startswith(os.path.join(self._root, "")):
                if wanted or os.path.isdir(real):
                    self._faults.append(f"{shown}: is a link that leads out of the folder, and is not followed.")
                return
        if os.path.isdir(real):
            yield from self._folder(real, f"{shown}/", depth + 1)
        elif wanted and real not in self._seen:
            self._seen.add(real)
            yield from self._file(real, shown)

    def _file(self, real: str, shown: str) -> Iterator[Content]:
        try:
            # Without O_NONBLOCK the opening of a pipe would wait for its writer.
            descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # It went since the folder was listed.
        except OSError as error:
            self._faults.append(f"{shown}: cannot be read: {error.strerror}.")
            return
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if (fault := self._refusal(status)) is not None:
                self._faults.append(f"{shown}: {fault}")
                return
            signature = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            old = self._old.get((real, shown))
            if old is None or old[0] != signature:
                old = (signature, _content(stream.read(MAX_TEXT_OCTETS + 1), shown))
            self._new[real, shown] = old
            yield old[1]

    def _refusal(self, status: os.stat_result) -> str | None:
        if not stat.S_ISREG(status.st_mode):
            return "is not a regular file."
        if status.st_size > MAX_TEXT_OCTETS:
            return f"is larger than {MAX_TEXT_OCTETS} octets, too large for a manifest."
        self._octets += status.st_size
        self._files += 1
        if self._files > MAX_FILES:
            return f"is one of more than {MAX_FILES} files and is not read."
        if self._octets > MAX_OCTETS:
            return f"is not read: the files together have more than {MAX_OCTETS} octets."
        return None


def _content(octets: bytes, shown: str) -> Content:
    try:
        return parse(octets.decode("utf-8-sig"), shown)
    except UnicodeDecodeError as error:
        line = octets[: error.start].count(b"\n") + 1
        return Content(faults=(f"{shown}:{line}: is not UTF-8 text.",))


def _printable(name: str) -> str:
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in name)
