"""Writing files so that a reader, or a crash, sees the old content or the new, and nothing in between."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: bytes, mode: int = 0o644, *, replace: bool = True) -> None:
    """Writes beside the place, waits for the disk, and renames. Secret files take mode 0600 and never had another one.

    Makes missing folders (mode 0700 where the file is secret). With `replace=False` an existing file is kept and
    FileExistsError raised. Raises OSError; then nothing has changed.
    """
    path.parent.mkdir(mode=0o755 if mode & 0o077 else 0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            os.replace(name, path)
        else:
            # A link fails where a rename would overwrite.
            os.link(name, path)
            os.unlink(name)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Waits until the disk holds the names in the folder. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
