# ruff: noqa: F811 - fixtures are imported by name and then asked for by name
"""The whole ACME flow, step by step, as certbot and its like do it."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from dataclasses import replace

import pytest
from acme_world import Client, World, a_csr, b64, client, problem_of, some_name, world  # noqa: F401 - fixtures
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from x509_world import a_root

from spork.api.acme import orders
from spork.errors import Code, SporkError
from spork.store.database import Database
from spork.x509.profile import CAConstraints

pytestmark = [pytest.mark.protocol, pytest.mark.store]


async def test_a_client_gets_a_certificate(world: World, client: Client) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    chain = await client.certificate(world, "one.example", "two.example", key=key)
    assert len(chain) == 2
    chain[0].verify_directly_issued_by(world.ca.certificate)
    assert chain[0].public_key() == key.public_key()
    assert world.root.certificate not in chain


async def test_the_directory_names_every_door_and_leaves_empty_members_out(world: World, client: Client) -> None:
    value = (await client.http.get("/acme/web/directory")).json()
    assert value == {
        "newNonce": "https://ca.test/acme/web/new-nonce",
        "newAccount": "https://ca.test/acme/web/new-account",
        "newOrder": "https://ca.test/acme/web/new-order",
        "revokeCert": "https://ca.test/acme/web/revoke-cert",
        "keyChange": "https://ca.test/acme/web/key-change",
    }
    assert (await client.http.get("/acme/directory")).json() == value
    world.change_issuer(acme={"terms_of_service": "https://ca.test/tos", "caa_identities": ["ca.test"]})
    meta = (await client.http.get("/acme/web/directory")).json()["meta"]
    assert meta == {"termsOfService": "https://ca.test/tos", "caaIdentities": ["ca.test"]}


async def test_nonces_come_by_head_and_get_and_are_never_cached(client: Client) -> None:
    head, get = await client.http.head("/acme/web/new-nonce"), await client.http.get("/acme/web/new-nonce")
    assert (head.status_code, get.status_code) == (200, 204)
    for response in (head, get):
        assert response.headers["replay-nonce"]
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["link"] == '<https://ca.test/acme/web/directory>;rel="index"'


async def test_every_step_has_the_status_and_headers_that_clients_need(world: World, client: Client) -> None:
    placed = await client.new_order("www.example")
    order = placed.json()
    assert (placed.status_code, order["status"]) == (201, "pending")
    assert placed.headers["location"].startswith("https://ca.test/acme/web/order/")
    assert 'rel="index"' in placed.headers["link"]
    assert order["identifiers"] == [{"type": "dns", "value": "www.example"}]
    assert "certificate" not in order
    authorization = (await client.post(order["authorizations"][0])).json()
    assert authorization["status"] == "pending"
    assert "wildcard" not in authorization
    [challenge] = authorization["challenges"]
    assert (challenge["type"], challenge["status"]) == ("http-01", "pending")
    answered = await client.post(challenge["url"], {})
    assert (answered.status_code, answered.json()["status"]) == (200, "processing")
    assert f'<{order["authorizations"][0]}>;rel="up"' in answered.headers["link"]
    await world.validate()
    authorization = (await client.post(order["authorizations"][0])).json()
    assert authorization["status"] == "valid"
    assert authorization["challenges"][0]["status"] == "valid"
    assert authorization["challenges"][0]["validated"]
    polled = await client.post(placed.headers["location"])
    assert (polled.json()["status"], polled.headers["location"]) == ("ready", placed.headers["location"])
    done = await client.post(order["finalize"], {"csr": b64(a_csr(["www.example"]))})
    assert (done.status_code, done.json()["status"]) == (200, "valid")
    assert done.headers["location"] == placed.headers["location"]
    pem = await client.post(done.json()["certificate"])
    assert pem.headers["content-type"] == "application/pem-certificate-chain"
    assert pem.headers["cache-control"] == "no-store"
    assert (await client.post(placed.headers["location"])).json() == done.json()


async def test_finalizing_twice_with_one_csr_gives_one_certificate(world: World, client: Client) -> None:
    _, order = await client.ready_order(world, "www.example")
    csr = {"csr": b64(a_csr(["www.example"]))}
    replies = [(await client.post(order["finalize"], csr)).json() for _ in range(2)]
    assert replies[0] == replies[1]
    other = await client.post(order["finalize"], {"csr": b64(a_csr(["www.example"]))})
    assert problem_of(other) == (403, "orderNotReady")
    assert await _certificates(world.database) == 1


async def test_two_replicas_racing_one_finalize_give_one_certificate(
    world: World, client: Client, database_url: str
) -> None:
    _, order = await client.ready_order(world, "www.example")
    body = {"csr": b64(a_csr(["www.example"]))}
    second = await Database.open(database_url, min_size=1, max_size=4)
    apps = [world.app(), world.app(world.services(second))]
    try:

        async def finalize(app: object) -> str:
            async with world.client(app) as other:
                other.key, other.kid = client.key, client.kid
                response = await other.post(order["finalize"], body)
                assert response.status_code == 200, response.text
                return str(response.json()["status"])

        statuses = await asyncio.gather(*(finalize(app) for app in apps * 4))
    finally:
        await second.close()
    assert set(statuses) <= {"valid", "processing"}
    assert "valid" in statuses
    assert await _certificates(world.database) == 1


async def test_one_account_with_sixteen_concurrent_orders_gets_no_error(world: World, client: Client) -> None:
    world.thumbprint = client.key.thumbprint()

    async def flow(app: object) -> int:
        async with world.client(app) as other:
            other.key, other.kid = client.key, client.kid
            return len(await other.certificate(world, some_name().replace("example", "localhost")))

    async with world.working():
        app = world.app()
        assert await asyncio.gather(*(flow(app) for _ in range(16))) == [2] * 16
    assert await _certificates(world.database) == 16
    assert len(world.validated) == 16


async def test_an_ip_address_is_certified_where_the_policy_permits_it(world: World, client: Client) -> None:
    world.thumbprint = client.key.thumbprint()
    address = ipaddress.ip_address("127.0.0.1")
    async with world.working(), world.client(world.app()) as other:
        other.key, other.kid = client.key, client.kid
        placed = await other.post(other.url("new-order"), {"identifiers": [{"type": "ip", "value": "127.0.0.1"}]})
        await other.answer(placed.json())
        for _ in range(200):
            order = (await other.post(placed.headers["location"])).json()
            if order["status"] != "pending":
                break
            await asyncio.sleep(0.05)
        done = await other.post(order["finalize"], {"csr": b64(a_csr([], more=[x509.IPAddress(address)]))})
        leaf = x509.load_pem_x509_certificates((await other.post(done.json()["certificate"])).content)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [address]


async def test_an_account_that_places_very_many_orders_is_slowed_down(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "ORDERS_PER_HOUR", 2)
    answers = [await client.new_order(some_name()) for _ in range(3)]
    assert [one.status_code for one in answers] == [201, 201, 429]
    assert problem_of(answers[2]) == (429, "rateLimited")
    assert answers[2].headers["retry-after"]
    world.settings = replace(world.settings, acme_rate_limits=False)
    async with world.client(world.app()) as other:
        other.key, other.kid = client.key, client.kid
        assert (await other.new_order(some_name())).status_code == 201


async def test_an_order_rests_on_earlier_proofs_of_the_same_account_only(world: World, client: Client) -> None:
    await client.ready_order(world, "www.example")
    again = (await client.new_order("www.example", "new.example")).json()
    states = [(await client.post(url)).json()["status"] for url in again["authorizations"]]
    assert states == ["valid", "pending"]
    async with world.client() as stranger:
        await stranger.register()
        order = (await stranger.new_order("www.example")).json()
        assert order["status"] == "pending"


async def test_a_failed_validation_ends_the_order_and_shows_the_reason(world: World, client: Client) -> None:
    placed = await client.new_order("www.example")
    await client.answer(placed.json())
    await world.validate(SporkError(Code.INCORRECT_RESPONSE, "It was something else."))
    authorization = (await client.post(placed.json()["authorizations"][0])).json()
    assert authorization["status"] == "invalid"
    assert authorization["challenges"][0]["error"]["type"] == "urn:ietf:params:acme:error:incorrectResponse"
    assert (await client.post(placed.headers["location"])).json()["status"] == "invalid"
    refused = await client.post(placed.json()["finalize"], {"csr": b64(a_csr(["www.example"]))})
    assert problem_of(refused) == (403, "orderNotReady")


async def test_a_connection_that_fails_is_tried_four_times(world: World, client: Client) -> None:
    placed = await client.new_order("www.example")
    await client.answer(placed.json())
    for attempt in range(1, 5):
        await world.validate(SporkError(Code.CONNECTION, "Nobody there.", retry_after_s=1))
        assert len(world.validated) == attempt
        status = (await client.post(placed.json()["authorizations"][0])).json()["status"]
        assert status == ("invalid" if attempt == 4 else "pending")
        await world.database.execute("UPDATE job SET run_at = now()")


async def test_answering_a_challenge_twice_starts_one_validation(world: World, client: Client) -> None:
    placed = await client.new_order("www.example")
    await client.answer(placed.json())
    await client.answer(placed.json())
    await world.validate()
    assert world.validated == ["www.example"]
    challenge = (await client.post(placed.json()["authorizations"][0])).json()["challenges"][0]
    assert (await client.post(challenge["url"], {})).json()["status"] == "valid"


async def test_a_certificate_row_and_its_audit_event_name_the_account(world: World, client: Client) -> None:
    await client.certificate(world, "www.example")
    cursor = await world.database.execute("SELECT requester, evidence, door, profile FROM certificate")
    requester, evidence, door, profile = await cursor.fetchone()
    assert (requester, door, profile) == (f"acme-account:{client.kid.rpartition('/')[2]}", "acme", "tls-server")
    assert evidence["kind"] == "order"
    cursor = await world.database.execute("SELECT action FROM audit_event ORDER BY id")
    actions = [row[0] for row in await cursor.fetchall()]
    assert actions == ["acme.account.create", "acme.authorization.valid", "certificate.issue"]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param({"kty": "EC", "crv": "P-384"}, id="P-384"),
        pytest.param({"kty": "EC", "crv": "P-521"}, id="P-521"),
        pytest.param({"kty": "RSA", "size": 2048}, id="RSA"),
        pytest.param({"kty": "OKP", "crv": "Ed25519"}, id="Ed25519"),
    ],
)
async def test_accounts_of_every_kind_of_key_get_certificates(world: World, kind: dict[str, object]) -> None:
    async with world.client(**kind) as other:
        assert (await other.register()).status_code == 201
        assert len(await other.certificate(world, "www.example")) == 2


async def test_the_orders_of_an_account_are_listed_in_pages(world: World, client: Client) -> None:
    placed = [(await client.new_order(f"n{number}.example")).headers["location"] for number in range(3)]
    value = (await client.post(f"{client.kid}/orders")).json()
    assert sorted(value["orders"]) == sorted(placed)
    after = value["orders"][0].rpartition("/")[2]
    rest = (await client.post(f"{client.kid}/orders?after={after}")).json()
    assert rest["orders"] == value["orders"][1:]


async def test_unused_proofs_can_be_given_up(world: World, client: Client) -> None:
    _, order = await client.ready_order(world, "www.example")
    given_up = await client.post(order["authorizations"][0], {"status": "deactivated"})
    assert given_up.json()["status"] == "deactivated"
    refused = await client.post(order["finalize"], {"csr": b64(a_csr(["www.example"]))})
    assert problem_of(refused) == (403, "orderNotReady")


async def test_an_order_may_ask_for_its_own_dates(world: World, client: Client) -> None:
    until = "2026-11-30T00:00:00Z"
    placed = await client.new_order("www.example", notAfter=until)
    assert placed.json()["notAfter"] == until
    await client.answer(placed.json())
    await world.validate()
    done = await client.post(placed.json()["finalize"], {"csr": b64(a_csr(["www.example"]))})
    leaf = x509.load_pem_x509_certificates((await client.post(done.json()["certificate"])).content)[0]
    assert leaf.not_valid_after_utc.isoformat() == "2026-11-30T00:00:00+00:00"


async def test_each_cross_certificate_gives_an_alternate_chain(world: World, client: Client) -> None:
    partner = a_root("Partner root")
    web, root = world.ca.authority, world.root.authority
    crosses = [
        partner.certify("cross", subject=one.subject, names=(), spki=one.spki, constraints=CAConstraints())
        for one in (web, root)
    ]
    services = world.services()
    services.authorities.others = [root, partner.authority]
    services.authorities.crosses = {web.id: crosses[:1], root.id: crosses[1:]}
    await client.certificate(world, "www.example")
    orders = (await client.post(f"{client.kid}/orders")).json()["orders"]
    url = (await client.post(orders[0])).json()["certificate"]
    async with world.client(world.app(services)) as other:
        other.key, other.kid = client.key, client.kid
        first = await other.post(url)
        links = [value for value in first.headers.get_list("link") if "alternate" in value]
        assert links == [f'<{url}/1>;rel="alternate"', f'<{url}/2>;rel="alternate"']
        chains = [x509.load_pem_x509_certificates((await other.post(f"{url}/{n}")).content)[1:] for n in (0, 1, 2)]
        assert problem_of(await other.post(f"{url}/3")) == (404, "malformed")
        assert problem_of(await other.post(f"{url}/x")) == (404, "malformed")
    assert chains == [[world.ca.certificate], crosses[:1], [world.ca.certificate, crosses[1]]]


async def test_an_account_key_can_be_changed_and_the_old_one_ends(world: World, client: Client) -> None:
    async with world.client() as fresh:
        url = client.url("key-change")
        inner = fresh.sign(url, {"account": client.kid, "oldKey": client.key.export_public(as_dict=True)}, nonce=None)
        changed = await client.post(url, json.loads(inner))
        assert changed.status_code == 200, changed.text
        assert problem_of(await client.new_order("www.example")) == (400, "malformed")
        fresh.kid = client.kid
        assert (await fresh.new_order("www.example")).status_code == 201


async def _certificates(database: Database) -> int:
    cursor = await database.execute("SELECT count(*) FROM certificate")
    return int((await cursor.fetchone())[0])
