"""Certificates a second through the pipeline, in this process, on the bundled PostgreSQL; and a CRL of 100,000 entries."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from spork.issuance.ports import IdempotencyKey, Recorded
from spork.issuance.request import IssuanceRequest
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.services import Services
from spork.store.embedded import EmbeddedPostgres
from spork.x509.csr import ParsedCSR, parse_csr
from spork.x509.profiles import profile_named
from tests.bench import filling
from tests.bench.bench_home import services_of
from tests.bench.measuring import each, milliseconds, percentile, show
from tests.e2e.processes import cpu_s
from tests.e2e.running import ROOT

pytestmark = pytest.mark.bench

_SECONDS, _MOST = 2.5, 4000
_CSRS = 200
_ISSUERS = {"p256": "ECDSA P-256", "rsa": "RSA-2048", "mldsa": "ML-DSA-65"}
_ENTRIES = 100_000
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A built home; nothing runs on it."""
    folder = tmp_path_factory.mktemp("pipeline") / "home"

    async def build() -> None:
        async with services_of(folder, build=True) as services:
            await _measure(services, "p256", _csrs(1), concurrency=1, most=1)

    asyncio.run(build())
    yield folder
    record = folder / "postgres" / "folder"
    if record.exists():
        shutil.rmtree(Path("/var/lib/spork") / record.read_text().strip(), ignore_errors=True)


def _csrs(count: int) -> list[ParsedCSR]:
    """Requests as a door parsed and verified them; that is the door's work and not measured here."""
    found = []
    for number in range(count):
        san = x509.SubjectAlternativeName([x509.DNSName(f"p{number}.bench.localhost")])
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(san, False)
        request = builder.sign(ec.generate_private_key(ec.SECP256R1()), SHA256())
        found.append(parse_csr(request.public_bytes(Encoding.DER)))
    return found


@dataclass
class Issued:
    """What one measurement brought."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    spork_s: float = 0.0
    postgres_s: float = 0.0
    serials: set[int] = field(default_factory=set)
    trips: float = 0.0

    def row(self, label: str) -> tuple[str, ...]:
        count = len(self.latencies)
        return (
            label,
            str(count),
            f"{count / self.seconds:.0f}",
            milliseconds(percentile(self.latencies, 50)),
            milliseconds(percentile(self.latencies, 99)),
            each(self.spork_s, count),
            each(self.postgres_s, count),
            f"{self.trips / count:.2f}",
        )


async def _measure(
    services: Services, issuer_name: str, csrs: list[ParsedCSR], *, concurrency: int, most: int = _MOST
) -> Issued:
    issuer = await services.issuers.issuer(issuer_name)
    authority = await services.authorities.authority(issuer.authority_id)
    profile = profile_named("tls-server")
    outcome, left = Issued(), itertools.count(1)
    before, trips = cpu_s(os.getpid()), services.database.statistics.round_trips
    started = time.monotonic()

    async def work() -> None:
        while time.monotonic() - started < _SECONDS and next(left) <= most:
            number = next(_numbers)
            csr = csrs[number % len(csrs)]
            key, names = f"bench-{number}", csr.names
            request = IssuanceRequest(
                requester=Requester(Door.ACME, "acme-account:1", "127.0.0.1"),
                grant=Grant(names=frozenset(names)),
                evidence=Evidence("order", key),
                idempotency=IdempotencyKey(
                    f"issuer:{issuer.id}", Door.ACME, key, hashlib.sha256(key.encode()).digest()
                ),
                authority=authority,
                issuer=issuer,
                profile=profile,
                spki=csr.spki,
                names=names,
                csr=csr.request,
            )
            begun = time.monotonic()
            recorded: Recorded = await services.pipeline.issue(request)
            outcome.latencies.append(time.monotonic() - begun)
            outcome.serials.add(recorded.serial)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrency):
            tasks.create_task(work())
    outcome.seconds = time.monotonic() - started
    after = cpu_s(os.getpid())
    outcome.spork_s, outcome.postgres_s = after[0] - before[0], after[1] - before[1]
    outcome.trips = services.database.statistics.round_trips - trips
    return outcome


@pytest.mark.timeout(180)
@pytest.mark.parametrize("stored", [1_000, 100_000])
def test_issuance(home: Path, stored: int) -> None:
    csrs = _csrs(_CSRS)

    async def measure() -> dict[str, Issued]:
        found = {}
        async with services_of(home) as services:
            assert services.postgres is not None
            await asyncio.to_thread(_model_and_fill, services.postgres, stored)
            for name, algorithm in _ISSUERS.items():
                for concurrency in (1, 16):
                    label = f"{stored:,}, {algorithm}, {concurrency} at once"
                    found[label] = await _measure(services, name, csrs, concurrency=concurrency)
        return found

    results = asyncio.run(measure())
    columns = (
        "stored certificates, CA, requests", "issued", "issued/s", "p50 ms", "p99 ms", "CPU ms each: SPORK", "PostgreSQL",
        "trips each",
    )  # fmt: skip
    show("Pipeline in this process", columns, [found.row(label) for label, found in results.items()])
    for found in results.values():
        assert len(found.serials) == len(found.latencies) > 0
        assert found.trips <= 2 * len(found.latencies) + 10


def _model_and_fill(postgres: EmbeddedPostgres, stored: int) -> None:
    filling.fill(postgres.url, stored)


@pytest.mark.timeout(180)
def test_a_crl_of_100_000_entries(home: Path) -> None:
    async def revoke() -> int:
        async with services_of(home) as services:
            assert services.postgres is not None
            await asyncio.to_thread(filling.fill, services.postgres.url, _ENTRIES + 20_000)
            return await asyncio.to_thread(filling.revoke, services.postgres.url, "bench-p256", _ENTRIES)

    assert asyncio.run(revoke()) == _ENTRIES
    command = [sys.executable, "-m", "tests.bench.crl_build", str(home), "bench-p256"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    columns = ("", "")
    rows = [
        ("entries", f"{told['entries']:,}"),
        ("size of the list, MiB", f"{told['octets'] / 2**20:.1f}"),
        ("from the order to the published list, s", f"{told['seconds']:.2f}"),
        ("of that, encoding alone, s", f"{told['encode_s']:.2f}"),
        ("of that, signing alone, s", f"{told['sign_s']:.3f}"),
        ("memory of the process before, MiB", f"{told['before_mib']:.0f}"),
        ("memory of the process at its peak, MiB", f"{told['peak_mib']:.0f}"),
        ("memory of the encoding worker at its peak, MiB", f"{told['worker_mib']:.0f}"),
    ]
    show("A full CRL, ECDSA P-256", columns, rows)
    assert told["entries"] == _ENTRIES
