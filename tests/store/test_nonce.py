"""Nonces: good once, on every replica, and never after the tables were emptied."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from spork.clock import FixedClock
from spork.errors import Code, SporkError
from spork.store.database import Database
from spork.store.nonce import LIFETIME, Nonces, purge, redeem
from spork.wire.jose import b64url_decode, b64url_encode

pytestmark = pytest.mark.store


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 24, 12, tzinfo=UTC))


@pytest.fixture
async def nonces(database: Database, clock: FixedClock) -> Nonces:
    nonces = Nonces(database, clock)
    await nonces.ready()
    return nonces


async def redeemed(nonces: Nonces, database: Database, token: str) -> bool:
    opened = await nonces.open(token)
    async with database.batch(durable=False) as connection:
        cursor = await redeem(connection, opened)
    return cursor.rowcount == 1


async def code_of(nonces: Nonces, token: str | None) -> Code:
    with pytest.raises(SporkError) as caught:
        await nonces.open(token)
    return caught.value.code


async def test_a_nonce_is_redeemed_once(nonces: Nonces, database: Database) -> None:
    token = nonces.mint()
    assert [await redeemed(nonces, database, token) for _ in range(3)] == [True, False, False]


async def test_of_many_redemptions_at_once_one_succeeds(nonces: Nonces, database: Database) -> None:
    token = nonces.mint()
    assert sum(await asyncio.gather(*(redeemed(nonces, database, token) for _ in range(8)))) == 1


async def test_a_replica_redeems_what_another_minted(nonces: Nonces, database: Database, clock: FixedClock) -> None:
    other = Nonces(database, clock)
    token = nonces.mint()
    assert await redeemed(other, database, token)
    assert not await redeemed(nonces, database, token)


async def test_minting_costs_no_sql(nonces: Nonces, database: Database) -> None:
    database.statistics.reset()
    assert len({nonces.mint() for _ in range(100)}) == 100
    assert database.statistics.statements == 0


async def test_after_a_crash_old_nonces_are_refused_and_new_ones_work(nonces: Nonces, database: Database) -> None:
    used, unused = nonces.mint(), nonces.mint()
    assert await redeemed(nonces, database, used)
    # What PostgreSQL does to UNLOGGED tables when it recovers.
    await database.execute("DELETE FROM nonce_key")
    await database.execute("DELETE FROM nonce_redemption")
    assert not await redeemed(nonces, database, unused)
    assert nonces.refused().code is Code.BAD_NONCE
    await nonces.ready()
    assert [await code_of(nonces, token) for token in (used, unused)] == [Code.BAD_NONCE, Code.BAD_NONCE]
    assert await redeemed(nonces, database, nonces.mint())


async def test_a_process_with_the_old_key_accepts_nonces_under_the_new_one(
    nonces: Nonces, database: Database, clock: FixedClock
) -> None:
    await database.execute("DELETE FROM nonce_key")
    other = Nonces(database, clock)
    await other.ready()
    assert await redeemed(nonces, database, other.mint())


async def test_an_expired_nonce_is_refused(nonces: Nonces, clock: FixedClock) -> None:
    token = nonces.mint()
    clock.current += LIFETIME
    assert await code_of(nonces, token) is Code.BAD_NONCE


async def test_a_changed_nonce_is_refused(nonces: Nonces) -> None:
    octets = bytearray(b64url_decode(nonces.mint()))
    for position in range(len(octets)):
        octets[position] ^= 1
        assert await code_of(nonces, b64url_encode(bytes(octets))) is Code.BAD_NONCE
        octets[position] ^= 1


@pytest.mark.parametrize(
    ("token", "code"),
    [
        pytest.param(None, Code.BAD_NONCE, id="none at all"),
        pytest.param("", Code.BAD_NONCE, id="an empty one"),
        pytest.param("AAAA", Code.BAD_NONCE, id="a short one"),
        pytest.param("A" * 48, Code.BAD_NONCE, id="zeros"),
        pytest.param("A" * 4000, Code.BAD_NONCE, id="a long one"),
        pytest.param("ab=", Code.MALFORMED, id="padding"),
        pytest.param("äöü", Code.MALFORMED, id="not ASCII"),
    ],
)
async def test_foreign_nonces_are_refused(nonces: Nonces, token: str | None, code: Code) -> None:
    assert await code_of(nonces, token) is code


async def test_only_expired_redemptions_are_purged(nonces: Nonces, database: Database, clock: FixedClock) -> None:
    early = nonces.mint()
    assert await redeemed(nonces, database, early)
    clock.current += timedelta(minutes=10)
    late = nonces.mint()
    assert await redeemed(nonces, database, late)
    clock.current += timedelta(minutes=11)
    assert await purge(database, clock.now()) == 1
    assert not await redeemed(nonces, database, late)


async def test_a_replica_whose_clock_is_behind_finds_the_redemptions_that_others_purge(
    nonces: Nonces, database: Database, clock: FixedClock
) -> None:
    token = nonces.mint()
    assert await redeemed(nonces, database, token)

    ahead = clock.now() + LIFETIME + timedelta(minutes=4)
    assert await purge(database, ahead) == 0

    assert not await redeemed(nonces, database, token)
    assert await purge(database, ahead + timedelta(minutes=2)) == 1
