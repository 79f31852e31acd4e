"""The server process: started so that it dies with its parent, watched by a thread, and found again after a kill.

How it dies with its parent: a few lines of Python drop the privileges, ask the kernel for SIGINT (a fast shutdown) at the
parent's death by prctl(PR_SET_PDEATHSIG), and then become `postgres`. That is done in the child's own program rather than in
a preexec_fn, which is not safe in a process with threads; and after the change of user, because that clears the request.
The kernel means the parent *thread*, so a thread of its own starts the server and lives as long as it does.
A SIGKILL of the server itself, or of both, is left to the next start: see `clear_leftovers`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from spork.errors import Code, SporkError
from spork.store.embedded_host import Owner

_LAUNCHER = """
import ctypes, os, signal, sys
parent, uid, gid, program = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if uid >= 0:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
os.umask(0o077)
ctypes.CDLL(None).prctl(1, signal.SIGINT, 0, 0, 0)
if os.getppid() != parent:
    sys.exit("the parent is gone")
os.execv(program, sys.argv[4:])
"""
_LOG_OCTETS = 10 * 1024 * 1024
_STOP_S = 30.0
LEFTOVER_PATIENCE_S = (20.0, 5.0, 5.0)
"""Seconds that a leftover server gets after SIGINT, SIGQUIT and SIGKILL."""


class ServerProcess:
    """A postmaster that this process started."""

    def __init__(self, arguments: list[str], owner: Owner, log: Path) -> None:
        self._arguments = arguments
        self._owner = owner
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._error: BaseException | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spork-postgres", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            raise self._error

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The return code once it ended (negative: the signal), None if the time ran out first."""
        self._thread.join(timeout_s)
        return None if self._thread.is_alive() or self._process is None else self._process.returncode

    def stop(self) -> None:
        """SIGINT (fast shutdown); SIGQUIT (no checkpoint, recovery at the next start) and SIGKILL if that takes too long."""
        for number, patience_s in ((signal.SIGINT, _STOP_S), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            if not self.alive:
                return
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
            self.wait(patience_s)

    def _run(self) -> None:
        try:
            _rotate(self._log)
            descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                self._process = self._spawn(descriptor)
            finally:
                os.close(descriptor)
        except BaseException as error:  # Raised again in the thread that waits for the start.
            self._error = error
            return
        finally:
            self._started.set()
        while True:
            try:
                self._process.wait(timeout=60.0)
                return
            except subprocess.TimeoutExpired:
                with suppress(OSError):
                    _rotate(self._log)

    def _spawn(self, log: int) -> subprocess.Popen[bytes]:
        uid, gid = (self._owner.uid, self._owner.gid) if self._owner.switch else (-1, -1)
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(uid), str(gid)]
        return subprocess.Popen(
            launcher + self._arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=self._owner.environment(),
            # Control-C in a terminal is for the CA, which stops its database last.
            start_new_session=True,
        )


def _rotate(log: Path) -> None:
    """Keeps one predecessor. The server holds the file open for appending, so it is copied and emptied, not renamed."""
    if log.exists() and log.stat().st_size > _LOG_OCTETS:
        shutil.copyfile(log, log.with_suffix(".1"))
        log.with_suffix(".1").chmod(0o600)
        os.truncate(log, 0)


def postmaster_status(data: Path, pid: int) -> str:
    """What the postmaster of that id says of itself in postmaster.pid: starting, stopping, ready, standby, or nothing."""
    try:
        lines = (data / "postmaster.pid").read_text("utf-8").splitlines()
    except OSError:
        return ""
    return lines[7].strip() if len(lines) >= 8 and lines[0].strip() == str(pid) else ""


def clear_leftovers(data: Path) -> None:
    """Stops a postmaster that still runs on this data, and waits for orphaned workers of one that was killed.

    Only processes that are PostgreSQL and stand in this very data folder are touched: an id in a file alone proves nothing,
    since ids are used again. Raises SporkError(UNAVAILABLE) if they do not end.
    """
    postmaster = _recorded_postmaster(data)
    signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
    for number, patience_s in zip(signals, LEFTOVER_PATIENCE_S, strict=True):
        if postmaster is None:
            break
        with suppress(ProcessLookupError):
            os.kill(postmaster, number)
        if _gone(lambda: _recorded_postmaster(data) is None, patience_s):
            break
    # Workers notice within moments that their postmaster is gone, and leave by themselves.
    for remedy in (None, signal.SIGQUIT, signal.SIGKILL):
        left = _processes_in(data)
        for pid in left if remedy is not None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, remedy or 0)
        if not left or _gone(lambda: not _processes_in(data), 5.0):
            # PostgreSQL itself would take any process of that id for the former server, even a zombie.
            (data / "postmaster.pid").unlink(missing_ok=True)
            return
    raise SporkError(Code.UNAVAILABLE, f"Processes of a former server still use {data}; end them and start again.")


def _recorded_postmaster(data: Path) -> int | None:
    try:
        pid = int((data / "postmaster.pid").read_text("utf-8").splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None
    return pid if _is_postgres_in(pid, data) else None


def _processes_in(data: Path) -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_postgres_in(int(entry.name), data)
    ]


def _is_postgres_in(pid: int, data: Path) -> bool:
    """PostgreSQL's processes have the data folder as their working folder. A zombie has none."""
    try:
        folder = os.readlink(f"/proc/{pid}/cwd")
        program = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return False
    name = Path(program.removesuffix(" (deleted)")).name
    return Path(folder) == data.resolve() and name in ("postgres", "postmaster")


def _gone(condition: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
