from __future__ import annotations

import asyncio
import itertools
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
import pytest

from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.store.connection import CountedConnection, may_write
from spork.store.database import Database
from spork.store.migrate import migrate

pytestmark = pytest.mark.store


async def _audit_rows(database: Database) -> int:
    row = await (await database.execute("SELECT count(*) FROM audit_event")).fetchone()
    return int(row[0]) if row else -1


_INSERT = "INSERT INTO audit_event (actor, action, subject) VALUES (%s, 'test', 'nothing')"


async def _fail(transaction: AbstractAsyncContextManager[CountedConnection]) -> None:
    async with transaction as connection:
        await connection.execute(_INSERT, ["lost"])
        await connection.execute("SELECT 1 / %s", [0])


async def _refuse(transaction: AbstractAsyncContextManager[CountedConnection]) -> None:
    async with transaction as connection:
        await connection.execute(_INSERT, ["lost"])
        raise ValueError("refused")


async def _swallow(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(_INSERT, ["lost"])
        with pytest.raises(psycopg.errors.DivisionByZero):
            await connection.execute("SELECT 1 / 0")


async def _lose_the_session(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(_INSERT, ["lost"])
        with psycopg.connect(database.url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
        await connection.execute("SELECT 1")


async def test_a_transaction_commits_and_rolls_back(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(_INSERT, ["kept"])
    with pytest.raises(psycopg.errors.DivisionByZero):
        await _fail(database.transaction())
    assert await _audit_rows(database) == 1


async def test_a_batch_commits_and_rolls_back(database: Database) -> None:
    async with database.batch() as connection:
        await connection.execute(_INSERT, ["kept"])
    with pytest.raises(ValueError, match="refused"):
        await _refuse(database.batch())
    assert await _audit_rows(database) == 1


async def test_a_batch_whose_results_are_not_read_is_one_trip_and_one_durable_commit(database: Database) -> None:
    database.statistics.reset()
    async with database.batch() as connection:
        first = await connection.execute(_INSERT + " RETURNING id", ["a"])
        await connection.execute(_INSERT, ["b"])
    assert (database.statistics.round_trips, database.statistics.commits, database.statistics.durable_commits) == (
        1,
        1,
        1,
    )
    assert await first.fetchone() is not None


async def test_a_batch_that_reads_before_it_writes_is_two_trips(database: Database) -> None:
    for _ in range(8):  # Preparing statements must not cost a trip either.
        database.statistics.reset()
        async with database.batch() as connection:
            one = await connection.execute("SELECT count(*) FROM audit_event WHERE actor = %s", ["a"])
            two = await connection.execute("SELECT count(*) FROM audit_event WHERE action = %s", ["a"])
            assert await one.fetchone() is not None
            assert await two.fetchone() is not None
            await connection.execute(_INSERT, ["a"])
        assert (database.statistics.round_trips, database.statistics.durable_commits) == (2, 1)


async def test_a_batch_that_may_be_lost_does_not_count_as_waiting_for_the_disk(database: Database) -> None:
    database.statistics.reset()
    async with database.batch(durable=False) as connection:
        await connection.execute(_INSERT, ["a"])
        setting = await connection.execute("SHOW synchronous_commit")
    assert await setting.fetchone() == ("off",)
    assert (database.statistics.round_trips, database.statistics.commits, database.statistics.durable_commits) == (
        1,
        1,
        0,
    )
    assert await (await database.execute("SHOW synchronous_commit")).fetchone() == ("on",)


async def test_a_transaction_costs_two_trips_more_than_its_statements(database: Database) -> None:
    database.statistics.reset()
    async with database.transaction(durable=False) as connection:
        await connection.execute("SELECT 1")
        await connection.execute(_INSERT, ["a"])
    assert (database.statistics.round_trips, database.statistics.commits, database.statistics.durable_commits) == (
        4,
        1,
        0,
    )


async def test_a_read_only_transaction_does_not_wait_for_the_disk(database: Database) -> None:
    database.statistics.reset()
    await database.execute("SELECT 1")
    async with database.transaction() as connection:
        await connection.execute("SELECT 1")
    assert (database.statistics.commits, database.statistics.durable_commits) == (2, 0)


async def test_the_error_of_an_unread_statement_is_raised_at_the_end_of_the_batch(database: Database) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        await _fail(database.batch())
    assert await _audit_rows(database) == 0


async def test_the_first_of_several_errors_is_the_one_that_is_raised(database: Database) -> None:
    async def work() -> None:
        async with database.batch() as connection:
            await connection.execute("SELECT * FROM nowhere")
            later = await connection.execute("SELECT 1 / %s", [0])
            await later.fetchone()

    with pytest.raises(psycopg.errors.UndefinedTable):
        await work()


async def test_a_swallowed_error_does_not_pass_for_a_commit(database: Database) -> None:
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        await _swallow(database)
    assert await _audit_rows(database) == 0
    assert await (await database.execute("SELECT 1")).fetchone() == (1,)


async def test_a_refusal_after_the_block_keeps_what_was_done(database: Database) -> None:
    with pytest.raises(LookupError):
        await _redeem_then_refuse(database)
    assert await _audit_rows(database) == 1


async def _redeem_then_refuse(database: Database) -> None:
    async with database.batch(durable=False) as connection:
        await connection.execute(_INSERT, ["redemption"])
        account = await connection.execute("SELECT 1 WHERE false")
        found = await account.fetchone()
    if found is None:
        raise LookupError


async def test_a_cancelled_batch_leaves_no_connection_behind_in_the_middle_of_an_answer(database_url: str) -> None:
    database = await Database.open(database_url, min_size=1, max_size=1)

    async def sleeper() -> None:
        async with database.batch() as connection:
            await connection.execute(_INSERT, ["lost"])
            await (await connection.execute("SELECT pg_sleep(60)")).fetchone()

    task = asyncio.create_task(sleeper())
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _audit_rows(database) == 0
    await database.close()


async def test_every_session_has_limits_and_a_name(database: Database) -> None:
    query = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "application_name", "TimeZone"]
    settings = dict(await (await database.execute(query, [names])).fetchall())
    assert settings == {
        "statement_timeout": "30000",
        "lock_timeout": "4000",
        "idle_in_transaction_session_timeout": "60000",
        "application_name": "spork",
        "TimeZone": "UTC",
    }


async def test_an_exhausted_pool_is_unavailable_rather_than_a_hang(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await Database.open(database_url, min_size=1, max_size=1)
    monkeypatch.setattr(database._pool, "timeout", 0.2)
    async with database.connection():
        with pytest.raises(DatabaseUnavailable) as caught:
            await database.execute("SELECT 1")
    assert caught.value.code is Code.UNAVAILABLE
    assert caught.value.retry_after_s
    await database.close()


async def test_a_server_that_is_not_there_is_unavailable_and_names_no_password() -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        await Database.open("postgresql://spork:hunter2@/spork?host=/nonexistent")
    assert "nonexistent" in caught.value.detail
    assert "hunter2" not in str(caught.value)


async def test_a_wrong_password_is_said_as_such(database_url: str) -> None:
    parts = urlsplit(database_url)
    wrong = parts._replace(netloc=f"{parts.username}:wrong@").geturl()
    with pytest.raises(DatabaseUnavailable, match="password authentication failed"):
        await Database.open(wrong)


async def test_sessions_ended_by_the_server_are_replaced_without_an_error(database: Database) -> None:
    row = await (await database.execute("SELECT pg_backend_pid()")).fetchone()
    assert row is not None
    with psycopg.connect(database.url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [row[0]])
    await asyncio.sleep(0.1)
    after = await (await database.execute("SELECT pg_backend_pid()")).fetchone()
    assert after is not None
    assert after != row


async def test_a_session_ended_in_the_middle_of_a_transaction_is_unavailable(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await _lose_the_session(database)
    assert await _audit_rows(database) == 0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT updated_at FROM issuer", False),
        ("WITH a AS (INSERT INTO b VALUES (1)) SELECT 1", True),
        ("SELECT 1 FOR UPDATE", True),
        ("SHOW synchronous_commit", False),
    ],
    ids=["a column that sounds like writing", "an INSERT inside a WITH", "a row lock", "a setting"],
)
def test_writing_statements_are_told_by_their_words(query: str, expected: bool) -> None:
    assert may_write(query.encode()) is expected


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A Unix socket's address holds 107 octets, too few for the folders that pytest makes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


class _Wire:
    """A socket between client and server that counts how often the client speaks after the server has spoken."""

    def __init__(self, folder: Path, upstream: str) -> None:
        self.turns = 0
        self._upstream = upstream
        self._server_spoke = True
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._upstream)
            self._sockets += [client, server]
            threading.Thread(target=self._copy, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, False), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        try:
            while data := source.recv(65536):
                if from_client and self._server_spoke:
                    self.turns += 1
                self._server_spoke = not from_client
                target.sendall(data)
        except OSError:
            pass

    def close(self) -> None:
        for each in [self._listener, *self._sockets]:
            each.close()


async def test_the_counted_trips_are_what_a_socket_in_between_sees(database_url: str, short_folder: Path) -> None:
    parts = urlsplit(database_url)
    host = parse_qs(parts.query).get("host")
    if not host:
        pytest.skip("the server of SPORK_TEST_DATABASE_URL has no Unix socket")
    wire = _Wire(short_folder, f"{host[0]}/.s.PGSQL.5432")
    url = parts._replace(query=f"host={quote(str(short_folder), safe='')}").geturl()
    database = await Database.open(url, min_size=1, max_size=1)
    for work, number in itertools.product((_batch, _split_batch, _transaction, _many, _refused), range(8)):
        database.statistics.reset()
        wire.turns = 0
        await work(database)
        assert wire.turns == database.statistics.round_trips, f"{work.__name__} at its run {number}"
    await database.close()
    wire.close()


async def _batch(database: Database) -> None:
    async with database.batch() as connection:
        await connection.execute(_INSERT, ["batch"])
        await connection.execute(_INSERT, ["batch"])


async def _split_batch(database: Database) -> None:
    async with database.batch() as connection:
        await (await connection.execute("SELECT generate_series(1, %s)", [50])).fetchall()
        await connection.execute(_INSERT, ["split"])


async def _transaction(database: Database) -> None:
    async with database.transaction() as connection:
        # Answers of many packets are still one trip. (In a pipeline the server sends full packets unasked, which fools the socket.)
        await (await connection.execute("SELECT generate_series(1, %s)", [50_000])).fetchall()


async def _many(database: Database) -> None:
    async with database.transaction() as connection, connection.cursor() as cursor:
        await cursor.executemany(_INSERT, [[str(number)] for number in range(20)])


async def _refused(database: Database) -> None:
    # Not in a batch: the server sends an error at once, also where it was not asked to send anything yet.
    with pytest.raises(psycopg.errors.DivisionByZero):
        await _fail(database.transaction())


async def test_a_lock_held_too_long_is_worth_a_retry(database: Database) -> None:
    async def insert() -> None:
        async with database.batch() as connection:
            await connection.execute("SET LOCAL lock_timeout = '50ms'")
            await connection.execute("INSERT INTO job (kind, subject) VALUES ('a', 'b')")

    with psycopg.connect(database.url) as other:
        other.execute("LOCK TABLE job")
        with pytest.raises(DatabaseUnavailable, match="too busy"):
            await insert()
    assert await (await database.execute("SELECT count(*) FROM job")).fetchone() == (0,)


async def test_a_statement_that_takes_too_long_is_worth_a_retry(database: Database) -> None:
    async def sleep() -> None:
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL statement_timeout = '50ms'")
            await connection.execute("SELECT pg_sleep(10)")

    with pytest.raises(DatabaseUnavailable, match="too busy"):
        await sleep()


@pytest.mark.parametrize(
    "url", ["postgres//u:sup3rsecret@127.0.0.1/db", "postgresql://u:sup3rsecret@127.0.0.1:1/db?foo=bar", "sup3rsecret"]
)
async def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    for attempt in (Database.open, migrate):
        with pytest.raises(SporkError) as caught:
            await attempt(url)
        assert caught.value.code is Code.CONFIGURATION
        assert "SPORK_DATABASE_URL" in caught.value.detail
        assert "sup3rsecret" not in caught.value.detail
