"""What goes wrong around a CA: wrong files, taken ports, a full disk, a database that leaves, and callers who send too much.

Each is answered by a sentence or by the protocol's own refusal; a process that ran goes on, and nothing is half-written.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from cryptography.x509 import ocsp

from spork.files import write_atomically
from spork.store.embedded import EmbeddedPostgres
from tests.e2e.acme_client import Account, ACMEClient, Order, Problem, http01
from tests.e2e.auditing import Books, are_revoked, ocsp_status
from tests.e2e.processes import eventually, tree
from tests.e2e.running import RunningCA

pytestmark = pytest.mark.e2e

_LAUNCHER = Path(__file__).with_name("kill_launcher.py")


# What keeps a CA from starting -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCA]:
    """A CA that was built and then stopped. Each test leaves it as it found it."""
    ca = RunningCA(tmp_path_factory.mktemp("stopped") / "home")
    ca.start()
    assert ca.stop() == 0
    yield ca
    ca.discard()


def _refused(ca: RunningCA, code: int, *words: str) -> None:
    """The start ends with this exit code and one sentence that has these words."""
    done = ca.refused()
    sentence = next((line for line in done.stderr.splitlines() if line.startswith("spork: ")), "")
    assert done.returncode == code, done.stdout + done.stderr
    assert all(word in sentence for word in words), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert sentence.endswith((".", "?")), sentence


@contextmanager
def _replaced(file: Path, content: bytes, mode: int = 0o600) -> Iterator[None]:
    before, before_mode = file.read_bytes(), file.stat().st_mode
    file.write_bytes(content)
    file.chmod(mode)
    try:
        yield
    finally:
        file.write_bytes(before)
        file.chmod(before_mode)


@pytest.mark.parametrize("file", ["passphrase", "sealed-passphrase"])
def test_a_wrong_passphrase_is_named_and_nothing_starts(stopped: RunningCA, file: str) -> None:
    with _replaced(stopped.home / file, b"not the passphrase at all\n"):
        _refused(stopped, 1, "passphrase")


@pytest.mark.parametrize("file", ["passphrase", "sealed-passphrase"])
def test_a_passphrase_file_that_others_can_read_is_refused(stopped: RunningCA, file: str) -> None:
    path = stopped.home / file
    with _replaced(path, path.read_bytes(), mode=0o644):
        _refused(stopped, 1, str(path), "0644", "chmod 600")


def test_an_empty_passphrase_file_is_refused(stopped: RunningCA) -> None:
    with _replaced(stopped.home / "passphrase", b""):
        _refused(stopped, 1, "passphrase", "empty")


def test_a_lost_passphrase_file_is_not_replaced_by_a_new_one(stopped: RunningCA) -> None:
    path = stopped.home / "passphrase"
    kept = path.rename(path.with_suffix(".kept"))
    try:
        _refused(stopped, 1, "SPORK_PASSPHRASE_FILE")
        assert not path.exists()
    finally:
        kept.rename(path)


def test_a_folder_without_a_hierarchy_is_refused(stopped: RunningCA, tmp_path: Path) -> None:
    declarations, stopped.declarations = stopped.declarations, tmp_path
    try:
        _refused(stopped, 1, "declares no tree", f"write three-tier-tls {tmp_path / 'hierarchy.toml'}")
    finally:
        stopped.declarations = declarations


def test_an_unknown_setting_is_refused_with_its_nearest_match(stopped: RunningCA) -> None:
    stopped.extra["SPORK_STATUS_LISTENS"] = "127.0.0.1:1"
    try:
        _refused(stopped, 1, "SPORK_STATUS_LISTENS", "status_listen")
    finally:
        del stopped.extra["SPORK_STATUS_LISTENS"]


@pytest.mark.parametrize("listener", ["status", "ops"])
def test_a_port_that_is_taken_is_told_with_its_setting(stopped: RunningCA, listener: str) -> None:
    with socket.create_server(("127.0.0.1", stopped.ports[listener])):
        _refused(stopped, 1, f"127.0.0.1:{stopped.ports[listener]}", f"SPORK_{listener.upper()}_LISTEN")


def test_after_every_refusal_the_same_state_starts(stopped: RunningCA) -> None:
    stopped.start()
    assert stopped.process is not None
    members = tree(stopped.process.pid)
    assert stopped.stop() == 0
    assert not any(process.alive for process in members)


# A full disk -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(own_ca: RunningCA, cannot_run: Callable[[str], None]) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of so many MiB where the bundled database of `own_ca` will lie; gives its folder."""
    own_ca.home.mkdir(mode=0o700)
    for file in ("passphrase", "sealed-passphrase"):
        write_atomically(own_ca.home / file, b"long enough to be one\n", 0o600)
    mounted: list[Path] = []

    def mount(size_mib: int) -> Path:
        folder, options = _database_folder(own_ca.home), f"size={size_mib}m,mode=0700"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            cannot_run(f"a small file system cannot be mounted here ({done.stderr.strip()})")
        mounted.append(folder)
        return folder

    yield mount
    if own_ca.process is not None and own_ca.process.poll() is None:
        own_ca.stop(signal.SIGINT)
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _database_folder(home: Path) -> Path:
    """Where the bundled server keeps its data: as root below /var/lib/spork, under a name that the home remembers."""
    postgres = home / "postgres"
    postgres.mkdir(mode=0o700)
    if os.geteuid() != 0:
        return postgres
    name = f"{os.getpid() % 10**6:012d}-{os.urandom(3).hex()}"
    (postgres / "folder").write_text(f"{name}\n")
    folder = Path("/var/lib/spork") / name
    folder.mkdir(mode=0o700, parents=True)
    return folder


def _fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while file.write(b"\0" * size) == size:
                    pass
    return ballast


@pytest.mark.expected_skip("mounting a file system needs a machine that allows it")
def test_a_disk_that_is_too_small_for_a_database_is_told_at_the_first_start(
    own_ca: RunningCA, disk: Callable[[int], Path]
) -> None:
    folder = disk(48)
    _refused(own_ca, 6, str(folder), "128 MiB", "make room")


@pytest.mark.slow
@pytest.mark.expected_skip("mounting a file system needs a machine that allows it")
def test_a_disk_that_fills_up_stops_issuing_and_nothing_else(own_ca: RunningCA, disk: Callable[[int], Path]) -> None:
    folder = disk(400)
    # The disk may be full between a reservation and its certificate; the serial is closed when its lease ends.
    own_ca.command = [sys.executable, str(_LAUNCHER), "", "", "up"]
    own_ca.extra["SPORK_TEST_LEASE_S"] = "2"
    account = Account()
    with http01(own_ca.ports["http01"], account):
        own_ca.start()
        assert own_ca.process is not None
        client = ACMEClient(own_ca.directory_url, own_ca.tls(), account)
        orders = [Order(["before.localhost"])]
        client.obtain(orders[0])
        _is_cached(own_ca, orders[0])
        ballast = _fill(folder)
        refusal, interrupted = _until_refused(client, orders)
        assert refusal.status == 503, refusal
        assert own_ca.process.poll() is None
        # What is known already can still be asked for.
        first = orders[0]
        assert ocsp_status(own_ca, first.chain[1], first.leaf.serial_number) is ocsp.OCSPCertStatus.GOOD
        ballast.unlink()
        _until_served(client, interrupted)
        eventually(own_ca.ready, "being ready again")
        Books(own_ca).check(order.leaf for order in [*orders, interrupted])
        client.close()
        assert own_ca.stop() == 0


def _until_refused(client: ACMEClient, orders: list[Order]) -> tuple[Problem, Order]:
    """Places orders until one is refused; those that were answered are added to `orders`."""
    for number in range(2000):
        order = Order([f"full{number}.localhost"])
        try:
            client.obtain(order)
        except Problem as problem:
            return problem, order
        orders.append(order)
    raise AssertionError("the disk is full, and 2,000 orders found room on it")


def _until_served(client: ACMEClient, order: Order) -> None:
    """Goes on through an outage, in which the only refusal may be a 503."""

    def obtained() -> bool:
        try:
            client.obtain(order)
        except Problem as problem:
            if problem.status != 503:
                raise
            return False
        return True

    eventually(obtained, f"the certificate of {order.names[0]}", 60)


# A database that leaves and comes back -----------------------------------------------------------------------------------

_BEFORE_RECORD = "before:spork.store.certificate:CertificateLedger.record"
_BEFORE_RESERVE = "before:spork.store.certificate:CertificateLedger.reserve"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "abandoned"), [(_BEFORE_RESERVE, 0), (_BEFORE_RECORD, 1)], ids=["before reserve", "before record"]
)
def test_a_database_that_goes_away_within_an_issuance_and_comes_back(
    own_ca: RunningCA, tmp_path: Path, place: str, abandoned: int
) -> None:
    home = tmp_path / "database"
    home.mkdir(mode=0o700)
    postgres = EmbeddedPostgres.start(home)
    armed = tmp_path / "armed"
    own_ca.command = [sys.executable, str(_LAUNCHER), place, str(armed), "up"]
    own_ca.extra |= {
        "SPORK_DATABASE_URL": postgres.url,
        "SPORK_TEST_LEASE_S": "2",
        "SPORK_TEST_STRIKE": "pause",
    }
    account, order = Account(), Order(["interrupted.localhost"])
    try:
        with http01(own_ca.ports["http01"], account):
            own_ca.start()
            client = ACMEClient(own_ca.directory_url, own_ca.tls(), account)
            known = Order(["known.localhost"])
            client.obtain(known)
            _is_cached(own_ca, known)
            armed.write_text(place)
            refusals: list[Problem] = []
            thread = threading.Thread(target=_collect, args=[client, order, refusals])
            thread.start()
            eventually(armed.with_suffix(".reached").exists, "reaching the place")
            postgres.stop()
            armed.unlink()
            thread.join(30)
            assert [problem.status for problem in refusals] == [503]
            _an_outage_is_told(own_ca, known)
            postgres = EmbeddedPostgres.start(home)
            eventually(own_ca.ready, "being ready again")
            client.obtain(order)
            books = Books(own_ca, postgres.url)
            books.check([known.leaf, order.leaf])
            assert len(books.abandoned()) == abandoned
            are_revoked(own_ca, order.chain, books.abandoned())
            client.close()
            assert own_ca.stop() == 0
    finally:
        postgres.stop()
        shutil.rmtree(postgres.folder, ignore_errors=True)


def _is_cached(ca: RunningCA, order: Order) -> None:
    """Asks OCSP until an answer comes from the cache."""
    hit = re.compile(r'^spork_ocsp_answers_total\{kind="hit"\} [1-9]', re.MULTILINE)

    def cached() -> bool:
        assert ocsp_status(ca, order.chain[1], order.leaf.serial_number) is ocsp.OCSPCertStatus.GOOD
        return bool(hit.search(httpx.get(f"http://127.0.0.1:{ca.ports['ops']}/metrics", trust_env=False).text))

    eventually(cached, "an answer from the cache")


def _collect(client: ACMEClient, order: Order, refusals: list[Problem]) -> None:
    try:
        client.obtain(order)
    except Problem as problem:
        refusals.append(problem)


def _an_outage_is_told(ca: RunningCA, known: Order) -> None:
    eventually(lambda: not ca.ready(), "being reported as not ready")
    base = f"http://127.0.0.1:{ca.ports['ops']}"
    assert httpx.get(f"{base}/healthz", trust_env=False).status_code == 200
    # Answers that are in the cache are given on for a while; then it is tryLater, never an invention.
    assert ocsp_status(ca, known.chain[1], known.leaf.serial_number) is ocsp.OCSPCertStatus.GOOD


@pytest.mark.slow
def test_a_database_that_hangs_is_told_as_not_ready_and_work_goes_on_when_it_wakes(own_ca: RunningCA) -> None:
    account = Account()
    with http01(own_ca.ports["http01"], account):
        own_ca.start()
        assert own_ca.process is not None
        client = ACMEClient(own_ca.directory_url, own_ca.tls(), account)
        client.register()
        asleep = [process for process in tree(own_ca.process.pid) if process.name == "postgres"]
        for process in asleep:
            os.kill(process.pid, signal.SIGSTOP)
        order = Order(["patient.localhost"])
        problems: list[Problem] = []
        thread = threading.Thread(target=_collect, args=[client, order, problems])
        thread.start()
        eventually(lambda: not own_ca.ready(), "being reported as not ready")
        for process in asleep:
            os.kill(process.pid, signal.SIGCONT)
        thread.join(60)
        assert not thread.is_alive()
        assert [problem.status for problem in problems] in ([], [503])
        _until_served(client, order)
        Books(own_ca).check([order.leaf])
        client.close()


# Callers who send too much -----------------------------------------------------------------------------------------------


@pytest.fixture
def alive(ca: RunningCA) -> Iterator[RunningCA]:
    """The shared CA; afterwards it must still be the same process, and ready."""
    yield ca
    assert ca.process is not None and ca.process.poll() is None
    assert ca.ready()


def _root(ca: RunningCA) -> httpx.Client:
    return httpx.Client(verify=ca.tls(), trust_env=False, timeout=30)


def _stream(octets: int) -> Iterator[bytes]:
    for _ in range(octets // 65536):
        yield b"\0" * 65536


def test_an_ocsp_request_of_a_megabyte_is_refused_in_the_words_of_ocsp(alive: RunningCA) -> None:
    headers = {"Content-Type": "application/ocsp-request"}
    for content in (b"\x30" * (1 << 20), _stream(1 << 20)):
        with _root(alive) as http:
            answer = http.post(f"{alive.status_url}/ocsp", content=content, headers=headers)
        assert answer.status_code in (200, 413)
        told = ocsp.load_der_ocsp_response(answer.content)
        assert told.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_an_acme_message_of_ten_megabytes_is_refused_with_a_problem(alive: RunningCA) -> None:
    headers = {"Content-Type": "application/jose+json"}
    for content in (b"{" * (10 << 20), _stream(10 << 20)):
        with _root(alive) as http:
            url = http.get(alive.directory_url).json()["newOrder"]
            answer = http.post(url, content=content, headers=headers)
        assert answer.status_code == 413
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:ietf:params:acme:error:malformed"
        assert "Replay-Nonce" in answer.headers


def test_a_message_to_the_administration_is_not_even_read_without_a_certificate(alive: RunningCA) -> None:
    base = f"https://localhost:{alive.ports['admin']}"
    for content in (b"{" * (10 << 20), _stream(10 << 20)):
        with _root(alive) as http:
            answer = http.post(f"{base}/api/v1/certificates", content=content)
        assert answer.status_code == 401


def test_a_message_of_ten_megabytes_from_an_administrator_is_refused_with_a_problem(alive: RunningCA) -> None:
    tls = alive.tls()
    tls.load_cert_chain(alive.home / "admin" / "superadmin.pem", alive.home / "admin" / "superadmin.key")
    base = f"https://localhost:{alive.ports['admin']}"
    for content in (b"{" * (10 << 20), _stream(10 << 20)):
        with httpx.Client(verify=tls, trust_env=False, timeout=30) as http:
            answer = http.post(f"{base}/api/v1/certificates", content=content)
        assert answer.status_code == 413
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_message_to_the_health_address_is_refused(alive: RunningCA) -> None:
    with _root(alive) as http:
        answer = http.post(f"http://127.0.0.1:{alive.ports['ops']}/readyz", content=_stream(10 << 20))
    assert answer.status_code == 405


_LISTENERS = ("status", "enrol", "admin", "ops")


def _connect(ca: RunningCA, listener: str) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", ca.ports[listener]), timeout=40)
    if listener in ("enrol", "admin"):
        return ca.tls().wrap_socket(plain, server_hostname="localhost")
    return plain


def _told(connection: socket.socket) -> bytes:
    """What the server says until it closes the connection, which it must."""
    said = b""
    with connection, suppress(ConnectionError, ssl.SSLError):
        while data := connection.recv(65536):
            said += data
    return said


@pytest.mark.parametrize("listener", _LISTENERS)
def test_headers_without_end_are_cut_off(alive: RunningCA, listener: str) -> None:
    connection = _connect(alive, listener)
    sent = 0
    with suppress(ConnectionError, ssl.SSLError):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        while sent < 64 << 20:
            connection.sendall(b"x" * 65536)
            sent += 65536
    # It was refused while it was being sent, and not by a limit of time with everything kept until then.
    assert sent < 64 << 20
    said = _told(connection)
    assert said == b"" or said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))


@pytest.mark.slow
def test_requests_that_never_end_are_given_up_by_every_listener(alive: RunningCA) -> None:
    first = [_connect(alive, listener) for listener in _LISTENERS]
    later = [_connect(alive, listener) for listener in _LISTENERS]
    bodies = [_connect(alive, listener) for listener in ("status", "enrol")]
    for connection in later:
        connection.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 40")
    for connection in [*first, *later]:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localho")
    for connection, path in zip(bodies, ("/ocsp", "/acme/tls-web/new-order"), strict=True):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jose+json\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b"{")
    # All clocks run at once. What is asserted is that the connections end, which `_told` waits for.
    for connection in [*first, *later, *bodies]:
        assert b"HTTP/1.1 200" not in _told(connection)


@pytest.mark.parametrize("listener", _LISTENERS)
def test_noise_instead_of_http_is_refused(alive: RunningCA, listener: str) -> None:
    connection = _connect(alive, listener)
    connection.sendall(bytes(range(256)) * 16)
    said = _told(connection)
    assert said == b"" or said.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("listener", ["enrol", "admin"])
def test_plain_http_to_a_tls_address_only_ends_that_connection(alive: RunningCA, listener: str) -> None:
    with socket.create_connection(("127.0.0.1", alive.ports[listener]), timeout=40) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1 200" not in _told(connection)
