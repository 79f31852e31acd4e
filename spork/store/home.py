"""The state folder of one installation, and the lock that lets only one program run it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from spork.errors import Code, SporkError


class HomeInUse(SporkError):
    """Another process runs this state folder. `pid` is its process id, or None where it could not be read."""

    def __init__(self, home: Path, pid: int | None) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            Code.CONFLICT,
            f"{home} is in use by {who}. Stop it first, or choose another state folder with SPORK_HOME.",
        )
        self.pid = pid


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Holds the folder for this process; the kernel lets go of it even after SIGKILL. Makes the folder (mode 0700) if missing.

    Raises HomeInUse at once; it never waits.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise HomeInUse(home, int(text) if text.isdigit() else None) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
