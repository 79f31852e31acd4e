"""Certificates that one process asks for and another one signs, on a real database."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from signing_world import SigningWorld, a_signing_world
from status_world import ROOT, WEB
from store_builders import an_event, lapse, one
from x509_world import a_signer

from spork.cli import signing_worker
from spork.errors import Code, SporkError
from spork.ids import IssuerId, KeyId
from spork.issuance.ports import IdempotencyKey, Recorded
from spork.issuance.remote import QUEUE_LEASE_S
from spork.issuance.signing import JOB_LEASE_S
from spork.keys.ring import KeyRing
from spork.policy.proposal import Door
from spork.store.database import Database
from spork.x509.der import Extension, KeyPurpose, TBSCertificate, ToBeSigned

pytestmark = pytest.mark.store

ABANDONED = (
    "SELECT state, refusal IS NOT NULL, (SELECT count(*) FROM revocation) FROM certificate ORDER BY id DESC LIMIT 1"
)


@pytest.fixture
async def world(database: Database) -> AsyncIterator[SigningWorld]:
    async with a_signing_world(database) as world:
        yield world


async def jobs(database: Database) -> int:
    return int((await one(database, "SELECT count(*) FROM job WHERE kind = 'sign'"))[0])


async def asked(database: Database) -> None:
    """Waits until somebody has asked."""
    while not await jobs(database):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def refusal_of(awaited: Any) -> SporkError:
    with pytest.raises(SporkError) as caught:
        await awaited
    return caught.value


async def test_a_process_without_keys_gets_its_certificate_from_the_signer(
    world: SigningWorld, database: Database
) -> None:
    recorded = await world.issue("www.test")
    assert recorded is not None
    certificate = x509.load_der_x509_certificate(recorded.der)
    issuer = (await world.operator.authorities.authority(recorded.authority_id)).certificate
    assert issuer is not None
    certificate.verify_directly_issued_by(issuer)
    assert await jobs(database) == 0
    event = "SELECT actor, detail ->> 'door', subject FROM audit_event WHERE action = 'certificate.issue' ORDER BY id DESC LIMIT 1"
    actor, door, subject = await one(database, event)
    assert (actor, door) == ("certificate:shop/web", "kubernetes")
    assert subject == f"certificate:web/{certificate.serial_number:032X}"


async def test_it_is_the_certificate_that_the_pipeline_would_have_made(world: SigningWorld) -> None:
    there, here = await world.issue("a.test"), await world.host.pipeline.issue(await world.request("a.test", key="b"))
    assert there is not None
    one, other = (x509.load_der_x509_certificate(recorded.der) for recorded in (there, here))
    assert [extension.oid for extension in one.extensions] == [extension.oid for extension in other.extensions]
    assert one.subject == other.subject


async def test_none_means_not_yet_and_the_same_request_finds_it_later(world: SigningWorld, database: Database) -> None:
    request = await world.request()
    assert await world.operator.issuing.issue(request, wait_s=0) is None
    assert await world.operator.issuing.issue(request, wait_s=0) is None
    assert await one(database, "SELECT count(*), min(state) FROM certificate WHERE issuer_id IS NOT NULL") == (
        1,
        "reserved",
    )
    assert await world.signer.work() == 1
    recorded = await world.operator.issuing.issue(request, wait_s=0)
    assert recorded is not None
    assert await world.operator.issuing.issue(request, wait_s=0) == recorded


async def test_an_operator_that_starts_again_waits_for_what_it_asked_before(world: SigningWorld) -> None:
    request = await world.request()
    first = asyncio.create_task(world.operator.issuing.issue(request, wait_s=20))
    second = asyncio.create_task(world.operator.issuing.issue(request, wait_s=20))
    while not (first.done() and second.done()):
        await world.signer.work()
        await asyncio.sleep(0.01)
    assert first.result() == second.result() is not None


async def test_the_same_key_with_other_content_is_a_conflict(world: SigningWorld) -> None:
    request = await world.request()
    await world.operator.issuing.issue(request, wait_s=0)
    other = IdempotencyKey(request.idempotency.scope, Door.KUBERNETES, request.idempotency.key, b"other")
    error = await refusal_of(world.operator.issuing.issue(await world.request(idempotency=other), wait_s=0))
    assert error.code is Code.CONFLICT


async def test_what_policy_refuses_is_not_even_reserved(world: SigningWorld, database: Database) -> None:
    error = await refusal_of(world.operator.issuing.issue(await world.request("www.forbidden.example")))
    assert error.code is Code.REJECTED_IDENTIFIER
    assert [one.identifier_value for one in error.subproblems] == ["www.forbidden.example"]
    assert await jobs(database) == 0


async def test_a_refused_request_whose_key_was_answered_earlier_gets_that_certificate(world: SigningWorld) -> None:
    recorded = await world.issue("www.test")
    assert await world.operator.issuing.issue(await world.request("www.no.example", key="www.test")) == recorded


async def test_a_ca_whose_key_no_signer_has_is_refused_at_once(world: SigningWorld) -> None:
    root = await world.operator.authorities.authority(ROOT)
    request = await world.request(authority=root, issuer=None)
    error = await refusal_of(world.operator.issuing.issue(request, wait_s=0))
    assert error.code in (Code.KEY_UNAVAILABLE, Code.POLICY_REFUSED)


async def test_the_process_without_keys_says_so_if_it_is_to_sign_itself(world: SigningWorld) -> None:
    error = await refusal_of(world.operator.pipeline.issue(await world.request()))
    assert error.code is Code.KEY_UNAVAILABLE
    assert "This process opens no keys" in error.detail
    _, decision = await world.operator.pipeline.judge(await world.request("www.forbidden.example"))
    assert not decision.allowed


async def test_costs_at_the_operator(world: SigningWorld) -> None:
    await world.issue("warm.test")
    await world.issue("warmer.test")
    statistics = world.operator.database.statistics
    request = await world.request()
    statistics.reset()
    assert await world.operator.issuing.issue(request, wait_s=0) is None
    # One trip for the reservation and its job, besides at most one look at the configuration's version.
    assert statistics.round_trips <= 2
    assert statistics.durable_commits == 1


async def test_costs_at_the_signer_do_not_grow_with_the_number(world: SigningWorld, database: Database) -> None:
    for warm in range(3):
        await world.issue(f"warm{warm}.test")
    for number in range(60):
        await world.reserved(f"n{number}.test")
    statistics = world.host.database.statistics
    statistics.reset()
    signed = batches = 0
    while batch := await world.signer.work():
        signed, batches = signed + batch, batches + 1
    assert signed == 60
    assert batches <= 3
    # Each batch: claim, version of the configuration, record; and in the end one claim that finds nothing.
    assert statistics.round_trips <= 3 * batches + 1
    assert statistics.durable_commits <= 2 * batches + 1
    assert await one(
        database, "SELECT count(*) FROM certificate WHERE state = 'issued' AND names[1] LIKE 'dns:n%%'"
    ) == (60,)
    assert await one(database, "SELECT count(*) FROM audit_event WHERE detail -> 'names' ->> 0 LIKE 'dns:n%%'") == (60,)


async def test_awaited_certificates_are_asked_for_in_one_statement(world: SigningWorld) -> None:
    requests = [await world.request(f"n{number}.test") for number in range(10)]
    waiting = [asyncio.create_task(world.operator.issuing.issue(request, wait_s=30)) for request in requests]
    ledger, sizes = world.operator.ledger, []
    real = ledger.outcomes

    async def counted(ids: Any) -> Any:
        sizes.append(len(ids))
        return await real(ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "outcomes", counted)
        while 10 not in sizes:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while not all(task.done() for task in waiting):
            await world.signer.work()
            await asyncio.sleep(0.01)
        count = len(sizes)
        await asyncio.sleep(0.2)
        assert len(sizes) == count, "nothing is asked while nobody waits"
    assert None not in [task.result() for task in waiting]


async def test_two_signers_sign_each_request_once(world: SigningWorld, database: Database) -> None:
    for number in range(40):
        await world.reserved(f"n{number}.test")
    signers = [world.signer, *(world.host.signer() for _ in range(3))]

    async def all_of(signer: Any) -> int:
        total = 0
        while done := await signer.work():
            total += done
        return total

    assert sum(await asyncio.gather(*(all_of(signer) for signer in signers))) == 40
    assert await one(database, "SELECT count(*) FROM audit_event WHERE detail -> 'names' ->> 0 LIKE 'dns:n%%'") == (40,)
    assert await jobs(database) == 0


async def test_an_issuer_disabled_after_the_reservation_refuses(world: SigningWorld, database: Database) -> None:
    request = await world.request()
    waiting = asyncio.create_task(world.operator.issuing.issue(request, wait_s=20))
    await asked(database)
    # By another process, so that nothing tells the signer.
    await world.operator.issuers.disable("web", origin="file", audit=an_event("issuer.disable"))
    assert await world.signer.work() == 1
    error = await refusal_of(waiting)
    assert error.code is Code.POLICY_REFUSED
    assert error.detail == "The issuer was disabled before this was signed."
    assert await one(database, ABANDONED) == ("abandoned", True, 1)
    event = "SELECT detail ->> 'code' FROM audit_event WHERE action = 'certificate.refuse'"
    assert await one(database, event) == ("policyRefused",)


async def test_a_policy_narrowed_after_the_reservation_refuses_with_the_names_to_blame(
    world: SigningWorld, database: Database
) -> None:
    waiting = asyncio.create_task(world.operator.issuing.issue(await world.request("www.test", "b.test"), wait_s=20))
    await asked(database)
    await database.execute("""UPDATE issuer SET names = '{"permit": {"dns": ["b.test"]}}' WHERE name = 'web'""")
    await database.execute("UPDATE configuration_version SET version = version + 1")
    await world.signer.work()
    error = await refusal_of(waiting)
    assert error.code is Code.REJECTED_IDENTIFIER
    assert [(one.code, one.identifier_value) for one in error.subproblems] == [(Code.REJECTED_IDENTIFIER, "www.test")]


async def test_a_ca_stopped_after_the_reservation_refuses(world: SigningWorld, database: Database) -> None:
    await world.reserved()
    await world.operator.authorities.disable_authority(WEB, an_event("authority.disable"))
    await world.signer.work()
    code, detail = await one(
        database, "SELECT refusal ->> 'code', refusal ->> 'detail' FROM certificate ORDER BY id DESC LIMIT 1"
    )
    assert code == "policyRefused"
    assert "disabled" in detail


# What somebody who can write rows might try. Each: how the row is changed, and what becomes of it.
Change = Callable[[TBSCertificate], None]


def _extended(tbs: TBSCertificate) -> None:
    assert tbs.extensions is not None
    tbs.extensions.append(
        Extension(oid=x509.ObjectIdentifier("1.3.6.1.4.1.56266.9"), critical=False, value=b"\x05\x00")
    )


def _ca(tbs: TBSCertificate) -> None:
    assert tbs.extensions is not None
    value = x509.BasicConstraints(ca=True, path_length=None)
    tbs.extensions.insert(0, Extension(oid=value.oid, critical=True, value=value.public_bytes()))


def _named(tbs: TBSCertificate) -> None:
    assert tbs.extensions is not None
    value = x509.SubjectAlternativeName([x509.DNSName("www.test"), x509.DNSName("more.test")])
    for number, extension in enumerate(tbs.extensions):
        if extension.oid == value.oid:
            tbs.extensions[number] = Extension(oid=value.oid, critical=False, value=value.public_bytes())


def _other_name(tbs: TBSCertificate) -> None:
    assert tbs.extensions is not None
    names = [x509.DNSName("www.test"), x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]
    value = x509.SubjectAlternativeName(names)
    for number, extension in enumerate(tbs.extensions):
        if extension.oid == value.oid:
            tbs.extensions[number] = Extension(oid=value.oid, critical=False, value=value.public_bytes())


def _serial(tbs: TBSCertificate) -> None:
    tbs.serial_number = 4711


def _longer(tbs: TBSCertificate) -> None:
    after = tbs.validity.not_after.as_datetime()
    tbs.validity.not_after = asn1.UTCTime(after.replace(year=after.year + 2))


def _key(tbs: TBSCertificate) -> None:
    tbs.subject_public_key_info = asn1.decode_der(asn1.TLV, a_signer(purpose=KeyPurpose.LEAF).spki)


async def refusals(world: SigningWorld, database: Database) -> dict[str, str | None]:
    """Lets the signer work, and gives the code of each refusal by the certificate's key."""
    while await world.signer.work():
        pass
    query = (
        "SELECT idempotency_key, refusal ->> 'code' FROM certificate WHERE door <> 'bootstrap' OR refusal IS NOT NULL"
    )
    return dict(await (await database.execute(query)).fetchall())


async def test_what_was_smuggled_into_the_octets_is_not_signed(world: SigningWorld, database: Database) -> None:
    changes: dict[str, Change] = {
        "an extension": _extended, "a CA": _ca, "a name": _named, "a name of another kind": _other_name,
        "a serial": _serial, "years": _longer, "a key": _key,
    }  # fmt: skip
    for key, change in changes.items():
        await world.reserved("www.test", key=key)
        (octets,) = await one(database, "SELECT tbs FROM certificate WHERE idempotency_key = %s", key)
        tbs = asn1.decode_der(TBSCertificate, bytes(octets))
        change(tbs)
        await database.execute(
            "UPDATE certificate SET tbs = %s WHERE idempotency_key = %s", [asn1.encode_der(tbs), key]
        )
    await world.reserved("www.test", key="nothing")
    assert await refusals(world, database) == {**dict.fromkeys(changes, "malformed"), "nothing": None}
    assert await one(database, "SELECT count(*) FROM revocation") == (len(changes),)


async def test_no_policy_beyond_those_of_the_profile_is_signed(world: SigningWorld, database: Database) -> None:
    """Such as extended validation, by which browsers and others judge a certificate; no requester of leaves may name any."""
    await world.reserved("www.test", key="ev", policies=("2.23.140.1.1",))
    assert await refusals(world, database) == {"ev": "malformed"}


_ROWS: list[tuple[str, Any, str]] = [
    ("tbs", b"0\x03\x02\x01\x01", "malformed"),
    ("tbs", b"", "malformed"),
    ("names", ["dns:other.test"], "malformed"),
    ("subject", "CN=other", "malformed"),
    ("spki_sha256", hashlib.sha256(b"other").digest(), "malformed"),
    ("crl_shard", 1, "malformed"),
    ("profile", "nothing", "forbidden"),
    ("profile", "issuing-ca", "forbidden"),
    ("profile", "ocsp-signing", "forbidden"),
    ("profile", "admin-superadmin", "forbidden"),
    ("profile", "tls-client", "malformed"),
    ("authority_id", "status-root-ca", "forbidden"),
    ("authority_id", "other", "malformed"),
    ("issuer_id", None, "forbidden"),
    ("door", "bootstrap", "forbidden"),
    ("door", "window", "malformed"),
    ("generation", 7, "notFound"),
    ("evidence", "{}", "malformed"),
]


async def test_a_row_that_says_something_else_than_its_octets_is_not_signed(
    world: SigningWorld, database: Database
) -> None:
    for number, (column, value, _) in enumerate(_ROWS):
        await world.reserved("www.test", key=f"row {number}")
        query = f"UPDATE certificate SET {column} = %s WHERE idempotency_key = %s"
        await database.execute(query, [value, f"row {number}"])  # type: ignore[arg-type]
    assert await refusals(world, database) == {f"row {number}": code for number, (*_, code) in enumerate(_ROWS)}
    assert await one(database, "SELECT count(*) FROM certificate WHERE state = 'issued' AND issuer_id IS NOT NULL") == (
        0,
    )


async def test_an_issuer_of_the_operator_s_own_does_not_lead_to_other_profiles(
    world: SigningWorld, database: Database
) -> None:
    """Who may write issuers may bind any CA; the profiles of CAs and administrators are out of reach all the same."""
    await world.reserved()
    await database.execute("UPDATE issuer SET profiles = '{admin-superadmin}' WHERE name = 'web'")
    await database.execute("UPDATE certificate SET profile = 'admin-superadmin' WHERE state = 'reserved'")
    await world.signer.work()
    assert await one(database, "SELECT refusal ->> 'code' FROM certificate ORDER BY id DESC LIMIT 1") == ("forbidden",)


async def test_the_signer_takes_the_lease_over_and_the_queue_s_is_long(world: SigningWorld, database: Database) -> None:
    await world.reserved()
    left = (
        "SELECT lease_id::text, extract(epoch FROM lease_until - now())::int FROM certificate WHERE state = 'reserved'"
    )
    before, seconds = await one(database, left)
    assert QUEUE_LEASE_S - 60 < seconds <= QUEUE_LEASE_S
    lease_id, tasks = await world.signer._queue.claim(10, job_lease_s=JOB_LEASE_S, lease_s=60)
    assert len(tasks) == 1
    after, seconds = await one(database, left)
    assert before != after == lease_id
    assert JOB_LEASE_S < seconds <= 60


async def test_a_dead_signer_s_work_is_done_by_another_and_its_own_signature_is_thrown_away(
    world: SigningWorld, database: Database
) -> None:
    await world.reserved()
    slow = world.host.signer()
    signing, go_on = asyncio.Event(), asyncio.Event()

    async def held(task: Any, real: Any = slow._signed) -> Any:
        signed = await real(task)
        signing.set()
        await go_on.wait()
        return signed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slow, "_signed", held)
        late = asyncio.create_task(slow.work())
        await signing.wait()
        assert await world.signer.work() == 0, "the job belongs to the first signer for now"
        await database.execute("UPDATE job SET lease_until = now() - interval '1 second'")
        assert await world.signer.work() == 1
        (first,) = await one(
            database, "SELECT sha256 FROM certificate WHERE state = 'issued' AND issuer_id IS NOT NULL"
        )
        go_on.set()
        await late
    assert await one(database, "SELECT sha256 FROM certificate WHERE state = 'issued' AND issuer_id IS NOT NULL") == (
        first,
    )
    event = "SELECT count(*) FROM audit_event WHERE action = 'certificate.issue' AND actor = 'certificate:shop/web'"
    assert await one(database, event) == (1,)


async def test_a_reservation_that_ran_out_in_a_signer_s_hands_ends_revoked_and_asks_for_a_retry(
    world: SigningWorld, database: Database
) -> None:
    request = await world.request()
    waiting = asyncio.create_task(world.operator.issuing.issue(request, wait_s=20))
    await asked(database)
    await world.signer._queue.claim(10, job_lease_s=JOB_LEASE_S, lease_s=60)
    await lapse(database)
    assert await world.host.ledger.abandon_expired() == 1
    error = await refusal_of(waiting)
    assert (error.code, error.retry_after_s) == (Code.LEASE_LOST, 1)
    assert await one(database, ABANDONED) == ("abandoned", False, 1)
    assert await jobs(database) == 0
    again = asyncio.create_task(world.operator.issuing.issue(request, wait_s=20))
    while not again.done():
        await world.signer.work()
        await asyncio.sleep(0.01)
    assert isinstance(again.result(), Recorded)


async def test_what_no_signer_ever_had_ends_without_an_entry_in_the_crl(
    world: SigningWorld, database: Database
) -> None:
    await world.reserved()
    await lapse(database)
    assert await world.host.ledger.abandon_expired() == 1
    assert await one(database, ABANDONED) == ("abandoned", False, 0)
    assert await jobs(database) == 0
    assert await world.signer.work() == 0


async def test_a_request_made_anew_closes_its_expired_reservation_with_its_job(
    world: SigningWorld, database: Database
) -> None:
    await world.reserved()
    await lapse(database)
    await world.reserved()
    states = await (
        await database.execute("SELECT state FROM certificate WHERE issuer_id IS NOT NULL ORDER BY id")
    ).fetchall()
    assert states == [("abandoned",), ("reserved",)]
    assert await jobs(database) == 1
    assert await world.signer.work() == 1


async def test_a_job_without_a_reservation_is_closed(world: SigningWorld, database: Database) -> None:
    await database.execute("INSERT INTO job (kind, subject) VALUES ('sign', '999999')")
    assert await world.signer.work() == 0
    assert await jobs(database) == 0


async def test_a_key_that_cannot_be_opened_is_tried_again_and_then_refused(
    world: SigningWorld, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.reserved()

    async def shut(_: KeyRing, key_id: KeyId) -> Any:
        raise SporkError(Code.WRONG_PASSPHRASE, "The passphrase does not open the online keys.")

    monkeypatch.setattr(KeyRing, "signer", shut)
    for _ in range(4):
        assert await world.signer.work() == 1
        assert (await one(database, ABANDONED))[0] == "reserved"
        await database.execute("UPDATE job SET lease_until = now() - interval '1 second'")
    await world.signer.work()
    assert await one(database, ABANDONED) == ("abandoned", True, 1)


async def test_a_row_that_breaks_the_signer_does_not_take_others_with_it(
    world: SigningWorld, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.test", "bad.test", "c.test"):
        await world.reserved(name)
    real = world.signer._checked

    async def broken(task: Any) -> Any:
        if "dns:bad.test" in task.names:
            raise IndexError("nobody foresaw this")
        return await real(task)

    monkeypatch.setattr(world.signer, "_checked", broken)
    await world.signer.work()
    states = "SELECT string_agg(state, ' ' ORDER BY id) FROM certificate WHERE issuer_id IS NOT NULL"
    assert await one(database, states) == ("issued reserved issued",)
    for _ in range(5):
        await database.execute("UPDATE job SET lease_until = now() - interval '1 second'")
        await world.signer.work()
    assert await one(database, states) == ("issued abandoned issued",)


async def test_a_faulty_key_signs_nothing_that_is_recorded(
    world: SigningWorld, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.reserved()
    authority = await world.host.authorities.authority(WEB)
    assert authority.key_id is not None
    real = await world.host.keys.signer(authority.key_id)

    class Faulty:
        algorithm, purpose, spki = real.algorithm, real.purpose, real.spki

        def sign(self, tbs: ToBeSigned) -> bytes:
            return b"\x30\x06\x02\x01\x01\x02\x01\x01"

    async def faulty(_: KeyRing, key_id: KeyId) -> Any:
        return Faulty()

    monkeypatch.setattr(KeyRing, "signer", faulty)
    await world.signer.work()
    assert await one(database, "SELECT refusal ->> 'code' FROM certificate ORDER BY id DESC LIMIT 1") == (
        "badSignature",
    )


async def test_the_database_away_for_a_moment_is_waited_out(
    world: SigningWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = world.operator.ledger.outcomes, 2

    async def away(ids: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise SporkError(Code.UNAVAILABLE, "away", retry_after_s=1)
        return await real(ids)

    monkeypatch.setattr(world.operator.ledger, "outcomes", away)
    assert await world.issue() is not None
    assert failures == 0


async def test_an_issuer_by_its_row(world: SigningWorld) -> None:
    issuer = await world.operator.issuers.issuer("web")
    assert await world.operator.issuers.by_id(issuer.id) == issuer
    assert (await refusal_of(world.operator.issuers.by_id(IssuerId(999)))).code is Code.NOT_FOUND


async def test_the_worker_of_a_serving_process_signs_what_comes_until_it_is_stopped(world: SigningWorld) -> None:
    stop = asyncio.Event()
    worker = asyncio.create_task(signing_worker.run(world.host, stop))
    for name in ("a.test", "b.test"):
        assert await world.operator.issuing.issue(await world.request(name), wait_s=30) is not None
    stop.set()
    await worker
    await signing_worker.run(world.operator, asyncio.Event())  # Without keys there is nothing to do.
