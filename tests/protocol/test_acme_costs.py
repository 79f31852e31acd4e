# ruff: noqa: F811 - fixtures are imported by name and then asked for by name
"""What an ACME order costs the database: round trips, and commits that wait for the disk."""

from __future__ import annotations

from typing import Any

import pytest
from acme_world import Client, World, a_csr, b64, client, world  # noqa: F401 - fixtures

from spork.store.connection import Statistics

pytestmark = [pytest.mark.protocol, pytest.mark.store]


class Meter:
    """Reads the counts between two steps."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self.trips: dict[str, int] = {}
        self.durable: dict[str, int] = {}
        statistics.reset()

    def read(self, step: str) -> None:
        self.trips[step] = self._statistics.round_trips
        self.durable[step] = self._statistics.durable_commits
        self._statistics.reset()


async def _order(world: World, client: Client, *names: str) -> Meter:
    """From newOrder to the download, with the validation and one poll of the order, as PRODUCT and DESIGN count it."""
    client.nonce = client.nonce or await client.fresh_nonce()
    meter = Meter(world.database.statistics)
    placed = await client.new_order(*names)
    meter.read("newOrder")
    authorization = (await client.post(placed.json()["authorizations"][0])).json()
    meter.read("authorization")
    await client.post(authorization["challenges"][0]["url"], {})
    meter.read("challenge")
    await world.validate()
    meter.read("validation")
    order: dict[str, Any] = (await client.post(placed.headers["location"])).json()
    meter.read("poll")
    done = await client.post(order["finalize"], {"csr": b64(a_csr(names))})
    meter.read("finalize")
    assert (await client.post(done.json()["certificate"])).status_code == 200
    meter.read("download")
    return meter


async def test_an_order_takes_twelve_round_trips_and_five_commits_that_wait(world: World, client: Client) -> None:
    meter = await _order(world, client, "www.example")
    assert meter.trips == {
        "newOrder": 2,
        "authorization": 1,
        "challenge": 2,
        "validation": 2,
        "poll": 1,
        "finalize": 3,
        "download": 1,
    }
    assert meter.durable == {
        "newOrder": 1,
        "authorization": 0,
        "challenge": 1,
        "validation": 1,
        "poll": 0,
        "finalize": 2,
        "download": 0,
    }
    # The limits of the design.
    assert sum(meter.trips.values()) <= 16
    assert sum(meter.durable.values()) <= 5


async def test_placing_and_reading_an_order_cost_the_same_with_a_hundred_names(world: World, client: Client) -> None:
    client.nonce = await client.fresh_nonce()
    meter = Meter(world.database.statistics)
    placed = await client.new_order(*(f"n{number}.example" for number in range(100)))
    meter.read("newOrder")
    assert len((await client.post(placed.headers["location"])).json()["authorizations"]) == 100
    meter.read("poll")
    assert meter.trips == {"newOrder": 2, "poll": 1}


async def test_a_nonce_costs_no_trip(world: World, client: Client) -> None:
    meter = Meter(world.database.statistics)
    for _ in range(5):
        await client.fresh_nonce()
    meter.read("nonces")
    assert meter.trips == {"nonces": 0}


async def test_a_refused_request_costs_one_trip(world: World, client: Client) -> None:
    placed = await client.new_order("www.example")
    meter = Meter(world.database.statistics)
    await client.post(placed.json()["finalize"], {"csr": b64(a_csr(["www.example"]))})
    meter.read("not ready")
    await client.post(client.url("order/unknown"))
    meter.read("not found")
    assert meter.trips == {"not ready": 1, "not found": 1}


async def test_a_foreign_nonce_changes_nothing_and_costs_one_look_at_the_key(world: World, client: Client) -> None:
    meter = Meter(world.database.statistics)
    await client.post(client.url("new-order"), {}, nonce="A" * 48)
    meter.read("foreign nonce")
    assert meter.trips == {"foreign nonce": 1}
