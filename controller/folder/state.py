"""The files of the state: one for each object, and a folder for each Secret and ConfigMap. Blocking: for a thread.

Each write leaves the old or the new content, also after a kill or a power failure, never a mixture. A status file is written beside
its place and renamed. Of a Secret, `secrets/<namespace>/<name>` is a link to `.<name>/<version>/data`; a new version is written
whole, with its metadata beside `data`, and the link then moves in one step. Who opens the folder once and reads in it therefore
never sees a key without its certificate.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spork.controller.admission import check_name
from spork.controller.cluster import Object, Ref, Refused, ref_of
from spork.controller.fieldsets import Fields
from spork.controller.folder.places import DATA_KINDS, data_folder, status_file, summary_file
from spork.errors import ConfigurationError
from spork.files import sync_folder, write_atomically

_TRIES = 5
_SUMMARY = "folder.json"
_OURS = "folder"
"""The key under which a file holds what is not part of the object."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object with what the adapter must know of it after a restart."""

    item: Object
    applied: Mapping[str, Fields] = field(default_factory=dict)
    place: str = ""
    """`file:line` that declares it; empty for what reconcilers made."""
    digest: str = ""
    """Of what was declared, as it was last looked at."""
    fault: str = ""
    """Why what is declared there now was not taken over."""


def read(home: Path) -> list[Stored]:
    """Everything. Removes what an interrupted write left. Raises ConfigurationError that names a file which cannot be used."""
    _clean(home)
    found = [_stored(file, _loaded(file)) for file in _status_files(home / "status")]
    for kind, (name, _) in DATA_KINDS.items():
        found += [_stored(link, _with_data(kind, link)) for link in _links(home / name)]
    return found


def look(home: Path, kind: str) -> list[Stored]:
    """The objects of one kind, for those who only look while another process may write. Changes nothing."""
    if kind not in DATA_KINDS:
        found = ((file, _read_or_none(file)) for file in _status_files(home / "status" / kind.lower()))
    else:
        links = _links(home / DATA_KINDS[kind][0])
        found = ((link, _patiently(kind, link)) for link in links)
    return [_stored(file, values) for file, values in found if values is not None]


def summary(home: Path) -> dict[str, Any]:
    """What is wrong with the folder as a whole, as of the last scan."""
    file = summary_file(home)
    return _loaded(file) if file.exists() else {}


def write(home: Path, stored: Stored) -> None:
    """Makes it durable. Raises OSError; then the old state is still there."""
    ref = ref_of(stored.item)
    if ref.kind in DATA_KINDS:
        _write_data(home, ref, stored)
    else:
        write_atomically(status_file(home, ref), _text(stored.item, stored), 0o600)


def remove(home: Path, ref: Ref) -> None:
    """Forgets an object. Raises OSError."""
    place = data_folder(home, ref) if ref.kind in DATA_KINDS else status_file(home, ref)
    with contextlib.suppress(FileNotFoundError):
        place.unlink()
        sync_folder(place.parent)
    if ref.kind in DATA_KINDS:
        shutil.rmtree(_versions(place), ignore_errors=True)


def is_there(home: Path, ref: Ref) -> bool:
    """Whether the folder of a Secret or ConfigMap still stands where it was put."""
    return data_folder(home, ref).is_symlink()


def _text(item: Mapping[str, Any], stored: Stored) -> bytes:
    ours = {"applied": stored.applied, "place": stored.place, "digest": stored.digest, "fault": stored.fault}
    return json.dumps({**item, _OURS: {key: value for key, value in ours.items() if value}}, indent=2).encode() + b"\n"


def _stored(file: Path, values: dict[str, Any]) -> Stored:
    try:
        ours = values.pop(_OURS)
        check_name(ref_of(values))
        metadata = values["metadata"]
        if not all(isinstance(metadata[key], str) for key in ("uid", "resourceVersion", "creationTimestamp")):
            raise TypeError
        return Stored(values, **ours)
    except (KeyError, TypeError, AttributeError, Refused) as error:
        raise _unusable(file) from error


def _loaded(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(file) from error
    if not isinstance(values, dict):
        raise _unusable(file)
    return values


def _unusable(file: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{file}: is not what was written there; put it back from a backup, or remove it: what it says is then made anew."
    )


def _read_or_none(file: Path) -> dict[str, Any] | None:
    """None: it has just been removed."""
    try:
        return _loaded(file)
    except ConfigurationError:
        if file.exists():
            raise
        return None


def _patiently(kind: str, link: Path) -> dict[str, Any] | None:
    """A version may go while it is read; then the next one is there."""
    for _ in range(_TRIES):
        try:
            return _with_data(kind, link)
        except ConfigurationError:
            if not link.is_symlink():
                return None
    return _with_data(kind, link)


def _status_files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*.json")) if file.name[0] != "." and file != folder / _SUMMARY]


def _clean(home: Path) -> None:
    """Removes what belongs to nothing: it was being written when the process died."""
    for path in (home / "status").rglob(".*"):
        if path.is_file():
            path.unlink()
    for name, _ in DATA_KINDS.values():
        for path in (home / name).glob("*/.*"):
            link = path.with_name(path.name[1:])
            if link.is_symlink():
                _remove_others(link, Path(os.readlink(link)).parent.name)
            else:
                shutil.rmtree(path, ignore_errors=True)


# Secrets and ConfigMaps


def _versions(link: Path) -> Path:
    return link.with_name(f".{link.name}")


def _links(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*/*")) if path.is_symlink()]


def _with_data(kind: str, link: Path) -> dict[str, Any]:
    data = link.resolve()
    values = _loaded(data.parent / "metadata.json")
    binary = values.pop("binaryKeys", [])
    try:
        contents = {file.name: file.read_bytes() for file in sorted(data.iterdir())}
    except OSError as error:
        raise _unusable(link) from error
    encoded = {name: base64.b64encode(octets).decode() for name, octets in contents.items()}
    if kind == "Secret":
        return {**values, "data": encoded}
    try:
        texts = {name: octets.decode() for name, octets in contents.items() if name not in binary}
    except UnicodeDecodeError as error:
        raise _unusable(link) from error
    binaries = {name: text for name, text in encoded.items() if name in binary}
    return values | {key: one for key, one in (("data", texts), ("binaryData", binaries)) if one}


def _write_data(home: Path, ref: Ref, stored: Stored) -> None:
    _, secret = DATA_KINDS[ref.kind]
    link = data_folder(home, ref)
    version = secrets.token_hex(8)
    folder = _versions(link) / version
    data = folder / "data"
    data.mkdir(mode=0o700 if secret else 0o755, parents=True)
    if secret:
        # `mkdir` gives the folders above their mode by the umask alone.
        for above in (link.parent.parent, link.parent, _versions(link), folder):
            above.chmod(0o700)
    mode = 0o600 if secret else 0o644
    binary = stored.item.get("data" if secret else "binaryData") or {}
    contents = {name: base64.b64decode(text) for name, text in binary.items()}
    if not secret:
        contents |= {name: text.encode() for name, text in (stored.item.get("data") or {}).items()}
    for name, octets in contents.items():
        _write(data / name, octets, mode)
    item = {key: value for key, value in stored.item.items() if key not in ("data", "binaryData")}
    if not secret:
        item["binaryKeys"] = sorted(binary)
    _write(folder / "metadata.json", _text(item, stored), 0o600)
    for made in (data, folder, folder.parent):
        sync_folder(made)
    # The next link is made inside of the hidden folder, where nobody takes it for an object.
    following = _versions(link) / "next"
    following.unlink(missing_ok=True)
    following.symlink_to(Path(_versions(link).name) / version / "data")
    os.replace(following, link)
    sync_folder(link.parent)
    _remove_others(link, version)


def _write(file: Path, octets: bytes, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(octets)
        stream.flush()
        os.fsync(descriptor)


def _remove_others(link: Path, version: str) -> None:
    """An old version holds a key that nobody should find any more. Who has it open reads on, and finds its files gone at worst."""
    versions = _versions(link)
    for path in versions.iterdir() if versions.is_dir() else ():
        if path.is_symlink():
            path.unlink()
        elif path.name != version:
            shutil.rmtree(path, ignore_errors=True)
