from __future__ import annotations

import asyncio

import pytest
from store_builders import one

from spork.issuance.ports import OutboxMessage
from spork.store import job as job_store
from spork.store import outbox as outbox_store
from spork.store.database import Database
from spork.store.job import Jobs
from spork.store.outbox import Outbox

pytestmark = pytest.mark.store


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database)


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


async def _send(database: Database, number: int = 1) -> None:
    async with database.batch() as connection:
        for each in range(number):
            await outbox_store.add(connection, OutboxMessage("webhook", {"number": each}))


async def _open(database: Database, subject: str = "a", kind: str = "validate") -> None:
    async with database.batch() as connection:
        await job_store.add(connection, kind, subject, {"x": 1})


async def _due(database: Database, table: str) -> None:
    await database.execute(f"UPDATE {table} SET run_at = now() - interval '1 second'")
    if table == "job":
        await database.execute("UPDATE job SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL")


async def test_a_message_is_claimed_by_one_worker_and_then_gone(outbox: Outbox, database: Database) -> None:
    await _send(database)
    (claimed,) = await outbox.claim()
    assert (claimed.kind, claimed.payload, claimed.attempts) == ("webhook", {"number": 0}, 1)
    assert await outbox.claim() == []
    await outbox.done(claimed)
    assert await one(database, "SELECT count(*) FROM outbox") == (0,)


async def test_racing_workers_share_the_messages(outbox: Outbox, database: Database) -> None:
    await _send(database, 40)
    shares = await asyncio.gather(*(outbox.claim(10) for _ in range(6)))
    while len([each for share in shares for each in share]) < 40 and (more := await outbox.claim(10)):
        shares.append(more)
    ids = [each.id for share in shares for each in share]
    assert len(ids) == len(set(ids)) == 40


async def test_a_message_of_a_dead_worker_is_due_again(outbox: Outbox, database: Database) -> None:
    await _send(database)
    await outbox.claim(lease_s=60)
    await _due(database, "outbox")
    (again,) = await outbox.claim()
    assert again.attempts == 2


@pytest.mark.parametrize(
    ("attempts", "low", "high"), [(1, 0.7, 1.3), (3, 2.9, 5.1), (40, 7, 13)], ids=["first", "third", "capped"]
)
async def test_a_failure_backs_off_up_to_a_cap(
    outbox: Outbox, database: Database, attempts: int, low: float, high: float
) -> None:
    await _send(database)
    await database.execute("UPDATE outbox SET attempts = %s", [attempts - 1])
    (claimed,) = await outbox.claim()
    await outbox.failed(claimed, "x" * 1000, cap_s=10)
    wait, error = await one(database, "SELECT extract(epoch FROM run_at - now())::float, last_error FROM outbox")
    assert low - 0.5 <= wait <= high
    assert len(error) == 500
    assert await outbox.claim() == []


async def test_a_late_failure_does_not_touch_another_workers_claim(outbox: Outbox, database: Database) -> None:
    await _send(database)
    (mine,) = await outbox.claim()
    await _due(database, "outbox")
    (theirs,) = await outbox.claim(lease_s=1000)
    await outbox.failed(mine, "late")
    assert await one(database, "SELECT run_at > now() + interval '900 seconds', last_error FROM outbox") == (True, None)
    await outbox.done(theirs)


async def test_claims_and_ends_do_not_wait_for_the_disk(outbox: Outbox, jobs: Jobs, database: Database) -> None:
    await _send(database, 2)
    await _open(database)
    database.statistics.reset()
    first, second = await outbox.claim()
    await outbox.failed(first, "no")
    await outbox.done(second)
    (job,) = await jobs.claim("validate")
    await jobs.done(job)
    assert (database.statistics.durable_commits, database.statistics.round_trips) == (0, 5)


async def test_the_number_and_age_of_waiting_messages(outbox: Outbox, database: Database) -> None:
    assert await outbox.waiting() == (0, 0.0)
    await _send(database, 2)
    await database.execute("UPDATE outbox SET created_at = now() - interval '1 minute'")
    number, age_s = await outbox.waiting()
    assert (number, round(age_s / 60)) == (2, 1)


async def test_a_message_of_a_rolled_back_transaction_is_never_sent(outbox: Outbox, database: Database) -> None:
    async def refuse() -> None:
        async with database.batch() as connection:
            await outbox_store.add(connection, OutboxMessage("webhook", {}))
            raise LookupError

    with pytest.raises(LookupError):
        await refuse()
    assert await outbox.claim() == []


async def test_one_job_of_a_kind_is_open_for_a_subject(jobs: Jobs, database: Database) -> None:
    await _open(database, "a")
    await _open(database, "a")
    await _open(database, "a", "other")
    (claimed,) = await jobs.claim("validate")
    assert (claimed.subject, claimed.payload, claimed.attempts) == ("a", {"x": 1}, 1)
    assert await jobs.claim("validate") == []
    await jobs.done(claimed)
    await _open(database, "a")
    assert len(await jobs.claim("validate")) == 1


async def test_a_job_closes_in_the_transaction_of_its_result(jobs: Jobs, database: Database) -> None:
    await _open(database)
    (claimed,) = await jobs.claim("validate")

    async def fail() -> None:
        async with database.batch() as connection:
            await jobs.done(claimed, connection)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await one(database, "SELECT count(*) FROM job") == (1,)
    async with database.batch() as connection:
        await jobs.done(claimed, connection)
    assert await one(database, "SELECT count(*) FROM job") == (0,)


async def test_a_job_whose_lease_ran_out_goes_to_another_who_alone_may_close_it(jobs: Jobs, database: Database) -> None:
    await _open(database)
    (mine,) = await jobs.claim("validate")
    await _due(database, "job")
    (theirs,) = await jobs.claim("validate")
    assert theirs.attempts == 2
    await jobs.done(mine)
    await jobs.failed(mine, "late")
    assert await one(database, "SELECT count(*), max(last_error) FROM job") == (1, None)
    await jobs.failed(theirs, "no")
    assert await jobs.claim("validate") == []
    await _due(database, "job")
    assert len(await jobs.claim("validate")) == 1


async def test_racing_workers_share_the_jobs(jobs: Jobs, database: Database) -> None:
    for number in range(20):
        await _open(database, str(number))
    shares = await asyncio.gather(*(jobs.claim("validate", 20) for _ in range(4)))
    ids = [each.id for share in shares for each in share]
    assert len(ids) == len(set(ids)) == 20


async def test_a_job_for_later_is_not_due(jobs: Jobs, database: Database) -> None:
    await _open(database)
    await database.execute("UPDATE job SET run_at = now() + interval '1 hour'")
    assert await jobs.claim("validate") == []
