"""OCSP answers a second, beside what the bare web server gives for a fixed body of the same size."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from spork.store.embedded_access import running_urls
from tests.bench.http_load import write_requests
from tests.bench.measuring import show
from tests.e2e.acme_client import Account, ACMEClient, Order, http01
from tests.e2e.processes import cpu_s
from tests.e2e.running import ROOT, RunningCA, free_port

pytestmark = pytest.mark.bench

_SECONDS, _CONNECTIONS, _CERTIFICATES = 3.0, 32, 20


@pytest.fixture(scope="module")
def chains(bench_ca: RunningCA) -> list[list[x509.Certificate]]:
    """Some certificates that are good."""
    account, orders = Account(), [Order([f"ocsp{number}.localhost"]) for number in range(_CERTIFICATES)]
    with http01(bench_ca.ports["http01"], account):
        client = ACMEClient(bench_ca.directory_url, bench_ca.tls(), account)
        for order in orders:
            client.obtain(order)
        client.close()
    return [order.chain for order in orders]


def _request(chain: list[x509.Certificate], nonce: bytes | None) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(chain[0], chain[1], SHA256())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _get(data: bytes) -> bytes:
    return b"GET /ocsp/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % quote(base64.b64encode(data), safe="").encode()


def _post(data: bytes) -> bytes:
    head = "POST /ocsp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/ocsp-request\r\nContent-Length: "
    return f"{head}{len(data)}\r\n\r\n".encode() + data


def _load(port: int, requests: list[bytes], file: Path, pid: int) -> tuple[dict[str, Any], tuple[float, float]]:
    write_requests(file, requests)
    command = [sys.executable, str(Path(__file__).with_name("http_load.py")), "127.0.0.1", str(port)]
    before = cpu_s(pid)
    done = subprocess.run(
        [*command, str(_CONNECTIONS), str(_SECONDS), str(file)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    after = cpu_s(pid)
    return json.loads(done.stdout), (after[0] - before[0], after[1] - before[1])


@pytest.fixture
def bare_server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Starts the bare server for a size of answer; gives its port and its process id."""
    started: list[subprocess.Popen[bytes]] = []

    def start(octets: int) -> tuple[int, int]:
        port = free_port()
        program = str(Path(__file__).with_name("bare_server.py"))
        started.append(subprocess.Popen([sys.executable, program, str(port), str(octets)], cwd=ROOT))
        for _ in range(200):
            try:
                urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        return port, started[-1].pid

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _row(label: str, told: dict[str, Any], cpu: tuple[float, float]) -> tuple[str, ...]:
    answers = max(1, told["answers"])
    micro = [f"{seconds / answers * 1e6:.0f}" for seconds in (*cpu, told["client_cpu_s"])]
    return label, f"{answers / told['seconds']:,.0f}", str(told["octets"]), *micro, str(len(told["errors"]))


@pytest.mark.timeout(120)
def test_ocsp_answers(
    bench_ca: RunningCA, chains: list[list[x509.Certificate]], bare_server: Any, tmp_path: Path
) -> None:
    assert bench_ca.process is not None
    port, pid, file = bench_ca.ports["status"], bench_ca.process.pid, tmp_path / "requests"
    plain = [_request(chain, None) for chain in chains]
    nonces = [_request(chain, bytes([number]) * 32) for number, chain in enumerate(chains)]
    asked = {"GET": [_get(data) for data in plain], "POST": [_post(data) for data in plain]}
    results = {f"OCSP {name}": _load(port, requests, file, pid) for name, requests in asked.items()}
    results["OCSP POST with nonce, signed live"] = _load(port, [_post(data) for data in nonces], file, pid)
    octets = results["OCSP POST"][0]["octets"]
    bare_port, bare_pid = bare_server(octets)
    for name, requests in asked.items():
        results[f"bare web server {name}"] = _load(bare_port, requests, file, bare_pid)
    columns = ("", "answers/s", "octets", "CPU us an answer: server", "PostgreSQL", "client", "errors")
    show(f"OCSP, {_CONNECTIONS} connections", columns, [_row(name, *result) for name, result in results.items()])
    _show_wrk(bench_ca, plain[0], bare_port, tmp_path)
    assert [result[0]["errors"] for result in results.values()] == [[] for _ in results]
    _statistics_say_that_hits_cost_no_sql(bench_ca, asked["POST"], file)


def _statistics_say_that_hits_cost_no_sql(ca: RunningCA, requests: list[bytes], file: Path) -> None:
    """Thousands of answers may not add thousands of transactions; the feed and the workers add a few each second."""
    assert ca.process is not None
    query = "SELECT sum(xact_commit) FROM pg_stat_database"
    with psycopg.connect(running_urls(ca.home)[0], autocommit=True) as connection:
        before = connection.execute(query).fetchone()
        told, _ = _load(ca.ports["status"], requests, file, ca.process.pid)
        time.sleep(1.5)  # The server's own statistics come late.
        after = connection.execute(query).fetchone()
    assert before is not None and after is not None
    assert after[0] - before[0] < told["answers"] / 10


def _show_wrk(ca: RunningCA, data: bytes, bare_port: int, folder: Path) -> None:
    """The same with wrk, where it is installed: it costs less beside the server, so it shows more of it."""
    if (wrk := shutil.which("wrk")) is None:
        print("wrk is not installed; the figures above are those of the client in Python.")
        return
    script = folder / "post.lua"
    octets = "".join(f"\\{octet:03d}" for octet in data)
    script.write_text(f'wrk.method = "POST"\nwrk.body = "{octets}"\n')
    path = quote(base64.b64encode(data), safe="")
    rows = []
    for name, port in (("OCSP", ca.ports["status"]), ("bare web server", bare_port)):
        for method, extra in (("GET", [f"http://127.0.0.1:{port}/ocsp/{path}"]), ("POST", ["-s", str(script)])):
            url = [] if method == "GET" else [f"http://127.0.0.1:{port}/ocsp"]
            command = [wrk, "-t1", f"-c{_CONNECTIONS}", f"-d{_SECONDS:.0f}s", *extra, *url]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            rate = next(line.split()[1] for line in output.splitlines() if line.startswith("Requests/sec"))
            assert "Non-2xx" not in output
            rows.append((f"{name} {method}", rate))
    show("The same by wrk", ("", "answers/s"), rows)
