"""What benchmarks share: a CA that is made once for all that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.running import RunningCA


@pytest.fixture(scope="session")
def bench_ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCA]:
    """`spork up` on the quickstart, as durable as it comes, without rate limits."""
    extra = {"SPORK_ACME_RATE_LIMITS": "off", "SPORK_LOG_LEVEL": "warning"}
    running = RunningCA(tmp_path_factory.mktemp("bench") / "home", extra=extra)
    running.start()
    yield running
    assert running.stop() == 0
    running.discard()
