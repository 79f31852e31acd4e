"""The administration API over a real database: who may what, and what it does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from admin_world import AdminWorld, an_admin_world, csr_pem
from cryptography import x509
from x509_world import a_name

from spork.api.admin.enrolment import OPERATION
from spork.api.admin.operations import OPERATIONS
from spork.api.admin.routes import describe, router
from spork.policy.levels import AdminLevel
from spork.store.database import Database
from spork.x509.names import SubjectName, dns

pytestmark = pytest.mark.store


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AdminWorld:
    return await an_admin_world(database, tmp_path)


async def test_an_operator_issues_and_everybody_finds_the_certificate(world: AdminWorld) -> None:
    issued = await world.issue("www.test", "api.test")
    certificate = x509.load_pem_x509_certificate(issued["pem"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["www.test", "api.test"]
    above = x509.load_pem_x509_certificates(issued["chain"].encode())
    certificate.verify_directly_issued_by(above[0])
    assert [c.subject.rfc4514_string() for c in above] == ["CN=Test Web Issuing CA", "CN=Test Policy CA"]
    async with world.client(AdminLevel.VIEWER) as http:
        page = (await http.get("/certificates", params={"text": "API.te"})).json()
        assert [item["serial"] for item in page["items"]] == [issued["serial"]]
        assert page["next"] is None
        shown = (await http.get(f"/certificates/{issued['authority']}/{issued['serial']}")).json()
    assert (shown["state"], shown["issuer"], shown["profile"]) == ("issued", "web", "tls-server")
    assert shown["requester"].startswith("admin:operator#")
    assert shown["trace"]
    assert all(verdict["passed"] for verdict in shown["trace"])


async def test_the_issuance_stands_in_the_audit_log_with_actor_and_address(world: AdminWorld) -> None:
    issued = await world.issue()
    async with world.client(AdminLevel.VIEWER) as http:
        events = (
            await http.get("/audit", params={"subject": f"certificate:{issued['authority']}/{issued['serial']}"})
        ).json()
    assert [(e["action"], e["address"]) for e in events["items"]] == [("certificate.issue", "192.0.2.7")]
    assert events["items"][0]["actor"].startswith("admin:operator#")


async def test_a_retry_with_the_same_idempotency_key_gets_the_same_certificate(world: AdminWorld) -> None:
    body = {"csr": csr_pem(dns("www.test"))}
    async with world.client(AdminLevel.OPERATOR) as http:
        first, second = [await http.post("/certificates", json=body, headers={"Idempotency-Key": '"k1"'}) for _ in "12"]
        other = await http.post(
            "/certificates", json={"csr": csr_pem(dns("x.test"))}, headers={"Idempotency-Key": '"k1"'}
        )
        fresh = await http.post("/certificates", json=body)
    assert first.json() == second.json()
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert fresh.json()["serial"] != first.json()["serial"]


async def test_idempotency_keys_of_two_administrators_never_meet(world: AdminWorld) -> None:
    body = {"csr": csr_pem(dns("www.test"))}
    answers = []
    for level in (AdminLevel.OPERATOR, AdminLevel.ADMIN):
        async with world.client(level) as http:
            answers.append((await http.post("/certificates", json=body, headers={"Idempotency-Key": "k1"})).json())
    assert answers[0]["serial"] != answers[1]["serial"]


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 201, "\x7f"])
async def test_a_malformed_idempotency_key_is_refused(world: AdminWorld, key: str) -> None:
    async with world.client(AdminLevel.OPERATOR) as http:
        answer = await http.post(
            "/certificates", json={"csr": csr_pem(dns("www.test"))}, headers={"Idempotency-Key": key}
        )
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


async def test_a_name_outside_the_policy_is_refused_with_the_name(world: AdminWorld) -> None:
    async with world.client(AdminLevel.OPERATOR) as http:
        answer = await http.post("/certificates", json={"csr": csr_pem(dns("www.test"), dns("www.example.org"))})
    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == "https://spork-ca.org/problems/rejectedIdentifier"
    assert "www.example.org" in answer.text
    assert "dns:www.test" not in answer.text


async def test_the_ca_can_be_named_by_id_name_or_the_end_of_its_name(world: AdminWorld) -> None:
    for name in ("test-web-issuing-ca", "Test Web Issuing CA", "web issuing ca"):
        assert (await world.issue(authority=name))["authority"] == "test-web-issuing-ca"
    async with world.client(AdminLevel.OPERATOR) as http:
        missing = await http.post("/certificates", json={"csr": csr_pem(dns("a.test")), "authority": "nope"})
    assert missing.status_code == 404
    assert "test-web-issuing-ca" in missing.json()["detail"]


async def test_a_common_name_alone_becomes_the_alternative_name(world: AdminWorld) -> None:
    async with world.client(AdminLevel.OPERATOR) as http:
        answer = await http.post("/certificates", json={"csr": csr_pem(subject=x509.Name([])), "commonName": "cn.test"})
    certificate = x509.load_pem_x509_certificate(answer.json()["pem"].encode())
    assert certificate.subject.rfc4514_string() == "CN=cn.test"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["cn.test"]


async def test_renewal_keeps_names_and_profile_and_takes_a_new_key(world: AdminWorld) -> None:
    old = await world.issue("www.test")
    async with world.client(AdminLevel.OPERATOR) as http:
        path = f"/certificates/{old['authority']}/{old['serial']}/renew"
        new = (await http.post(path, json={"csr": csr_pem(dns("www.test"))})).json()
        smuggled = await http.post(path, json={"csr": csr_pem(dns("www.test"), dns("more.test"))})
        shown = (await http.get(f"/certificates/{new['authority']}/{new['serial']}")).json()
    assert new["serial"] != old["serial"]
    assert shown["names"] == ["dns:www.test"]
    assert shown["attributes"] == {"renews": f"{old['authority']}/{old['serial']}"}
    assert smuggled.status_code == 422


async def test_what_is_revoked_cannot_be_renewed(world: AdminWorld) -> None:
    old = await world.issue("www.test")
    path = f"/certificates/{old['authority']}/{old['serial']}"
    async with world.client(AdminLevel.ADMIN) as http:
        assert (await http.post(f"{path}/revoke", json={"reason": "superseded"})).json()["state"] == "revoked"
        answer = await http.post(f"{path}/renew", json={"csr": csr_pem(dns("www.test"))})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_hold_is_released_and_revocation_is_final(world: AdminWorld) -> None:
    issued = await world.issue()
    path = f"/certificates/{issued['authority']}/{issued['serial']}"
    async with world.client(AdminLevel.ADMIN) as http:

        async def state() -> str:
            return str((await http.get(path)).json()["state"])

        held = (await http.post(f"{path}/revoke", json={"reason": "certificateHold"})).json()
        assert (held["state"], await state()) == ("held", "held")
        released = (await http.post(f"{path}/release")).json()
        assert (released["state"], await state()) == ("issued", "issued")
        assert released["statusVersion"] > held["statusVersion"]
        assert (await http.post(f"{path}/release")).status_code == 409
        date = world.clock.now().isoformat()
        assert (await http.post(f"{path}/revoke", json={"reason": "keyCompromise", "invalidityDate": date})).is_success
        assert (await http.post(f"{path}/release")).status_code == 409
        shown = (await http.get(path)).json()
    assert shown["state"] == "revoked"
    assert shown["revocation"]["reason"] == "keyCompromise"
    async with world.client(AdminLevel.VIEWER) as http:
        seen = (await http.get(path)).json()
    assert (seen["state"], seen["revocation"]) == ("revoked", None), "reading revocations is for operators"


@pytest.mark.parametrize(
    "body",
    [
        {"reason": "removeFromCRL"},
        {"reason": "because"},
        {"reason": 1},
        {"reason": "superseded", "invalidityDate": "yesterday"},
        {"reason": "superseded", "invalidityDate": "2026-01-01T00:00:00"},
        {"reason": "superseded", "extra": 1},
        {"reason": "superseded", "invalidityDate": "2999-01-01T00:00:00Z"},
        [],
        None,
    ],
)
async def test_a_bad_revocation_changes_nothing(world: AdminWorld, body: Any) -> None:
    issued = await world.issue()
    path = f"/certificates/{issued['authority']}/{issued['serial']}"
    async with world.client(AdminLevel.ADMIN) as http:
        answer = await http.post(f"{path}/revoke", json=body)
        assert answer.status_code in (400, 422)
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await http.get(path)).json()["state"] == "issued"


async def test_an_admin_can_end_neither_a_ca_nor_a_superadmin(world: AdminWorld) -> None:
    superadmin = await world.administrator(AdminLevel.SUPERADMIN)
    async with world.client(AdminLevel.ADMIN) as http:
        listed = (await http.get("/certificates", params={"profile": "issuing-ca"})).json()["items"]
        for path in (f"management/{superadmin.serial}", f"{listed[0]['authority']}/{listed[0]['serial']}"):
            answer = await http.post(f"/certificates/{path}/revoke", json={"reason": "superseded"})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    async with world.client(superadmin) as http:
        assert (await http.get("/whoami")).is_success


async def test_a_revoked_administrator_is_refused_at_once(world: AdminWorld) -> None:
    viewer = await world.administrator(AdminLevel.VIEWER)
    async with world.client(viewer) as http, world.client(AdminLevel.SUPERADMIN) as boss:
        assert (await http.get("/whoami")).status_code == 200
        assert (await boss.post(f"/admins/{viewer.serial}/revoke", json={"reason": "certificateHold"})).is_success
        assert (await http.get("/whoami")).status_code == 401
        assert (await boss.post(f"/certificates/management/{viewer.serial}/release")).is_success
        assert (await http.get("/whoami")).status_code == 200
        assert (await boss.post(f"/admins/{viewer.serial}/revoke", json={})).is_success
        refused = await http.get("/whoami")
    assert refused.status_code == 401
    assert "revoked" in refused.json()["detail"]
    assert refused.headers["www-authenticate"]


async def test_a_superadmin_makes_administrators_limited_to_issuers(world: AdminWorld) -> None:
    body = {"csr": csr_pem(subject=a_name("ignored")), "name": "alice", "level": "operator", "issuers": ["lab"]}
    async with world.client(AdminLevel.SUPERADMIN) as boss:
        answer = await boss.post("/admins", json=body)
        unknown = await boss.post("/admins", json={**body, "issuers": ["web", "lap"]})
        listed = (await boss.get("/admins")).json()["items"]
    assert answer.status_code == 201, answer.text
    assert (unknown.status_code, "lap" in unknown.json()["detail"]) == (404, True)
    assert [(a["name"], a["level"], a["issuers"]) for a in listed][:1] == [("alice", "operator", ["lab"])]
    assert x509.load_pem_x509_certificate(answer.json()["pem"].encode()).subject.rfc4514_string() == "CN=alice"
    async with world.client(answer.json()["pem"]) as http:
        me = (await http.get("/whoami")).json()
    assert (me["name"], me["level"], me["issuers"]) == ("alice", "operator", ["lab"])
    assert "issueCertificate" in me["may"]
    assert not {"listAuditEvents", "issueAdministrator"} & set(me["may"])


async def test_a_limited_administrator_sees_and_touches_the_own_issuers_only(world: AdminWorld) -> None:
    foreign = await world.issue("www.test")
    own = await world.issue("x.lab", issuer="lab")
    path = f"/certificates/{foreign['authority']}/{foreign['serial']}"
    async with world.client(AdminLevel.ADMIN, issuers=("lab",)) as http:
        assert [c["serial"] for c in (await http.get("/certificates")).json()["items"]] == [own["serial"]]
        assert [i["label"] for i in (await http.get("/issuers")).json()["items"]] == ["lab"]
        assert [a["id"] for a in (await http.get("/authorities")).json()["items"]] == ["test-web-issuing-ca"]
        assert (await http.get("/certificates", params={"serial": foreign["serial"]})).json()["items"] == []
        for method, where in (
            ("GET", path),
            ("GET", f"{path}/pem"),
            ("GET", f"{path}/chain"),
            ("POST", f"{path}/revoke"),
            ("POST", f"{path}/release"),
            ("POST", f"{path}/renew"),
            ("GET", "/issuers/web"),
            ("GET", "/certificates?issuer=web"),
            ("GET", "/authorities/test-root-ca"),
            ("POST", "/crls/test-root-ca/publish"),
            ("GET", "/crls?authority=test-root-ca"),
        ):
            body = {"csr": csr_pem(dns("www.test"))} if where.endswith("renew") else {}
            answer = await http.request(method, where, json=body if method == "POST" else None)
            assert answer.status_code == 404, (method, where, answer.text)
        for body in ({"issuer": "web"}, {}, {"authority": "test-web-issuing-ca", "profile": "tls-client"}):
            answer = await http.post("/certificates", json={"csr": csr_pem(dns("www.test")), **body})
            assert answer.status_code == 404, answer.text
        assert (
            await http.post("/certificates", json={"csr": csr_pem(dns("y.lab")), "issuer": "lab"})
        ).status_code == 201
        for where in ("/audit", "/admins"):
            assert (await http.get(where)).status_code == 403
        assert (await http.post(f"/certificates/{own['authority']}/{own['serial']}/revoke", json={})).is_success


async def test_a_limited_superadmin_cannot_make_administrators(world: AdminWorld) -> None:
    body = {"csr": csr_pem(), "name": "eve", "level": "superadmin"}
    async with world.client(AdminLevel.SUPERADMIN, issuers=("lab",)) as http:
        answer = await http.post("/admins", json=body)
        serial = (await world.administrator(AdminLevel.SUPERADMIN)).serial
        revoked = await http.post(f"/admins/{serial}/revoke", json={})
    assert (answer.status_code, revoked.status_code) == (403, 403)


async def test_a_profile_may_need_more_than_an_operator(world: AdminWorld) -> None:
    body = {"csr": csr_pem(subject=a_name("Signer")), "issuer": "lab", "profile": "code-signing"}
    async with world.client(AdminLevel.OPERATOR) as http:
        refused = await http.post("/certificates", json=body)
    assert (refused.status_code, "code-signing" in refused.json()["detail"]) == (403, True)


@pytest.mark.parametrize("profile", ["admin-superadmin", "issuing-ca", "root", "listener", "ocsp-signing", "email"])
async def test_no_issuer_gives_what_it_does_not_offer_not_even_to_a_superadmin(world: AdminWorld, profile: str) -> None:
    async with world.client(AdminLevel.SUPERADMIN) as http:
        answer = await http.post("/certificates", json={"csr": csr_pem(dns("a.test")), "profile": profile})
    assert (answer.status_code, answer.json()["code"]) == (422, "policyRefused")


async def test_policy_can_be_asked_without_issuing(world: AdminWorld) -> None:
    async with world.client(AdminLevel.OPERATOR) as http:
        good = (await http.get("/policy/check", params={"name": ["dns:a.test"]})).json()
        bad = (
            await http.get("/policy/check", params={"name": ["dns:a.test", "dns:a.org"], "algorithm": "rsa-2048"})
        ).json()
        posted = (await http.post("/policy/check", json={"csr": csr_pem(dns("b.org"))})).json()
        listed = (await http.get("/certificates", params={"profile": "tls-server"})).json()["items"]
    assert good["allowed"]
    assert not bad["allowed"]
    assert [(v["rule"], v["name"]) for v in bad["verdicts"] if not v["passed"]] == [("names_permitted", "dns:a.org")]
    assert not posted["allowed"]
    assert listed == []


async def test_pages_end_and_never_repeat(world: AdminWorld) -> None:
    serials = [(await world.issue(f"n{number}.test"))["serial"] for number in range(5)]
    seen: list[str] = []
    async with world.client(AdminLevel.VIEWER) as http:
        after = None
        while True:
            parameters = {"limit": 2, "issuer": "web"} | ({"after": after} if after else {})
            page = (await http.get("/certificates", params=parameters)).json()
            seen += [item["serial"] for item in page["items"]]
            after = page["next"]
            if after is None:
                break
        bad = await http.get("/certificates", params={"after": "bm9wZQ"})
    assert seen == serials[::-1]
    assert bad.status_code == 400


async def test_crls_are_published_on_demand_and_listed(world: AdminWorld) -> None:
    async with world.client(AdminLevel.ADMIN) as http:
        published = (await http.post("/crls/test-web-issuing-ca/publish")).json()
        listed = (await http.get("/crls", params={"authority": "test-web-issuing-ca"})).json()["items"]
    assert [crl["number"] for crl in listed] == published["numbers"]
    assert not listed[0]["stale"]


async def test_export_gives_the_certificate_and_its_chain(world: AdminWorld) -> None:
    issued = await world.issue()
    path = f"/certificates/{issued['authority']}/{issued['serial']}"
    async with world.client(AdminLevel.VIEWER) as http:
        alone = await http.get(f"{path}/pem")
        chain = await http.get(f"{path}/chain")
        full = await http.get(f"{path}/chain", params={"root": True})
    assert alone.headers["content-type"] == "application/pem-certificate-chain"
    assert alone.text == issued["pem"]
    assert chain.text == issued["pem"] + issued["chain"]
    assert [len(x509.load_pem_x509_certificates(text.encode())) for text in (chain.text, full.text)] == [3, 4]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"csr": 7},
        {"csr": "x", "publicKey": "y"},
        {"csr": "x", "unknown": 1},
        {"csr": "x", "issuer": "web", "authority": "a"},
        {"csr": "x", "commonName": "a", "subject": "CN=a"},
        {"csr": "x", "names": ["www.test"]},
        {"csr": "x", "names": ["dns:a.test"] * 257},
        {"csr": "x", "validityS": 0},
        {"csr": "x", "validityS": "60"},
        {"csr": "x", "commonName": "a\x00b"},
        "text",
    ],
)
async def test_a_body_that_does_not_fit_is_refused_without_an_echo(world: AdminWorld, body: Any) -> None:
    async with world.client(AdminLevel.OPERATOR) as http:
        answer = await http.post("/certificates", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "malformed"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"csr": "' + b"A" * 300_000 + b'"}', "application/json", 413),
        (b"csr=1", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b"\xff\xfe", "application/json", 400),
        (b"", "application/json", 400),
    ],
)
async def test_a_broken_body_is_refused(world: AdminWorld, content: bytes, media_type: str, status: int) -> None:
    async with world.client(AdminLevel.OPERATOR) as http:
        answer = await http.post("/certificates", content=content, headers={"Content-Type": media_type})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_bad_csr_or_key_is_refused(world: AdminWorld) -> None:
    good = csr_pem(dns("a.test"))
    spki = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"csr": good.replace("MI", "NI", 1)}, "badCSR"),
        ({"csr": good + good}, "badCSR"),
        ({"csr": "nothing"}, "badCSR"),
        ({"publicKey": spki}, "malformed"),
        ({"publicKey": "nothing"}, "badPublicKey"),
        ({"csr": good, "names": ["dns:-a.test"]}, "unsupportedIdentifier"),
        ({"csr": good, "subject": "nonsense"}, "malformed"),
    ]
    async with world.client(AdminLevel.OPERATOR) as http:
        for body, code in cases:
            answer = await http.post("/certificates", json=body)
            assert answer.json()["code"] == code, (body, answer.text)


async def test_unknown_paths_and_methods_get_problem_documents(world: AdminWorld) -> None:
    async with world.client(AdminLevel.VIEWER) as http:
        for method, path, status in (
            ("GET", "/nothing", 404),
            ("PUT", "/certificates", 405),
            ("GET", "/crls/x/publish", 405),
        ):
            answer = await http.request(method, path)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def _routes(world: AdminWorld) -> list[tuple[str, str, str]]:
    """(method, path, operation) of every route, with parameters filled in."""
    paths = describe(router(world.services))["paths"]
    fill = {"{authority}": "test-web-issuing-ca", "{serial}": "1A", "{label}": "web", "{token}": "0123456789ab"}
    routes = []
    for path, operations in paths.items():
        for name, value in fill.items():
            path = path.replace(name, value)  # noqa: PLW2901
        routes += [
            (method.upper(), path.removeprefix("/api/v1"), op["operationId"]) for method, op in operations.items()
        ]
    return routes


async def test_every_route_refuses_without_a_certificate_and_below_its_level(world: AdminWorld) -> None:
    routes = _routes(world)
    assert {operation for _, _, operation in routes} == {*OPERATIONS, OPERATION}
    assert len(routes) == len(OPERATIONS) + 1
    # Enrolment has a gate of its own, for those who have no certificate yet.
    routes = [route for route in routes if route[2] != OPERATION]
    for method, path, operation in routes:
        async with world.client(None) as http:
            answer = await http.request(
                method,
                path,
                headers={"X-Client-Cert": (await world.administrator(AdminLevel.SUPERADMIN)).pem.replace("\n", "%0A")},
            )
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), (method, path)
        assert "--admin-cert" in answer.json()["detail"]
        for level in AdminLevel:
            async with world.client(level) as http:
                answer = await http.request(method, path)
            if level < OPERATIONS[operation].level:
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (method, path, level)
            else:
                assert answer.status_code not in (401, 403, 500), (method, path, level, answer.text)


async def test_the_description_names_security_and_problems(world: AdminWorld) -> None:
    async with world.client(AdminLevel.VIEWER) as http:
        document = (await http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["administratorCertificate"]["type"] == "mutualTLS"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["tags"], path
            assert "application/problem+json" in operation["responses"]["422"]["content"], path
            if operation["operationId"] == OPERATION:
                assert operation["security"] == [{"enrolmentToken": []}]
            else:
                assert operation["x-spork-minimum-level"]


async def test_two_requests_at_once_with_one_key_give_one_certificate(world: AdminWorld) -> None:
    body = {"csr": csr_pem(dns("race.test"))}
    async with world.client(AdminLevel.OPERATOR) as http:
        answers = await asyncio.gather(
            *(http.post("/certificates", json=body, headers={"Idempotency-Key": "race"}) for _ in range(4))
        )
    serials = {answer.json()["serial"] for answer in answers if answer.status_code == 201}
    assert len(serials) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}


async def test_an_unexpected_error_tells_only_a_reference(world: AdminWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(type(world.services.issuers), "all", broken)
    async with world.client(AdminLevel.VIEWER) as http:
        answer = await http.get("/issuers")
    assert answer.status_code == 500
    assert answer.json()["reference"]
    assert "secret" not in answer.text


def test_names_are_compared_as_values() -> None:
    assert SubjectName(dns("a.test").kind, "a.test") == dns("A.test.")
