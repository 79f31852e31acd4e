"""cert-manager's CertificateRequests before our issuers: what is signed, refused, awaited and left alone, and at what cost."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from requests_world import (
    RequestsWorld,
    a_certificate_request,
    a_requests_world,
    an_issuer,
    certificates,
    condition,
    csr_pem,
    encoded,
    ours,
    state,
)

from spork.controller.cluster import Conflict, Ref, Unreachable
from spork.controller.reconciler import Context
from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.store.database import Database
from spork.x509.der import Extension
from spork.x509.names import NameKind, SubjectName

pytestmark = pytest.mark.store
ONE = Ref("CertificateRequest", "shop", "one")


@pytest.fixture
async def world(database: Database) -> AsyncIterator[RequestsWorld]:
    async with a_requests_world(database) as world:
        yield world


async def recorded(world: RequestsWorld) -> int:
    """How many certificates of workloads stand in the record."""
    cursor = await world.signing.host.database.execute(
        "SELECT count(*) FROM certificate WHERE idempotency_key IS NOT NULL AND door = 'kubernetes'"
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def test_an_approved_request_is_signed_by_one_write_and_one_event(world: RequestsWorld) -> None:
    item, requests = await world.answered(a_certificate_request("Approved"))
    assert requests == ["set_status CertificateRequest shop/one", "report CertificateRequest shop/one"]
    status, reason, message = state(item) or ("", "", "")
    assert (status, reason) == ("True", "Issued")
    assert "shop.web" in message
    leaf, above = certificates(item["status"]["certificate"])
    (root,) = certificates(item["status"]["ca"])
    assert leaf.issuer == above.subject
    assert above.issuer == root.subject == root.issuer
    assert leaf.public_key() == x509.load_pem_x509_csr(base64.b64decode(item["spec"]["request"])).public_key()
    assert "failureTime" not in item["status"]


async def test_the_approval_of_somebody_else_is_neither_changed_nor_taken_over(world: RequestsWorld) -> None:
    item, _ = await world.answered(a_certificate_request("Approved"))
    assert item["status"]["conditions"][0] == condition("Approved")
    assert [one["type"] for one in item["status"]["conditions"]] == ["Approved", "Ready"]


async def test_the_record_says_who_asked_and_who_approved(world: RequestsWorld) -> None:
    asked = {"username": "ada", "uid": "7", "groups": ["staff"], "extra": {"key": ["value"]}}
    item, _ = await world.answered(a_certificate_request("Approved", **asked))
    cursor = await world.signing.host.database.execute(
        "SELECT requester, evidence, attributes FROM certificate WHERE door = 'kubernetes'"
    )
    row = await cursor.fetchone()
    assert row is not None
    assert row[0] == "certificate-request:shop/one"
    assert row[1] == {"kind": "approval", "reference": "CertificateRequest shop/one, approved by Test: By the test."}
    assert row[2]["kubernetes"] == {
        "kind": "CertificateRequest",
        "namespace": "shop",
        "name": "one",
        "uid": item["metadata"]["uid"],
        "user": asked,
    }


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(a_certificate_request(), id="nobody has approved it"),
        pytest.param(
            {**a_certificate_request(), "status": {"conditions": [condition("Approved", status="False")]}},
            id="Approved is False, which is no approval",
        ),
        pytest.param(a_certificate_request("Approved", "InvalidRequest"), id="it was found invalid before"),
        pytest.param(
            a_certificate_request("Approved", issuerRef={"group": "cert-manager.io", "kind": "Issuer", "name": "web"}),
            id="another group",
        ),
        pytest.param(a_certificate_request("Approved", issuerRef={"kind": "Issuer", "name": "web"}), id="no group"),
        pytest.param(
            a_certificate_request("Approved", issuerRef={"group": "spork-ca.org.evil", "name": "web"}),
            id="a group that only begins like ours",
        ),
        pytest.param(
            {**a_certificate_request(), "status": {"conditions": [condition("Approved"), condition("Ready")]}},
            id="Ready already",
        ),
        pytest.param(
            {
                **a_certificate_request(),
                "status": {"conditions": [condition("Approved"), condition("Ready", status="False", reason="Failed")]},
            },
            id="Failed already",
        ),
        pytest.param(
            {
                **a_certificate_request(),
                "status": {
                    "conditions": [condition("Denied"), condition("Ready", status="False", reason="Denied")],
                },
            },
            id="Denied already",
        ),
    ],
)
async def test_nothing_is_requested_for_what_is_not_to_be_signed(world: RequestsWorld, item: dict[str, Any]) -> None:
    found, requests = await world.answered(dict(item))
    assert requests == []
    assert "certificate" not in found["status"]
    assert await recorded(world) == 0


@pytest.mark.parametrize("conditions", [("Denied",), ("Approved", "Denied")])
async def test_a_denied_request_is_marked_and_never_signed(world: RequestsWorld, conditions: tuple[str, ...]) -> None:
    item, requests = await world.answered(a_certificate_request(*conditions))
    assert requests == ["set_status CertificateRequest shop/one"]
    assert (state(item) or ())[:2] == ("False", "Denied")
    assert item["status"]["failureTime"]
    assert await recorded(world) == 0


async def test_approval_that_comes_later_is_seen(world: RequestsWorld) -> None:
    item, requests = await world.answered(a_certificate_request())
    assert requests == []
    world.cluster.add_condition(ONE, "Approved")
    await world.cluster.settle(world.certificate_requests)
    assert (state(world.cluster.get(ONE) or item) or ())[:2] == ("True", "Issued")


CA_USAGE = Extension(
    oid=x509.BasicConstraints.oid,
    critical=True,
    value=x509.BasicConstraints(ca=True, path_length=None).public_bytes(),
)


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        pytest.param(a_certificate_request("Approved", isCA=True), "isCA is true", id="a CA"),
        pytest.param(a_certificate_request("Approved", usages=["cert sign"]), "that of a CA", id="the usages of a CA"),
        pytest.param(a_certificate_request("Approved", usages=["sing"]), "'sing' is not known", id="an unknown usage"),
        pytest.param(
            a_certificate_request("Approved", usages=[f"usage {n}" for n in range(100)]),
            "more than 64",
            id="many usages",
        ),
        pytest.param(
            a_certificate_request("Approved", pem=csr_pem("www.test", extensions=[CA_USAGE])),
            "asks for a CA certificate",
            id="a CSR with CA true",
        ),
        pytest.param(a_certificate_request("Approved", pem="no PEM"), "exactly one PEM block", id="no PEM"),
        pytest.param(a_certificate_request("Approved", request="***"), "not PEM text in base64", id="no base64"),
        pytest.param(a_certificate_request("Approved", request=""), "exactly one PEM block", id="an empty request"),
        pytest.param(
            a_certificate_request("Approved", pem=csr_pem("www.test") + csr_pem("www.test")),
            "exactly one PEM block",
            id="two requests",
        ),
        pytest.param(
            a_certificate_request("Approved", request=encoded("-" * 300_000)), "larger than", id="a huge request"
        ),
        pytest.param(
            a_certificate_request("Approved", pem=csr_pem("www.test").replace("M", "N", 3)),
            "certificate request",
            id="a damaged request",
        ),
        pytest.param(a_certificate_request("Approved", duration="soon"), "is not a duration", id="no duration"),
        pytest.param(a_certificate_request("Approved", duration="-1h"), "is not a duration", id="a negative duration"),
        pytest.param(
            a_certificate_request("Approved", issuerRef={"group": "spork-ca.org", "kind": "Hierarchy", "name": "main"}),
            "There is no kind 'Hierarchy'",
            id="a kind that is no issuer",
        ),
    ],
)
async def test_what_can_never_be_signed_is_called_invalid(
    world: RequestsWorld, item: dict[str, Any], sentence: str
) -> None:
    found, requests = await world.answered(dict(item))
    assert requests == ["set_status CertificateRequest shop/one", "report CertificateRequest shop/one"]
    assert (state(found) or ())[:2] == ("False", "Failed")
    assert (state(found, "InvalidRequest") or ())[:2] == ("True", "Invalid")
    assert sentence in (state(found) or ("", "", ""))[2]
    assert found["status"]["failureTime"]
    assert "certificate" not in found["status"]
    assert await recorded(world) == 0


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        pytest.param(
            a_certificate_request("Approved", pem=csr_pem("www.example.com")), "www.example.com", id="a foreign name"
        ),
        pytest.param(
            a_certificate_request("Approved", pem=csr_pem("www.test", "www.example.com")),
            "www.example.com",
            id="a foreign name beside a good one",
        ),
        pytest.param(a_certificate_request("Approved", duration="9600h"), "longer", id="too long a life"),
        pytest.param(
            a_certificate_request("Approved", usages=["server auth", "client auth"]),
            "No profile of the issuer shop.web asserts all",
            id="two purposes that no profile has together",
        ),
        pytest.param(
            a_certificate_request("Approved", usages=["code signing"]),
            "it offers tls-server, tls-client",
            id="a foreign purpose",
        ),
        pytest.param(
            a_certificate_request("Approved", pem=csr_pem(SubjectName(NameKind.EMAIL, "ada@www.test"))),
            "ada@www.test",
            id="a kind of name that the profile has not",
        ),
    ],
)
async def test_what_the_issuer_refuses_fails_without_being_invalid(
    world: RequestsWorld, item: dict[str, Any], sentence: str
) -> None:
    found, requests = await world.answered(dict(item))
    assert requests == ["set_status CertificateRequest shop/one", "report CertificateRequest shop/one"]
    assert (state(found) or ())[:2] == ("False", "Failed")
    assert sentence in (state(found) or ("", "", ""))[2]
    assert state(found, "InvalidRequest") is None
    assert found["status"]["failureTime"]
    assert await recorded(world) == 0


async def test_a_failed_request_is_not_tried_again_when_the_policy_changes(world: RequestsWorld) -> None:
    pem = csr_pem("www.example.com")
    item, _ = await world.answered(a_certificate_request("Approved", pem=pem))
    await world.issuers(
        ours("Issuer", "web", an_issuer(names={"permit": {"dns": ["**.example.com"]}}), namespace="shop")
    )
    world.cluster.requests.clear()
    await world.cluster.settle(world.certificate_requests)
    assert world.cluster.requests == []
    assert world.cluster.get(ONE) == item


@pytest.mark.parametrize(
    ("usages", "purpose"),
    [
        (["client auth"], "1.3.6.1.5.5.7.3.2"),
        (["digital signature", "key encipherment", "client auth"], "1.3.6.1.5.5.7.3.2"),
        (["server auth"], "1.3.6.1.5.5.7.3.1"),
        ([], "1.3.6.1.5.5.7.3.1"),
    ],
)
async def test_the_profile_is_the_first_that_asserts_all_usages(
    world: RequestsWorld, usages: list[str], purpose: str
) -> None:
    item, _ = await world.answered(a_certificate_request("Approved", usages=usages))
    leaf = certificates(item["status"]["certificate"])[0]
    found = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in found] == [purpose]


async def test_the_duration_is_kept_to_the_second(world: RequestsWorld) -> None:
    item, _ = await world.answered(a_certificate_request("Approved", duration="36h0m0s"))
    leaf = certificates(item["status"]["certificate"])[0]
    # The last second counts (RFC 5280 section 4.1.2.5).
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc + timedelta(seconds=1) == timedelta(hours=36)


async def test_an_issuer_that_appears_later_signs_what_waited(world: RequestsWorld) -> None:
    reference = {"group": "spork-ca.org", "name": "later"}
    item, requests = await world.answered(a_certificate_request("Approved", issuerRef=reference))
    assert requests == ["set_status CertificateRequest shop/one"]
    assert (state(item) or ())[:2] == ("False", "Pending")
    assert "There is no Issuer 'later'" in (state(item) or ("", "", ""))[2]
    world.cluster.requests.clear()
    await world.cluster.settle(world.certificate_requests)
    assert world.cluster.requests == [], "waiting costs nothing"
    later = Ref("Issuer", "shop", "later")
    heard: list[Ref] = []
    world.cluster.subscribe(lambda change: heard.extend(world.certificate_requests.concerned(change)))
    await world.issuers(ours("Issuer", "later", an_issuer(), namespace="shop"))
    assert set(heard) == {ONE}, f"{later} wakes it"
    await world.cluster.settle(world.certificate_requests)
    assert (state(world.cluster.get(ONE) or item) or ())[:2] == ("True", "Issued")


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        pytest.param(a_certificate_request("Approved", namespace="other"), "There is no Issuer 'web'", id="its Issuer"),
        pytest.param(
            a_certificate_request(
                "Approved",
                namespace="other",
                issuerRef={"group": "spork-ca.org", "kind": "ClusterIssuer", "name": "some"},
            ),
            "does not allow the namespace 'other'",
            id="a ClusterIssuer that does not allow it",
        ),
    ],
)
async def test_another_namespace_waits_for_a_grant(world: RequestsWorld, item: dict[str, Any], sentence: str) -> None:
    found, requests = await world.answered(dict(item))
    assert requests == ["set_status CertificateRequest other/one"]
    assert (state(found) or ())[:2] == ("False", "Pending")
    assert sentence in (state(found) or ("", "", ""))[2]
    assert await recorded(world) == 0


async def test_a_cluster_issuer_signs_for_the_namespaces_it_allows(world: RequestsWorld) -> None:
    reference = {"group": "spork-ca.org", "kind": "ClusterIssuer", "name": "some"}
    item, _ = await world.answered(a_certificate_request("Approved", issuerRef=reference))
    assert (state(item) or ())[:2] == ("True", "Issued")


async def test_a_name_of_the_own_namespace_is_what_the_namespace_allows(world: RequestsWorld) -> None:
    permit = {"dns": ["**.{namespace}.test"]}
    await world.issuers(
        ours("ClusterIssuer", "everyone", an_issuer(allowedNamespaces={"names": ["*"]}, names={"permit": permit}))
    )
    reference = {"group": "spork-ca.org", "kind": "ClusterIssuer", "name": "everyone"}
    for namespace, reason in (("shop", "Issued"), ("other", "Failed")):
        request = a_certificate_request(
            "Approved", namespace=namespace, issuerRef=reference, pem=csr_pem("a.shop.test")
        )
        item, _ = await world.answered(request)
        assert (state(item) or ("", ""))[1] == reason


async def test_a_database_that_is_away_leaves_the_request_pending(world: RequestsWorld) -> None:
    class Away:
        async def issue(self, request: Any, **options: Any) -> None:
            raise DatabaseUnavailable

    services = replace(world.context.services, issuing=Away())  # type: ignore[arg-type]
    world.certificate_requests._context = Context(world.cluster, services)
    world.cluster.put(a_certificate_request("Approved"))
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await world.certificate_requests.reconcile(ONE)
    assert world.cluster.requests == ["set_status CertificateRequest shop/one"], "the second attempt writes nothing"
    assert (state(world.cluster.get(ONE) or {}) or ())[:2] == ("False", "Pending")
    world.certificate_requests._context = world.context
    await world.cluster.settle(world.certificate_requests)
    assert (state(world.cluster.get(ONE) or {}) or ())[:2] == ("True", "Issued")


async def test_a_signature_that_takes_its_time_is_waited_for(world: RequestsWorld) -> None:
    class Slow:
        async def issue(self, request: Any, **options: Any) -> None:
            return None

    services = replace(world.context.services, issuing=Slow())  # type: ignore[arg-type]
    world.certificate_requests._context = Context(world.cluster, services)
    world.cluster.put(a_certificate_request("Approved"))
    again = await world.certificate_requests.reconcile(ONE)
    assert again is not None
    assert again <= 5
    assert state(world.cluster.get(ONE) or {}) == ("False", "Pending", "The certificate is being signed.")


@pytest.mark.parametrize("error", [Unreachable("The API server is away."), Conflict(ONE)])
async def test_a_crash_before_the_answer_is_written_issues_nothing_twice(
    world: RequestsWorld, error: SporkError
) -> None:
    world.cluster.put(a_certificate_request("Approved"))
    world.cluster.fail = lambda verb, ref: error if verb == "set_status" else None
    for _ in range(3):
        with pytest.raises(type(error)):
            await world.certificate_requests.reconcile(ONE)
    world.cluster.fail = lambda verb, ref: None
    await world.cluster.settle(world.certificate_requests)
    assert (state(world.cluster.get(ONE) or {}) or ())[:2] == ("True", "Issued")
    assert await recorded(world) == 1


async def test_what_was_signed_before_the_issuer_changed_is_handed_out(world: RequestsWorld) -> None:
    world.cluster.put(a_certificate_request("Approved"))
    world.cluster.fail = lambda verb, ref: Unreachable("away") if verb == "set_status" else None
    with pytest.raises(Unreachable):
        await world.certificate_requests.reconcile(ONE)
    world.cluster.fail = lambda verb, ref: None
    await world.issuers(ours("Issuer", "web", an_issuer(profiles=["code-signing"]), namespace="shop"))
    await world.cluster.settle(world.certificate_requests)
    assert (state(world.cluster.get(ONE) or {}) or ())[:2] == ("True", "Issued")
    assert await recorded(world) == 1


async def test_a_request_that_was_changed_after_it_was_signed_is_refused(world: RequestsWorld) -> None:
    item = a_certificate_request("Approved")
    world.cluster.put(dict(item))
    world.cluster.fail = lambda verb, ref: Unreachable("away") if verb == "set_status" else None
    with pytest.raises(Unreachable):
        await world.certificate_requests.reconcile(ONE)
    world.cluster.fail = lambda verb, ref: None
    item.pop("status", None)
    world.cluster.add({**item, "spec": {**item["spec"], "duration": "24h"}})
    await world.cluster.settle(world.certificate_requests)
    assert (state(world.cluster.get(ONE) or {}) or ())[:2] == ("False", "Failed")
    assert await recorded(world) == 1


async def test_the_same_request_made_anew_is_another_certificate(world: RequestsWorld) -> None:
    pem = csr_pem("www.test")
    first, _ = await world.answered(a_certificate_request("Approved", pem=pem))
    await world.cluster.delete(ONE)
    second, _ = await world.answered(a_certificate_request("Approved", pem=pem))
    assert first["status"]["certificate"] != second["status"]["certificate"]
    assert await recorded(world) == 2


async def test_an_operator_that_starts_again_asks_for_nothing(world: RequestsWorld) -> None:
    await world.answered(a_certificate_request("Approved"))
    await world.answered(a_certificate_request("Denied", name="two"))
    await world.answered(a_certificate_request("Approved", name="three", isCA=True))
    world.cluster.requests.clear()
    again = type(world.certificate_requests)(world.context)
    await world.cluster.settle(again)
    assert world.cluster.requests == []


def test_no_code_is_left_without_an_outcome() -> None:
    from spork.controller.requests.outcome import Outcome, outcome_of

    assert {outcome_of(SporkError(code, "")) for code in Code} == set(Outcome)
    assert outcome_of(Unreachable("away")) is Outcome.WAIT
    assert outcome_of(Conflict(ONE)) is Outcome.WAIT
