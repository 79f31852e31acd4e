"""What becomes of a Hierarchy, as tables: who declares a CA, what may be done, when to ask again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from memory_cluster import MemoryCluster
from operator_world import a_resource
from resource_world import TREE
from tree_world import NOW, STATUS_URL, World
from x509_world import a_root

from spork.clock import FixedClock
from spork.controller.ceremony.reconcile import reconciler
from spork.controller.cluster import Ref
from spork.controller.conditions import condition_of
from spork.controller.conversion import declared_hierarchy, file_values
from spork.controller.hierarchy.authorities import authority_rows, first_end, ready_text
from spork.controller.hierarchy.decide import Ruling, decide, plan_row, some
from spork.controller.hierarchy.declarers import declared_cas, declares, declaring, grants
from spork.controller.hierarchy.delete import held, is_confirmed
from spork.controller.hierarchy.memory import BackOff
from spork.controller.hierarchy.snapshot import Snapshot
from spork.controller.manifests import load_object
from spork.controller.models import Hierarchy
from spork.hierarchy.build import build
from spork.hierarchy.load import load_declaration
from spork.hierarchy.plan import plan
from spork.ids import AuthorityId
from spork.store.building import BuildState
from spork.x509.authority import Authority


def an_object(spec: Any = TREE, name: str = "main", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "Hierarchy",
        "metadata": {"name": name, **metadata},
        "spec": dict(spec),
    }


async def a_snapshot(world: World | None = None, spec: Any = TREE, **changes: Any) -> Snapshot:
    """Of a tree that is built in the world given, by default in none."""
    resource = load_object(an_object(spec))
    assert isinstance(resource, Hierarchy)
    declared = declared_hierarchy(resource)
    tree = await (world or World()).store.read_tree()
    found = plan(declared, tree, status_url=STATUS_URL, now=NOW)
    snapshot = Snapshot("main", resource, declared, "", {}, tree, found, None, None, NOW)
    return replace(snapshot, **changes)


@pytest.fixture
async def built() -> World:
    world = World()
    resource = load_object(an_object())
    assert isinstance(resource, Hierarchy)
    await build(declared_hierarchy(resource), world.workshop)
    return world


def ruled(snapshot: Snapshot) -> Ruling:
    return decide(snapshot, authority_rows(snapshot, None))


async def test_a_job_carries_the_same_tree_as_the_resource() -> None:
    resource = load_object(an_object())
    assert isinstance(resource, Hierarchy)
    assert load_declaration(file_values(resource), "Hierarchy/main") == declared_hierarchy(resource)


async def test_a_new_tree_is_to_be_built_with_sealed_keys() -> None:
    snapshot = await a_snapshot()
    ruling = ruled(snapshot)
    assert (ruling.build, ruling.sealed, ruling.approved) == (True, True, False)
    row = plan_row(snapshot)
    assert row is not None and row["hash"] == snapshot.plan.hash
    assert row["changes"][0] == {"changeClass": "create", "subject": "root", "message": "It is not there yet."}


async def test_a_built_tree_is_left_alone(built: World) -> None:
    snapshot = await a_snapshot(built)
    rows = authority_rows(snapshot, {AuthorityId("web"): 7})
    assert decide(snapshot, rows) == Ruling(ruled(snapshot).ready)
    assert (plan_row(snapshot), ready_text(rows), first_end(rows)) == (None, "2/2", rows[1]["notAfter"])
    assert [row["liveCertificates"] for row in rows] == [0, 7]


async def test_a_tree_that_is_not_valid_has_no_rows() -> None:
    snapshot = await a_snapshot(resource=None, declared=None, fault="It is no tree.")
    rows = authority_rows(snapshot, None)
    assert (rows, ready_text(rows), first_end(rows)) == ([], None, None)
    assert ruled(snapshot).ready.message == "It is no tree."


async def test_nothing_is_built_of_a_tree_that_names_somebody_elses_ca() -> None:
    snapshot = await a_snapshot(taken={"web": "older"})
    ruling = ruled(snapshot)
    assert (ruling.build, ruling.ready.reason.name, plan_row(snapshot)) == (False, "Conflict", None)


@pytest.mark.parametrize(
    ("changes", "phase", "reason"),
    [
        ({"revoked": frozenset({"web"})}, "Revoked", "CAOutOfService"),
        ({"now": NOW + timedelta(days=5 * 366)}, "Expired", "CAOutOfService"),
        ({"now": NOW + timedelta(days=5 * 365 - 89)}, "Expiring", "Ready"),
        ({"now": NOW + timedelta(days=5 * 365 - 92)}, "Ready", "Ready"),
    ],
    ids=["revoked", "expired", "in its last 90 days", "before them"],
)
async def test_a_ca_has_a_phase(built: World, changes: dict[str, Any], phase: str, reason: str) -> None:
    snapshot = await a_snapshot(built, **changes)
    rows = authority_rows(snapshot, None)
    assert (rows[1]["phase"], decide(snapshot, rows).ready.reason.name) == (phase, reason)


async def test_a_job_that_failed_is_shown_and_asked_for_again() -> None:
    snapshot = await a_snapshot()
    job = BuildState(False, False, True, snapshot.plan.hash, "The disk is full.")
    ruling = ruled(replace(snapshot, job=job))
    assert (ruling.build, ruling.ready.reason.name) == (True, "SignerFailed")
    # The failure of an earlier plan says nothing of this one.
    other = ruled(replace(snapshot, job=replace(job, plan_hash="0" * 64)))
    assert other.ready.reason.name == "WaitingForSealedKeys"


async def test_each_failure_is_left_alone_for_longer_up_to_half_an_hour() -> None:
    snapshot = await a_snapshot()
    snapshot = replace(snapshot, job=BuildState(False, False, True, snapshot.plan.hash, "It failed."))
    back_off, now, waits = BackOff(), NOW, []
    for _ in range(8):
        wait = back_off.wait(replace(snapshot, now=now))
        assert wait is not None
        waits.append(wait)
        now += timedelta(seconds=wait)
        assert back_off.wait(replace(snapshot, now=now)) is None
    assert waits == [30, 60, 120, 240, 480, 960, 1800, 1800]


async def test_a_clock_that_is_set_back_does_not_prolong_a_wait() -> None:
    snapshot = await a_snapshot()
    snapshot = replace(snapshot, job=BuildState(False, False, True, snapshot.plan.hash, "It failed."))
    back_off = BackOff()
    assert back_off.wait(snapshot) == 30
    assert back_off.wait(replace(snapshot, now=NOW - timedelta(days=1))) is None


async def test_a_plan_that_waits_or_is_new_is_not_held_back() -> None:
    snapshot = await a_snapshot()
    assert BackOff().wait(snapshot) is None
    waiting = BuildState(True, False, True, snapshot.plan.hash, "It failed, and is tried again.")
    assert BackOff().wait(replace(snapshot, job=waiting)) is None
    other = BuildState(False, False, True, "0" * 64, "It failed.")
    assert BackOff().wait(replace(snapshot, job=other)) is None


# Whose a CA is


def a_cluster(*names: str) -> MemoryCluster:
    """Hierarchies of these names, the first of them the oldest, all with the same CAs, granted to the namespace of their name."""
    clock = FixedClock(NOW)
    cluster = MemoryCluster(clock)
    for name in names:
        granted = {**TREE["issuingCAs"][0], "allowedNamespaces": {"names": [name]}}
        cluster.add(an_object({**TREE, "issuingCAs": [granted]}, name))
        clock.current += timedelta(seconds=1)
    return cluster


def an_authority(declared_by: str) -> Authority:
    authority = a_root("Root").subordinate("Web").authority
    return replace(authority, id=AuthorityId("web"), declared_by=declared_by)


def test_the_oldest_hierarchy_declares_a_ca() -> None:
    found = declaring(a_cluster("main", "claim"), "web")
    assert found is not None and found["metadata"]["name"] == "main"
    assert declaring(a_cluster("main"), "mail") is None


@pytest.mark.parametrize(
    ("declared_by", "namespace", "granted"),
    [
        ("Hierarchy/main", "main", True),
        ("Hierarchy/main", "claim", False),
        ("Hierarchy/main", "other", False),
        ("Hierarchy/claim", "claim", False),
        ("Hierarchy/claim", "main", False),
        ("hierarchy.toml", "main", False),
    ],
)
def test_a_grant_counts_only_where_the_stored_ca_comes_from(declared_by: str, namespace: str, granted: bool) -> None:
    assert grants(a_cluster("main", "claim"), an_authority(declared_by), namespace) is granted


@pytest.mark.parametrize("allowed", [None, {}, {"names": "shop"}, {"names": ["*", "shop"]}, {"name": ["shop"]}, []])
def test_a_grant_that_cannot_be_read_grants_nothing(allowed: Any) -> None:
    cluster = MemoryCluster()
    item = cluster.add(an_object())
    item["spec"]["issuingCAs"][0]["allowedNamespaces"] = allowed  # type: ignore[index]
    assert not grants(cluster, an_authority("Hierarchy/main"), "shop")


@pytest.mark.parametrize("spec", [{}, {"root": None}, {"root": "x", "policyCAs": None}, {"policyCAs": [{"id": "x"}]}])
def test_a_spec_that_is_not_valid_declares_what_it_names(spec: dict[str, Any]) -> None:
    item = {"metadata": {"name": "main"}, "spec": spec}
    assert {one.get("id") for one in declared_cas(item)} <= {"x"}
    assert not declares(item, "web")


# Deletion


@pytest.mark.parametrize(
    ("given", "reason", "live", "confirmed"),
    [
        (None, "LiveCertificates", 3, False),
        ("3", "Ready", 3, True),
        ("2", "Ready", 3, True),
        ("2", "LiveCertificates", 3, True),
        ("4", "LiveCertificates", 3, False),
        ("", "LiveCertificates", 3, False),
        ("03", "LiveCertificates", 3, False),
        ("yes", "LiveCertificates", 3, False),
    ],
    ids=[
        "nothing is said",
        "the number of now",
        "the number that the status showed before, which the admission policy has compared with",
        "the number that was shown since",
        "another number",
        "an empty text",
        "a number written otherwise",
        "a word",
    ],
)
def test_a_deletion_is_confirmed_by_a_number(given: str | None, reason: str, live: int, confirmed: bool) -> None:
    item = an_object(annotations={"spork-ca.org/confirm-delete": given} if given is not None else {})
    rows = [{"id": "root", "liveCertificates": 1}, {"id": "web", "liveCertificates": 1}]
    item["status"] = {"authorities": rows, "conditions": [{"type": "Ready", "status": "False", "reason": reason}]}
    assert is_confirmed(item, live) is confirmed


async def test_what_is_held_names_each_ca_and_the_command(built: World) -> None:
    states = {
        ca: replace(state, live_certificates=2) for ca, state in (await built.store.read_tree()).authorities.items()
    }
    condition = held(an_object(), states)
    assert condition is not None
    assert "4 certificates are alive" in condition.message and "root: 2, web: 2" in condition.message
    assert condition.message.endswith("kubectl annotate --overwrite hierarchy main spork-ca.org/confirm-delete=4")
    assert held(an_object(), {}) is None


def test_a_message_of_many_things_keeps_its_end() -> None:
    assert some([]) == ""
    assert some(["a", "b"]) == "a, b"
    assert some([str(number) for number in range(20)], "; ").endswith("7; and 12 more")


async def test_a_ceremony_says_that_it_is_not_held() -> None:
    clock = FixedClock(NOW)
    cluster = MemoryCluster(clock)
    cluster.add(a_resource("Ceremony"))
    context: Any = SimpleNamespace(cluster=cluster, clock=clock)
    await cluster.settle(reconciler(context))
    await cluster.settle(reconciler(context))
    found = condition_of(cluster.get(Ref("Ceremony", "", "one")) or {}, "Ready")
    assert found is not None and (found["status"], found["reason"]) == ("False", "NotHeldYet")
    assert "does not hold ceremonies" in found["message"]
    assert cluster.requests == ["set_status Ceremony one"]
