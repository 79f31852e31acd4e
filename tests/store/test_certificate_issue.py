"""Certificates from nothing to Ready, over a real database: what it costs, and what a kill between any two writes leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from certificate_world import CertificateWorld, a_certificate_world, key_and_certificate_fit

from spork.store.database import Database

pytestmark = pytest.mark.store


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> CertificateWorld:
    return await a_certificate_world(database, tmp_path)


async def test_a_new_certificate_is_ready_after_six_requests(world: CertificateWorld) -> None:
    world.add()
    requests = await world.settle()
    assert [request.split(" ")[0] for request in requests] == [
        "read", "create", "create", "delete", "set_status", "report",
    ]  # fmt: skip
    assert world.condition("Ready")[:2] == ("True", "Issued")
    assert world.condition("Issuing")[:2] == ("False", "NothingToDo")
    assert key_and_certificate_fit(world.secret())
    assert world.secrets() == ["web-tls"]
    assert world.events() == ["Issued"]
    assert await world.issued() == 1
