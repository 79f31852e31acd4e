"""One-time tokens on the admin listener: what they open, once, and what they never do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from admin_world import csr_pem
from cryptography import x509
from enrolment_world import TOKEN_TREE, Enrolment
from live_admin import live_admin
from postgres import PostgresServer

from spork.api.admin.addresses import AddressLimit
from spork.policy.levels import AdminLevel
from spork.x509.names import dns

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def door(
    postgres_server: PostgresServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Enrolment]:
    name = f"spork_test_enrol_{os.getpid()}"
    url = postgres_server.create(name, migrated_template)
    with live_admin(url, tmp_path_factory.mktemp("home"), TOKEN_TREE) as running:
        yield Enrolment(running)
    postgres_server.drop(name)


@pytest.fixture(autouse=True)
def _unlimited(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    # All tests come from one address, and most of them come in vain.
    if "keeps_trying" not in request.node.name:
        monkeypatch.setattr(AddressLimit, "take", lambda self, address: None)


def names_in(answer: Any) -> list[str]:
    certificate = x509.load_pem_x509_certificate(answer.json()["pem"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def code_of(answer: Any) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def events(door: Enrolment, subject: str) -> list[str]:
    found = door.administrator("GET", f"/audit?subject={subject}").json()["items"]
    return [event["action"] for event in reversed(found)]


def test_a_token_gives_one_certificate_with_its_chain(door: Enrolment) -> None:
    made = door.token("web.test", profile="tls-server", validityS=3600)
    assert made["state"] == "open"
    answer = door.enrol(made["token"], csr_pem(dns("web.test")))
    assert answer.status_code == 201, answer.text
    assert names_in(answer) == ["web.test"]
    certificate = x509.load_pem_x509_certificate(answer.json()["pem"].encode())
    above = x509.load_pem_x509_certificates(answer.json()["chain"].encode())
    certificate.verify_directly_issued_by(above[0])
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < timedelta(seconds=3601)
    serial = answer.json()["serial"]
    shown = door.administrator("GET", f"/certificates/test-web-issuing-ca/{serial}").json()
    assert shown["requester"] == f"token:{made['id']}"
    assert shown["evidence"]["kind"] == "one-time-token"
    assert made["id"] in shown["evidence"]["reference"]
    assert events(door, f"enrolment-token:{made['id']}") == ["enrolment-token.create", "enrolment-token.redeem"]
    (listed,) = [
        one for one in door.administrator("GET", "/enrolment-tokens").json()["items"] if one["id"] == made["id"]
    ]
    assert (listed["state"], listed["usedFrom"]) == ("used", "127.0.0.1")
    assert "token" not in listed


def test_the_same_request_again_gets_the_same_certificate_and_another_one_nothing(door: Enrolment) -> None:
    token, csr = door.token()["token"], csr_pem(dns("web.test"))
    first, second = door.enrol(token, csr), door.enrol(token, csr)
    assert first.json() == second.json()
    assert code_of(door.enrol(token, csr_pem(dns("web.test")))) == (409, "conflict")
    assert code_of(door.enrol(token, csr, validityS=60)) == (409, "conflict")


def test_of_two_requests_at_once_one_wins(door: Enrolment) -> None:
    token = door.token()["token"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda csr: door.enrol(token, csr), [csr_pem(dns("web.test")) for _ in "1234"]))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


def test_one_request_several_times_at_once_gives_one_certificate(door: Enrolment) -> None:
    token, csr = door.token()["token"], csr_pem(dns("web.test"))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: door.enrol(token, csr), "1234"))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["serial"] for answer in answers if answer.status_code == 201}) == 1


def test_a_request_without_names_gets_those_of_the_token(door: Enrolment) -> None:
    assert names_in(door.enrol(door.token("a.test", "b.test")["token"], csr_pem())) == ["a.test", "b.test"]


@pytest.mark.parametrize("names", [["other.test"], ["web.test", "other.test"], ["*.test"]])
def test_other_names_than_those_of_the_token_are_refused_and_do_not_spend_it(door: Enrolment, names: list[str]) -> None:
    token = door.token("web.test")["token"]
    answer = door.enrol(token, csr_pem(*map(dns, names)))
    assert code_of(answer) == (422, "rejectedIdentifier")
    assert door.enrol(token, csr_pem(dns("web.test"))).status_code == 201


def test_fewer_names_than_those_of_the_token_are_refused(door: Enrolment) -> None:
    token = door.token("a.test", "b.test")["token"]
    assert code_of(door.enrol(token, csr_pem(dns("a.test")))) == (422, "rejectedIdentifier")


def test_a_longer_life_than_the_tokens_is_refused(door: Enrolment) -> None:
    token = door.token(validityS=3600)["token"]
    assert code_of(door.enrol(token, csr_pem(dns("web.test")), validityS=7200)) == (422, "policyRefused")
    assert door.enrol(token, csr_pem(dns("web.test")), validityS=1800).status_code == 201


def test_a_token_is_for_its_own_issuer_and_profile(door: Enrolment) -> None:
    token, csr = door.token(profile="tls-server")["token"], csr_pem(dns("web.test"))
    assert code_of(door.enrol(token, csr, issuer="other")) == (403, "forbidden")
    assert code_of(door.enrol(token, csr, issuer="web")) == (403, "forbidden")
    assert code_of(door.enrol(token, csr, issuer="nothing")) == (403, "forbidden")
    assert code_of(door.enrol(token, csr, profile="tls-client")) == (403, "forbidden")
    assert door.enrol(token, csr, profile="tls-server").status_code == 201


def test_an_expired_token_opens_nothing_not_even_for_a_retry(door: Enrolment) -> None:
    used, unused = door.token(ttlS=60), door.token(ttlS=60)
    csr = csr_pem(dns("web.test"))
    assert door.enrol(used["token"], csr).status_code == 201
    door.live.world.clock.current += timedelta(seconds=60)
    for made in (used, unused):
        answer = door.enrol(made["token"], csr)
        assert code_of(answer) == (401, "unauthenticated")
        assert "expired" in answer.json()["detail"]


def test_a_revoked_token_opens_nothing(door: Enrolment) -> None:
    made = door.token()
    path = f"/enrolment-tokens/{made['id']}/revoke"
    assert door.administrator("POST", path).json()["state"] == "revoked"
    assert door.administrator("POST", path).json()["state"] == "revoked"
    answer = door.enrol(made["token"], csr_pem(dns("web.test")))
    assert code_of(answer) == (401, "unauthenticated")
    assert events(door, f"enrolment-token:{made['id']}") == ["enrolment-token.create", "enrolment-token.revoke"]


def _forgeries(token: str, identity: str) -> dict[str, str]:
    secret = token.split("_", 2)[2]
    other = ("A" if token[-1] != "A" else "B") + ""
    return {
        "another secret": token[:-1] + other,
        "another id": token.replace(identity, "0" * 12),
        "the secret of nobody": f"spork1_{identity}_{'A' * 43}",
        "the id alone": f"spork1_{identity}",
        "a digest instead of the secret": f"spork1_{identity}_{hashlib.sha256(token.encode()).hexdigest()[:43]}",
        "another version": token.replace("spork1_", "spork2_"),
        "in capitals": f"SPORK1_{identity}_{secret}",
        "something more": f"{token}A",
    }


def test_no_forgery_opens_anything(door: Enrolment) -> None:
    made = door.token()
    csr = csr_pem(dns("web.test"))
    for what, forged in _forgeries(made["token"], made["id"]).items():
        answer = door.enrol(forged, csr)
        assert code_of(answer) == (401, "unauthenticated"), what
        assert answer.headers["www-authenticate"].startswith("Bearer "), what
        assert made["token"] not in answer.text
    assert door.enrol(made["token"], csr).status_code == 201


@pytest.mark.parametrize(
    "header",
    ["", "Basic dXNlcjpwYXNz", "Bearer", "Bearer a b", "Bearer ä", "bearer:abc", "Token abc", "Bearer " + "A" * 20000],
)
def test_a_header_without_a_bearer_token_is_refused(door: Enrolment, header: str) -> None:
    answer = door.send({"Authorization": header.encode(), "Content-Type": b"application/json"}, b"{}")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_two_headers_are_one_too_many(door: Enrolment) -> None:
    token = door.token()["token"]
    with httpx.Client(verify=door.tls(), trust_env=False) as http:
        headers = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer other")]
        answer = http.post(
            f"{door.live.url}/api/v1/enrolments", json={"csr": csr_pem(), "issuer": "mesh"}, headers=headers
        )
    assert code_of(answer) == (401, "unauthenticated")


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"csr": "x"}', "application/json", 400),
        (b'{"csr": "x", "issuer": "mesh", "token": "y"}', "application/json", 400),
        (b'{"csr": 1, "issuer": "mesh"}', "application/json", 400),
        (b"csr=x", "application/x-www-form-urlencoded", 415),
        (b" " * 300_000, "application/json", 413),
    ],
    ids=["nothing", "half", "a list", "no issuer", "an unknown member", "a number", "a form", "too much"],
)
def test_a_bad_body_is_refused_and_does_not_spend_the_token(
    door: Enrolment, content: bytes, media_type: str, status: int
) -> None:
    token = door.token()["token"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": media_type}
    assert door.send(headers, content).status_code == status
    assert door.enrol(token, "no request").status_code == 422
    assert door.enrol(token, csr_pem(dns("web.test"))).status_code == 201


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods_do_nothing(door: Enrolment, method: str) -> None:
    assert door.send({"Authorization": "Bearer x"}, b"", method).status_code == 405


def test_a_token_opens_no_other_route_and_a_certificate_not_this_one(door: Enrolment) -> None:
    token = door.token()["token"]
    with httpx.Client(verify=door.tls(), trust_env=False, headers={"Authorization": f"Bearer {token}"}) as http:
        for method, path in (("GET", "/certificates"), ("POST", "/certificates"), ("POST", "/enrolment-tokens")):
            answer = http.request(method, f"{door.live.url}/api/v1{path}")
            assert code_of(answer) == (401, "unauthenticated"), path
    answer = door.administrator(
        "POST", "/enrolments", {"csr": csr_pem(), "issuer": "mesh"}, level=AdminLevel.SUPERADMIN
    )
    assert code_of(answer) == (401, "unauthenticated")


def test_an_address_that_keeps_trying_is_made_to_wait_also_with_a_good_token(door: Enrolment) -> None:
    good, csr = door.token()["token"], csr_pem(dns("web.test"))
    answers = [door.enrol(f"spork1_{'0' * 12}_{'A' * 43}", csr) for _ in range(40)]
    assert [answer.status_code for answer in answers][:10] == [401] * 10
    assert code_of(answers[-1]) == (429, "rateLimited")
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert door.enrol(good, csr).status_code in (201, 429)


# Making tokens


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"issuer": "web", "names": ["dns:web.test"]}, 422, "policyRefused"),
        ({"issuer": "mesh", "names": ["dns:web.example.org"]}, 422, "rejectedIdentifier"),
        ({"issuer": "mesh", "names": ["web.test"]}, 400, "malformed"),
        ({"issuer": "mesh", "names": []}, 400, "malformed"),
        ({"issuer": "mesh", "names": ["dns:web.test"], "profile": "email"}, 422, "policyRefused"),
        ({"issuer": "mesh", "names": ["dns:web.test"], "profile": "code-signing"}, 403, "forbidden"),
        ({"issuer": "mesh", "names": ["dns:web.test"], "ttlS": 59}, 400, "malformed"),
        ({"issuer": "mesh", "names": ["dns:web.test"], "ttlS": 91 * 86400}, 400, "malformed"),
        ({"issuer": "nothing", "names": ["dns:web.test"]}, 404, "notFound"),
        ({"names": ["dns:web.test"]}, 400, "malformed"),
    ],
    ids=[
        "a shut door",
        "a name outside the policy",
        "a bare name",
        "no name",
        "a foreign profile",
        "a profile for admins",
        "too short",
        "too long",
        "no such issuer",
        "no issuer",
    ],
)
def test_a_token_that_would_open_too_much_or_nothing_is_not_made(
    door: Enrolment, body: Any, status: int, code: str
) -> None:
    assert code_of(door.administrator("POST", "/enrolment-tokens", body)) == (status, code)


def test_a_viewer_makes_and_sees_no_tokens(door: Enrolment) -> None:
    for method, path in (("GET", "/enrolment-tokens"), ("POST", "/enrolment-tokens")):
        assert code_of(door.administrator(method, path, None, AdminLevel.VIEWER)) == (403, "forbidden")


def test_a_limited_administrator_sees_and_ends_the_tokens_of_the_own_issuers_only(door: Enrolment) -> None:
    made = door.token()
    limits: Any = {"issuers": ("other",)}
    seen = door.administrator("GET", "/enrolment-tokens", **limits).json()["items"]
    assert made["id"] not in [one["id"] for one in seen]
    answer = door.administrator("POST", f"/enrolment-tokens/{made['id']}/revoke", **limits)
    assert code_of(answer) == (404, "notFound")
    body = {"issuer": "mesh", "names": ["dns:web.test"]}
    assert code_of(door.administrator("POST", "/enrolment-tokens", body, **limits)) == (404, "notFound")


def test_lists_come_in_pages(door: Enrolment) -> None:
    ids = [door.token()["id"] for _ in "123"]
    first = door.administrator("GET", "/enrolment-tokens?limit=2").json()
    second = door.administrator("GET", f"/enrolment-tokens?limit=2&after={first['next']}").json()
    assert [one["id"] for one in (*first["items"], *second["items"])][:3] == ids[::-1]


# Secrets


def test_the_token_stands_neither_in_the_database_nor_in_the_log(
    door: Enrolment,
    capfd: pytest.CaptureFixture[str],
    postgres_server: PostgresServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    made = door.token()
    secret = made["token"].split("_", 2)[2]
    door.enrol(made["token"], csr_pem(dns("other.test")))
    door.enrol(made["token"], csr_pem(dns("web.test")))
    door.enrol(made["token"], "broken")
    with psycopg.connect(postgres_server.url_of(f"spork_test_enrol_{os.getpid()}", admin=True)) as connection:
        rows: list[Any] = []
        for table in ("enrolment_token", "audit_event", "certificate", "job", "outbox"):
            rows += connection.execute(f"SELECT t::text FROM {table} t").fetchall()
    assert made["id"] in str(rows)
    assert secret not in str(rows)
    out, err = capfd.readouterr()
    assert secret not in out + err + caplog.text
