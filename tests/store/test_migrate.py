from __future__ import annotations

import asyncio
from dataclasses import replace

import psycopg
import pytest
from postgres import PostgresServer

from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.store import migrate as migrate_module
from spork.store.database import Database
from spork.store.migrate import Migration, check_migrated, migrate, migrations, pending

pytestmark = pytest.mark.store


def _with(monkeypatch: pytest.MonkeyPatch, *more: Migration) -> None:
    known = [*migrations(), *more]
    monkeypatch.setattr(migrate_module, "migrations", lambda: known)


async def test_an_empty_database_gets_every_file_once(empty_database_url: str) -> None:
    names = [migration.name for migration in migrations()]
    assert await migrate(empty_database_url) == names
    assert await migrate(empty_database_url) == []
    with psycopg.connect(empty_database_url) as connection:
        rows = connection.execute("SELECT name FROM schema_migration ORDER BY number").fetchall()
    assert [row[0] for row in rows] == names


def test_numbers_rise_by_one_without_gaps() -> None:
    assert [migration.number for migration in migrations()] == list(range(1, len(migrations()) + 1))


async def test_concurrent_migrations_wait_for_each_other(empty_database_url: str) -> None:
    outcomes = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert sorted(len(outcome) for outcome in outcomes) == [0, 0, 0, len(migrations())]


async def test_an_edited_migration_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *rest = migrations()
    monkeypatch.setattr(migrate_module, "migrations", lambda: [replace(first, sql=first.sql + "-- edited"), *rest])
    with pytest.raises(SporkError) as caught:
        await migrate(database_url)
    assert caught.value.code is Code.CONFIGURATION
    assert first.name in caught.value.detail
    assert "must not be edited" in caught.value.detail


async def test_a_database_newer_than_the_program_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate_module, "migrations", lambda: migrations()[:-1])
    database = await Database.open(database_url, min_size=1)
    for attempt in (migrate(database_url), check_migrated(database)):
        with pytest.raises(SporkError, match="newer SPORK"):
            await attempt
    await database.close()


async def test_a_failing_migration_leaves_the_database_as_it_was(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (
        Migration(9998, "9998_good.sql", "CREATE TABLE good (a int)"),
        Migration(9999, "9999_bad.sql", "SELECT 1/0"),
    )
    _with(monkeypatch, good, bad)
    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate(database_url)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT to_regclass('good')").fetchone() == (None,)
        assert connection.execute("SELECT count(*) FROM schema_migration").fetchone() == (len(migrations()),)


async def test_a_new_table_is_open_to_serving_processes(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, Migration(9999, "9999_more.sql", "CREATE TABLE more (a int)"))
    await migrate(database_url)
    database = await Database.open(database_url, min_size=1)
    await database.execute("INSERT INTO more VALUES (1)")
    await database.close()


async def test_a_table_in_use_stops_the_migration_rather_than_everybody(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with(
        monkeypatch,
        Migration(9999, "9999_more.sql", "SET LOCAL lock_timeout = '50ms'; ALTER TABLE job ADD COLUMN more int"),
    )
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE job IN ACCESS SHARE MODE")
        with pytest.raises(SporkError) as caught:
            await migrate(database_url)
    assert caught.value.code is Code.UNAVAILABLE
    assert await migrate(database_url) == ["9999_more.sql"]


async def test_a_database_without_a_schema_is_not_served(empty_database_url: str) -> None:
    database = await Database.open(empty_database_url, min_size=1)
    with pytest.raises(SporkError, match="run `spork migrate` first"):
        await check_migrated(database)
    await database.close()


async def test_a_migrated_database_passes_the_check(database: Database) -> None:
    await check_migrated(database)


async def test_the_serving_login_cannot_migrate(postgres_server: PostgresServer, empty_database_url: str) -> None:
    if postgres_server.embedded is None:
        pytest.skip("the logins of SPORK_TEST_DATABASE_URL are not known here")
    url = postgres_server.embedded.runtime_url.replace(
        "/spork?", "/" + empty_database_url.rpartition("/")[2].partition("?")[0] + "?", 1
    )
    with pytest.raises(SporkError) as caught:
        await migrate(url)
    assert caught.value.code is Code.CONFIGURATION
    assert "owns the database" in caught.value.detail


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable):
        await migrate("postgresql:///spork?host=/nonexistent")


def test_a_doubled_number_is_refused() -> None:
    with pytest.raises(SporkError, match="same number"):
        pending([Migration(1, "0001_a.sql", ""), Migration(1, "0001_b.sql", "")], [])
