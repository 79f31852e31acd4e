"""Certificates from nothing to Ready, over a real database: what it costs, and what a kill between any two writes leaves."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificate_world import (
    REF,
    SECRET,
    CertificateWorld,
    a_certificate_world,
    an_issuer,
    key_and_certificate_fit,
)
from cryptography import x509

from spork.controller.certificate import marks
from spork.controller.cluster import Conflict, Ref, Unreachable
from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.ids import serial_text
from spork.store.database import Database

pytestmark = pytest.mark.store


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> CertificateWorld:
    return await a_certificate_world(database, tmp_path)


def verbs(requests: list[str]) -> list[str]:
    return [request.split(" ")[0] for request in requests]


class Killed(BaseException):
    """The process dies here: nothing catches it."""


class TestCosts:
    async def test_a_new_certificate_costs_six_requests(self, world: CertificateWorld) -> None:
        world.add()
        assert verbs(await world.settle()) == ["create", "read", "create", "delete", "set_status", "report"]
        assert world.condition("Ready")[:2] == ("True", "Issued")
        assert world.condition("Issuing")[:2] == ("False", "NothingToDo")
        assert world.events() == ["Issued"]
        assert await world.issued() == 1

    async def test_one_that_needs_nothing_costs_no_request_and_no_statement(self, world: CertificateWorld) -> None:
        world.add()
        await world.settle()
        await world.run()
        before = world.database.statistics.round_trips
        for _ in range(3):
            await world.run()
        assert await world.settle() == []
        assert (
            world.database.statistics.round_trips - before <= 1
        )  # The version of the configuration, once in half a second.

    async def test_a_restart_with_many_costs_no_request_and_one_statement_about_them_all(
        self, world: CertificateWorld
    ) -> None:
        for number in range(12):
            world.add({"spec/secretName": f"tls-{number}"}, name=f"c-{number}")
        await world.settle()
        again = world.restarted()
        before = world.database.statistics.round_trips
        assert await again.settle() == []
        assert world.database.statistics.round_trips - before <= 3
        assert await world.issued() == 12

    async def test_a_renewal_costs_six_requests(self, world: CertificateWorld) -> None:
        world.add()
        await world.settle()
        world.add({"metadata/annotations": {"spork-ca.org/renew": "now"}})
        assert verbs(await world.settle()) == ["create", "read", "replace", "delete", "set_status", "report"]


class TestTheSecret:
    async def test_holds_key_chain_and_root(self, world: CertificateWorld) -> None:
        world.add()
        await world.settle()
        data = world.secret()
        assert set(data) == {"tls.key", "tls.crt", "ca.crt"}
        assert key_and_certificate_fit(data)
        chain = x509.load_pem_x509_certificates(data["tls.crt"])
        (root,) = x509.load_pem_x509_certificates(data["ca.crt"])
        assert [one.subject.rfc4514_string() for one in chain[1:]] == ["CN=Test Web Issuing CA", "CN=Test Policy CA"]
        assert root.subject == root.issuer == chain[-1].issuer
        assert (world.cluster.get(SECRET) or {})["type"] == "kubernetes.io/tls"

    async def test_says_whose_it_is_and_belongs_to_nobody(self, world: CertificateWorld) -> None:
        item = world.add()
        await world.settle()
        metadata = (world.cluster.get(SECRET) or {})["metadata"]
        said = metadata["annotations"]
        assert said[marks.CERTIFICATE_NAME] == "one"
        assert said[marks.CERTIFICATE_UID] == item["metadata"]["uid"]
        assert said[marks.REVISION] == "1"
        assert said[marks.SERIAL] == serial_text(world.leaf().serial_number) == world.status()["serial"]
        assert said[marks.ISSUER] == "ClusterIssuer/web"
        assert metadata["labels"]["spork-ca.org/managed"] == "true"
        assert "ownerReferences" not in metadata

    async def test_carries_the_template_which_cannot_change_our_own_marks(self, world: CertificateWorld) -> None:
        template = {
            "labels": {"team": "blue", "spork-ca.org/managed": "false"},
            "annotations": {"note": "for the proxy", marks.CERTIFICATE_NAME: "other"},
        }
        world.add({"spec/secretTemplate": template})
        await world.settle()
        metadata = (world.cluster.get(SECRET) or {})["metadata"]
        assert metadata["labels"] == {"team": "blue", "spork-ca.org/managed": "true"}
        assert metadata["annotations"]["note"] == "for the proxy"
        assert metadata["annotations"][marks.CERTIFICATE_NAME] == "one"

    async def test_loses_what_the_template_no_longer_names_and_keeps_what_others_put_there(
        self, world: CertificateWorld
    ) -> None:
        world.add({"spec/secretTemplate": {"labels": {"team": "blue"}, "annotations": {"note": "x"}}})
        await world.settle()
        item = copy.deepcopy(dict(world.cluster.get(SECRET) or {}))
        item["metadata"]["labels"]["argocd"] = "app"
        world.cluster.add(item)
        world.add({"spec/secretTemplate": {"labels": {"unit": "7"}}})
        await world.settle()
        metadata = (world.cluster.get(SECRET) or {})["metadata"]
        assert metadata["labels"] == {"unit": "7", "argocd": "app", "spork-ca.org/managed": "true"}
        assert "note" not in metadata["annotations"]
        assert await world.issued() == 1

    async def test_the_request_names_who_asks(self, world: CertificateWorld) -> None:
        item = world.add()
        await world.settle()
        (request,) = world.issuing.asked
        assert request.requester.identity == "kubernetes:default/one"
        assert request.requester.namespace == "default"
        assert (request.evidence.kind, request.evidence.reference) == ("kubernetes", item["metadata"]["uid"])
        assert request.grant.names == frozenset(request.names)
        assert request.idempotency.key.startswith(f"{item['metadata']['uid']}:1:")
        assert request.csr is not None

    @pytest.mark.parametrize("algorithm", ["rsa-2048", "ecdsa-p384", "ed25519", "ml-dsa-44"])
    async def test_holds_keys_of_every_family(self, world: CertificateWorld, algorithm: str) -> None:
        world.add({"spec/privateKey": {"algorithm": algorithm}})
        await world.settle()
        assert world.condition("Ready")[:2] == ("True", "Issued")
        assert key_and_certificate_fit(world.secret())

    async def test_a_name_in_two_spellings_is_one_name_and_does_not_issue_again(self, world: CertificateWorld) -> None:
        world.add({"spec/dnsNames": ["WWW.Test", "www.test"], "spec/commonName": "WWW.Test"})
        await world.settle()
        assert await world.settle() == []
        assert world.condition("Ready")[0] == "True"
        assert await world.issued() == 1


WRITES = ("create", "replace", "apply", "delete", "set_status", "set_finalizer", "annotate")


def _dies(world: CertificateWorld, number: int, *, after: bool) -> Callable[[], int]:
    """The n-th write kills, before it is done or after it. What is given ends that, and says how many writes there were."""
    count = 0

    def dying(name: str) -> Callable[..., Any]:
        inner = getattr(world.cluster, name)

        async def write(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += name != "set_finalizer"
            if count == number and not after:
                raise Killed
            result = await inner(*arguments, **options)
            if count == number:
                raise Killed
            return result

        return write

    for name in WRITES:
        setattr(world.cluster, name, dying(name))

    def restore() -> int:
        for name in WRITES:
            delattr(world.cluster, name)
        return count

    return restore


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize("number", range(1, 5), ids=["pending key", "target", "pending key gone", "status"])
@pytest.mark.parametrize("renewal", [False, True], ids=["first", "renewal"])
async def test_a_kill_at_any_write_ends_with_one_certificate_and_its_key(
    world: CertificateWorld, number: int, after: bool, renewal: bool
) -> None:
    world.add()
    if renewal:
        await world.settle()
        world.add({"metadata/annotations": {"spork-ca.org/renew": "1"}})
    restore = _dies(world, number, after=after)
    with pytest.raises(Killed):
        await world.run()
    assert restore() == number
    recorded = await world.issued()
    world = world.restarted()
    await world.settle()
    assert await world.issued() == max(recorded, 1 + renewal) == 1 + renewal
    assert key_and_certificate_fit(world.secret())
    assert world.status()["revision"] == 1 + renewal
    assert world.secrets() == ["web-tls"]
    assert world.condition("Ready")[0] == "True"
    assert await world.settle() == []


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_kill_around_the_issuance_ends_with_one_certificate(world: CertificateWorld, moment: str) -> None:
    issue = world.issuing.issue

    async def dying(*arguments: Any, **options: Any) -> Any:
        if moment == "after":
            await issue(*arguments, **options)
        raise Killed

    world.issuing.issue = dying  # type: ignore[method-assign]
    world.add()
    with pytest.raises(Killed):
        await world.run()
    again = world.restarted()
    await again.settle()
    assert await again.issued() == 1
    assert key_and_certificate_fit(again.secret())


async def test_two_operators_at_once_bring_forth_one_certificate_and_one_key(world: CertificateWorld) -> None:
    world.add()
    other = world.restarted()
    results = await asyncio.gather(world.run(), other.run(), return_exceptions=True)
    assert all(isinstance(one, float | Conflict | SporkError) for one in results), results
    await world.settle()
    await other.settle()
    assert key_and_certificate_fit(world.secret())
    assert await world.issued() == 1
    assert world.condition("Ready")[0] == "True"


async def test_while_the_signature_is_awaited_the_status_names_the_key_and_the_next_run_goes_on(
    world: CertificateWorld,
) -> None:
    world.add()
    world.issuing.answers = [None, None]
    wait = await world.run()
    assert wait is not None
    assert wait < 10
    assert world.condition("Ready")[:2] == ("False", "SecretMissing")
    assert world.condition("Issuing")[:2] == ("True", "Signing")
    assert world.status()["nextPrivateKeySecretName"] in world.secrets()
    requests = len(world.cluster.requests)
    await world.run()
    assert verbs(world.cluster.requests[requests:]) == ["read"]
    await world.run()
    assert world.condition("Ready")[0] == "True"
    assert "nextPrivateKeySecretName" not in world.status()
    assert len({one.idempotency for one in world.issuing.asked}) == 1


async def test_by_the_signer_of_another_process(world: CertificateWorld) -> None:
    class Impatient:
        async def issue(self, request: Any, *, wait_s: float = 5.0) -> Any:
            return await world.services.issuing.issue(request, wait_s=0.01)

    world.reconciler._issuer._issuing = Impatient()
    world.add()
    await world.run()
    assert world.condition("Issuing")[:2] == ("True", "Signing")
    await world.services.signer().work()
    await world.run()
    assert world.condition("Ready")[0] == "True"
    assert await world.issued() == 1


async def test_a_spec_that_changes_while_the_signature_is_awaited_gets_another_key(world: CertificateWorld) -> None:
    world.add()
    world.issuing.answers = [None]
    await world.run()
    world.add({"spec/dnsNames": ["other.test"]})
    await world.settle()
    first, second = world.issuing.asked
    assert first.spki != second.spki
    assert {str(name) for name in second.names} == {"dns:other.test"}
    assert world.condition("Ready")[0] == "True"
    assert world.secrets() == ["web-tls"]


async def test_a_kept_key_with_a_changed_spec_takes_the_next_revision(world: CertificateWorld) -> None:
    world.add({"spec/privateKey": {"rotationPolicy": "Never"}})
    await world.settle()
    key = world.secret()["tls.key"]
    replace = world.cluster.fail
    world.cluster.fail = lambda verb, ref: Killed() if verb == "replace" else None  # type: ignore[assignment,return-value]
    world.add({"spec/dnsNames": ["b.test"], "spec/privateKey": {"rotationPolicy": "Never"}})
    with pytest.raises(Killed):
        await world.run()
    world.cluster.fail = replace
    world.add({"spec/dnsNames": ["c.test"], "spec/privateKey": {"rotationPolicy": "Never"}})
    await world.settle()
    assert world.secret()["tls.key"] == key
    assert world.status()["revision"] == 3
    assert world.condition("Ready")[0] == "True"
    assert world.secrets() == ["web-tls"]


class TestWhatCannotBeReached:
    async def test_an_unreachable_api_server_is_raised_for_the_queue(self, world: CertificateWorld) -> None:
        world.add()
        world.cluster.fail = lambda verb, ref: Unreachable("no answer")
        with pytest.raises(Unreachable):
            await world.run()
        world.cluster.fail = lambda verb, ref: None
        await world.settle()
        assert await world.issued() == 1

    async def test_a_database_that_is_away_is_said_and_counts_as_no_failure(self, world: CertificateWorld) -> None:
        world.add()
        world.issuing.answers = [DatabaseUnavailable(), DatabaseUnavailable()]
        wait = await world.run()
        assert wait is not None
        assert wait <= 10
        assert world.condition("Ready")[:2] == ("False", "Unavailable")
        assert "failedAttempts" not in world.status()
        requests = len(world.cluster.requests)
        await world.run()
        assert verbs(world.cluster.requests[requests:]) == ["read"]
        await world.settle()
        assert world.condition("Ready")[0] == "True"

    async def test_an_issuer_that_comes_later_is_waited_for(self, world: CertificateWorld) -> None:
        world.add({"spec/issuerRef": {"kind": "ClusterIssuer", "name": "lab"}, "spec/dnsNames": ["x.lab"]})
        requests = await world.settle()
        assert verbs(requests) == ["set_status"]
        assert world.condition("Ready")[:2] == ("False", "IssuerMissing")
        assert world.condition("Issuing")[:2] == ("False", "IssuerMissing")
        assert "failedAttempts" not in world.status()
        assert world.events() == []
        await an_issuer(world.cluster, "lab", ready=False)
        change = next(iter(world.cluster.all("ClusterIssuer")))
        assert change is not None
        await world.settle()
        assert world.condition("Ready")[:2] == ("False", "IssuerNotReady")
        await an_issuer(world.cluster, "lab")
        await world.settle()
        assert world.condition("Ready")[0] == "True"

    async def test_a_namespace_that_may_not_use_the_issuer_gets_nothing(self, world: CertificateWorld) -> None:
        issuer = copy.deepcopy(dict(world.cluster.get(Ref("ClusterIssuer", "", "web")) or {}))
        issuer["spec"]["allowedNamespaces"] = {"matchLabels": {"team": "blue"}}
        world.cluster.add(issuer)
        await an_issuer_as_it_is(world)
        world.add()
        await world.settle()
        assert world.condition("Ready")[:2] == ("False", "NamespaceNotAllowed")
        assert await world.issued() == 0
        world.cluster.add(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": {"team": "blue"}}}
        )
        await world.settle()
        assert world.condition("Ready")[0] == "True"


async def an_issuer_as_it_is(world: CertificateWorld) -> None:
    """Ready for the generation that it has."""
    item = world.cluster.get(Ref("ClusterIssuer", "", "web"))
    assert item is not None
    condition = {**item["status"]["conditions"][0], "observedGeneration": item["metadata"]["generation"]}
    await world.cluster.set_status(item, {"conditions": [condition]})


class TestRefusals:
    async def test_the_status_says_rule_by_rule_what_the_policy_refused(self, world: CertificateWorld) -> None:
        world.add({"spec/dnsNames": ["www.example.com"]})
        wait = await world.run()
        assert wait == 60
        assert world.condition("Ready")[:2] == ("False", "PolicyRefused")
        trace = world.status()["policyTrace"]
        refused = [step for step in trace if step["verdict"] == "refuse"]
        assert [step["rule"] for step in refused] == ["names_permitted"]
        assert "www.example.com" in refused[0]["message"]
        assert len([step for step in trace if step["verdict"] == "pass"]) > 10
        assert world.status()["failedAttempts"] == 1
        assert world.events() == ["PolicyRefused"]
        assert await world.issued() == 0

    async def test_attempts_are_doubled_apart_and_survive_a_restart(self, world: CertificateWorld) -> None:
        from datetime import timedelta

        world.add({"spec/dnsNames": ["www.example.com"]})
        waits = []
        for _ in range(9):
            wait = await world.run()
            assert wait is not None
            waits.append(int(wait))
            assert await world.settle() == []
            world = world.restarted()
            assert await world.settle() == []
            world.clock.current += timedelta(seconds=wait)
        assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
        assert world.status()["failedAttempts"] == 9
        assert "the next one is at" in world.condition("Issuing")[2]

    async def test_a_change_of_the_spec_ends_the_waiting(self, world: CertificateWorld) -> None:
        world.add({"spec/dnsNames": ["www.example.com"]})
        await world.run()
        world.add({"spec/dnsNames": ["www.test"]})
        await world.settle()
        assert world.condition("Ready")[:2] == ("True", "Issued")
        left = {"failedAttempts", "lastFailureTime", "policyTrace", "nextAttemptTime", "failedRequest"}
        assert not left & set(world.status())

    async def test_a_valid_certificate_stays_ready_while_its_renewal_is_refused(self, world: CertificateWorld) -> None:
        world.add()
        await world.settle()
        error = SporkError(Code.KEY_UNAVAILABLE, "The key of the CA is sealed.")
        world.issuing.answers = [error]
        world.add({"metadata/annotations": {"spork-ca.org/renew": "1"}})
        await world.run()
        assert world.condition("Ready")[:2] == ("True", "Issued")
        status, reason, message = world.condition("Issuing")
        assert (status, reason) == ("False", "IssuanceFailed")
        assert "sealed" in message

    async def test_usages_that_the_profile_does_not_assert_are_no_attempt(self, world: CertificateWorld) -> None:
        world.add({"spec/usages": ["server auth", "code signing"]})
        await world.settle()
        status, reason, message = world.condition("Ready")
        assert (status, reason) == ("False", "UsagesNotAsserted")
        assert "code signing" in message
        assert "server auth" not in message
        assert await world.issued() == 0
        assert world.issuing.asked == []

    async def test_a_spec_from_before_the_schema_is_said_to_be_invalid(self, world: CertificateWorld) -> None:
        world.add({"spec/privateKey": {"algorithm": "dsa-1024"}})
        await world.settle()
        status, reason, message = world.condition("Ready")
        assert (status, reason) == ("False", "Invalid")
        assert "spec.privateKey.algorithm" in message

    async def test_one_that_is_not_there_is_no_error(self, world: CertificateWorld) -> None:
        assert await world.run(REF) is None
