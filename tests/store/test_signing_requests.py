"""Kubernetes' CertificateSigningRequests before our issuers: who may name which issuer, what is signed, and at what cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from requests_world import (
    RequestsWorld,
    a_requests_world,
    a_signing_request,
    an_issuer,
    certificates,
    condition,
    csr_pem,
    encoded,
    ours,
    state,
)

from spork.controller.cluster import Attributes, Ref, Unreachable
from spork.controller.reconciler import Context
from spork.errors import DatabaseUnavailable
from spork.store.database import Database
from spork.x509.names import NameKind, SubjectName

pytestmark = pytest.mark.store
ONE = Ref("CertificateSigningRequest", "", "one")
WRITE, EVENT = f"set_status {ONE}", f"report {ONE}"


@pytest.fixture
async def world(database: Database) -> AsyncIterator[RequestsWorld]:
    async with a_requests_world(database) as world:
        yield world


async def recorded(world: RequestsWorld) -> int:
    """How many certificates of workloads stand in the record."""
    cursor = await world.signing.host.database.execute("SELECT count(*) FROM certificate WHERE door = 'kubernetes'")
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


def lifetime(item: Any) -> timedelta:
    leaf = certificates(item["status"]["certificate"])[0]
    # The last second counts (RFC 5280 section 4.1.2.5).
    return leaf.not_valid_after_utc - leaf.not_valid_before_utc + timedelta(seconds=1)


async def test_an_approved_request_is_signed_by_one_review_one_write_and_one_event(world: RequestsWorld) -> None:
    item, requests = await world.answered(a_signing_request("Approved"))
    assert requests == [WRITE, EVENT]
    assert len(world.permissions.asked) == 1
    leaf, above = certificates(item["status"]["certificate"])
    assert leaf.issuer == above.subject
    assert above.issuer != above.subject, "the root is not sent"
    assert item["status"]["conditions"] == [condition("Approved")]


async def test_the_review_asks_for_the_user_as_the_api_server_knows_them(world: RequestsWorld) -> None:
    await world.answered(a_signing_request("Approved", groups=["g"] * 100))
    ((user, attributes),) = world.permissions.asked
    assert attributes == Attributes("reference", "spork-ca.org", "issuers", "shop", "web")
    assert (user["username"], user["uid"], user["extra"]) == ("ada", "7", {"example.com/key": ["one"]})
    assert user["groups"] == ["g"] * 100, "the record is cut, the question is not"


async def test_the_record_says_who_asked_and_who_approved(world: RequestsWorld) -> None:
    await world.answered(a_signing_request("Approved"))
    cursor = await world.signing.host.database.execute(
        "SELECT requester, evidence, attributes -> 'kubernetes' ->> 'kind' FROM certificate WHERE door = 'kubernetes'"
    )
    assert await cursor.fetchone() == (
        "kubernetes-user:ada",
        {"kind": "approval", "reference": "CertificateSigningRequest one, approved by Test: By the test."},
        "CertificateSigningRequest",
    )


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(a_signing_request(), id="nobody has approved it"),
        pytest.param(a_signing_request("Denied"), id="denied"),
        pytest.param(a_signing_request("Approved", "Denied"), id="denied after it was approved"),
        pytest.param(a_signing_request("Approved", "Failed"), id="failed already"),
        pytest.param(a_signing_request("Approved", signerName="kubernetes.io/kubelet-serving"), id="another signer"),
        pytest.param(a_signing_request("Approved", signerName="spork-ca.org.evil/web"), id="one that begins like ours"),
    ],
)
async def test_nothing_is_requested_for_what_is_not_to_be_signed(world: RequestsWorld, item: dict[str, Any]) -> None:
    _, requests = await world.answered(dict(item))
    assert requests == []
    assert world.permissions.asked == []
    assert await recorded(world) == 0


async def test_a_signed_request_is_never_signed_again(world: RequestsWorld) -> None:
    item, _ = await world.answered(a_signing_request("Approved"))
    world.cluster.requests.clear()
    await world.cluster.settle(type(world.signing_requests)(world.context))
    assert world.cluster.requests == []
    assert world.cluster.get(ONE) == item


async def test_a_user_who_may_not_name_the_issuer_is_refused(world: RequestsWorld) -> None:
    world.permissions.allowed = False
    item, requests = await world.answered(a_signing_request("Approved"))
    assert requests == [WRITE, EVENT]
    status, reason, message = state(item, "Failed") or ("", "", "")
    assert (status, reason) == ("True", "MayNotReference")
    assert message == "The user may not name Issuer shop/web: a role with the verb reference on it is missing."
    assert "certificate" not in item["status"]
    assert await recorded(world) == 0


@pytest.mark.parametrize("signer", ["spork-ca.org/shop.web", "spork-ca.org/shop.nothing", "spork-ca.org/nowhere.web"])
async def test_who_may_not_name_an_issuer_does_not_learn_whether_it_is_there(world: RequestsWorld, signer: str) -> None:
    world.permissions.allowed = False
    item, _ = await world.answered(a_signing_request("Approved", signerName=signer))
    reason, message = (state(item, "Failed") or ("", "", ""))[1:]
    assert reason == "MayNotReference"
    assert message.startswith("The user may not name Issuer ")


async def test_without_anybody_to_ask_nothing_is_signed(world: RequestsWorld) -> None:
    world.signing_requests._context = Context(world.cluster, world.context.services)
    item, requests = await world.answered(a_signing_request("Approved"))
    assert requests == []
    assert "certificate" not in item["status"]


async def test_an_authorizer_that_cannot_decide_is_no_refusal(world: RequestsWorld) -> None:
    world.permissions.error = Unreachable("The API server cannot decide.")
    world.cluster.put(a_signing_request("Approved"))
    with pytest.raises(Unreachable):
        await world.signing_requests.reconcile(ONE)
    assert state(world.cluster.get(ONE) or {}, "Failed") is None
    assert (state(world.cluster.get(ONE) or {}, "Pending") or ())[:2] == ("True", "Pending")
    world.permissions.error = None
    await world.cluster.settle(world.signing_requests)
    item = world.cluster.get(ONE) or {}
    assert item["status"]["certificate"]
    assert state(item, "Pending") is None, "what it waited for is gone with the answer"


@pytest.mark.parametrize(
    ("item", "reason", "sentence"),
    [
        pytest.param(
            a_signing_request("Approved", signerName="spork-ca.org/a.b.c"),
            "Invalid",
            "is not spork-ca.org/",
            id="three parts",
        ),
        pytest.param(
            a_signing_request("Approved", signerName="spork-ca.org/.web"),
            "Invalid",
            "is not spork-ca.org/",
            id="no namespace",
        ),
        pytest.param(
            a_signing_request("Approved", usages=["cert sign"]), "Invalid", "is that of a CA", id="the usage of a CA"
        ),
        pytest.param(
            a_signing_request("Approved", usages=["server auth", "crl sign"]),
            "Invalid",
            "is that of a CA",
            id="of a CRL",
        ),
        pytest.param(a_signing_request("Approved", pem="garbage"), "Invalid", "exactly one PEM block", id="garbage"),
        pytest.param(
            a_signing_request("Approved", request=encoded("-" * 400_000)), "Invalid", "larger than", id="a huge request"
        ),
        pytest.param(
            a_signing_request("Approved", pem=csr_pem("www.example.com")),
            "Failed",
            "www.example.com",
            id="a foreign name",
        ),
        pytest.param(
            a_signing_request("Approved", usages=["code signing"]),
            "Failed",
            "No profile of the issuer",
            id="a foreign use",
        ),
        pytest.param(
            a_signing_request("Approved", usages=["any"]), "Failed", "No profile of the issuer", id="any use at all"
        ),
        pytest.param(
            a_signing_request(
                "Approved", pem=csr_pem(SubjectName(NameKind.URI, "spiffe://evil.test/a")), usages=["client auth"]
            ),
            "Failed",
            "spiffe://evil.test/a",
            id="a URI outside the policy",
        ),
    ],
)
async def test_what_is_refused_fails_once_with_a_sentence(
    world: RequestsWorld, item: dict[str, Any], reason: str, sentence: str
) -> None:
    found, requests = await world.answered(dict(item))
    assert requests == [WRITE, EVENT]
    assert (state(found, "Failed") or ())[:2] == ("True", reason)
    assert sentence in (state(found, "Failed") or ("", "", ""))[2]
    assert "certificate" not in found["status"]
    assert await recorded(world) == 0


async def test_a_client_gets_the_subject_that_it_asked_for(world: RequestsWorld) -> None:
    pem = csr_pem(subject="CN=ada,O=staff")
    item, _ = await world.answered(a_signing_request("Approved", pem=pem, usages=["digital signature", "client auth"]))
    leaf = certificates(item["status"]["certificate"])[0]
    assert leaf.subject.rfc4514_string() == "CN=ada,O=staff"


async def test_a_server_whose_csr_has_a_common_name_alone_is_named_by_it(world: RequestsWorld) -> None:
    item, _ = await world.answered(a_signing_request("Approved", pem=csr_pem(subject="CN=www.test")))
    leaf = certificates(item["status"]["certificate"])[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["www.test"]


@pytest.mark.parametrize(
    ("seconds", "hours"), [(3600, 1), (200 * 86400, 200 * 24), (1000 * 86400, 398 * 24), (None, 90 * 24)]
)
async def test_the_life_asked_for_is_kept_within_the_limits(
    world: RequestsWorld, seconds: int | None, hours: int
) -> None:
    wanted = {} if seconds is None else {"expirationSeconds": seconds}
    item, _ = await world.answered(a_signing_request("Approved", **wanted))
    assert lifetime(item) == timedelta(hours=hours)


async def test_the_issuers_own_limit_counts(world: RequestsWorld) -> None:
    await world.issuers(ours("Issuer", "web", an_issuer(maxValidityDays=2), namespace="shop"))
    item, _ = await world.answered(a_signing_request("Approved", expirationSeconds=30 * 86400))
    assert lifetime(item) == timedelta(days=2)


async def test_a_cluster_issuer_for_every_namespace_signs_for_whoever_may_name_it(world: RequestsWorld) -> None:
    item, _ = await world.answered(a_signing_request("Approved", signerName="spork-ca.org/everyone"))
    assert item["status"]["certificate"]
    assert world.permissions.asked[0][1] == Attributes("reference", "spork-ca.org", "clusterissuers", "", "everyone")


async def test_a_cluster_issuer_for_some_namespaces_signs_for_their_service_accounts_alone(
    world: RequestsWorld,
) -> None:
    request = {"signerName": "spork-ca.org/some"}
    for username, signed in (
        ("system:serviceaccount:shop:web", True),
        ("system:serviceaccount:other:web", False),
        ("ada", False),
        ("shop", False),
    ):
        item, _ = await world.answered(a_signing_request("Approved", username=username, **request))
        assert ("certificate" in item["status"]) is signed, username
        if not signed:
            assert "does not allow the namespace" in (state(item, "Pending") or ("", "", ""))[2]
        await world.cluster.delete(ONE)


async def test_an_issuer_that_appears_later_signs_what_waited(world: RequestsWorld) -> None:
    item, requests = await world.answered(a_signing_request("Approved", signerName="spork-ca.org/shop.later"))
    assert requests == [WRITE]
    assert (state(item, "Pending") or ())[:2] == ("True", "Pending")
    assert len(world.permissions.asked) == 1
    world.cluster.requests.clear()
    await world.cluster.settle(world.signing_requests)
    assert (world.cluster.requests, len(world.permissions.asked)) == ([], 1), "waiting costs nothing, not even a review"
    heard: list[Ref] = []
    world.cluster.subscribe(lambda change: heard.extend(world.signing_requests.concerned(change)))
    await world.issuers(ours("Issuer", "later", an_issuer(), namespace="shop"))
    assert set(heard) == {ONE}
    await world.cluster.settle(world.signing_requests)
    found = world.cluster.get(ONE) or {}
    assert found["status"]["certificate"]
    assert state(found, "Pending") is None
    assert len(world.permissions.asked) == 2, "what a user may do is looked at when it is signed"


async def test_a_permission_that_was_taken_away_while_the_request_waited_is_gone(world: RequestsWorld) -> None:
    await world.answered(a_signing_request("Approved", signerName="spork-ca.org/shop.later"))
    world.permissions.allowed = False
    await world.issuers(ours("Issuer", "later", an_issuer(), namespace="shop"))
    await world.cluster.settle(world.signing_requests)
    assert (state(world.cluster.get(ONE) or {}, "Failed") or ("", ""))[1] == "MayNotReference"
    assert await recorded(world) == 0


async def test_a_denial_while_the_request_waits_ends_it(world: RequestsWorld) -> None:
    await world.answered(a_signing_request("Approved", signerName="spork-ca.org/shop.later"))
    world.cluster.add_condition(ONE, "Denied")
    await world.issuers(ours("Issuer", "later", an_issuer(), namespace="shop"))
    await world.cluster.settle(world.signing_requests)
    assert "certificate" not in (world.cluster.get(ONE) or {})["status"]
    assert await recorded(world) == 0


async def test_a_database_that_is_away_leaves_the_request_waiting(world: RequestsWorld) -> None:
    class Away:
        async def issue(self, request: Any, **options: Any) -> None:
            raise DatabaseUnavailable

    services = replace(world.context.services, issuing=Away())  # type: ignore[arg-type]
    world.signing_requests._context = Context(world.cluster, services, world.permissions)
    world.cluster.put(a_signing_request("Approved"))
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await world.signing_requests.reconcile(ONE)
    assert world.cluster.requests == [WRITE], "the second attempt writes nothing"
    world.signing_requests._context = world.context
    await world.cluster.settle(world.signing_requests)
    assert (world.cluster.get(ONE) or {})["status"]["certificate"]


async def test_a_crash_before_the_answer_is_written_issues_nothing_twice(world: RequestsWorld) -> None:
    world.cluster.put(a_signing_request("Approved"))
    world.cluster.fail = lambda verb, ref: Unreachable("away") if verb == "set_status" else None
    for _ in range(3):
        with pytest.raises(Unreachable):
            await world.signing_requests.reconcile(ONE)
    world.cluster.fail = lambda verb, ref: None
    await world.cluster.settle(world.signing_requests)
    assert (world.cluster.get(ONE) or {})["status"]["certificate"]
    assert await recorded(world) == 1


async def test_texts_that_no_database_takes_do_not_keep_a_request_from_its_answer(world: RequestsWorld) -> None:
    strange = "a\x00b\ud800"
    item = a_signing_request(username=strange, uid=strange, groups=[strange], extra={strange: [strange]})
    item["status"]["conditions"] = [condition("Approved", reason=strange)]
    found, _ = await world.answered(item)
    assert found["status"]["certificate"]
    cursor = await world.signing.host.database.execute("SELECT requester FROM certificate WHERE door = 'kubernetes'")
    assert await cursor.fetchone() == ("kubernetes-user:a?b?",)
    assert world.permissions.asked[0][0]["username"] == strange, "the question is about the very user"
