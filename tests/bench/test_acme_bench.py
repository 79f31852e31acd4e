"""Whole ACME orders a second against a real `spork up`, by clients in another process, at 1,000 and 100,000 certificates."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spork.store.embedded_access import running_urls
from tests.bench import filling
from tests.bench.measuring import each, milliseconds, percentile, show
from tests.e2e.processes import cpu_s
from tests.e2e.running import ROOT, RunningCA

pytestmark = pytest.mark.bench

_SECONDS = 5.0
_COLUMNS = (
    "stored certificates, clients", "orders", "orders/s", "p50 ms", "p99 ms",
    "CPU ms an order: SPORK", "PostgreSQL", "client", "requests an order", "errors",
)  # fmt: skip


@dataclass
class Load:
    """What one run of the load client brought."""

    told: dict[str, Any]
    spork_s: float
    postgres_s: float

    def row(self, label: str) -> tuple[str, ...]:
        count, latencies = self.told["orders"], self.told["latencies"]
        return (
            label,
            str(count),
            f"{count / self.told['seconds']:.1f}",
            milliseconds(percentile(latencies, 50)),
            milliseconds(percentile(latencies, 99)),
            each(self.spork_s, count),
            each(self.postgres_s, count),
            each(self.told["client_cpu_s"], count),
            f"{self.told['requests'] / max(1, count):.2f}",
            str(len(self.told["errors"])),
        )


def load(ca: RunningCA, clients: int, *options: str, seconds: float = _SECONDS) -> Load:
    """Runs the client, and counts the server's CPU from when its clients are warm."""
    command = [
        sys.executable, str(Path(__file__).with_name("acme_load.py")), "--directory", ca.directory_url, "--ca", str(ca.root_pem),
        "--http01-port", str(ca.ports["http01"]), "--clients", str(clients), "--seconds", str(seconds), *options,
    ]  # fmt: skip
    assert ca.process is not None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as client:
        assert client.stdout is not None
        started = client.stdout.readline()
        before = cpu_s(ca.process.pid)
        output = client.stdout.read()
        after = cpu_s(ca.process.pid)
    assert started == "started\n" and client.returncode == 0, started + output
    return Load(json.loads(output), after[0] - before[0], after[1] - before[1])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("stored", [1_000, 100_000])
def test_acme_orders(bench_ca: RunningCA, stored: int) -> None:
    url = running_urls(bench_ca.home)[0]
    load(bench_ca, 1, "--orders", "1")
    filling.fill(url, stored)
    runs = [(f"{stored:,}, {clients} clients", load(bench_ca, clients)) for clients in (1, 8, 16, 32)]
    shared = load(bench_ca, 16, "--one-account")
    runs.append((f"{stored:,}, 16 clients of one account", shared))
    show("ACME: newOrder to download", _COLUMNS, [run.row(label) for label, run in runs])
    assert [run.told["errors"] for _, run in runs] == [[] for _ in runs]
    assert all(run.told["orders"] > 0 for _, run in runs)
