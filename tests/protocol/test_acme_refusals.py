# ruff: noqa: F811 - fixtures are imported by name and then asked for by name
"""Wrong and hostile input at the ACME door: each gets its proper refusal, and nothing is half-written."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from typing import Any

import pytest
from acme_world import BASE, Client, World, a_csr, b64, client, problem_of, world  # noqa: F401 - fixtures
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from fastapi import FastAPI
from jwcrypto import jwk as jwcrypto_jwk

from spork.errors import Code, SporkError
from spork.policy.issuer import NamePolicy
from spork.store import acme_account
from spork.store.database import Database

pytestmark = [pytest.mark.protocol, pytest.mark.store]

MALFORMED = (400, "malformed")
UNAUTHORIZED = (403, "unauthorized")


# The envelope ------------------------------------------------------------------------------------------------------------


async def test_a_replayed_nonce_is_refused_and_the_reply_has_a_fresh_one(client: Client) -> None:
    nonce = await client.fresh_nonce()
    assert (await client.post(client.kid, nonce=nonce)).status_code == 200
    again = await client.post(client.kid, nonce=nonce)
    assert problem_of(again) == (400, "badNonce")
    assert (await client.post(client.kid)).status_code == 200


async def test_a_replay_of_a_whole_order_places_no_second_one(world: World, client: Client) -> None:
    url, nonce = client.url("new-order"), await client.fresh_nonce()
    body = client.sign(url, {"identifiers": [{"type": "dns", "value": "www.example"}]}, nonce=nonce)
    codes = [(await client.post(url, body=body)).status_code for _ in range(3)]
    assert codes == [201, 400, 400]
    assert await _rows(world, "acme_order") == 1


async def test_a_nonce_of_a_refused_request_is_used_up(client: Client) -> None:
    nonce = await client.fresh_nonce()
    assert problem_of(await client.post(client.url("order/unknown"), nonce=nonce)) == (404, "malformed")
    assert problem_of(await client.post(client.kid, nonce=nonce)) == (400, "badNonce")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_no_nonce_without_the_database_is_no_success(world: World, database_url: str, method: str) -> None:
    database = await Database.open(database_url, min_size=1, max_size=1)
    async with world.client(world.app(world.services(database))) as client:
        await database.close()
        response = await client.http.request(method, client.url("new-nonce"))
    assert response.status_code == 503
    assert "replay-nonce" not in response.headers


async def test_a_message_without_a_nonce_is_refused(client: Client) -> None:
    body = client.sign(client.kid, None, nonce=None)
    assert problem_of(await client.post(client.kid, body=body)) == (400, "badNonce")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"{BASE}/acme/other/new-order", id="another issuer"),
        pytest.param("https://elsewhere.test/acme/web/new-order", id="another host"),
        pytest.param("http://ca.test/acme/web/new-order", id="another scheme"),
        pytest.param(f"{BASE}/acme/web/new-order/", id="a slash more"),
        pytest.param(f"{BASE}/acme/web/new-order?x=1", id="a query"),
    ],
)
async def test_a_foreign_url_in_the_header_is_refused(client: Client, url: str) -> None:
    body = client.sign(url, {"identifiers": []}, nonce=await client.fresh_nonce())
    assert problem_of(await client.post(client.url("new-order"), body=body)) == UNAUTHORIZED


async def test_both_jwk_and_kid_are_refused(client: Client) -> None:
    response = await client.post(client.kid, jwk=client.key.export_public(as_dict=True))
    assert problem_of(response) == MALFORMED


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_none_and_hmac_are_refused_with_the_list_of_algorithms(client: Client, algorithm: str) -> None:
    header = {"alg": algorithm, "kid": client.kid, "nonce": await client.fresh_nonce(), "url": client.kid}
    parts = {
        "protected": b64(json.dumps(header).encode()),
        "payload": "",
        "signature": "" if algorithm == "none" else "AAAA",
    }
    response = await client.post(client.kid, body=json.dumps(parts))
    assert problem_of(response) == (400, "badSignatureAlgorithm")
    assert "ES256" in response.json()["algorithms"]
    assert not {"none", "HS256"} & set(response.json()["algorithms"])


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "", "application/jose"])
async def test_other_content_types_are_refused(client: Client, content_type: str) -> None:
    body = client.sign(client.kid, None, nonce=await client.fresh_nonce())
    response = await client.http.post(client.kid or "", content=body, headers={"Content-Type": content_type})
    assert problem_of(response) == (415, "malformed")
    assert response.headers["replay-nonce"]


async def test_a_signature_by_another_key_is_refused(world: World, client: Client) -> None:
    other = jwcrypto_jwk.JWK.generate(kty="EC", crv="P-256")
    response = await client.post(
        client.url("new-order"), {"identifiers": [{"type": "dns", "value": "a.example"}]}, key=other
    )
    assert problem_of(response) == MALFORMED
    assert await _rows(world, "acme_order") == 0


async def test_a_changed_payload_is_refused(world: World, client: Client) -> None:
    url = client.url("new-order")
    body = json.loads(client.sign(url, {"identifiers": []}, nonce=await client.fresh_nonce()))
    body["payload"] = b64(json.dumps({"identifiers": [{"type": "dns", "value": "a.example"}]}).encode())
    assert problem_of(await client.post(url, body=json.dumps(body))) == MALFORMED
    assert await _rows(world, "acme_order") == 0


async def test_an_announced_oversized_body_is_refused(client: Client) -> None:
    response = await client.post(client.kid, body="x" * (64 * 1024 + 1))
    assert problem_of(response) == (413, "malformed")


async def test_an_endless_body_is_given_up_early(world: World) -> None:
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"x" * 16384, "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "https", "path": "/acme/web/new-order",
        "raw_path": b"/acme/web/new-order", "query_string": b"", "root_path": "", "client": ("192.0.2.1", 1),
        "server": ("ca.test", 443), "headers": [(b"content-type", b"application/jose+json"), (b"host", b"ca.test")],
    }  # fmt: skip
    await asyncio.wait_for(world.app()(scope, receive, send), 10)
    assert sent[0]["status"] == 413
    assert taken == 5


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 60000, id="nested lists"),
        pytest.param(b'{"a":' * 12000, id="nested objects"),
        pytest.param(
            b'{"payload":"","protected":"' + b64(b'{"jwk":' * 1500).encode() + b'","signature":""}', id="inside"
        ),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b'{"payload":"","payload":""}', id="a doubled member"),
    ],
)
async def test_broken_json_is_refused(client: Client, body: bytes) -> None:
    client.nonce = None
    response = await client.http.post(client.kid or "", content=body, headers={"Content-Type": "application/jose+json"})
    assert problem_of(response) == MALFORMED


@pytest.mark.parametrize(
    "payload", [b"[" * 3000, b"7", b"[]", b'{"identifiers":{}}', b'{"identifiers":[7]}', b"{", b""]
)
async def test_broken_payloads_are_refused(client: Client, payload: bytes) -> None:
    assert problem_of(await client.post(client.url("new-order"), payload)) == MALFORMED


async def test_names_with_nul_and_surrogates_are_refused_and_never_reach_the_database(client: Client) -> None:
    for text in ("a\x00.example", "\ud800.example"):
        payload = json.dumps({"identifiers": [{"type": "dns", "value": text}]}).encode()
        assert problem_of(await client.post(client.url("new-order"), payload)) == MALFORMED


@pytest.mark.parametrize("label", ["%E2%82%AC", "x%0d%0aSet-Cookie:%20a=b", "%00", "%22%3E"])
async def test_an_issuer_that_cannot_be_named_in_a_header_is_not_found(client: Client, label: str) -> None:
    response = await client.http.get(f"{BASE}/acme/{label}/directory")
    assert problem_of(response) == (404, "malformed")
    assert all(" " < character < "\x7f" for character in response.headers["link"])
    assert response.headers["link"].count('"') == 2


@pytest.mark.parametrize("path", ["order/x", "new-account", "new-order", "revoke-cert", "key-change", "certificate/x"])
async def test_a_plain_get_is_refused(client: Client, path: str) -> None:
    assert problem_of(await client.http.get(client.url(path))) == (405, "malformed")


async def test_unknown_paths_and_issuers_are_problems_too(client: Client) -> None:
    assert problem_of(await client.http.get("/acme/web/renewal-info/x")) == (404, "malformed")
    assert problem_of(await client.http.get("/acme/nobody/directory")) == (404, "malformed")


async def test_an_issuer_without_an_acme_door_is_not_found(world: World, client: Client) -> None:
    world.change_issuer(protocols={"est": {}})
    assert problem_of(await client.http.get("/acme/web/directory")) == (404, "malformed")


async def test_an_unknown_error_is_withheld_and_referred_to(world: World, client: Client, caplog: Any) -> None:
    async def broken(_: Any) -> None:
        raise RuntimeError("the secret is 42")

    services = world.services()
    services.pipeline.issue = broken
    _, order = await client.ready_order(world, "www.example")
    async with world.client(world.app(services)) as other:
        other.key, other.kid = client.key, client.kid
        response = await other.post(order["finalize"], {"csr": b64(a_csr(["www.example"]))})
    assert problem_of(response) == (500, "serverInternal")
    # Not the number alone: the reference is random and may hold it.
    assert "secret" not in response.text
    assert "reference" in response.json()["detail"]


async def test_the_order_survives_a_failed_pipeline(world: World, client: Client) -> None:
    async def broken(_: Any) -> None:
        raise SporkError(Code.UNAVAILABLE, "The database at 10.0.0.7 is away.", retry_after_s=5)

    services = world.services()
    services.pipeline.issue = broken
    url, order = await client.ready_order(world, "www.example")
    async with world.client(world.app(services)) as other:
        other.key, other.kid = client.key, client.kid
        response = await other.post(order["finalize"], {"csr": b64(a_csr(["www.example"]))})
    assert problem_of(response) == (503, "serverInternal")
    assert response.headers["retry-after"] == "5"
    assert "10.0.0.7" not in response.text
    assert (await client.post(url)).json()["status"] == "ready"


async def test_an_unreachable_database_is_a_503_without_a_hang(world: World, client: Client) -> None:
    await world.database.close()
    client.nonce = None
    body = client.sign(client.kid, None, nonce="A" * 48)
    response = await client.http.post(client.kid or "", content=body, headers={"Content-Type": "application/jose+json"})
    assert problem_of(response) == (503, "serverInternal")


# Accounts ----------------------------------------------------------------------------------------------------------------


async def test_a_known_key_gets_its_account_again(client: Client) -> None:
    former, client.kid = client.kid, None
    for payload in ({}, {"onlyReturnExisting": True}):
        again = await client.post(client.url("new-account"), payload)
        assert (again.status_code, again.headers["location"]) == (200, former)


async def test_registering_one_key_many_times_at_once_makes_one_account(world: World) -> None:
    app = world.app()
    async with world.client(app) as first:

        async def register() -> str:
            async with world.client(app) as other:
                other.key = first.key
                response = await other.register()
                assert response.status_code in (200, 201), response.text
                return str(response.headers["location"])

        assert len(set(await asyncio.gather(*(register() for _ in range(8))))) == 1
    assert await _rows(world, "acme_account") == 1


async def test_who_loses_the_race_to_register_a_key_is_told_of_its_account(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, insert = world.app(), acme_account.insert
    async with world.client(app) as loser, world.client(app) as winner:
        winner.key = loser.key

        async def insert_too_late(*arguments: Any, **more: Any) -> Any:
            monkeypatch.setattr(acme_account, "insert", insert)
            assert (await winner.register()).status_code == 201
            return await insert(*arguments, **more)

        monkeypatch.setattr(acme_account, "insert", insert_too_late)
        response = await loser.register()

    assert (response.status_code, response.headers["location"]) == (200, winner.kid)
    assert await _rows(world, "acme_account") == 1


async def test_only_return_existing_makes_no_account(world: World) -> None:
    async with world.client() as stranger:
        response = await stranger.post(stranger.url("new-account"), {"onlyReturnExisting": True})
    assert problem_of(response) == (400, "accountDoesNotExist")
    assert await _rows(world, "acme_account") == 0


async def test_accounts_are_per_issuer(world: World, client: Client) -> None:
    url = f"{BASE}/acme/other/new-order"
    response = await client.post(url, {"identifiers": [{"type": "dns", "value": "www.example"}]})
    assert problem_of(response) == (400, "accountDoesNotExist")
    kid = str(client.kid).replace("/web/", "/other/")
    assert problem_of(await client.post(kid, kid=kid)) == (400, "accountDoesNotExist")


@pytest.mark.parametrize(
    "kid",
    [
        "",
        "1",
        "https://ca.test/acme/web/account/",
        "https://ca.test/acme/web/account/99999",
        "https://ca.test/acme/web/account/1x",
        "https://ca.test/acme/web/account/-1",
        "https://ca.test/acme/web/account/99999999999999999999",
        "https://evil.test/acme/web/account/1",
    ],
    ids=repr,
)
async def test_foreign_kids_are_no_accounts(client: Client, kid: str) -> None:
    assert problem_of(await client.post(client.url("new-order"), {}, kid=kid))[1] in (
        "accountDoesNotExist",
        "malformed",
    )


async def test_terms_of_service_must_be_agreed_to(world: World) -> None:
    world.change_issuer(acme={"terms_of_service": "https://ca.test/tos"})
    async with world.client() as other:
        response = await other.post(other.url("new-account"), {})
        assert problem_of(response) == (403, "userActionRequired")
        assert (await other.register()).json()["termsOfServiceAgreed"] is True


@pytest.mark.parametrize(
    ("contact", "problem"),
    [
        (["tel:+123"], "unsupportedContact"),
        (["alice@example.com"], "unsupportedContact"),
        (["mailto:"], "invalidContact"),
        (["mailto:a@example.com,b@example.com"], "invalidContact"),
        (["mailto:a@example.com?subject=x"], "invalidContact"),
        (["mailto:a@example.com"] * 11, "invalidContact"),
        ("mailto:a@example.com", "malformed"),
        ([7], "malformed"),
    ],
    ids=repr,
)
async def test_bad_contacts_are_refused(world: World, contact: Any, problem: str) -> None:
    async with world.client() as other:
        assert problem_of(await other.register(contact=contact)) == (400, problem)
    assert await _rows(world, "acme_account") == 0


async def test_contacts_can_be_changed(client: Client) -> None:
    changed = await client.post(client.kid, {"contact": ["mailto:new@example.com"]})
    assert changed.json()["contact"] == ["mailto:new@example.com"]
    assert (await client.post(client.kid, {"contact": []})).json().get("contact") is None


async def test_a_deactivated_account_can_do_nothing_more(world: World, client: Client) -> None:
    _, order = await client.ready_order(world, "www.example")
    ended = await client.post(client.kid, {"status": "deactivated"})
    assert ended.json()["status"] == "deactivated"
    for url, payload in ((client.kid, None), (client.url("new-order"), {"identifiers": [{"type": "dns", "value": "a.example"}]}),
                         (order["finalize"], {"csr": b64(a_csr(["www.example"]))})):  # fmt: skip
        assert problem_of(await client.post(url, payload)) == (401, "unauthorized")
    client.kid = None
    assert problem_of(await client.register()) == (401, "unauthorized")


async def test_an_account_status_cannot_be_set_to_anything_else(client: Client) -> None:
    assert problem_of(await client.post(client.kid, {"status": "revoked"})) == MALFORMED


async def test_another_accounts_resources_are_not_to_be_had(world: World, client: Client) -> None:
    url, order = await client.ready_order(world, "www.example")
    await client.post(order["finalize"], {"csr": b64(a_csr(["www.example"]))})
    certificate = (await client.post(url)).json()["certificate"]
    challenge = (await client.post(order["authorizations"][0])).json()["challenges"][0]["url"]
    async with world.client() as thief:
        await thief.register()
        for target in (url, certificate, challenge, *order["authorizations"]):
            assert problem_of(await thief.post(target)) == (404, "malformed")
        assert problem_of(await thief.post(order["finalize"], {"csr": b64(a_csr(["www.example"]))})) == (
            404,
            "malformed",
        )
        assert problem_of(await thief.post(client.kid)) == UNAUTHORIZED
        assert problem_of(await thief.post(f"{client.kid}/orders")) == UNAUTHORIZED


@pytest.mark.parametrize("fault", ["nonce", "url", "kid", "account", "old key", "same key", "signature"])
async def test_a_faulty_key_change_changes_nothing(world: World, client: Client, fault: str) -> None:
    async with world.client() as fresh, world.client() as third:
        await third.register()
        url = client.url("key-change")
        content = {"account": client.kid, "oldKey": client.key.export_public(as_dict=True)}
        header: dict[str, Any] = {}
        signer = fresh
        if fault == "nonce":
            header["nonce"] = await client.fresh_nonce()
        elif fault == "url":
            header["url"] = client.url("new-order")
        elif fault == "kid":
            header |= {"jwk": None, "kid": client.kid}
        elif fault == "account":
            content["account"] = third.kid
        elif fault == "old key":
            content["oldKey"] = third.key.export_public(as_dict=True)
        elif fault == "same key":
            signer, header = third, {"kid": None, "jwk": third.key.export_public(as_dict=True)}
        elif fault == "signature":
            header["jwk"] = third.key.export_public(as_dict=True)
        target = header.pop("url", url)
        inner = json.loads(signer.sign(target, content, **({"nonce": None} | header)))
        response = await client.post(url, inner)
        if fault == "same key":
            assert problem_of(response) == (409, "malformed")
            assert response.headers["location"] == third.kid
        else:
            assert problem_of(response) == MALFORMED
    assert (await client.post(client.kid)).status_code == 200


async def test_a_new_key_that_was_registered_meanwhile_is_a_conflict_that_names_its_account(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, replace_key = world.app(), acme_account.replace_key
    async with world.client(app) as client, world.client(app) as holder:
        await client.register()
        url = client.url("key-change")

        async def replace_too_late(*arguments: Any, **more: Any) -> None:
            monkeypatch.setattr(acme_account, "replace_key", replace_key)
            assert (await holder.register()).status_code == 201
            await replace_key(*arguments, **more)

        monkeypatch.setattr(acme_account, "replace_key", replace_too_late)
        inner = holder.sign(url, {"account": client.kid, "oldKey": client.key.export_public(as_dict=True)}, nonce=None)
        nonce = client.nonce
        response = await client.post(url, json.loads(inner))

        assert problem_of(response) == (409, "malformed")
        assert response.headers["location"] == holder.kid
        assert problem_of(await client.post(client.kid, nonce=nonce)) == (400, "badNonce")
        assert (await client.post(client.kid)).status_code == 200


# Orders ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "problem"),
    [
        ({"type": "dns", "value": "www.elsewhere.test"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "bad.example"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "*.www.example"}, "rejectedIdentifier"),
        ({"type": "dns", "value": ""}, "rejectedIdentifier"),
        ({"type": "dns", "value": "a..example"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "www.example."}, "rejectedIdentifier"),
        ({"type": "dns", "value": "-a.example"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "a.*.example"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "bücher.example"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "xn--\u00e4.example"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "xn--99999999.example"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "ab--c.example"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "127.0.0.1"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "a" * 64 + ".example"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "a." * 130 + "example"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "a b.example"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "http://www.example"}, "rejectedIdentifier"),
        ({"type": "ip", "value": "8.8.8.8"}, "rejectedIdentifier"),
        ({"type": "ip", "value": "127.1"}, "rejectedIdentifier"),
        ({"type": "ip", "value": "0:0:0:0:0:0:0:1"}, "rejectedIdentifier"),
        ({"type": "email", "value": "a@www.example"}, "unsupportedIdentifier"),
        ({"type": "dns"}, "malformed"),
        ({"type": 7, "value": "www.example"}, "malformed"),
        ({"type": "dns", "value": 7}, "malformed"),
        ("www.example", "malformed"),
    ],
    ids=repr,
)
async def test_identifiers_that_cannot_be_certified_are_refused(
    world: World, client: Client, identifier: Any, problem: str
) -> None:
    response = await client.post(
        client.url("new-order"), {"identifiers": [{"type": "dns", "value": "a.example"}, identifier]}
    )
    assert problem_of(response) == (400, problem)
    if problem != "malformed":
        [part] = response.json()["subproblems"]
        assert part["identifier"]["value"] in identifier["value"]
    assert await _rows(world, "acme_order") == 0


async def test_each_refused_name_has_its_subproblem(client: Client) -> None:
    response = await client.new_order("a.example", "b.test", "c.test", "*.a.example")
    assert problem_of(response) == (400, "rejectedIdentifier")
    values = [part["identifier"]["value"] for part in response.json()["subproblems"]]
    assert values == ["b.test", "c.test", "*.a.example"]


async def test_a_wildcard_is_refused_with_the_reason(client: Client) -> None:
    response = await client.new_order("*.www.example")
    assert "no challenge that this CA offers can prove control over wildcard names" in response.json()["detail"]


async def test_a_hundred_and_one_names_are_too_many(client: Client) -> None:
    assert problem_of(await client.new_order(*(f"n{number}.example" for number in range(101)))) == MALFORMED
    assert problem_of(await client.new_order()) == MALFORMED


async def test_the_same_name_in_other_letters_counts_once(client: Client) -> None:
    order = (await client.new_order("www.example", "WWW.Example", "www.example")).json()
    assert order["identifiers"] == [{"type": "dns", "value": "www.example"}]
    assert len(order["authorizations"]) == 1


@pytest.mark.parametrize(
    "dates",
    [
        {"notAfter": "2020-01-01T00:00:00Z"},
        {"notAfter": "yesterday"},
        {"notAfter": "2027-01-01"},
        {"notAfter": "2027-01-01T00:00:00"},
        {"notAfter": 7},
        {"notBefore": "2027-01-02T00:00:00Z", "notAfter": "2027-01-01T00:00:00Z"},
        {"notAfter": "9999-12-31T23:59:59-23:59"},
    ],
    ids=repr,
)
async def test_impossible_dates_are_refused(client: Client, dates: dict[str, Any]) -> None:
    assert problem_of(await client.new_order("www.example", **dates)) == MALFORMED


async def test_more_validity_than_the_profile_has_is_refused_at_the_end(world: World, client: Client) -> None:
    placed = await client.new_order("www.example", notAfter="2028-12-01T00:00:00Z")
    await client.answer(placed.json())
    await world.validate()
    response = await client.post(placed.json()["finalize"], {"csr": b64(a_csr(["www.example"]))})
    assert problem_of(response) == UNAUTHORIZED


async def test_an_order_that_expired_is_invalid(world: World, client: Client) -> None:
    url, order = await client.ready_order(world, "www.example")
    await world.database.execute("UPDATE acme_order SET expires_at = '2026-11-24T12:00:00Z'")
    assert (await client.post(url)).json()["status"] == "invalid"
    response = await client.post(order["finalize"], {"csr": b64(a_csr(["www.example"]))})
    assert problem_of(response) == (403, "orderNotReady")


async def test_a_challenge_of_a_dead_authorization_cannot_be_answered(world: World, client: Client) -> None:
    order = (await client.new_order("www.example")).json()
    challenge = (await client.post(order["authorizations"][0])).json()["challenges"][0]["url"]
    await client.post(order["authorizations"][0], {"status": "deactivated"})
    assert problem_of(await client.post(challenge, {})) == MALFORMED
    assert await _rows(world, "job") == 0


async def test_a_late_outcome_does_not_revive_a_deactivated_authorization(world: World, client: Client) -> None:
    placed = await client.new_order("www.example")
    await client.answer(placed.json())
    await client.post(placed.json()["authorizations"][0], {"status": "deactivated"})
    await world.validate()
    assert (await client.post(placed.headers["location"])).json()["status"] == "invalid"


# Finalize ----------------------------------------------------------------------------------------------------------------


def _with_bad_signature(der: bytes) -> bytes:
    return der[:-1] + bytes([der[-1] ^ 1])


def _weak_csr() -> bytes:
    key = rsa.generate_private_key(65537, 1024)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    names = x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.DNSName("b.example")])
    return builder.add_extension(names, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


NAMES = ["a.example", "b.example"]
BAD_CSRS: dict[str, tuple[bytes, str]] = {
    "a name less": (a_csr(NAMES[:1]), "badCSR"),
    "a name more": (a_csr([*NAMES, "c.example"]), "badCSR"),
    "another name": (a_csr(["a.example", "c.example"]), "badCSR"),
    "a foreign common name": (a_csr(NAMES, common_name="c.example"), "badCSR"),
    "an IP address besides": (a_csr(NAMES, more=[x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), "badCSR"),
    "a URI besides": (a_csr(NAMES, more=[x509.UniformResourceIdentifier("https://a.example")]), "badCSR"),
    "a mail address besides": (a_csr(NAMES, more=[x509.RFC822Name("a@a.example")]), "badCSR"),
    "no names": (a_csr([]), "badCSR"),
    "a wrong signature": (_with_bad_signature(a_csr(NAMES)), "badCSR"),
    "truncated": (a_csr(NAMES)[:-20], "badCSR"),
    "trailing octets": (a_csr(NAMES) + b"x", "badCSR"),
    "nothing": (b"", "badCSR"),
    "nested too deep": (b"\x30\x80" * 2000, "badCSR"),
    "a huge length": (b"\x30\x84\xff\xff\xff\xff", "badCSR"),
    "a weak key": (_weak_csr(), "badPublicKey"),
}


@pytest.mark.parametrize(("csr", "problem"), BAD_CSRS.values(), ids=BAD_CSRS.keys())
async def test_a_bad_csr_is_refused_and_the_order_stays_ready(
    world: World, client: Client, csr: bytes, problem: str
) -> None:
    url, order = await client.ready_order(world, *NAMES)
    assert problem_of(await client.post(order["finalize"], {"csr": b64(csr)})) == (400, problem)
    assert (await client.post(url)).json()["status"] == "ready"
    assert await _rows(world, "certificate") == 0
    done = await client.post(order["finalize"], {"csr": b64(a_csr(NAMES, common_name="A.example"))})
    assert done.json()["status"] == "valid"


async def test_a_common_name_alone_counts_as_a_name(world: World, client: Client) -> None:
    _, order = await client.ready_order(world, "a.example")
    done = await client.post(order["finalize"], {"csr": b64(a_csr([], common_name="a.example"))})
    assert done.status_code == 200, done.text


async def test_the_account_key_may_not_be_certified(world: World, client: Client) -> None:
    key = load_pem_private_key(client.key.export_to_pem(private_key=True, password=None), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    _, order = await client.ready_order(world, "a.example")
    response = await client.post(order["finalize"], {"csr": b64(a_csr(["a.example"], key=key))})
    assert problem_of(response) == (400, "badCSR")


@pytest.mark.parametrize(
    ("payload", "problem"), [({}, "malformed"), ({"csr": 7}, "malformed"), ({"csr": "a b"}, "badCSR"), ({"csr": "YQ=="}, "badCSR")],
    ids=repr,
)  # fmt: skip
async def test_a_csr_that_is_not_base64url_is_refused(
    world: World, client: Client, payload: dict[str, Any], problem: str
) -> None:
    _, order = await client.ready_order(world, "a.example")
    assert problem_of(await client.post(order["finalize"], payload)) == (400, problem)


async def test_a_pending_order_cannot_be_finalized(client: Client) -> None:
    order = (await client.new_order("a.example")).json()
    response = await client.post(order["finalize"], {"csr": b64(a_csr(["a.example"]))})
    assert problem_of(response) == (403, "orderNotReady")


async def test_a_policy_that_changed_meanwhile_is_heeded(world: World, client: Client) -> None:
    _, order = await client.ready_order(world, "a.example")
    names = world.issuers.all["web"].names
    world.change_issuer(names=type(names)(permit={"dns": ("other.example",)}))
    response = await client.post(order["finalize"], {"csr": b64(a_csr(["a.example"]))})
    assert problem_of(response) == (400, "rejectedIdentifier")


async def test_while_another_replica_signs_the_order_is_processing(world: World, client: Client) -> None:
    async def busy(_: Any) -> None:
        raise SporkError(Code.IN_PROGRESS, "Wait.", retry_after_s=1)

    services = world.services()
    services.pipeline.issue = busy
    url, order = await client.ready_order(world, "a.example")
    async with world.client(world.app(services)) as other:
        other.key, other.kid = client.key, client.kid
        response = await other.post(order["finalize"], {"csr": b64(a_csr(["a.example"]))})
    assert (response.json()["status"], response.headers["retry-after"]) == ("processing", "1")
    assert response.headers["location"] == url


async def test_an_account_gets_no_subject_that_it_never_proved(world: World, client: Client) -> None:
    world.change_issuer(
        profiles=("tls-client",), names=NamePolicy(permit={"dns": ("**.example",), "dn": ("O=Example Bank",)})
    )
    _, order = await client.ready_order(world, "a.example")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name.from_rfc4514_string("CN=a.example,OU=Directors,O=Example Bank")
    names = x509.SubjectAlternativeName([x509.DNSName("a.example")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(names, critical=False)
    octets = csr.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    done = await client.post(order["finalize"], {"csr": b64(octets)})
    assert done.status_code == 200, done.text
    pem = await client.post(done.json()["certificate"])
    assert x509.load_pem_x509_certificate(pem.content).subject.rfc4514_string() == "CN=a.example"


# Revocation --------------------------------------------------------------------------------------------------------------


async def _revoke(client: Client, certificate: x509.Certificate, **more: Any) -> Any:
    header = {name: more.pop(name) for name in ("key", "jwk", "kid", "alg") if name in more}
    payload = {"certificate": b64(certificate.public_bytes(Encoding.DER))} | more
    return await client.post(client.url("revoke-cert"), payload, **header)


async def test_the_account_that_got_it_revokes_once(world: World, client: Client) -> None:
    leaf = (await client.certificate(world, "a.example"))[0]
    assert (await _revoke(client, leaf, reason=4)).status_code == 200
    assert problem_of(await _revoke(client, leaf)) == (400, "alreadyRevoked")
    cursor = await world.database.execute("SELECT reason FROM revocation")
    assert await cursor.fetchall() == [(4,)]


async def test_the_certificates_own_key_revokes(world: World, client: Client) -> None:
    own = jwcrypto_jwk.JWK.generate(kty="EC", crv="P-256")
    pem = own.export_to_pem(private_key=True, password=None)
    leaf = (await client.certificate(world, "a.example", key=load_pem_private_key(pem, None)))[0]
    async with world.client() as other:
        public = own.export_public(as_dict=True)
        assert problem_of(await _revoke(other, leaf)) == UNAUTHORIZED
        assert (await _revoke(other, leaf, reason=1, key=own, jwk=public)).status_code == 200


async def test_an_account_that_controls_all_names_revokes(world: World, client: Client) -> None:
    leaf = (await client.certificate(world, "a.example", "b.example"))[0]
    async with world.client() as other:
        await other.register()
        await other.ready_order(world, "a.example")
        assert problem_of(await _revoke(other, leaf)) == UNAUTHORIZED
        await other.ready_order(world, "b.example")
        assert (await _revoke(other, leaf)).status_code == 200


async def test_a_strange_account_may_not_revoke(world: World, client: Client) -> None:
    leaf = (await client.certificate(world, "a.example"))[0]
    async with world.client() as other:
        await other.register()
        assert problem_of(await _revoke(other, leaf)) == UNAUTHORIZED
    assert await _rows(world, "revocation") == 0


async def test_a_certificate_without_names_is_not_at_everybodys_mercy(world: World, client: Client) -> None:
    leaf = (await client.certificate(world, "a.example"))[0]
    # As another door issues them: a device or a signer of code that is named by its subject alone.
    await world.database.execute("UPDATE certificate SET names = '{}', requester = 'admin:alice#01'")
    assert problem_of(await _revoke(client, leaf)) == UNAUTHORIZED
    assert await _rows(world, "revocation") == 0


@pytest.mark.parametrize("reason", [2, 6, 7, 8, 9, 10, 11, -1, True, "1", None, 1.0, 10**30], ids=repr)
async def test_reasons_that_are_not_a_subscribers_are_refused(world: World, client: Client, reason: Any) -> None:
    leaf = (await client.certificate(world, "a.example"))[0]
    assert problem_of(await _revoke(client, leaf, reason=reason)) == (400, "badRevocationReason")


async def test_unknown_certificates_cannot_be_revoked(world: World, client: Client) -> None:
    assert problem_of(await _revoke(client, world.ca.certificate)) == (404, "malformed")
    for value in ("", "YQ==", 7, None, "A" * 60):
        response = await client.post(client.url("revoke-cert"), {"certificate": value})
        assert problem_of(response)[1] == "malformed"


async def _rows(world: World, table: str) -> int:
    cursor = await world.database.execute(f"SELECT count(*) FROM {table}")  # type: ignore[arg-type]
    return int((await cursor.fetchone())[0])


def test_the_door_can_be_part_of_an_application(world: World) -> None:
    assert isinstance(world.app(), FastAPI)
