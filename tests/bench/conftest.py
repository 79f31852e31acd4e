"""What benchmarks share: they run only when they are asked for, and a CA is made once for all that need one.

`make bench` names this folder; `make test` walks over all tests and leaves these out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import RunningCA

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the benchmarks out, unless this folder or the marker was named."""
    asked = any("bench" in Path(str(argument).partition("::")[0]).parts for argument in config.args)
    if asked or "bench" in (config.option.markexpr or ""):
        return
    left_out = [item for item in items if _HERE in item.path.parents]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def bench_ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCA]:
    """`spork up` on the quickstart, as durable as it comes, without rate limits."""
    extra = {"SPORK_ACME_RATE_LIMITS": "off", "SPORK_LOG_LEVEL": "warning"}
    running = RunningCA(tmp_path_factory.mktemp("bench") / "home", extra=extra)
    running.start()
    yield running
    assert running.stop() == 0
    running.discard()
