from __future__ import annotations

import asyncio

import psycopg
import pytest
from store_builders import (
    ISSUING,
    a_key,
    a_reservation,
    an_event,
    issued,
    lapse,
    one,
    plant_authority,
    reserved,
    status_version,
)

from spork.errors import Code, SporkError
from spork.ids import CertificateId, Serial
from spork.issuance.ports import OutboxMessage, Recorded, Reserved
from spork.store.certificate import CertificateLedger
from spork.store.database import Database
from spork.store.revocation import RevocationLedger

pytestmark = pytest.mark.store


@pytest.fixture
async def ledger(database: Database) -> CertificateLedger:
    await plant_authority(database)
    return CertificateLedger(database)


async def test_a_reservation_is_there_before_any_signature(ledger: CertificateLedger, database: Database) -> None:
    reservation = a_reservation(serial=Serial(0x1234), tbs=b"to be signed")
    outcome = await reserved(ledger, reservation)
    row = await one(database, "SELECT id, serial, state, tbs, der, names, trace FROM certificate")
    assert row[0] == outcome.certificate_id
    assert row[1:] == (
        b"\x12\x34",
        "reserved",
        b"to be signed",
        None,
        ["dns:www.example.test"],
        [{"rule": "names", "passed": True}],
    )


async def test_recording_writes_certificate_audit_and_outbox_at_once(
    ledger: CertificateLedger, database: Database
) -> None:
    reservation = a_reservation(serial=Serial(7))
    outcome = await ledger.record(
        await reserved(ledger, reservation),
        b"der",
        an_event(),
        [OutboxMessage("webhook", {"a": 1}), OutboxMessage("ldap", {})],
    )
    assert (outcome.der, outcome.serial, outcome.authority_id) == (b"der", 7, ISSUING)
    assert (outcome.not_before, outcome.not_after) == (reservation.not_before, reservation.not_after)
    assert await one(database, "SELECT state, tbs, lease_id, lease_until FROM certificate") == (
        "issued",
        None,
        None,
        None,
    )
    assert await one(database, "SELECT actor, action, subject, detail, address FROM audit_event") == (
        "host", "certificate.issue", "certificate:issuing/01", {"why": "test"}, "192.0.2.1",
    )  # fmt: skip
    rows = await (await database.execute("SELECT kind, payload FROM outbox ORDER BY id")).fetchall()
    assert rows == [("webhook", {"a": 1}), ("ldap", {})]


async def test_each_step_is_one_trip_and_one_durable_commit(ledger: CertificateLedger, database: Database) -> None:
    for _ in range(8):
        key = a_key()
        database.statistics.reset()
        assert await ledger.find(key) is None
        assert (database.statistics.round_trips, database.statistics.durable_commits) == (1, 0)
        database.statistics.reset()
        reservation = await reserved(ledger, a_reservation(key))
        assert (database.statistics.round_trips, database.statistics.durable_commits) == (1, 1)
        database.statistics.reset()
        await ledger.record(reservation, b"der" + key.key.encode(), an_event(), [OutboxMessage("webhook", {})])
        assert (database.statistics.round_trips, database.statistics.durable_commits) == (1, 1)


async def test_the_same_key_and_digest_gives_the_recorded_certificate(ledger: CertificateLedger) -> None:
    key = a_key()
    first = await issued(ledger, a_reservation(key), b"der")
    assert await ledger.reserve(a_reservation(key)) == first
    assert await ledger.find(key) == first


@pytest.mark.parametrize("recorded", [True, False], ids=["after it was issued", "while it is reserved"])
async def test_the_same_key_with_another_digest_is_a_conflict(ledger: CertificateLedger, recorded: bool) -> None:
    key = a_key("k", b"one")
    await (issued if recorded else reserved)(ledger, a_reservation(key))
    for attempt in (ledger.reserve(a_reservation(a_key("k", b"two"))), ledger.find(a_key("k", b"two"))):
        with pytest.raises(SporkError) as caught:
            await attempt
        assert caught.value.code is Code.CONFLICT


async def test_the_same_key_in_another_scope_or_at_another_door_is_another_key(ledger: CertificateLedger) -> None:
    await reserved(ledger, a_reservation(a_key("k", b"one", "authority:issuing")))
    await reserved(ledger, a_reservation(a_key("k", b"two", "issuer:1")))


async def test_a_live_lease_of_another_is_in_progress(ledger: CertificateLedger) -> None:
    key = a_key()
    await reserved(ledger, a_reservation(key))
    with pytest.raises(SporkError) as caught:
        await ledger.reserve(a_reservation(key))
    assert caught.value.code is Code.IN_PROGRESS
    assert caught.value.retry_after_s is not None
    assert 1 <= caught.value.retry_after_s <= 5
    assert await ledger.find(key) is None


async def test_an_expired_lease_is_closed_as_revoked_and_a_new_serial_taken(
    ledger: CertificateLedger, database: Database
) -> None:
    key = a_key()
    first = await reserved(ledger, a_reservation(key, serial=Serial(1)))
    await lapse(database)
    database.statistics.reset()
    second = await reserved(ledger, a_reservation(key, serial=Serial(2)))
    assert database.statistics.round_trips == 2
    assert second.certificate_id != first.certificate_id
    states = await (await database.execute("SELECT serial, state FROM certificate ORDER BY id")).fetchall()
    assert states == [(b"\x01", "abandoned"), (b"\x02", "reserved")]
    assert await one(database, "SELECT certificate_id, serial, reason, released_at, version FROM revocation") == (
        first.certificate_id, b"\x01", 0, None, 1,
    )  # fmt: skip
    assert await status_version(database) == 1
    assert await one(database, "SELECT subject FROM audit_event WHERE action = 'certificate.abandon'") == (
        "certificate:issuing/01",
    )


async def test_an_expired_lease_is_taken_over_also_with_another_digest(
    ledger: CertificateLedger, database: Database
) -> None:
    await reserved(ledger, a_reservation(a_key("k", b"one")))
    await lapse(database)
    await reserved(ledger, a_reservation(a_key("k", b"two")))


async def test_a_signature_that_comes_after_its_lease_is_thrown_away(
    ledger: CertificateLedger, database: Database
) -> None:
    reservation = await reserved(ledger)
    await lapse(database)
    with pytest.raises(SporkError) as caught:
        await ledger.record(reservation, b"late", an_event(), [OutboxMessage("webhook", {})])
    assert caught.value.code is Code.LEASE_LOST
    assert await one(database, "SELECT (SELECT count(*) FROM audit_event), (SELECT count(*) FROM outbox)") == (0, 0)
    assert await one(database, "SELECT state, der FROM certificate") == ("reserved", None)


@pytest.mark.parametrize(
    "case", ["a foreign lease", "a certificate that is not there", "a certificate recorded before"]
)
async def test_nothing_is_recorded_without_the_lease(ledger: CertificateLedger, case: str) -> None:
    mine = await reserved(ledger)
    if case == "a foreign lease":
        mine = Reserved(mine.certificate_id, (await reserved(ledger)).lease_id)
    elif case == "a certificate that is not there":
        mine = Reserved(CertificateId(10**9), mine.lease_id)
    else:
        await ledger.record(mine, b"first", an_event())
    with pytest.raises(SporkError) as caught:
        await ledger.record(mine, b"second", an_event())
    assert caught.value.code is Code.LEASE_LOST


async def test_a_serial_that_exists_is_refused_and_worth_a_retry(ledger: CertificateLedger) -> None:
    await reserved(ledger, a_reservation(serial=Serial(5)))
    with pytest.raises(SporkError) as caught:
        await ledger.reserve(a_reservation(serial=Serial(5), generation=2))
    assert caught.value.code is Code.INTERNAL
    assert caught.value.retry_after_s == 1


async def test_two_authorities_may_use_the_same_serial(ledger: CertificateLedger, database: Database) -> None:
    await plant_authority(database, "other")
    await reserved(ledger, a_reservation(serial=Serial(5)))
    await reserved(ledger, a_reservation(serial=Serial(5), authority_id="other"))  # type: ignore[arg-type]


async def test_an_authority_that_is_not_there_cannot_reserve(ledger: CertificateLedger) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        await ledger.reserve(a_reservation(authority_id="nobody"))  # type: ignore[arg-type]


async def _outcomes(ledger: CertificateLedger, number: int, key: str) -> list[Reserved | Recorded | SporkError]:
    async def attempt() -> Reserved | Recorded | SporkError:
        try:
            return await ledger.reserve(a_reservation(a_key(key)))
        except SporkError as error:
            return error

    return list(await asyncio.gather(*(attempt() for _ in range(number))))


async def test_of_racing_reservations_of_one_key_exactly_one_wins(
    ledger: CertificateLedger, database: Database
) -> None:
    for number in range(10):
        outcomes = await _outcomes(ledger, 6, f"race-{number}")
        assert sum(isinstance(outcome, Reserved) for outcome in outcomes) == 1
        assert {outcome.code for outcome in outcomes if isinstance(outcome, SporkError)} == {Code.IN_PROGRESS}
    assert await one(database, "SELECT count(*) FROM certificate") == (10,)


async def test_of_racing_takeovers_of_an_expired_lease_exactly_one_wins(
    ledger: CertificateLedger, database: Database
) -> None:
    for number in range(10):
        await reserved(ledger, a_reservation(a_key(f"race-{number}")))
        await lapse(database)
        outcomes = await _outcomes(ledger, 6, f"race-{number}")
        assert sum(isinstance(outcome, Reserved) for outcome in outcomes) == 1
        await lapse(database)
        await ledger.abandon_expired()
    assert await one(database, "SELECT count(*), count(*) FILTER (WHERE state = 'abandoned') FROM certificate") == (
        20,
        20,
    )
    assert await one(database, "SELECT count(*) FROM revocation") == (20,)


async def test_a_reservation_that_waits_for_a_rolled_back_one_wins(
    ledger: CertificateLedger, database: Database
) -> None:
    """The second insert waits at the unique index for the first transaction, and goes on when that one fails."""
    key = a_key()
    async with database.transaction() as other:
        await other.execute("SELECT pg_advisory_xact_lock(1)")
        await other.execute(
            """
            INSERT INTO certificate (
                authority_id, generation, serial, state, profile, subject, names, spki_sha256, not_before, not_after,
                scope, door, idempotency_key, request_digest, requester, evidence, trace, lease_until)
            VALUES (
                'issuing', 1, '\\x01', 'reserved', 'p', 's', '{}', '', now(), now(),
                %s, %s, %s, '', 'r', '{}', '[]', now())""",
            [key.scope, key.door.value, key.key],
        )
        waiting = asyncio.create_task(ledger.reserve(a_reservation(key)))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await other.execute("ROLLBACK; BEGIN")
    assert isinstance(await waiting, Reserved)


async def test_abandoning_closes_only_what_ran_out(ledger: CertificateLedger, database: Database) -> None:
    await plant_authority(database, "other")
    old = [await reserved(ledger) for _ in range(3)]
    foreign = await reserved(ledger, a_reservation(authority_id="other"))  # type: ignore[arg-type]
    done = await issued(ledger)
    await lapse(database)
    live = await reserved(ledger)
    assert await ledger.abandon_expired() == 4
    assert await ledger.abandon_expired() == 0
    rows = dict(await (await database.execute("SELECT id, state FROM certificate")).fetchall())
    assert {rows[each.certificate_id] for each in [*old, foreign]} == {"abandoned"}
    assert (rows[done.certificate_id], rows[live.certificate_id]) == ("issued", "reserved")
    assert (await status_version(database), await status_version(database, "other")) == (1, 1)


async def test_an_abandoned_serial_is_revoked_in_ocsp_and_crl(ledger: CertificateLedger, database: Database) -> None:
    await reserved(ledger, a_reservation(serial=Serial(9)))
    await lapse(database)
    await ledger.abandon_expired()
    revocations = RevocationLedger(database)
    status = (await revocations.statuses(ISSUING, [Serial(9)])).by_serial[Serial(9)]
    assert (status.state, status.reason) == ("abandoned", 0)
    async with revocations.crl_scan(ISSUING, 1) as scan:
        assert [entry.serial async for chunk in scan.chunks for entry in chunk] == [b"\x09"]


async def test_racing_abandonments_close_each_lease_once(ledger: CertificateLedger, database: Database) -> None:
    for _ in range(20):
        await reserved(ledger)
    await lapse(database)
    numbers = await asyncio.gather(*(ledger.abandon_expired() for _ in range(4)))
    assert sum(numbers) == 20
    assert await one(database, "SELECT count(*) FROM revocation") == (20,)


async def test_an_abandonment_is_notified(ledger: CertificateLedger, database: Database) -> None:
    await reserved(ledger)
    await lapse(database)
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as listener:
        await listener.execute("LISTEN spork_status")
        await ledger.abandon_expired()
        heard = [message.payload async for message in listener.notifies(timeout=1.0, stop_after=1)]
    assert heard == ["issuing:1"]
