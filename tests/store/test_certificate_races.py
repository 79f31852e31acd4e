"""Two operators at once, one of which is slow: it acts on what was so before the other one had finished."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from certificate_world import REF, SECRET, CertificateWorld, a_certificate_world, key_and_certificate_fit

from spork.controller.certificate import pending
from spork.controller.cluster import Conflict
from spork.store.database import Database

pytestmark = pytest.mark.store


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> CertificateWorld:
    return await a_certificate_world(database, tmp_path)


@pytest.mark.parametrize("renewal", [False, True], ids=["first", "renewal"])
@pytest.mark.parametrize("copy_lags", [False, True], ids=["its copy is new", "its copy lags"])
async def test_a_key_that_is_made_while_another_operator_finishes_is_not_used(
    world: CertificateWorld, monkeypatch: pytest.MonkeyPatch, renewal: bool, copy_lags: bool
) -> None:
    world.add()
    if renewal:
        await world.settle()
        world.add({"metadata/annotations": {"spork-ca.org/renew": "1"}})
    slow = world.restarted()
    make, get = pending.new_key, world.cluster.get
    held = world.cluster.get(SECRET)

    async def late(wanted: Any) -> Any:
        monkeypatch.setattr(pending, "new_key", make)
        await world.settle()
        if copy_lags:
            monkeypatch.setattr(world.cluster, "get", lambda ref: held if ref == SECRET else get(ref))
        return await make(wanted)

    monkeypatch.setattr(pending, "new_key", late)
    await slow.run()
    monkeypatch.setattr(world.cluster, "get", get)
    await asyncio.gather(world.settle(), slow.settle())
    assert await world.issued() == 1 + renewal
    assert world.secrets() == ["web-tls"]
    assert key_and_certificate_fit(world.secret())
    assert world.status()["revision"] == 1 + renewal
    assert world.condition("Ready")[0] == "True"
    assert world.condition("Issuing")[:2] == ("False", "NothingToDo")


async def test_the_name_of_somebody_else_s_secret_costs_one_read_each_time_and_no_key(world: CertificateWorld) -> None:
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web-tls", "namespace": "default"}, "data": {}}
    world.cluster.add(theirs)
    world.add()
    await world.settle()
    assert world.condition("Issuing")[:2] == ("False", "SecretNotOurs")
    before = len(world.cluster.requests)
    await world.run()
    assert [request.split(" ")[0] for request in world.cluster.requests[before:]] == ["read"]
    assert world.secrets() == []
    assert await world.issued() == 0


async def test_nothing_is_issued_for_an_object_that_went_with_its_secret_though_the_copy_still_has_it(
    world: CertificateWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add()
    await world.settle()
    held = world.cluster.get(REF)
    await world.cluster.delete(REF)
    await world.cluster.delete(SECRET)
    # Kinds are watched one by one: this one's watch is behind, or was lost.
    get = world.cluster.get
    monkeypatch.setattr(world.cluster, "get", lambda ref: held if ref == REF else get(ref))
    with pytest.raises(Conflict):
        await world.run()
    assert await world.issued() == 1
    assert world.secrets() == []
