from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest
from store_builders import (
    ISSUING,
    NOW,
    a_reservation,
    a_revocation,
    an_event,
    issued,
    lapse,
    one,
    plant_authority,
    reserved,
    status_version,
)

from spork.errors import Code, SporkError
from spork.ids import AuthorityId, CertificateId, Serial
from spork.issuance.ports import OutboxMessage, Revocation
from spork.store.certificate import CertificateLedger
from spork.store.database import Database
from spork.store.revocation import HOLD, RELEASE, CRLEntry, RevocationLedger

pytestmark = pytest.mark.store


@pytest.fixture
async def ledger(database: Database) -> CertificateLedger:
    await plant_authority(database)
    return CertificateLedger(database)


@pytest.fixture
def revocations(database: Database, ledger: CertificateLedger) -> RevocationLedger:
    return RevocationLedger(database)


async def _row(database: Database) -> tuple[object, ...]:
    return await one(database, "SELECT reason, revoked_at, released_at, version FROM revocation")


async def test_a_revocation_writes_row_counter_audit_and_outbox_at_once(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database
) -> None:
    certificate = await issued(ledger, a_reservation(serial=Serial(3), crl_shard=2))
    event = an_event("certificate.revoke")
    change = Revocation(certificate.certificate_id, 1, NOW, NOW - timedelta(days=1))
    assert await revocations.revoke(change, event, [OutboxMessage("crl.publish", {"authority": "issuing"})]) == 1
    columns = "authority_id, generation, crl_shard, serial, reason, revoked_at, invalidity_date, released_at, not_after, version"
    assert await one(database, f"SELECT {columns} FROM revocation") == (
        "issuing", 1, 2, b"\x03", 1, NOW, NOW - timedelta(days=1), None, certificate.not_after, 1,
    )  # fmt: skip
    assert await status_version(database) == 1
    assert await one(database, "SELECT count(*) FROM audit_event WHERE action = 'certificate.revoke'") == (1,)
    assert await one(database, "SELECT kind, payload FROM outbox") == ("crl.publish", {"authority": "issuing"})


async def test_a_revocation_is_two_trips_and_one_durable_commit(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database
) -> None:
    for _ in range(6):
        certificate = await issued(ledger)
        database.statistics.reset()
        await revocations.revoke(a_revocation(certificate.certificate_id), an_event())
        assert (database.statistics.round_trips, database.statistics.durable_commits) == (2, 1)


async def test_a_hold_can_be_released_and_set_again(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database
) -> None:
    number = (await issued(ledger)).certificate_id
    await revocations.revoke(a_revocation(number, HOLD), an_event())
    later = NOW + timedelta(hours=1)
    await revocations.revoke(a_revocation(number, RELEASE, later), an_event())
    assert await _row(database) == (HOLD, NOW, later, 2)
    again = NOW + timedelta(hours=2)
    await revocations.revoke(a_revocation(number, HOLD, again), an_event())
    assert await _row(database) == (HOLD, again, None, 3)


async def test_a_hold_that_becomes_final_counts_from_the_hold_on(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database
) -> None:
    number = (await issued(ledger)).certificate_id
    await revocations.revoke(a_revocation(number, HOLD), an_event())
    await revocations.revoke(a_revocation(number, 1, NOW + timedelta(hours=1)), an_event())
    assert await _row(database) == (1, NOW, None, 2)


async def test_a_released_certificate_can_be_revoked_for_good(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database
) -> None:
    number = (await issued(ledger)).certificate_id
    await revocations.revoke(a_revocation(number, HOLD), an_event())
    await revocations.revoke(a_revocation(number, RELEASE), an_event())
    later = NOW + timedelta(hours=1)
    await revocations.revoke(a_revocation(number, 4, later), an_event())
    assert await _row(database) == (4, later, None, 3)


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ([1], 1),
        ([4], 1),
        ([1], HOLD),
        ([1], RELEASE),
        ([], RELEASE),
        ([HOLD], HOLD),
        ([HOLD, RELEASE], RELEASE),
        ([HOLD, 1], RELEASE),
    ],
    ids=[
        "revoked twice",
        "superseded, then compromised",
        "hold on revoked",
        "release of revoked",
        "release of nothing",
        "hold on hold",
        "released twice",
        "release of a hold that became final",
    ],
)
async def test_a_change_that_is_not_allowed_changes_nothing(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database, before: list[int], change: int
) -> None:
    number = (await issued(ledger)).certificate_id
    for reason in before:
        await revocations.revoke(a_revocation(number, reason), an_event())
    stood = await (await database.execute("SELECT * FROM revocation")).fetchall()
    events = await one(database, "SELECT count(*) FROM audit_event")
    with pytest.raises(SporkError) as caught:
        await revocations.revoke(
            a_revocation(number, change, NOW + timedelta(hours=1)), an_event(), [OutboxMessage("x", {})]
        )
    assert caught.value.code is Code.ALREADY_REVOKED
    assert await (await database.execute("SELECT * FROM revocation")).fetchall() == stood
    assert await status_version(database) == len(before)
    assert await one(database, "SELECT count(*) FROM audit_event") == events
    assert await one(database, "SELECT count(*) FROM outbox") == (0,)


async def test_a_certificate_that_is_not_there_cannot_be_revoked(
    revocations: RevocationLedger, database: Database
) -> None:
    with pytest.raises(SporkError) as caught:
        await revocations.revoke(a_revocation(CertificateId(404)), an_event())
    assert caught.value.code is Code.NOT_FOUND
    assert await status_version(database) == 0


@pytest.mark.parametrize("reason", [-1, 7, 11, 255])
async def test_a_reason_that_is_none_is_refused(
    revocations: RevocationLedger, ledger: CertificateLedger, reason: int
) -> None:
    number = (await issued(ledger)).certificate_id
    with pytest.raises(SporkError) as caught:
        await revocations.revoke(a_revocation(number, reason), an_event())
    assert caught.value.code is Code.BAD_REVOCATION_REASON


async def test_a_planned_serial_can_be_revoked_and_then_stays_so(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database
) -> None:
    reservation = await reserved(ledger, a_reservation(serial=Serial(8)))
    await revocations.revoke(a_revocation(reservation.certificate_id, 1), an_event())
    await ledger.record(reservation, b"der", an_event())
    status = (await revocations.statuses(ISSUING, [Serial(8)])).by_serial[Serial(8)]
    assert (status.state, status.reason) == ("issued", 1)


async def test_abandoning_keeps_a_final_reason_and_ends_a_hold(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database
) -> None:
    final = await reserved(ledger, a_reservation(serial=Serial(1)))
    held = await reserved(ledger, a_reservation(serial=Serial(2)))
    released = await reserved(ledger, a_reservation(serial=Serial(3)))
    await revocations.revoke(a_revocation(final.certificate_id, 1), an_event())
    await revocations.revoke(a_revocation(held.certificate_id, HOLD), an_event())
    await revocations.revoke(a_revocation(released.certificate_id, HOLD), an_event())
    await revocations.revoke(a_revocation(released.certificate_id, RELEASE), an_event())
    await lapse(database)
    assert await ledger.abandon_expired() == 3
    found = (await revocations.statuses(ISSUING, [Serial(1), Serial(2), Serial(3)])).by_serial
    assert {serial: status.reason for serial, status in found.items()} == {1: 1, 2: 0, 3: 0}


async def test_of_racing_revocations_one_wins_and_counters_do_not_skip(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database
) -> None:
    numbers = [(await issued(ledger)).certificate_id for _ in range(10)]
    work = [
        revocations.revoke(a_revocation(number, reason), an_event()) for number in numbers for reason in (1, 4, HOLD)
    ]
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    versions = sorted(outcome for outcome in outcomes if isinstance(outcome, int))
    assert versions == list(range(1, len(versions) + 1))
    assert {outcome.code for outcome in outcomes if isinstance(outcome, SporkError)} <= {Code.ALREADY_REVOKED}
    assert await status_version(database) == len(versions)
    assert await one(database, "SELECT count(*) FROM revocation WHERE reason IN (1, 4) OR released_at IS NULL") == (10,)


async def test_each_change_is_notified_with_its_counter(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database
) -> None:
    certificate = await issued(ledger)
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as listener:
        await listener.execute("LISTEN spork_status")
        await revocations.revoke(a_revocation(certificate.certificate_id, HOLD), an_event())
        await revocations.revoke(a_revocation(certificate.certificate_id, RELEASE), an_event())
        heard = [message.payload async for message in listener.notifies(timeout=2.0, stop_after=2)]
    assert heard == ["issuing:1", "issuing:2"]


async def test_statuses_and_counter_come_in_one_trip(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database
) -> None:
    await issued(ledger, a_reservation(serial=Serial(1)))
    revoked = await issued(ledger, a_reservation(serial=Serial(2)))
    await reserved(ledger, a_reservation(serial=Serial(3)))
    await revocations.revoke(a_revocation(revoked.certificate_id, 4), an_event())
    database.statistics.reset()
    statuses = await revocations.statuses(ISSUING, [Serial(1), Serial(2), Serial(3), Serial(4)])
    assert (database.statistics.round_trips, database.statistics.durable_commits) == (1, 0)
    assert statuses.version == 1
    found = {serial: (status.state, status.reason, status.revoked_at) for serial, status in statuses.by_serial.items()}
    assert found == {1: ("issued", None, None), 2: ("issued", 4, NOW), 3: ("reserved", None, None)}


async def test_a_released_hold_reads_as_not_revoked(revocations: RevocationLedger, ledger: CertificateLedger) -> None:
    number = (await issued(ledger, a_reservation(serial=Serial(1)))).certificate_id
    await revocations.revoke(a_revocation(number, HOLD), an_event())
    await revocations.revoke(a_revocation(number, RELEASE), an_event())
    status = (await revocations.statuses(ISSUING, [Serial(1)])).by_serial[Serial(1)]
    assert (status.reason, status.revoked_at) == (None, None)


async def test_statuses_of_an_unknown_authority_are_refused(revocations: RevocationLedger) -> None:
    with pytest.raises(SporkError) as caught:
        await revocations.statuses(AuthorityId("nobody"), [Serial(1)])
    assert caught.value.code is Code.NOT_FOUND


async def _scan(
    revocations: RevocationLedger, generation: int = 1, shard: int = 0, since: int | None = None
) -> dict[int, CRLEntry]:
    async with revocations.crl_scan(ISSUING, generation, shard=shard, since_version=since, chunk=2) as scan:
        return {int.from_bytes(entry.serial, "big"): entry async for chunk in scan.chunks for entry in chunk}


async def _revoked(
    ledger: CertificateLedger, revocations: RevocationLedger, serial: int, reason: int = 1, **more: object
) -> CertificateId:
    certificate = await issued(ledger, a_reservation(serial=Serial(serial), **more))  # type: ignore[arg-type]
    await revocations.revoke(a_revocation(certificate.certificate_id, reason), an_event())
    return certificate.certificate_id


async def test_a_crl_scan_is_by_generation_and_shard(revocations: RevocationLedger, ledger: CertificateLedger) -> None:
    await _revoked(ledger, revocations, 1, crl_shard=1)
    await _revoked(ledger, revocations, 2, crl_shard=2)
    await _revoked(ledger, revocations, 3, crl_shard=1, generation=2)
    released = await _revoked(ledger, revocations, 4, HOLD, crl_shard=1)
    await revocations.revoke(a_revocation(released, RELEASE), an_event())
    assert set(await _scan(revocations)) == {1, 2}
    assert set(await _scan(revocations, shard=1)) == {1}
    assert set(await _scan(revocations, shard=3)) == set()
    assert set(await _scan(revocations, generation=2)) == {3}


async def test_a_delta_scan_has_what_changed_since_with_released_holds(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database
) -> None:
    await _revoked(ledger, revocations, 1)
    held = await _revoked(ledger, revocations, 2, HOLD)
    base = await status_version(database)
    await _revoked(ledger, revocations, 3, 4)
    await revocations.revoke(a_revocation(held, RELEASE), an_event())
    entries = await _scan(revocations, since=base)
    assert {serial: (entry.reason, entry.released_at) for serial, entry in entries.items()} == {
        2: (HOLD, NOW),
        3: (4, None),
    }


async def _publish(
    database: Database, number: int, this_update: object, *, shard: int = 0, der: bytes | None = b"crl"
) -> None:
    await database.execute(
        """INSERT INTO crl (authority_id, generation, shard, number, status_version, this_update, next_update, der)
           SELECT 'issuing', 1, %s, %s, status_version, %s, now(), %s FROM authority WHERE id = 'issuing'""",
        [shard, number, this_update, der],
    )


async def test_an_expired_entry_stays_until_a_crl_after_its_expiry(
    revocations: RevocationLedger, ledger: CertificateLedger, database: Database
) -> None:
    expiry = NOW - timedelta(hours=1)
    await _revoked(ledger, revocations, 1, not_after=expiry)
    assert set(await _scan(revocations)) == {1}, "no CRL was published yet"
    await _publish(database, 1, expiry - timedelta(hours=1))
    assert set(await _scan(revocations)) == {1}, "the last CRL was published before the expiry"
    await _publish(database, 2, expiry + timedelta(minutes=1), der=None)
    assert set(await _scan(revocations)) == {1}, "a reserved number is no published CRL"
    await _publish(database, 3, expiry + timedelta(minutes=1), shard=1)
    assert set(await _scan(revocations)) == {1}, "a CRL of another scope does not count"
    await _publish(database, 4, expiry + timedelta(minutes=1))
    assert set(await _scan(revocations)) == set(), "it was on a CRL after its expiry"
    await _revoked(ledger, revocations, 2, not_after=expiry)
    assert set(await _scan(revocations)) == {2}, "revoked after the last CRL, it was on none yet"


async def test_a_scan_is_one_snapshot(revocations: RevocationLedger, ledger: CertificateLedger) -> None:
    for serial in range(1, 6):
        await _revoked(ledger, revocations, serial)
    async with revocations.crl_scan(ISSUING, 1, chunk=2) as scan:
        first = await anext(scan.chunks)
        await _revoked(ledger, revocations, 6)
        rest = [entry async for chunk in scan.chunks for entry in chunk]
    assert scan.version == 5
    assert len(first) + len(rest) == 5


async def test_a_scan_of_an_unknown_authority_is_refused(revocations: RevocationLedger) -> None:
    with pytest.raises(SporkError) as caught:
        async with revocations.crl_scan(AuthorityId("nobody"), 1):
            pass
    assert caught.value.code is Code.NOT_FOUND
