"""One running CA for the whole session of end-to-end tests; tests that kill or fill things start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import RunningCA


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCA]:
    """`spork up examples/quickstart` on a fresh state folder."""
    running = RunningCA(tmp_path_factory.mktemp("ca") / "home")
    running.start()
    yield running
    assert running.stop() == 0
    running.discard()


@pytest.fixture
def own_ca(tmp_path: Path) -> Iterator[RunningCA]:
    """A CA of this test's own, not started yet."""
    running = RunningCA(tmp_path / "home")
    yield running
    running.discard()
