"""How the bundled server is reached: its logins, their passwords, and the folder of its socket."""

from __future__ import annotations

import json
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from spork.errors import Code, SporkError
from spork.store.embedded_host import folder_of, prepare_owner

DATABASE = "spork"
SUPERUSER = "postgres"
OWNER = "spork_owner"
RUNTIME = "spork_server"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Passwords of the three logins: who made the server, who owns the database, who serves."""

    superuser: str = field(repr=False)
    owner: str = field(repr=False)
    runtime: str = field(repr=False)


def running_urls(home: Path) -> tuple[str, str]:
    """Logins of owner and serving process at the server that another process runs for this home; nothing is started.

    Raises SporkError(CONFIGURATION) where there never was one.
    """
    base = home.absolute() / "postgres"
    if not (base / "credentials.json").exists():
        raise SporkError(Code.CONFIGURATION, f"There is no database in {home} yet; `spork up` makes it.")
    folder = folder_of(home.absolute(), prepare_owner())
    credentials = read_credentials(base, folder)
    run = socket_folder(home.absolute(), folder)
    return login(OWNER, credentials.owner, run), login(RUNTIME, credentials.runtime, run)


def login(user: str, password: str, run: Path) -> str:
    """The URL of a login. Passwords made here need no escaping."""
    return f"postgresql://{user}:{password}@/{DATABASE}?host={quote(str(run), safe='')}"


def socket_folder(home: Path, folder: Path) -> Path:
    """Where the socket lies. Its address holds 107 octets (sun_path), so a deep home gets a short folder elsewhere."""
    run = folder / "run"
    if len(os.fsencode(run / ".s.PGSQL.5432")) <= 107:
        return run
    record = home / "postgres" / "socket-folder"
    if record.exists() and _is_ours(recorded := Path(record.read_text("utf-8").strip())):
        return recorded
    # Such folders are emptied at a reboot; a new one gets a new name, which nobody could have prepared.
    short = Path(tempfile.mkdtemp(prefix="spork-", dir=os.environ.get("XDG_RUNTIME_DIR")))
    record.write_text(str(short), "utf-8")
    return short


def _is_ours(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700


def read_credentials(base: Path, folder: Path) -> Credentials:
    """The passwords, made where there is no server yet.

    Raises SporkError(CONFIGURATION): they are damaged, or gone while the data is there.
    """
    file = base / "credentials.json"
    if not file.exists():
        if (folder / "data" / "PG_VERSION").exists():
            raise SporkError(
                Code.CONFIGURATION,
                f"{file} is gone, and nothing else opens the data in {folder}; restore it from a backup.",
            )
        values = {name: secrets.token_urlsafe(24) for name in ("superuser", "owner", "runtime")}
        temporary = base / "credentials.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(values, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(file)
    try:
        return Credentials(**json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise SporkError(Code.CONFIGURATION, f"{file} is damaged; restore it from a backup.") from error


def private_folder(path: Path, *, only_if_missing: bool = False) -> None:
    """Makes it, mode 0700; one that is there gets that mode too, unless `only_if_missing`."""
    if path.is_dir() and only_if_missing:
        return
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
