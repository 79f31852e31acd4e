"""Publishing lists over a real database: numbers, contents, concurrency, crashes, and lists that are signed elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from prometheus_client import REGISTRY
from status_world import OTHER, ROOT, WEB, StatusWorld, a_status_world, call

from spork.api.crl.publication import ensure_crls, publisher
from spork.api.crl.schedule import StaleWatch, handle_message
from spork.api.status import workers
from spork.clock import FixedClock
from spork.errors import Code, SporkError
from spork.issuance.crl_schedule import CRLKind, CRLScope
from spork.issuance.crl_worker import INLINE
from spork.issuance.ports import AuditEvent
from spork.issuance.publish import CRLPublisher, PublishedCRL
from spork.issuance.revoke import Reason
from spork.store.crl import CRLStore
from spork.store.database import Database
from spork.store.outbox import Outbox
from spork.x509.crl import CRLHeader, build_tbs, encode_entries, entries_of, read_crl
from spork.x509.der import CRLTBS, sign, wrap

pytestmark = pytest.mark.store
SCOPE = CRLScope(WEB, 1, 0)


@pytest.fixture
async def world(database: Database) -> AsyncIterator[StatusWorld]:
    async with a_status_world(database) as built:
        yield built


@pytest.fixture
async def lists(world: StatusWorld) -> AsyncIterator[CRLPublisher]:
    made = publisher(world.services)
    yield made
    made.close()


def reasons(published: PublishedCRL) -> Mapping[int, int]:
    return {entry.serial: entry.reason for entry in entries_of(x509.load_der_x509_crl(published.der))}


async def numbers(database: Database, authority: str = "web") -> list[tuple[int, bool]]:
    rows = await database.execute(
        "SELECT number, der IS NOT NULL FROM crl WHERE authority_id = %s ORDER BY number", [authority]
    )
    return [(row[0], row[1]) for row in await rows.fetchall()]


async def test_a_new_tree_gets_its_first_lists_at_once(world: StatusWorld) -> None:
    made = await ensure_crls(world.services)

    assert {str(published.scope) for published in made} == {"status-root-ca/1", "web/1", "other/1"}
    by_scope = {str(published.scope): read_crl(published.der) for published in made}
    online, sealed = by_scope["web/1"], by_scope["status-root-ca/1"]
    assert online.next_update is not None
    assert sealed.next_update is not None
    assert online.next_update - online.this_update == timedelta(days=7)
    assert sealed.next_update - sealed.this_update == timedelta(days=182)
    assert await ensure_crls(world.services) == []


async def test_a_list_names_issuer_key_and_place_as_the_certificates_do(
    world: StatusWorld, lists: CRLPublisher
) -> None:
    issued = x509.load_der_x509_certificate((await world.issue()).der)
    published = await lists.publish(SCOPE)
    read, ca = read_crl(published.der), await world.certificate()

    (point,) = issued.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert point.full_name == [x509.UniformResourceIdentifier(uri) for uri in read.distribution_points]
    assert read.crl.issuer.public_bytes() == ca.subject.public_bytes() == issued.issuer.public_bytes()
    aki = issued.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert read.authority_key_identifier == aki.key_identifier
    assert read.crl.is_signature_valid(ca.public_key())  # type: ignore[arg-type]


async def test_numbers_rise_by_one_and_are_audited(world: StatusWorld, lists: CRLPublisher, database: Database) -> None:
    made = [await lists.publish(SCOPE) for _ in range(3)]

    assert [published.number for published in made] == [1, 2, 3]
    rows = await database.execute(
        "SELECT detail->>'number' FROM audit_event WHERE action = 'crl.publish' AND subject = 'crl:web/1' ORDER BY id"
    )
    assert [row[0] for row in await rows.fetchall()] == ["1", "2", "3"]


async def test_two_publishers_never_share_a_number(world: StatusWorld, database: Database) -> None:
    replicas = [publisher(world.services), publisher(world.services)]

    async def keep_publishing(lists: CRLPublisher) -> list[int]:
        made: list[int] = []
        while len(made) < 4:
            try:
                made.append((await lists.publish(SCOPE)).number)
            except SporkError as error:
                assert error.code is Code.IN_PROGRESS  # noqa: PT017 - it raises only when the two meet.
                await asyncio.sleep(0.01)
        return made

    first, second = await asyncio.gather(*(keep_publishing(lists) for lists in replicas))

    assert first == sorted(first)
    assert second == sorted(second)
    assert sorted(first + second) == list(range(1, 9))


async def test_two_schedules_make_one_list(world: StatusWorld, database: Database) -> None:
    await asyncio.gather(ensure_crls(world.services), ensure_crls(world.services))
    await ensure_crls(world.services)

    assert await numbers(database) == [(1, True)]


class _Killed(BaseException):
    """Stands for the end of the process."""


async def test_a_kill_between_number_and_signature_leaves_an_unused_number(
    world: StatusWorld, lists: CRLPublisher, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lists.publish(SCOPE)

    def killed(*_: object) -> bytes:
        raise _Killed

    with monkeypatch.context() as patched:
        patched.setattr("spork.issuance.publish.build_tbs", killed)
        with pytest.raises(_Killed):
            await lists.publish(SCOPE)
    assert await numbers(database) == [(1, True), (2, False)]

    assert (await lists.publish(SCOPE)).number == 3
    assert await numbers(database) == [(1, True), (2, False), (3, True)]


async def test_a_late_signature_does_not_replace_a_newer_list(
    world: StatusWorld, lists: CRLPublisher, database: Database
) -> None:
    store = CRLStore(database)
    now = world.clock.now()
    late = await store.reserve(SCOPE, None, now, now + timedelta(days=7), [])
    newer = await lists.publish(SCOPE)

    with pytest.raises(SporkError) as refused:
        await store.record(SCOPE, late, newer.der, 0, 0, _an_audit())

    assert refused.value.code is Code.CONFLICT
    with pytest.raises(SporkError):
        await store.record(SCOPE, newer.number, newer.der, 0, 0, _an_audit())
    current = await store.current(SCOPE, delta=False)
    assert current is not None
    assert current.number == newer.number


def _an_audit() -> AuditEvent:
    return AuditEvent("crl.publish", "host", "crl:test", {})


async def test_revoked_held_and_abandoned_are_listed_and_released_are_not(
    world: StatusWorld, lists: CRLPublisher, database: Database
) -> None:
    good, revoked, plain, held, released, abandoned = [await world.issue() for _ in range(6)]
    await world.revoke(revoked, Reason.keyCompromise)
    await world.revoke(plain, Reason.unspecified)
    await world.revoke(held, Reason.certificateHold)
    await world.revoke(released, Reason.certificateHold)
    await world.revoke(released, Reason.removeFromCRL)
    await database.execute(
        """UPDATE certificate SET state = 'reserved', der = NULL, tbs = '\\x00', lease_id = gen_random_uuid(),
           lease_until = now() - interval '1 minute' WHERE id = %s""",
        [abandoned.certificate_id],
    )
    await world.services.ledger.abandon_expired()

    listed = reasons(await lists.publish(SCOPE))

    assert good.serial not in listed
    assert released.serial not in listed
    assert {listed[revoked.serial], listed[plain.serial], listed[held.serial]} == {1, 0, 6}
    assert abandoned.serial in listed
    assert len(listed) == 4


async def test_an_expired_certificate_stays_for_one_list_beyond_its_expiry(database: Database) -> None:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    async with a_status_world(database, clock=clock) as world:
        lists = publisher(world.services)
        issued = await world.issue(validity=timedelta(hours=2))
        await world.revoke(issued, Reason.superseded)
        seen = []
        for _ in range(3):
            seen.append(issued.serial in reasons(await lists.publish(SCOPE)))
            clock.current += timedelta(hours=3)

        # Alive, then the one list beyond expiry, then gone.
        assert seen == [True, True, False]


@pytest.fixture
async def with_deltas(database: Database) -> AsyncIterator[StatusWorld]:
    async with a_status_world(database, web='crl.delta_interval = "1h"') as built:
        yield built


async def test_a_delta_with_its_base_says_what_the_next_full_list_says(with_deltas: StatusWorld) -> None:
    world, lists = with_deltas, publisher(with_deltas.services)
    before, after, held, released = [await world.issue() for _ in range(4)]
    await world.revoke(before, Reason.superseded)
    await world.revoke(held, Reason.certificateHold)
    await world.revoke(released, Reason.certificateHold)
    base = await lists.publish(SCOPE)
    await world.revoke(after, Reason.cessationOfOperation)
    await world.revoke(held, Reason.keyCompromise)
    await world.revoke(released, Reason.removeFromCRL)
    delta = await lists.publish(SCOPE, CRLKind.DELTA)
    full = await lists.publish(SCOPE)

    read_base, read_delta = read_crl(base.der), read_crl(delta.der)
    assert (read_delta.base_number, read_delta.number) == (read_base.number, 2)
    assert read_delta.distribution_points == read_base.distribution_points
    freshest = read_base.crl.extensions.get_extension_for_class(x509.FreshestCRL).value
    assert freshest[0].full_name == [x509.UniformResourceIdentifier("http://status.test/crl/web/1/delta.crl")]
    with pytest.raises(x509.ExtensionNotFound):
        read_delta.crl.extensions.get_extension_for_class(x509.FreshestCRL)
    changes = reasons(delta)
    assert changes == {after.serial: 5, held.serial: 1, released.serial: 8}
    combined = {**reasons(base), **changes}
    assert {serial: reason for serial, reason in combined.items() if reason != 8} == reasons(full)
    lists.close()


async def test_there_is_no_delta_without_a_base(with_deltas: StatusWorld) -> None:
    lists = publisher(with_deltas.services)

    with pytest.raises(SporkError) as refused:
        await lists.publish(SCOPE, CRLKind.DELTA)

    assert refused.value.code is Code.PRECONDITION_FAILED


async def test_deltas_follow_full_lists_by_themselves(database: Database) -> None:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    async with a_status_world(database, clock=clock, web='crl.delta_interval = "1h"') as world:

        async def made() -> list[tuple[str, str]]:
            published = await ensure_crls(world.services)
            return [(item.kind.value, str(item.scope)) for item in published if item.scope.authority_id == WEB]

        assert await made() == [("full", "web/1")]
        assert await made() == []
        clock.current += timedelta(seconds=6)
        assert await made() == [("delta", "web/1")]
        await world.revoke(await world.issue(), Reason.superseded)
        clock.current += timedelta(seconds=55)
        assert await made() == [("delta", "web/1")]
        await world.revoke(await world.issue(), Reason.keyCompromise)
        clock.current += timedelta(seconds=6)
        assert await made() == [("full", "web/1")]


async def test_shards_together_are_the_whole(database: Database) -> None:
    async with a_status_world(database, web="crl_shards = 3") as world:
        revoked = [await world.issue(f"{number}.test") for number in range(9)]
        for issued in revoked:
            await world.revoke(issued, Reason.superseded)
        made = [item for item in await ensure_crls(world.services) if item.scope.authority_id == WEB]

        complete, *shards = made
        assert [item.scope.shard for item in made] == [0, 1, 2, 3]
        assert sorted(item.number for item in made) == [1, 2, 3, 4]
        union = [serial for item in shards for serial in reasons(item)]
        assert sorted(union) == sorted(issued.serial for issued in revoked) == sorted(reasons(complete))
        points = [uri for item in made for uri in read_crl(item.der).distribution_points]
        assert points == [f"http://status.test/crl/web/1{shard}.crl" for shard in ("", "/1", "/2", "/3")]
        # A revocation makes only its own shard due, and the complete list.
        another = await world.issue()
        await world.revoke(another, Reason.keyCompromise)
        changed = [state.scope.shard for state in await publisher(world.services).scopes() if state.changed]
        authority = await world.services.authorities.authority(WEB)
        assert changed == [0, authority.shard_of(another.serial)]


async def test_a_long_list_is_encoded_in_another_process(
    world: StatusWorld, lists: CRLPublisher, database: Database
) -> None:
    issued = await world.issue()
    await database.execute(
        """INSERT INTO certificate (authority_id, generation, serial, state, profile, subject, names, spki_sha256, not_before,
               not_after, scope, door, idempotency_key, request_digest, der, requester, evidence, trace)
           SELECT authority_id, generation, decode(lpad(to_hex(n + 4096), 8, '0'), 'hex'), 'issued', profile, subject, names,
               spki_sha256, not_before, not_after, scope, door, 'bulk ' || n, request_digest, der, requester, evidence, trace
             FROM certificate, generate_series(1, %s) AS n WHERE id = %s""",
        [INLINE * 5, issued.certificate_id],
    )
    await database.execute(
        """INSERT INTO revocation (certificate_id, authority_id, generation, crl_shard, serial, reason, revoked_at, not_after,
               version)
           SELECT id, authority_id, generation, crl_shard, serial, 4, now(), not_after, 1 FROM certificate
            WHERE idempotency_key LIKE 'bulk %%'"""
    )

    published = await lists.publish(SCOPE)

    assert published.entries == len(reasons(published)) == INLINE * 5
    assert lists._encoder._pool is not None


async def test_a_sealed_key_that_is_not_open_is_refused_and_costs_no_number(
    world: StatusWorld, database: Database
) -> None:
    world.services.keys.close("sealed")
    lists = publisher(world.services)

    with pytest.raises(SporkError) as refused:
        await lists.publish(CRLScope(ROOT, 1, 0))

    assert refused.value.code is Code.KEY_UNAVAILABLE
    assert await numbers(database, ROOT) == []
    assert {item.scope.authority_id for item in await ensure_crls(world.services)} == {WEB, OTHER}


async def _signed_elsewhere(world: StatusWorld, tbs: bytes) -> bytes:
    authority = await world.services.authorities.authority(WEB)
    assert authority.key_id is not None
    return sign(CRLTBS(tbs), await world.services.keys.signer(authority.key_id))


async def test_a_list_signed_elsewhere_is_published(world: StatusWorld, lists: CRLPublisher) -> None:
    issued = await world.issue()
    await world.revoke(issued, Reason.superseded)
    number, tbs = await lists.prepare_offline(SCOPE)
    published = await lists.import_signed(await _signed_elsewhere(world, tbs))

    assert published.number == number == 1
    assert reasons(published) == {issued.serial: 4}
    current = await CRLStore(world.services.database).current(SCOPE, delta=False)
    assert current is not None
    assert current.der == published.der


async def test_lists_signed_elsewhere_are_checked(world: StatusWorld, lists: CRLPublisher) -> None:
    number, tbs = await lists.prepare_offline(SCOPE)
    signed = await _signed_elsewhere(world, tbs)
    authority = await world.services.authorities.authority(WEB)
    # The signature of another key.
    wrong = wrap(CRLTBS(tbs), authority.algorithm, b"\x30\x06\x02\x01\x01\x02\x01\x01")
    with pytest.raises(SporkError) as refused:
        await lists.import_signed(wrong)
    assert refused.value.code is Code.BAD_SIGNATURE

    # Something was revoked after the list was written.
    issued = await world.issue()
    await world.revoke(issued, Reason.superseded)
    with pytest.raises(SporkError, match="lacks 1 revoked") as incomplete:
        await lists.import_signed(signed)
    assert incomplete.value.code is Code.PRECONDITION_FAILED

    # A number that is not above the current one, and one that was used.
    await lists.publish(SCOPE)
    with pytest.raises(SporkError, match="does not rise"):
        await lists.import_signed(signed)
    assert number == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"number": 77}, Code.NOT_FOUND, id="a number that was never reserved"),
        pytest.param({"distribution_points": ("http://elsewhere.test/",)}, Code.NOT_FOUND, id="another scope"),
        pytest.param({"authority_key_identifier": b"other"}, Code.NOT_FOUND, id="another key"),
        pytest.param(
            {"issuer_der": bytes.fromhex("300d310b3009060355040313024341")},
            Code.PRECONDITION_FAILED,
            id="another issuer",
        ),
        pytest.param(
            {"this_update": datetime(2001, 1, 1, tzinfo=UTC), "next_update": datetime(2002, 1, 1, tzinfo=UTC)},
            Code.PRECONDITION_FAILED,
            id="over already",
        ),
        pytest.param(
            {"this_update": datetime(2048, 1, 1, tzinfo=UTC), "next_update": datetime(2049, 1, 1, tzinfo=UTC)},
            Code.PRECONDITION_FAILED,
            id="from the future",
        ),
    ],
)
async def test_lists_with_wrong_fields_are_not_published(
    world: StatusWorld, lists: CRLPublisher, changes: dict[str, object], code: Code
) -> None:
    await lists.prepare_offline(SCOPE)
    authority = await world.services.authorities.authority(WEB)
    now = world.clock.now()
    fields: dict[str, object] = {
        "issuer_der": authority.subject_der,
        "signature": authority.algorithm.identifier,
        "authority_key_identifier": authority.subject_key_identifier,
        "number": 1,
        "this_update": now,
        "next_update": now + timedelta(days=30),
        "distribution_points": authority.urls.crl,
    }
    tbs = build_tbs(CRLHeader(**(fields | changes)), encode_entries([]))  # type: ignore[arg-type]

    with pytest.raises(SporkError) as refused:
        await lists.import_signed(await _signed_elsewhere(world, tbs.der))
    assert refused.value.code is code


async def test_lists_are_served_and_a_new_one_replaces_the_old_on_every_replica(
    world: StatusWorld, lists: CRLPublisher
) -> None:
    app = await world.replica()
    assert (await call(app, "GET", "/crl/web/1.crl")).status == 404
    first = await lists.publish(SCOPE)
    served = await call(app, "GET", "/crl/web/1.crl")
    assert served.body == first.der
    head = await call(app, "HEAD", "/crl/web/1.crl")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(first.der)))
    for header, value in (
        ("If-None-Match", served.headers["etag"]),
        ("If-Modified-Since", served.headers["last-modified"]),
    ):
        assert (await call(app, "GET", "/crl/web/1.crl", headers={header: value})).status == 304
    assert (await call(app, "GET", "/crl/web/1.crl", headers={"If-Modified-Since": "no date"})).status == 200

    while app.feed.unchecked_s > 1:  # noqa: ASYNC110 - the feed tells nobody when it has read.
        await asyncio.sleep(0.01)
    second = await lists.publish(SCOPE)
    async with asyncio.timeout(1):
        while (await call(app, "GET", "/crl/web/1.crl")).body != second.der:  # noqa: ASYNC110 - what a client does.
            await asyncio.sleep(0.02)


async def test_serving_a_list_again_costs_no_sql(world: StatusWorld, lists: CRLPublisher) -> None:
    app = await world.replica()
    await lists.publish(SCOPE)
    await call(app, "GET", "/crl/web/1.crl")
    statistics = world.services_of(app).statistics
    statistics.reset()

    await call(app, "GET", "/crl/web/1.crl")

    assert statistics.statements == 0


async def test_unknown_lists_are_not_found(world: StatusWorld, lists: CRLPublisher) -> None:
    app = await world.replica()
    await lists.publish(SCOPE)
    paths = [
        "/crl/web/2.crl",
        "/crl/web/1/1.crl",
        "/crl/web/1/delta.crl",
        "/crl/no/1.crl",
        "/crl/web/1",
        "/crl/../1.crl",
    ]

    answers = [await call(app, "GET", path) for path in paths]

    assert {answer.status for answer in answers} == {404}
    assert {answer.headers["content-type"] for answer in answers} == {"text/plain; charset=utf-8"}


async def test_with_the_database_away_the_last_list_is_served(world: StatusWorld, lists: CRLPublisher) -> None:
    app = await world.replica()
    published = await lists.publish(SCOPE)
    await call(app, "GET", "/crl/web/1.crl")
    await world.services_of(app).close()
    for held in app._crl._lists._held.values():
        held.checked_at = float("-inf")

    assert (await call(app, "GET", "/crl/web/1.crl")).body == published.der
    unknown = await call(app, "GET", "/crl/other/1.crl")
    assert (unknown.status, unknown.headers["retry-after"]) == (503, "5")


async def test_old_lists_are_pruned_but_numbers_go_on(
    world: StatusWorld, lists: CRLPublisher, database: Database
) -> None:
    for _ in range(14):
        last = await lists.publish(SCOPE)

    assert [number for number, _ in await numbers(database)] == list(range(5, 15))
    assert last.number == 14


async def test_the_gauges_tell_age_number_and_what_is_missing(world: StatusWorld, lists: CRLPublisher) -> None:
    await lists.publish(SCOPE)
    now = world.clock.now() + timedelta(days=8)
    StaleWatch().look(await lists.scopes(), now)

    labels = {"authority": "web", "generation": "1", "shard": "0", "kind": "full"}
    assert REGISTRY.get_sample_value("spork_crl_number", labels) == 1
    assert (REGISTRY.get_sample_value("spork_crl_seconds_to_next_update", labels) or 0) < 0
    assert (REGISTRY.get_sample_value("spork_crl_age_seconds", labels) or 0) >= timedelta(days=8).total_seconds()
    missing = {"authority": "other", "generation": "1", "shard": "0"}
    assert REGISTRY.get_sample_value("spork_crl_missing", missing) == 1


async def test_the_message_of_a_revocation_publishes_its_ca(database: Database) -> None:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    async with a_status_world(database, clock=clock) as world:
        await ensure_crls(world.services)
        await world.revoke(await world.issue(), Reason.keyCompromise)
        clock.current += timedelta(seconds=6)

        await handle_message(world.services, {"authority": "web", "urgent": True})

        assert await numbers(database) == [(1, True), (2, True)]
        assert await numbers(database, "other") == [(1, True)]


async def test_messages_of_the_outbox_are_worked_off(world: StatusWorld, database: Database) -> None:
    for _ in range(3):
        await world.revoke(await world.issue(), Reason.superseded)
    await database.execute("INSERT INTO outbox (kind, payload) VALUES ('nobody knows', '{}')")
    outbox = Outbox(database)

    assert await workers.deliver(world.services, outbox) == 4
    assert await workers.deliver(world.services, outbox) == 0

    assert await numbers(database) == [(1, True)]
    rows = await (await database.execute("SELECT kind, last_error FROM outbox")).fetchall()
    assert [(kind, bool(error)) for kind, error in rows] == [("nobody knows", True)]


async def test_the_workers_make_lists_and_responders_and_end_when_told(world: StatusWorld, database: Database) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(workers.run(world.services, stop))
    async with asyncio.timeout(10):
        while True:
            row = await (
                await database.execute(
                    """SELECT (SELECT count(*) FROM crl WHERE der IS NOT NULL),
                              (SELECT count(*) FROM certificate WHERE profile = 'ocsp-signing' AND state = 'issued')"""
                )
            ).fetchone()
            if row == (3, 2):
                break
            await asyncio.sleep(0.05)
        stop.set()
        await running
