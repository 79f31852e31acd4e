"""Certificates a minute through the operator: `spork controller`, `spork serve`, an API server, and PostgreSQL with fsync.

All Certificates of a run are created at once. Counted are the seconds until the last one is Ready, the requests by the API server's
own audit log, the memory of the operator, and CPU of everybody. Afterwards the operator is started again on what is there.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spork.controller.kubernetes.cluster import open_cluster
from spork.store.embedded import EmbeddedPostgres
from tests.bench.measuring import each, show
from tests.control_plane import control_plane
from tests.e2e.processes import cpu_s, tree
from tests.e2e.running import ROOT
from tests.operator_running import Program, Programs, User, is_ready, programs

pytestmark = pytest.mark.bench

_SIZES = ((500, 1), (500, 10), (2000, 1), (2000, 10))
_TREE: list[dict[str, Any]] = [
    {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "Hierarchy",
        "metadata": {"name": "bench"},
        "spec": {
            "root": {
                "id": "bench-root", "commonName": "Bench Root", "algorithm": "ecdsa-p384", "validityYears": 10, "keyMode": "online",
            },
            "issuingCAs": [{"id": "bench", "commonName": "Bench CA", "algorithm": "ecdsa-p256", "validityYears": 5}],
        },
    },
    {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "ClusterIssuer",
        "metadata": {"name": "bench"},
        "spec": {
            "ca": "bench",
            "profiles": ["tls-server"],
            "allowedNamespaces": {"names": ["*"]},
            "names": {"permit": {"dns": ["**.bench.test"]}},
        },
    },
]  # fmt: skip


def a_certificate(namespace: str, number: int) -> dict[str, Any]:
    name = f"bench-{number}"
    return {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "Certificate",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "secretName": name,
            "dnsNames": [f"{name}.bench.test"],
            "issuerRef": {"name": "bench", "kind": "ClusterIssuer"},
        },
    }


@dataclass
class Run:
    """What one run brought."""

    label: str
    count: int
    seconds: float
    requests: Counter[str]
    memory_mib: float
    restart: Counter[str]
    cpu: dict[str, float]

    def row(self) -> tuple[str, ...]:
        total = sum(self.requests.values())
        reads = sum(number for what, number in self.requests.items() if what.split()[0] in ("get", "list"))
        return (
            self.label,
            f"{self.seconds:.1f}",
            f"{self.count / self.seconds * 60:,.0f}",
            f"{total / self.count:.2f} ({(total - reads) / self.count:.2f})",
            f"{self.memory_mib:.0f}",
            *(each(self.cpu[name], self.count) for name in ("operator", "signer", "database", "API server", "etcd")),
            str(sum(number for what, number in self.restart.items() if what.split()[0] not in ("get", "list"))),
        )


@dataclass
class Stage:
    """Everything that runs."""

    installation: Programs
    postgres: EmbeddedPostgres
    serve: Program
    controller: Program

    def cpu(self) -> dict[str, float]:
        """Seconds so far, by who spent them."""
        assert self.serve.process is not None and self.controller.process is not None
        found = {"operator": cpu_s(self.controller.process.pid)[0], "signer": cpu_s(self.serve.process.pid)[0]}
        names = {"postgres": "database", "kube-apiserver": "API server", "etcd": "etcd"}
        children = Counter[str]()
        for process in tree(os.getpid()):
            if process.name in names:
                children[names[process.name]] += process.cpu_s
        return {**dict.fromkeys(names.values(), 0.0), **found, **children}

    def memory_mib(self) -> float:
        """The largest resident set of the operator so far."""
        assert self.controller.process is not None
        status = Path(f"/proc/{self.controller.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


@pytest.fixture
def stage(kube_assets: Path, tmp_path: Path) -> Iterator[Stage]:
    """A control plane, a database as durable as it comes, signer and operator."""
    (tmp_path / "kube").mkdir()
    postgres = EmbeddedPostgres.start(tmp_path / "postgres")
    try:
        with (
            control_plane(kube_assets, tmp_path / "kube") as kube,
            programs(kube, postgres.url, tmp_path) as installation,
        ):
            for words in (("apply", "--server-side"), ("wait", "--for=condition=Established", "--timeout=60s")):
                done = kube.kubectl(*words, "-f", str(ROOT / "crds"))
                assert done.returncode == 0, done.stderr
            serve, controller = installation.serve(), installation.controller()
            _wait_until_ready(serve, controller)
            yield Stage(installation, postgres, serve, controller)
    finally:
        postgres.stop()


def _wait_until_ready(*those: Program) -> None:
    end = time.monotonic() + 120
    while not all(program.ready() for program in those):
        assert time.monotonic() < end, "the programs are not ready"
        time.sleep(0.2)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("count", "namespaces"), _SIZES)
def test_certificates_created_at_once(stage: Stage, count: int, namespaces: int) -> None:
    run = asyncio.run(_run(stage, count, namespaces))
    columns = (
        "objects, namespaces", "s", "a minute", "requests (writes)", "MiB",
        "CPU ms: operator", "signer", "database", "API server", "etcd", "restart",
    )  # fmt: skip
    show("Operator: Certificates created at once", columns, [run.row()])
    show("Requests", ("request", "number"), [(what, str(number)) for what, number in run.requests.most_common(12)])
    show(
        "Requests after a restart", ("request", "number"), [(what, str(number)) for what, number in run.restart.items()]
    )
    assert sum(run.requests.values()) <= 7 * count
    assert run.memory_mib <= 300


async def _run(stage: Stage, count: int, namespaces: int) -> Run:
    installation = stage.installation
    async with open_cluster(installation.kube.kubeconfig) as cluster:
        user = User(cluster)
        for number in range(namespaces):
            await user.namespace(f"bench-{number}")
        await user.apply(*_TREE)
        await _ready(user, "ClusterIssuer", 1)
        await _settle(installation)
        before, cpu, since = len(installation.requests()), stage.cpu(), time.monotonic()
        gate = asyncio.Semaphore(32)

        async def create(number: int) -> None:
            async with gate:
                await user.apply(a_certificate(f"bench-{number % namespaces}", number))

        await asyncio.gather(*(create(number) for number in range(count)))
        await _ready(user, "Certificate", count)
        took = time.monotonic() - since
        await _settle(installation)
        spent = {name: value - cpu[name] for name, value in stage.cpu().items()}
        requests = _counted(installation, before)
        memory = stage.memory_mib()
        stage.controller.stop()
        settled = len(installation.requests())
        stage.controller = installation.controller()
        _wait_until_ready(stage.controller)
        await asyncio.sleep(5)
        await _settle(installation)
        return Run(f"{count}, {namespaces}", count, took, requests, memory, _counted(installation, settled), spent)


def _counted(installation: Programs, since: int) -> Counter[str]:
    return Counter(f"{one.verb} {one.resource}" for one in installation.requests(since=since))


async def _ready(user: User, kind: str, count: int) -> None:
    end = time.monotonic() + 600
    while sum(is_ready(item) for item in await user.list(kind)) < count:
        assert time.monotonic() < end, f"not all of {kind} become Ready"
        await asyncio.sleep(0.5)


async def _settle(installation: Programs) -> None:
    """Waits until the operator has asked for nothing for two seconds."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < 2:
        now = len(installation.requests())
        if now != seen:
            seen, since = now, time.monotonic()
        await asyncio.sleep(0.5)
