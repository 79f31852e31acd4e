# ruff: noqa: F811 - fixtures are imported by name and then asked for by name
"""The validation worker: crashes, late results, failures of its own, and more than one replica."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from acme_world import Client, NoResolver, World, client, world  # noqa: F401 - fixtures

from spork.api.acme import challenges, validation
from spork.api.acme.challenges import CHALLENGES, ChallengeType
from spork.api.acme.validation import Validator
from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.store.database import Database

pytestmark = [pytest.mark.protocol, pytest.mark.store]


async def _answered(client: Client, name: str = "www.example") -> str:
    """The URL of an authorization whose challenge was answered."""
    order = (await client.new_order(name)).json()
    await client.answer(order)
    return str(order["authorizations"][0])


async def _status(client: Client, url: str) -> str:
    return str((await client.post(url)).json()["status"])


async def _decided(client: Client, urls: list[str]) -> None:
    """Returns when none of the authorizations is pending any more."""
    for _ in range(200):
        if "pending" not in [await _status(client, url) for url in urls]:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


def _validating(monkeypatch: pytest.MonkeyPatch, validate: Any) -> None:
    row = ChallengeType(frozenset({"dns", "ip"}), wildcards=False, validate=validate)
    monkeypatch.setattr(challenges, "CHALLENGES", {"http-01": row})
    monkeypatch.setattr(validation, "CHALLENGES", {"http-01": row})


async def test_the_validator_checks_exactly_what_the_client_was_given(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    async def validate(claim: Any, surroundings: Any) -> None:
        seen.append((claim.identifier_value, claim.key_authorization))

    _validating(monkeypatch, validate)
    url = await _answered(client)
    worker = Validator(world.services(), NoResolver())
    for job in await worker.claim():
        await worker.work(job)
    token = (await client.post(url)).json()["challenges"][0]["token"]
    assert seen == [("www.example", f"{token}.{client.key.thumbprint()}")]


async def test_a_job_of_a_dead_worker_is_taken_over_and_its_late_result_ignored(world: World, client: Client) -> None:
    url = await _answered(client)
    dead, other = Validator(world.services(), NoResolver()), Validator(world.services(), NoResolver())
    [first] = await dead.claim()
    assert await other.claim() == []
    await world.database.execute("UPDATE job SET lease_until = now() - interval '1 second'")
    [second] = await other.claim()
    assert (second.id, second.attempts) == (first.id, 2)
    await dead._finish(first, None)
    assert await _status(client, url) == "pending"
    await other._finish(second, SporkError(Code.INCORRECT_RESPONSE, "No."))
    await dead._finish(first, None)
    assert await _status(client, url) == "invalid"


async def test_a_fault_of_the_validator_itself_is_tried_again_and_then_withheld(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def validate(claim: Any, surroundings: Any) -> None:
        raise RuntimeError("inner secret")

    _validating(monkeypatch, validate)
    url = await _answered(client)
    worker = Validator(world.services(), NoResolver())
    for _ in range(4):
        await world.database.execute("UPDATE job SET run_at = now()")
        for job in await worker.claim():
            await worker.work(job)
    value = (await client.post(url)).json()
    assert value["status"] == "invalid"
    assert value["challenges"][0]["error"]["type"].endswith(":serverInternal")
    assert "secret" not in str(value)


async def test_an_issuer_that_closed_its_door_meanwhile_ends_the_challenge(world: World, client: Client) -> None:
    await _answered(client)
    world.change_issuer(protocols={})
    worker = Validator(world.services(), NoResolver())
    for job in await worker.claim():
        await worker.work(job)
    cursor = await world.database.execute("SELECT status FROM acme_challenge")
    assert await cursor.fetchall() == [("invalid",)]


async def test_a_job_whose_outcome_cannot_be_written_comes_again(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await _answered(client)
    worker = Validator(world.services(), NoResolver())
    [job] = await worker.claim()

    async def away(*_: Any, **__: Any) -> None:
        raise DatabaseUnavailable

    async def attempt(_: Any) -> None:
        return None

    monkeypatch.setattr(worker, "_attempt", attempt)
    with monkeypatch.context() as broken:
        broken.setattr(worker, "_finish", away)
        await worker.work(job)
    await world.database.execute("UPDATE job SET lease_until = now() - interval '1 second'")
    [again] = await worker.claim()
    await worker.work(again)
    assert await _status(client, url) == "valid"


async def test_a_replica_takes_work_that_another_one_was_asked_for(
    world: World, client: Client, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def validate(claim: Any, surroundings: Any) -> None:
        return None

    _validating(monkeypatch, validate)
    elsewhere = await Database.open(database_url, min_size=1, max_size=2, application_name="other")
    stop = asyncio.Event()
    worker = asyncio.create_task(validation.run(world.services(elsewhere), stop))
    try:
        url = await _answered(client)
        await _decided(client, [url])
    finally:
        stop.set()
        await asyncio.wait_for(worker, 5)
        await elsewhere.close()
    assert await _status(client, url) == "valid"


async def test_no_more_than_the_bound_is_under_way_at_once(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "CONCURRENCY", 2)
    now = most = 0

    async def validate(claim: Any, surroundings: Any) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    _validating(monkeypatch, validate)
    order = (await client.new_order(*(f"n{number}.example" for number in range(6)))).json()
    await client.answer(order)
    stop = asyncio.Event()
    worker = asyncio.create_task(validation.run(world.services(), stop))
    await _decided(client, order["authorizations"])
    stop.set()
    await asyncio.wait_for(worker, 5)
    assert most == 2


async def test_the_worker_outlives_a_database_that_is_away(world: World) -> None:
    services, stop = world.services(), asyncio.Event()
    await world.database.close()
    worker = asyncio.create_task(validation.run(services, stop))
    await asyncio.sleep(0.1)
    assert not worker.done()
    stop.set()
    await asyncio.wait_for(worker, 5)


def test_every_challenge_type_has_its_validator() -> None:
    assert list(CHALLENGES) == ["http-01"]
