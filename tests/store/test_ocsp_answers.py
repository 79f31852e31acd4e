"""OCSP over a real database: what is answered, what an answer costs, and how soon a change is seen everywhere."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as oracle
from status_world import OTHER, ROOT, WEB, Response, StatusWorld, a_status_world, call

from spork.api.ocsp.signing import ResponderKeys, renew_responders
from spork.api.status import StatusApplication
from spork.clock import FixedClock
from spork.issuance.revoke import Reason
from spork.store.database import Database
from spork.store.responder import KnownIssuer
from spork.x509.ocsp import build_request

pytestmark = pytest.mark.store
OK = oracle.OCSPResponseStatus.SUCCESSFUL


@pytest.fixture
async def world(database: Database) -> AsyncIterator[StatusWorld]:
    async with a_status_world(database) as built:
        await renew_responders(built.services)
        yield built


async def ask(app: StatusApplication, request: bytes, path: str = "/ocsp") -> oracle.OCSPResponse:
    response = await call(app, "POST", path, body=request, headers={"Content-Type": "application/ocsp-request"})
    assert response.status == 200
    assert response.headers["content-type"] == "application/ocsp-response"
    return oracle.load_der_ocsp_response(response.body)


async def get(app: StatusApplication, request: bytes, **headers: str) -> Response:
    path = "/ocsp/" + quote(base64.b64encode(request).decode(), safe="")
    return await call(app, "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def status_is(app: StatusApplication, request: bytes, status: str, within_s: float = 15.0) -> None:
    """Waits until an app answers so. A change is seen within a second; a busy machine gets longer before this fails."""
    deadline = time.monotonic() + within_s
    while (seen := (await ask(app, request)).certificate_status.name) != status:
        assert time.monotonic() < deadline, f"still {seen}"
        await asyncio.sleep(0.02)


async def checked(app: StatusApplication) -> None:
    """Waits until the app's feed has read the counters."""
    app.start()
    while app.feed.unchecked_s > 0.4:  # noqa: ASYNC110 - the feed tells nobody when it has read.
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("hash_name", ["sha1", "sha256", "sha384", "sha512"])
async def test_an_issued_certificate_is_good_with_every_hash(world: StatusWorld, hash_name: str) -> None:
    issued = await world.issue()
    response = await ask(await world.replica(), await world.request(issued.serial, hash_name=hash_name))

    ca = await world.certificate()
    (responder,) = response.certificates
    assert response.certificate_status is oracle.OCSPCertStatus.GOOD
    assert response.hash_algorithm.name == hash_name
    responder.verify_directly_issued_by(ca)
    usage = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING]
    assert responder.extensions.get_extension_for_class(x509.OCSPNoCheck)
    key = responder.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    assert response.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(key).digest
    now = datetime.now(UTC)
    assert response.this_update_utc <= now < (response.next_update_utc or now)
    assert responder.not_valid_after_utc >= (response.next_update_utc or now)


@pytest.mark.parametrize("algorithm", ["rsa-2048", "ed25519", "ml-dsa-44"])
async def test_responders_have_the_family_of_their_ca(database: Database, algorithm: str) -> None:
    async with a_status_world(database, algorithm=algorithm) as world:
        await renew_responders(world.services)
        issued = await world.issue()
        response = await ask(await world.replica(), await world.request(issued.serial))

        assert response.certificate_status is oracle.OCSPCertStatus.GOOD
        responder, ca = response.certificates[0], await world.certificate()
        assert type(responder.public_key()) is type(ca.public_key())


async def test_a_serial_that_was_never_issued_is_unknown_and_not_cached(world: StatusWorld) -> None:
    app = await world.replica()
    await checked(app)
    request = await world.request(0x4242)
    first = await ask(app, request)
    before = world.services_of(app).statistics.statements

    second = await ask(app, request)

    assert first.certificate_status is second.certificate_status is oracle.OCSPCertStatus.UNKNOWN
    assert world.services_of(app).statistics.statements > before


async def test_a_reserved_serial_is_not_good(world: StatusWorld, database: Database) -> None:
    issued = await world.issue()
    await database.execute(
        "UPDATE certificate SET state = 'reserved', der = NULL, lease_until = now() + interval '1 minute' WHERE id = %s",
        [issued.certificate_id],
    )

    response = await ask(await world.replica(), await world.request(issued.serial))

    assert response.certificate_status is oracle.OCSPCertStatus.UNKNOWN


async def test_an_abandoned_serial_is_revoked(world: StatusWorld, database: Database) -> None:
    issued = await world.issue()
    await database.execute(
        """UPDATE certificate SET state = 'reserved', der = NULL, tbs = '\\x00', lease_id = gen_random_uuid(),
           lease_until = now() - interval '1 minute' WHERE id = %s""",
        [issued.certificate_id],
    )
    await world.services.ledger.abandon_expired()

    response = await ask(await world.replica(), await world.request(issued.serial))

    assert response.certificate_status is oracle.OCSPCertStatus.REVOKED


async def test_a_hit_costs_no_sql(world: StatusWorld) -> None:
    app = await world.replica()
    issued = await world.issue()
    request = await world.request(issued.serial)
    await checked(app)
    first = await get(app, request)
    statistics = world.services_of(app).statistics
    statistics.reset()

    second, posted = await get(app, request), await ask(app, request)

    assert second.body == first.body
    assert posted.certificate_status is oracle.OCSPCertStatus.GOOD
    assert statistics.statements == 0
    assert statistics.round_trips == 0


@pytest.mark.parametrize("first_nonce", [None, b"1" * 16], ids=["after an ordinary request", "with nonces alone"])
async def test_the_second_request_with_a_nonce_costs_no_sql(world: StatusWorld, first_nonce: bytes | None) -> None:
    app, issued, other = await world.replica(), await world.issue(), await world.issue()
    first = await world.request(issued.serial, nonce=first_nonce)
    second = await world.request(issued.serial, nonce=b"2" * 16)
    await checked(app)
    await ask(app, first)
    # What concerns another certificate leaves the status known.
    await world.revoke(other)
    await status_is(app, await world.request(other.serial), "REVOKED")
    statistics = world.services_of(app).statistics
    statistics.reset()

    answer = await ask(app, second)
    ordinary = await ask(app, await world.request(issued.serial))

    assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"2" * 16
    assert answer.certificate_status is ordinary.certificate_status is oracle.OCSPCertStatus.GOOD
    assert (statistics.statements, statistics.round_trips) == (0, 0)


async def test_an_unknown_serial_asked_for_with_nonces_is_read_each_time(world: StatusWorld) -> None:
    app = await world.replica()
    await checked(app)
    await ask(app, await world.request(0x4242, nonce=b"1"))
    statistics = world.services_of(app).statistics
    statistics.reset()

    assert (await ask(app, await world.request(0x4242, nonce=b"2"))).certificate_status.name == "UNKNOWN"

    assert statistics.round_trips == 1


async def test_a_revocation_is_seen_by_requests_with_a_nonce_within_a_second(world: StatusWorld) -> None:
    issued = await world.issue()
    request = await world.request(issued.serial, nonce=b"n" * 16)
    replicas = [await world.replica(), await world.replica()]
    for app in replicas:
        await checked(app)
        await status_is(app, request, "GOOD")

    await world.revoke(issued, Reason.certificateHold)
    for app in replicas:
        await status_is(app, request, "REVOKED")
    await world.revoke(issued, Reason.removeFromCRL)
    for app in replicas:
        await status_is(app, request, "GOOD")


async def test_a_replica_whose_feed_stalls_asks_the_database_for_requests_with_a_nonce(world: StatusWorld) -> None:
    issued, app = await world.issue(), await world.replica()
    request = await world.request(issued.serial, nonce=b"n" * 16)
    await checked(app)
    await status_is(app, request, "GOOD")
    app.feed.pause = 60
    await asyncio.sleep(1.2)

    await world.revoke(issued)

    assert (await ask(app, request)).certificate_status is oracle.OCSPCertStatus.REVOKED


async def test_requests_with_a_nonce_leave_the_kept_answer_for_an_outage(world: StatusWorld) -> None:
    issued, app = await world.issue(), await world.replica()
    plain, request = await world.request(issued.serial), await world.request(issued.serial, nonce=b"n")
    await checked(app)
    await status_is(app, plain, "GOOD")
    app.feed.pause = 60
    await asyncio.sleep(1.2)
    await ask(app, request)
    await world.services_of(app).close()
    app.feed.away = True

    assert (await ask(app, plain)).certificate_status is oracle.OCSPCertStatus.GOOD
    assert await refused(app, request) == "TRY_LATER"


async def test_a_miss_costs_one_statement_for_counter_and_status(world: StatusWorld) -> None:
    app = await world.replica()
    first, second = await world.issue(), await world.issue()
    await checked(app)
    await ask(app, await world.request(first.serial))
    statistics = world.services_of(app).statistics
    statistics.reset()

    await ask(app, await world.request(second.serial))

    # BEGIN, the one statement and COMMIT go out together.
    assert statistics.round_trips == 1


async def test_a_revocation_is_seen_on_every_replica_within_a_second(world: StatusWorld) -> None:
    issued = await world.issue()
    request = await world.request(issued.serial)
    replicas = [await world.replica(), await world.replica()]
    for app in replicas:
        await checked(app)
        await status_is(app, request, "GOOD")

    await world.revoke(issued, Reason.keyCompromise)

    for app in replicas:
        await status_is(app, request, "REVOKED")
        response = await ask(app, request)
        assert response.revocation_reason is x509.ReasonFlags.key_compromise


async def test_a_revocation_that_was_not_notified_is_seen_within_a_second(
    world: StatusWorld, database: Database
) -> None:
    issued, app = await world.issue(), await world.replica()
    request = await world.request(issued.serial)
    await checked(app)
    await status_is(app, request, "GOOD")

    # As `revoke` does it, but without NOTIFY: only the counter tells.
    await database.execute(
        """WITH moved AS (UPDATE authority SET status_version = status_version + 1 WHERE id = 'web' RETURNING status_version)
           INSERT INTO revocation (certificate_id, authority_id, generation, crl_shard, serial, reason, revoked_at, not_after,
                                   version)
           SELECT c.id, c.authority_id, c.generation, c.crl_shard, c.serial, 4, now(), c.not_after, moved.status_version
             FROM certificate c, moved WHERE c.id = %s""",
        [issued.certificate_id],
    )

    await status_is(app, request, "REVOKED")


async def test_cas_that_were_read_while_others_were_added_are_read_again(
    world: StatusWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, issued = await world.replica(), await world.issue()
    answers = app._ocsp._answers
    read = answers._store.issuers

    async def read_before_the_change() -> Sequence[KnownIssuer]:
        # The first reading began before a commit that the feed tells of before the reading ends.
        monkeypatch.setattr(answers._store, "issuers", read)
        answers.configuration_changed()
        return []

    monkeypatch.setattr(answers._store, "issuers", read_before_the_change)
    request = await world.request(issued.serial)
    await ask(app, request)
    assert (await ask(app, request)).response_status is OK


async def test_a_replica_whose_feed_stalls_asks_the_database(world: StatusWorld) -> None:
    issued, app = await world.issue(), await world.replica()
    request = await world.request(issued.serial)
    await checked(app)
    await status_is(app, request, "GOOD")
    app.feed.pause = 60
    await asyncio.sleep(1.2)

    await world.revoke(issued)

    assert (await ask(app, request)).certificate_status is oracle.OCSPCertStatus.REVOKED


async def test_hold_and_release(world: StatusWorld) -> None:
    issued, app = await world.issue(), await world.replica()
    request = await world.request(issued.serial)
    await checked(app)
    await status_is(app, request, "GOOD")

    await world.revoke(issued, Reason.certificateHold)
    await status_is(app, request, "REVOKED")
    assert (await ask(app, request)).revocation_reason is x509.ReasonFlags.certificate_hold

    await world.revoke(issued, Reason.removeFromCRL)
    await status_is(app, request, "GOOD")


async def test_an_unspecified_reason_is_absent(world: StatusWorld) -> None:
    issued = await world.issue()
    await world.revoke(issued, Reason.unspecified)

    assert (await ask(await world.replica(), await world.request(issued.serial))).revocation_reason is None


async def test_several_certificates_are_answered_in_order(world: StatusWorld) -> None:
    first, second = await world.issue(), await world.issue()
    await world.revoke(second)
    response = await ask(await world.replica(), await world.request(second.serial, 99, first.serial))

    found = [(single.serial_number, single.certificate_status.name) for single in response.responses]
    assert found == [(second.serial, "REVOKED"), (99, "UNKNOWN"), (first.serial, "GOOD")]


async def test_a_nonce_is_echoed_and_such_an_answer_is_not_to_be_kept(world: StatusWorld) -> None:
    issued, app = await world.issue(), await world.replica()
    response = await get(app, await world.request(issued.serial, nonce=b"n" * 32))
    again = await get(app, await world.request(issued.serial))

    nonce = oracle.load_der_ocsp_response(response.body).extensions.get_extension_for_class(x509.OCSPNonce).value
    assert nonce.nonce == b"n" * 32
    assert response.headers["cache-control"] == "no-store"
    assert {"etag", "expires", "last-modified"}.isdisjoint(response.headers)
    assert "etag" in again.headers


async def test_get_carries_the_headers_of_rfc_5019_and_answers_304(world: StatusWorld) -> None:
    issued, app = await world.issue(), await world.replica()
    request = await world.request(issued.serial)
    await checked(app)
    response = await get(app, request)
    unchanged = await get(app, request, If_None_Match=response.headers["etag"])
    changed = await get(app, request, If_None_Match='"other"')

    parsed = oracle.load_der_ocsp_response(response.body)
    max_age = int(response.headers["cache-control"].split(",")[0].removeprefix("max-age="))
    assert max_age == 600
    assert parsed.next_update_utc is not None
    assert response.headers["expires"] == parsed.next_update_utc.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert response.headers["last-modified"] == parsed.this_update_utc.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert unchanged.headers["etag"] == response.headers["etag"]
    assert changed.status == 200


@pytest.mark.parametrize("form", ["plain", "quoted", "unpadded"])
async def test_get_reads_every_form_of_the_path(world: StatusWorld, form: str) -> None:
    app = await world.replica()
    encoded = ""
    # A serial is looked for whose request holds the characters that proxies and frameworks like to change.
    serial = 1 << 126
    while "/" not in encoded or "+" not in encoded:
        serial += 0x1F3F7
        encoded = base64.b64encode(await world.request(serial)).decode()
    path = {"plain": encoded, "quoted": quote(encoded, safe=""), "unpadded": encoded.rstrip("=")}[form]

    response = await call(app, "GET", f"/ocsp/web/{path}")

    assert oracle.load_der_ocsp_response(response.body).serial_number == serial


async def test_a_slash_doubled_in_base64_survives(world: StatusWorld) -> None:
    app, serial, encoded = await world.replica(), 1 << 126, ""
    while "//" not in encoded:
        serial += 0xFFF3FF7
        encoded = base64.b64encode(await world.request(serial)).decode()

    response = await call(app, "GET", f"/ocsp/{encoded}")

    assert oracle.load_der_ocsp_response(response.body).serial_number == serial


async def refused(app: StatusApplication, request: bytes, path: str = "/ocsp") -> str:
    return (await ask(app, request, path)).response_status.name


async def test_a_foreign_issuer_is_unauthorized(world: StatusWorld) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Somebody else")])
    now = datetime.now(UTC)
    foreign = (
        x509.CertificateBuilder(name, name, key.public_key(), 5, now, now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    request = oracle.OCSPRequestBuilder().add_certificate(foreign, foreign, hashes.SHA1()).build()

    assert await refused(await world.replica(), request.public_bytes(Encoding.DER)) == "UNAUTHORIZED"


async def test_the_right_name_with_another_key_is_unauthorized(world: StatusWorld) -> None:
    authority = await world.services.authorities.authority(WEB)
    other = await world.services.authorities.authority(OTHER)
    request = build_request(authority.subject_der, other.spki, [5], "sha1", None)

    assert await refused(await world.replica(), request) == "UNAUTHORIZED"


async def test_a_sealed_ca_has_no_responder(world: StatusWorld) -> None:
    assert await refused(await world.replica(), await world.request(1, authority_id=ROOT)) == "UNAUTHORIZED"


async def test_the_address_of_one_ca_does_not_answer_for_another(world: StatusWorld) -> None:
    app, issued = await world.replica(), await world.issue()
    request = await world.request(issued.serial)
    await checked(app)
    assert await refused(app, request, "/ocsp/web") == "SUCCESSFUL"

    # Also not from the cache.
    assert await refused(app, request, "/ocsp/other") == "UNAUTHORIZED"
    assert await refused(app, request, "/ocsp/nobody") == "UNAUTHORIZED"


async def test_issuers_mixed_in_one_request_are_unauthorized(world: StatusWorld) -> None:
    first, second = await world.request(1), await world.request(2, authority_id=OTHER)
    ids = [oracle.load_der_ocsp_request(request) for request in (first, second)]
    assert ids[0].issuer_key_hash != ids[1].issuer_key_hash
    # Three headers of two octets stand before the one Request of each; the two are put into one list.
    body = first[6:] + second[6:]
    for _ in range(3):
        body = b"\x30" + (bytes((len(body),)) if len(body) < 128 else b"\x81" + bytes((len(body),))) + body

    assert await refused(await world.replica(), body) == "UNAUTHORIZED"


@pytest.mark.parametrize("body", [b"", b"\x30\x00", b"hello", b"\x30\x80\x00\x00"])
async def test_what_is_no_request_is_malformed(world: StatusWorld, body: bytes) -> None:
    assert await refused(await world.replica(), body) == "MALFORMED_REQUEST"


async def test_a_request_of_a_megabyte_is_refused_before_it_is_read(world: StatusWorld) -> None:
    app, reads = await world.replica(), 0

    async def receive() -> dict[str, object]:
        nonlocal reads
        reads += 1
        return {"type": "http.request", "body": b"0" * 65536, "more_body": True}

    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/ocsp", "raw_path": b"/ocsp", "headers": []}
    await app(scope | {"headers": [(b"content-length", b"1048576")]}, receive, send)
    await app(scope, receive, send)

    assert [message["status"] for message in sent if "status" in message] == [413, 413]
    assert reads == 2


async def test_other_methods_and_paths_are_refused(world: StatusWorld) -> None:
    app = await world.replica()

    assert (await call(app, "PUT", "/ocsp")).headers["allow"] == "GET, HEAD, POST"
    assert (await call(app, "PUT", "/ocsp")).status == 405
    assert (await call(app, "GET", "/ocsp")).status == 400
    assert (await call(app, "GET", "/ocspx")).status == 404
    assert (await call(app, "GET", "/elsewhere")).status == 404
    head = await call(app, "HEAD", "/ocsp/" + base64.b64encode(await world.request(5)).decode())
    assert (head.status, head.body) == (200, b"")


async def test_without_a_responder_the_answer_is_try_later(database: Database) -> None:
    async with a_status_world(database) as world:
        issued = await world.issue()

        assert await refused(await world.replica(), await world.request(issued.serial)) == "TRY_LATER"


async def test_with_the_database_away_cached_answers_go_out_and_others_are_try_later(world: StatusWorld) -> None:
    app = await world.replica()
    issued, other = await world.issue(), await world.issue()
    known, unknown = await world.request(issued.serial), await world.request(other.serial)
    await checked(app)
    await status_is(app, known, "GOOD")

    app.feed.away = True
    app.feed.pause = 60
    await world.services_of(app).close()
    await asyncio.sleep(1.2)
    app.feed.away = True

    assert (await ask(app, known)).certificate_status is oracle.OCSPCertStatus.GOOD
    assert await refused(app, unknown) == "TRY_LATER"
    assert await refused(app, await world.request(issued.serial, nonce=b"n")) == "TRY_LATER"
    app.feed._checked_at -= 60
    assert await refused(app, known) == "TRY_LATER"


async def test_an_answer_is_signed_anew_at_half_of_its_life(database: Database) -> None:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    async with a_status_world(database, clock=clock) as world:
        await renew_responders(world.services)
        app, issued = await world.replica(), await world.issue()
        request = await world.request(issued.serial)
        await checked(app)
        first = await ask(app, request)
        clock.current += timedelta(minutes=29)
        same = await ask(app, request)
        clock.current += timedelta(minutes=2)
        fresh = await ask(app, request)

        assert same.this_update_utc == first.this_update_utc
        assert fresh.this_update_utc == first.this_update_utc + timedelta(minutes=31)


async def test_an_expired_certificate_is_answered_with_an_archive_cutoff(database: Database) -> None:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    async with a_status_world(database, clock=clock) as world:
        issued = await world.issue(validity=timedelta(hours=2))
        clock.current += timedelta(hours=3)
        await renew_responders(world.services)
        response = await ask(await world.replica(), await world.request(issued.serial))

        (single,) = response.responses
        assert single.certificate_status is oracle.OCSPCertStatus.GOOD
        assert b"\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x06" in response.tbs_response_bytes


async def test_a_responder_is_renewed_at_half_of_its_life_and_found_by_other_replicas(database: Database) -> None:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    async with a_status_world(database, clock=clock) as world:
        made = [await renew_responders(world.services), await renew_responders(world.services)]
        first = await ResponderKeys(world.services).responder(WEB, 1)
        clock.current += timedelta(days=4)
        made.append(await renew_responders(world.services))
        second = await ResponderKeys(world.services).responder(WEB, 1)

        assert made == [2, 0, 2]
        assert second.certificate_der != first.certificate_der
        assert second.signer.spki != first.signer.spki


async def test_two_replicas_renew_a_responder_once(world: StatusWorld, database: Database) -> None:
    await database.execute("UPDATE certificate SET not_after = now() - interval '1 day' WHERE profile = 'ocsp-signing'")

    made = await asyncio.gather(renew_responders(world.services), renew_responders(world.services))

    assert sum(made) == 2


async def test_no_octet_of_a_responder_key_is_stored_in_clear(world: StatusWorld, database: Database) -> None:
    rows = await (
        await database.execute("SELECT ciphertext, wrapped_data_key FROM private_key WHERE purpose = 'ocsp'")
    ).fetchall()

    # A PKCS#8 of an EC key begins with this algorithm identifier.
    assert rows
    assert not any(bytes.fromhex("06072a8648ce3d0201") in bytes(column) for row in rows for column in row)


async def test_ca_certificates_are_served(world: StatusWorld, tmp_path: Path) -> None:
    app = await world.replica()
    der, pem = await call(app, "GET", "/ca/web/1.cer"), await call(app, "GET", "/ca/web/1.pem")

    assert der.headers["content-type"] == "application/pkix-cert"
    assert x509.load_der_x509_certificate(der.body) == x509.load_pem_x509_certificate(pem.body)
    assert (await call(app, "GET", "/ca/web/1.cer", headers={"If-None-Match": der.headers["etag"]})).status == 304
    assert (await call(app, "HEAD", "/ca/web/1.cer")).body == b""
    assert [(await call(app, "GET", path)).status for path in ("/ca/web/2.cer", "/ca/no/1.cer", "/ca/web/1.der")] == [
        404,
        404,
        404,
    ]
    assert (await call(app, "POST", "/ca/web/1.cer")).status == 405
