# ruff: noqa: F811 - fixtures are imported by name and then asked for by name
"""What is forgotten of ACME orders that came to nothing, and what never is."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from acme_world import Client, World, a_csr, b64, client, world  # noqa: F401 - fixtures

from spork.api.acme import validation
from spork.api.acme.orders import ORDER_LIFETIME
from spork.store.acme_purge import KEPT_FOR, ExpiredOrders
from spork.store.database import Database

pytestmark = pytest.mark.store

TABLES = ("acme_order", "acme_order_authorization", "acme_authorization", "acme_challenge")
LONG = ORDER_LIFETIME + KEPT_FOR + timedelta(hours=1)


async def _counts(database: Database, tables: tuple[str, ...] = TABLES) -> list[int]:
    found = []
    for table in tables:
        row = await (await database.execute(f"SELECT count(*) FROM {table}")).fetchone()
        found.append(int(row[0]))
    return found


async def test_an_order_without_a_certificate_goes_with_all_that_was_made_for_it(world: World, client: Client) -> None:
    await client.new_order("a.example", "b.example")
    expired = ExpiredOrders(world.database)

    assert await expired.purge(world.clock.now() + ORDER_LIFETIME + KEPT_FOR - timedelta(hours=1)) == 0
    assert (await _counts(world.database))[:3] == [1, 2, 2]

    assert await expired.purge(world.clock.now() + LONG) == 1
    assert await _counts(world.database) == [0, 0, 0, 0]
    assert await _counts(world.database, ("acme_account",)) == [1]


async def test_an_order_with_a_certificate_stays_and_what_it_rests_on(world: World, client: Client) -> None:
    url, order = await client.ready_order(world, "a.example")
    await client.new_order("a.example", "b.example")
    done = await client.post(order["finalize"], {"csr": b64(a_csr(["a.example"]))})
    assert done.json()["status"] == "valid"

    assert await ExpiredOrders(world.database).purge(world.clock.now() + LONG) == 1

    # Both orders rest on the proof for a.example; that for b.example is of the one that came to nothing.
    assert (await _counts(world.database))[:3] == [1, 1, 1]
    assert await _counts(world.database, ("certificate",)) == [1]
    assert (await client.post((await client.post(url)).json()["certificate"])).status_code == 200


async def test_a_shared_authorization_goes_with_its_last_order(world: World, client: Client) -> None:
    await client.ready_order(world, "a.example")
    world.clock.current += timedelta(hours=2)
    client.nonce = None
    await client.new_order("a.example")
    expired = ExpiredOrders(world.database)

    assert await expired.purge(world.clock.now() - timedelta(hours=2) + LONG) == 1
    assert (await _counts(world.database))[:3] == [1, 1, 1]

    assert await expired.purge(world.clock.now() + LONG) == 1
    assert await _counts(world.database) == [0, 0, 0, 0]


async def test_a_pass_is_bounded_and_goes_on_behind_the_orders_that_stay(world: World, client: Client) -> None:
    _, order = await client.ready_order(world, "a.example")
    await client.post(order["finalize"], {"csr": b64(a_csr(["a.example"]))})
    for number in range(3):
        world.clock.current += timedelta(seconds=1)
        await client.new_order(f"{number}.example")
    expired, then = ExpiredOrders(world.database), world.clock.now() + LONG

    assert [await expired.purge(then, limit=2) for _ in range(3)] == [1, 2, 0]
    assert (await _counts(world.database))[:3] == [1, 1, 1]


async def test_two_replicas_purge_one_after_the_other(world: World, client: Client) -> None:
    await client.ready_order(world, "a.example")
    await client.new_order("a.example")
    replicas = [ExpiredOrders(world.database), ExpiredOrders(world.database)]

    await asyncio.gather(*(replica.purge(world.clock.now() + LONG, limit=1) for replica in replicas))
    await asyncio.gather(*(replica.purge(world.clock.now() + LONG, limit=1) for replica in replicas * 2))

    assert await _counts(world.database) == [0, 0, 0, 0]


async def test_the_validation_worker_purges_and_outlives_a_failure_of_it(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "_PURGE_EVERY_S", 0.0)
    monkeypatch.setattr(validation, "POLL_S", 0.02)
    await client.new_order("a.example")
    world.clock.current += LONG
    purge, failures = validation.purge, []

    async def fail_once(*arguments: object) -> int:
        if not failures:
            failures.append(1)
            raise RuntimeError("no purging today")
        return await purge(*arguments)  # type: ignore[arg-type]  # As they came.

    monkeypatch.setattr(validation, "purge", fail_once)
    stop = asyncio.Event()
    worker = asyncio.create_task(validation.run(world.services(), stop))
    try:
        async with asyncio.timeout(5):
            while (await _counts(world.database))[0]:  # noqa: ASYNC110 - the worker tells nobody.
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await worker
    assert failures == [1]
