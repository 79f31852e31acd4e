from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest
from postgres import PostgresServer
from store_builders import (
    ISSUING,
    NOW,
    a_key,
    a_reservation,
    a_revocation,
    an_event,
    issued,
    lapse,
    plant_authority,
    plant_issuer,
    reserved,
)

from spork.errors import Code, SporkError
from spork.ids import AuthorityId, CertificateId, Serial
from spork.store import revocation
from spork.store.certificate import CertificateLedger
from spork.store.certificate_search import _SUMMARY, CertificateFilter, CertificateRecords, _conditions
from spork.store.database import Database
from spork.store.revocation import HOLD, RELEASE, RevocationLedger

pytestmark = pytest.mark.store


@pytest.fixture
async def ledger(database: Database) -> CertificateLedger:
    await plant_authority(database)
    return CertificateLedger(database)


@pytest.fixture
def records(database: Database) -> CertificateRecords:
    return CertificateRecords(database)


async def _found(records: CertificateRecords, **wanted: object) -> list[int]:
    return [row.serial for row in await records.search(CertificateFilter(**wanted), NOW)]  # type: ignore[arg-type]


async def test_a_certificate_is_found_by_serial_id_hash_and_key(
    ledger: CertificateLedger, records: CertificateRecords
) -> None:
    recorded = await issued(
        ledger, a_reservation(serial=Serial(77), spki_sha256=b"k" * 32, attributes={"a": 1}), b"der"
    )
    for found in (
        await records.by_serial(ISSUING, Serial(77)),
        await records.by_id(recorded.certificate_id),
        await records.by_sha256(hashlib.sha256(b"der").digest()),
    ):
        assert found is not None
        assert (found.id, found.serial, found.der, found.state, found.reason) == (
            recorded.certificate_id,
            77,
            b"der",
            "issued",
            None,
        )
        assert (found.attributes, found.evidence, found.trace[0]["rule"]) == ({"a": 1}, {"kind": "local"}, "names")


async def test_what_is_not_there_is_not_found(ledger: CertificateLedger, records: CertificateRecords) -> None:
    await issued(ledger, a_reservation(serial=Serial(1)))
    assert await records.by_serial(AuthorityId("other"), Serial(1)) is None
    assert await records.by_serial(ISSUING, Serial(2)) is None
    assert await records.by_id(CertificateId(10**12)) is None
    assert await records.by_sha256(b"") is None


async def test_lists_are_newest_first_in_keyset_pages(ledger: CertificateLedger, records: CertificateRecords) -> None:
    for serial in range(1, 8):
        await issued(ledger, a_reservation(serial=Serial(serial)))
    first = await records.search(CertificateFilter(), NOW, limit=3)
    await issued(ledger, a_reservation(serial=Serial(8)))
    second = await records.search(CertificateFilter(), NOW, after=first[-1].id, limit=3)
    last = await records.search(CertificateFilter(), NOW, after=second[-1].id, limit=3)
    assert [[row.serial for row in page] for page in (first, second, last)] == [[7, 6, 5], [4, 3, 2], [1]]


@pytest.mark.parametrize(
    ("wanted", "serials"),
    [
        ({"name": "dns:a.example.test"}, [1]),
        ({"name": "dns:a.example"}, []),
        ({"text": "EXAMPLE"}, [3, 2, 1]),
        ({"text": "a.example"}, [1]),
        ({"text": "o=acme"}, [2]),
        ({"text": "100%"}, [3]),
        ({"text": "a_example"}, []),
        ({"text": "\\\\\\"}, []),
        ({"requester": "acme-account:2"}, [2]),
        ({"requester": "acme-account"}, []),
        ({"authority_id": "other"}, [3]),
        ({"profile": "tls-client"}, [2]),
        ({"profile_prefix": "tls-"}, [3, 2, 1]),
        ({"profile_prefix": "tls-s"}, [3, 1]),
        ({"expires_before": NOW + timedelta(days=10)}, [1]),
        ({"issuer_ids": []}, []),
        ({"authority_id": "issuing", "text": "example", "profile": "tls-server"}, [1]),
    ],
    ids=str,
)
async def test_filters_narrow_the_list(
    ledger: CertificateLedger,
    records: CertificateRecords,
    database: Database,
    wanted: dict[str, object],
    serials: list[int],
) -> None:
    await plant_authority(database, "other")
    soon = NOW + timedelta(days=5)
    await issued(
        ledger,
        a_reservation(serial=Serial(1), names=["dns:a.example.test", "ip:192.0.2.1"], subject="", not_after=soon),
    )
    await issued(
        ledger,
        a_reservation(
            serial=Serial(2),
            names=["dns:b.example.test"],
            subject="CN=b,O=Acme",
            requester="acme-account:2",
            profile="tls-client",
        ),
    )
    await issued(
        ledger,
        a_reservation(
            serial=Serial(3), names=["uri:https://example.test/100%"], subject="", authority_id=AuthorityId("other")
        ),
    )
    assert await _found(records, **wanted) == serials


async def test_a_limited_caller_sees_only_what_his_issuers_issued(
    ledger: CertificateLedger, records: CertificateRecords, database: Database
) -> None:
    web, mail = await plant_issuer(database, "web"), await plant_issuer(database, "mail")
    await issued(ledger, a_reservation(serial=Serial(1), issuer_id=web))
    await issued(ledger, a_reservation(serial=Serial(2), issuer_id=mail))
    await issued(ledger, a_reservation(serial=Serial(3)))
    assert await _found(records, issuer_ids=[web]) == [1]
    assert await _found(records, issuer_ids=[web, mail]) == [2, 1]


async def _every_state(ledger: CertificateLedger, database: Database) -> None:
    """Serials: 1 reserved, 2 issued, 3 abandoned, 4 revoked, 5 on hold, 6 expired, 7 hold released, 8 expired and revoked."""
    revocations = RevocationLedger(database)
    lost = await reserved(ledger, a_reservation(serial=Serial(3)))
    await lapse(database, lost.certificate_id)
    await ledger.abandon_expired()
    await reserved(ledger, a_reservation(serial=Serial(1)))
    past = NOW - timedelta(days=1)
    changes = {2: [], 4: [1], 5: [HOLD], 6: [], 7: [HOLD, RELEASE], 8: [1]}
    for serial, reasons in changes.items():
        more = {"not_after": past} if serial in {6, 8} else {}
        certificate = await issued(ledger, a_reservation(serial=Serial(serial), **more))  # type: ignore[arg-type]
        for reason in reasons:
            await revocations.revoke(a_revocation(certificate.certificate_id, reason), an_event())


@pytest.mark.parametrize(
    ("state", "serials"),
    [("reserved", {1}), ("issued", {2, 7}), ("abandoned", {3}), ("revoked", {4, 8}), ("held", {5}), ("expired", {6})],
)
async def test_states_in_the_language_of_lists(
    ledger: CertificateLedger, records: CertificateRecords, database: Database, state: str, serials: set[int]
) -> None:
    await _every_state(ledger, database)
    assert set(await _found(records, state=state)) == serials


@pytest.mark.parametrize("wanted", [{"state": "gone"}, {"text": ""}, {"text": "ab"}], ids=str)
async def test_a_filter_that_makes_no_sense_is_refused(records: CertificateRecords, wanted: dict[str, str]) -> None:
    with pytest.raises(SporkError) as caught:
        await _found(records, **wanted)
    assert caught.value.code is Code.MALFORMED


@pytest.mark.parametrize(
    "text",
    ["'; DROP TABLE certificate; --", "%s%s%s", "\x01\x02\x03", "x" * 10_000],
    ids=["sql", "format", "control", "long"],
)
async def test_hostile_search_texts_find_nothing(
    ledger: CertificateLedger, records: CertificateRecords, text: str
) -> None:
    await issued(ledger)
    assert await _found(records, text=text) == []


_FILL = """
INSERT INTO authority (id, kind, subject_der, key_mode)
SELECT a, 'issuing', a::bytea, 'online' FROM unnest('{issuing,b,c}'::text[]) a;
INSERT INTO certificate (
       authority_id, generation, serial, state, profile, subject, names, spki_sha256, not_before, not_after, scope, door,
       idempotency_key, request_digest, der, sha256, requester, evidence, trace)
SELECT CASE WHEN i % 1000 = 0 THEN 'c' WHEN i % 3 = 0 THEN 'b' ELSE 'issuing' END, 1, int8send(i), 'issued',
       CASE WHEN i % 2000 = 0 THEN 'tls-client' ELSE 'tls-server' END, 'CN=host-' || i,
       ARRAY['dns:host-' || i || '.example.test'], sha256(int8send(i)), now(), now() + make_interval(secs => i * 60),
       'issuer:1', 'rest', i::text, '', 'der', sha256(int8send(-i)), 'acme-account:' || i % 5000, '{}', '[]'
  FROM generate_series(1, 30000) i;
INSERT INTO revocation (certificate_id, authority_id, generation, crl_shard, serial, reason, revoked_at, not_after, version)
SELECT id, authority_id, 1, 0, serial, 1, now(), not_after, id FROM certificate WHERE id % 20 = 0;
INSERT INTO audit_event (actor, action, subject)
SELECT 'a' || i % 5000, 'x' || i % 5000, 's' || i % 5000 FROM generate_series(1, 30000) i;
"""


@pytest.fixture(scope="module")
def big_url(postgres_server: PostgresServer, migrated_template: str) -> str:
    """A database with 30,000 certificates of three authorities."""
    url = postgres_server.create("spork_big", migrated_template)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_FILL)
        connection.execute("VACUUM ANALYZE")
    return url


@pytest.fixture
async def big(big_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(big_url, min_size=1)
    yield opened
    await opened.close()


async def _plan(database: Database, query: str, values: object) -> str:
    rows = await (await database.execute(f"EXPLAIN {query}", values)).fetchall()  # type: ignore[arg-type]
    return "\n".join(str(row[0]) for row in rows)


@pytest.mark.parametrize(
    "wanted",
    [
        CertificateFilter(),
        CertificateFilter(text="host-12345.exam"),
        CertificateFilter(name="dns:host-12345.example.test"),
        CertificateFilter(requester="acme-account:77"),
        CertificateFilter(authority_id="c"),
        CertificateFilter(profile="tls-client"),
        CertificateFilter(state="issued"),
        CertificateFilter(state="reserved"),
        CertificateFilter(expires_before=NOW + timedelta(minutes=30)),
    ],
    ids=[
        "all",
        "part of a name",
        "a whole name",
        "requester",
        "rare authority",
        "rare profile",
        "issued",
        "reserved",
        "expiring",
    ],
)
@pytest.mark.parametrize("after", [None, 15_000], ids=["first page", "a page in the middle"])
async def test_every_list_uses_an_index(big: Database, wanted: CertificateFilter, after: int | None) -> None:
    conditions, values = _conditions(wanted)
    where = " AND ".join([*conditions, *(["c.id < %(after)s"] if after else [])]) or "true"
    plan = await _plan(
        big, f"{_SUMMARY} WHERE {where} ORDER BY c.id DESC LIMIT 100", {**values, "now": NOW, "after": after}
    )
    assert "Seq Scan on certificate" not in plan, plan


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("c.authority_id = 'issuing' AND c.serial = %s", b"\x05"),
        ("c.id = %s", 5),
        ("c.sha256 = %s", b"x" * 32),
        ("c.spki_sha256 = %s", b"x" * 32),
        ("c.scope = 'issuer:1' AND c.door = 'rest' AND c.idempotency_key = %s AND c.state <> 'abandoned'", "5"),
        ("c.state = 'reserved' AND c.lease_until <= %s", NOW),
    ],
    ids=["serial", "id", "hash", "key", "idempotency key", "expired leases"],
)
async def test_every_lookup_uses_an_index(big: Database, where: str, value: object) -> None:
    plan = await _plan(big, f"{_SUMMARY} WHERE {where}", [value])
    assert "Seq Scan" not in plan, plan


async def test_statuses_and_crl_scans_use_indexes(big: Database) -> None:
    plan = await _plan(big, revocation._STATUSES, {"authority_id": "issuing", "serials": [b"\x01", b"\x02"]})
    assert "Seq Scan on certificate" not in plan, plan
    assert "Seq Scan on revocation" not in plan, plan
    values = {"authority_id": "c", "generation": 1, "shard": 0, "since": 29_000}
    for query in (revocation._FULL, revocation._DELTA):
        plan = await _plan(big, query, values)
        assert "Seq Scan on revocation" not in plan, plan


@pytest.mark.parametrize(
    "where",
    [
        "actor = 'a77'",
        "subject = 's77'",
        """action COLLATE "C" = 'x77'""",
        """action COLLATE "C" >= 'x77' AND action COLLATE "C" < 'x78'""",
        "true",
    ],
    ids=["actor", "subject", "action", "prefix of an action", "all"],
)
async def test_every_list_of_the_audit_log_uses_an_index(big: Database, where: str) -> None:
    plan = await _plan(big, f"SELECT id FROM audit_event WHERE {where} ORDER BY id DESC LIMIT 100", None)
    assert "Seq Scan" not in plan, plan


async def test_expiry_pages_use_an_index(big: Database) -> None:
    where = "c.state = 'issued' AND r.certificate_id IS NULL AND c.not_after < %s AND (c.not_after, c.id) > (%s, -1)"
    plan = await _plan(
        big, f"{_SUMMARY} WHERE {where} ORDER BY c.not_after, c.id LIMIT 100", [NOW + timedelta(days=9), NOW]
    )
    assert "certificate_not_after" in plan, plan


async def test_a_second_certificate_for_a_key_is_not_mistaken(
    ledger: CertificateLedger, records: CertificateRecords
) -> None:
    key = a_key()
    await issued(ledger, a_reservation(key, serial=Serial(1)))
    await ledger.reserve(a_reservation(key, serial=Serial(2)))
    assert await _found(records) == [1]
