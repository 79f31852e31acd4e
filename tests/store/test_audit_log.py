from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from store_builders import an_event

from spork.store import audit
from spork.store.audit import EventFilter, list_events
from spork.store.database import Database

pytestmark = pytest.mark.store


async def _append(database: Database, *events: tuple[str, str, str]) -> None:
    async with database.batch() as connection:
        for action, subject, actor in events:
            await audit.append(connection, an_event(action, subject, actor))


async def test_appending_costs_no_trip_in_a_batch(database: Database) -> None:
    database.statistics.reset()
    await _append(database, *[("a", "b", "c")] * 3)
    assert database.statistics.round_trips == 1
    assert len(await list_events(database)) == 3


async def test_events_are_listed_newest_first_in_pages(database: Database) -> None:
    await _append(database, *[(f"a{number}", "s", "x") for number in range(5)])
    first = await list_events(database, limit=2)
    await _append(database, ("a5", "s", "x"))
    second = await list_events(database, before=first[-1].id, limit=2)
    assert [event.action for event in [*first, *second]] == ["a4", "a3", "a2", "a1"]
    assert (first[0].detail, first[0].address) == ({"why": "test"}, "192.0.2.1")


@pytest.mark.parametrize(
    ("wanted", "actions"),
    [
        ({"actor": "admin:CN=alice"}, ["certificate.revoke"]),
        ({"actor": "admin"}, []),
        ({"action": "certificate.issue"}, ["certificate.issue"]),
        ({"action": "certificate."}, ["certificate.revoke", "certificate.issue"]),
        ({"action": "certificate"}, []),
        ({"subject": "authority:root"}, ["authority.create"]),
        ({"since": datetime.now(UTC) + timedelta(hours=1)}, []),
        ({"until": datetime.now(UTC) - timedelta(hours=1)}, []),
        ({"actor": "host", "action": "certificate."}, ["certificate.issue"]),
    ],
    ids=str,
)
async def test_filters_narrow_the_log(database: Database, wanted: dict[str, object], actions: list[str]) -> None:
    await _append(
        database,
        ("authority.create", "authority:root", "host"),
        ("certificate.issue", "certificate:issuing/01", "host"),
        ("certificate.revoke", "certificate:issuing/01", "admin:CN=alice"),
        ("certificates", "certificate:issuing/02", "somebody"),
    )
    found = await list_events(database, EventFilter(**wanted))  # type: ignore[arg-type]
    assert [event.action for event in found] == actions


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_event SET actor = 'nobody'",
        "DELETE FROM audit_event",
        "TRUNCATE audit_event",
        "DELETE FROM audit_event WHERE false",
    ],
)
@pytest.mark.parametrize("role", ["runtime", "owner"])
async def test_nobody_changes_the_log(database: Database, statement: str, role: str) -> None:
    await _append(database, ("a", "b", "c"))
    if role == "runtime":
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            await database.execute(statement)  # type: ignore[arg-type]
    else:
        with (
            psycopg.connect(database.url) as owner,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="only grows"),
        ):
            owner.execute(statement)  # type: ignore[call-overload]
    assert len(await list_events(database)) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM certificate",
        "DELETE FROM revocation",
        "DELETE FROM authority",
        "DELETE FROM schema_migration",
        "ALTER TABLE audit_event DISABLE TRIGGER ALL",
        "DROP TABLE job",
        "CREATE TABLE mine (a int)",
        "TRUNCATE certificate",
    ],
)
async def test_serving_processes_cannot_forget_certificates_nor_change_the_schema(
    database: Database, statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await database.execute(statement)  # type: ignore[arg-type]
