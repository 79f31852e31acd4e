"""Trust bundles: who gets which roots, what is left alone, and when a new root may sign."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from operator_world import a_resource
from trust_world import BUNDLE, TrustWorld, a_tree_root, below
from x509_world import CA, NOW

from spork.controller.cluster import AlreadyExists, Conflict, Ref, Refused
from spork.controller.issuer.decide import decide
from spork.controller.issuer.snapshot import Snapshot
from spork.controller.manifests import load_object
from spork.controller.models import ClusterIssuer
from spork.controller.reconciler import Follower
from spork.controller.trust.bundle import bundle_text, fingerprints_in
from spork.controller.trust.distributed import BOUND, distribution_of, waits_for
from spork.controller.trust.reconcile import BLOCKED_S
from spork.controller.trust.roots import Root, fingerprint_of
from spork.errors import Code
from spork.ids import AuthorityId

CTB = Ref("ClusterTrustBundle", "", "spork-ca.org:main:roots")


def prints(*roots: CA) -> frozenset[str]:
    return frozenset(fingerprint_of(root.certificate) for root in roots)


@pytest.fixture
def world() -> TrustWorld:
    return TrustWorld()


# What a bundle is


def test_the_text_is_sorted_has_no_doubles_and_names_each_root() -> None:
    first, second = a_tree_root(None, "A Root"), a_tree_root(None, "B Root")
    roots = [Root(second.certificate, None), Root(first.certificate, "main"), Root(second.certificate, "other")]
    text = bundle_text(roots)
    assert text == bundle_text(reversed(roots))
    assert [c.subject for c in x509.load_pem_x509_certificates(text.encode())] == [
        first.certificate.subject,
        second.certificate.subject,
    ]
    lines = text.splitlines()
    assert lines[0].startswith("# CN=A Root")
    assert lines[1] == f"# SHA-256 {fingerprint_of(first.certificate)}"
    assert fingerprints_in(text) == prints(first, second)


def test_a_subject_cannot_write_a_certificate_of_its_own_into_the_text() -> None:
    wicked = a_tree_root(None, "x\n-----BEGIN CERTIFICATE-----\nAA==\n")
    text = bundle_text([Root(wicked.certificate, None)])
    assert text.count("-----BEGIN CERTIFICATE-----") == 1
    assert all(line.startswith("# ") for line in text.partition("-----BEGIN")[0].splitlines())
    assert text.isascii()


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----"],
)
def test_what_is_no_certificate_counts_for_nothing(text: str) -> None:
    assert fingerprints_in(text) == frozenset()


# Who gets one


async def test_a_namespace_that_asks_gets_all_roots_and_one_that_does_not_gets_none(world: TrustWorld) -> None:
    roots = world.root("main"), world.root("lab", "Lab Root"), world.root(None, "File Root")
    for name, asks in (("all", "true"), ("one", "lab"), ("no", None), ("off", "false"), ("empty", "")):
        world.namespace(name, asks)
    await world.settle()
    assert fingerprints_in(world.bundle("all") or "") == prints(*roots)
    assert fingerprints_in(world.bundle("one") or "") == prints(roots[1])
    assert [world.bundle(name) for name in ("no", "off", "empty")] == [None] * 3


async def test_a_name_of_no_hierarchy_gets_nothing_until_there_is_one(world: TrustWorld) -> None:
    world.root("main")
    world.namespace("early", "later")
    await world.settle()
    assert world.bundle("early") is None
    later = world.root("later", "Later Root")
    await world.settle()
    assert fingerprints_in(world.bundle("early") or "") == prints(later)


async def test_the_management_ca_and_roots_that_ended_or_were_revoked_are_never_in_it(world: TrustWorld) -> None:
    good = world.root("main")
    world.root("revoked", "Revoked Root", stopped="its certificate, or one above it, is revoked")
    issuing = world.root("main", "Issuing").subordinate().authority
    del world.authorities.every[-1]
    world.authorities.every.append(issuing)
    world.namespace("all")
    await world.settle()
    assert fingerprints_in(world.bundle("all") or "") == prints(good)


async def test_every_generation_that_is_still_valid_is_in_it(world: TrustWorld) -> None:
    first = world.root("main")
    world.root("main", "Root CA Two", id=first.authority.id, generation=2)
    world.namespace("all")
    await world.settle()
    assert len(fingerprints_in(world.bundle("all") or "")) == 2


async def test_a_root_leaves_when_it_ends(world: TrustWorld) -> None:
    world.root("main")
    world.namespace("all")
    await world.settle()
    world.clock.current += timedelta(days=3651)
    await world.settle()
    assert world.bundle("all") is None
    assert world.cluster.get(CTB) is None


async def test_the_bundle_goes_with_the_label(world: TrustWorld) -> None:
    world.root("main")
    world.namespace("shop")
    await world.settle()
    world.namespace("shop", None)
    assert await world.settle() == [f"delete ConfigMap shop/{BUNDLE}"]
    assert world.bundle("shop") is None


async def test_another_wish_changes_the_bundle_in_one_write(world: TrustWorld) -> None:
    lab = world.root("lab", "Lab Root")
    world.root("main")
    world.namespace("shop")
    await world.settle()
    world.namespace("shop", "lab")
    assert await world.settle() == [f"replace ConfigMap shop/{BUNDLE}"]
    assert fingerprints_in(world.bundle("shop") or "") == prints(lab)


@pytest.mark.parametrize("sign", ["deletionTimestamp", "phase"])
async def test_nothing_is_written_into_a_namespace_that_is_about_to_go(world: TrustWorld, sign: str) -> None:
    root = world.root("main")
    going = dict(world.namespace("going"))
    if sign == "phase":
        world.cluster.add({**going, "status": {}})
        await world.cluster.set_status(world.cluster.get(Ref("Namespace", "", "going")) or {}, {"phase": "Terminating"})
    else:
        await world.cluster.set_finalizer(going, "kubernetes", present=True)
        await world.cluster.delete(Ref("Namespace", "", "going"))
    await world.settle()
    assert world.bundle("going") is None
    assert waits_for(world.context, below(root)) is None or world.cluster.get(CTB) is None


async def test_a_root_that_comes_without_any_change_of_an_object_is_noticed(world: TrustWorld) -> None:
    world.namespace("a")
    world.namespace("quiet", None)
    await world.settle()
    follower, stop = world.reconcilers[0], asyncio.Event()
    assert isinstance(follower, Follower)
    woken: asyncio.Queue[Ref] = asyncio.Queue()
    task = asyncio.create_task(follower.follow(woken.put_nowait, stop))
    assert await asyncio.wait_for(woken.get(), 60) == Ref("Namespace", "", "a")
    world.root(None, "File Root")
    assert await asyncio.wait_for(woken.get(), 60) == Ref("Namespace", "", "a")
    stop.set()
    await asyncio.wait_for(task, 60)
    assert woken.empty()


# Restoring


@pytest.mark.parametrize("damage", ["changed", "added", "emptied"])
async def test_an_edited_bundle_is_restored_and_labels_of_others_stay(world: TrustWorld, damage: str) -> None:
    world.root("main")
    world.namespace("shop")
    await world.settle()
    good = world.bundle("shop")
    data = {"changed": {"ca.crt": "mine"}, "added": {"ca.crt": good or "", "more": "x"}, "emptied": {}}[damage]
    labels = {"spork-ca.org/managed": "true", "team": "shop"}
    world.config_map("shop", data, labels)
    assert await world.settle() == [f"replace ConfigMap shop/{BUNDLE}"]
    found = world.cluster.get(Ref("ConfigMap", "shop", BUNDLE)) or {}
    assert found["data"] == {"ca.crt": good}
    assert found["metadata"]["labels"] == labels


async def test_a_deleted_bundle_is_written_anew(world: TrustWorld) -> None:
    world.root("main")
    world.namespace("shop")
    await world.settle()
    await world.cluster.delete(Ref("ConfigMap", "shop", BUNDLE))
    assert await world.settle() == [f"create ConfigMap shop/{BUNDLE}"]


async def test_a_bundle_made_immutable_is_replaced_by_a_new_object(world: TrustWorld) -> None:
    world.root("main")
    world.namespace("shop")
    await world.settle()
    found = dict(world.cluster.get(Ref("ConfigMap", "shop", BUNDLE)) or {})
    world.cluster.add({**found, "immutable": True, "data": {"ca.crt": "mine"}})
    assert await world.settle() == [f"delete ConfigMap shop/{BUNDLE}", f"create ConfigMap shop/{BUNDLE}"]


# What belongs to somebody else


async def test_somebody_elses_config_map_is_left_alone_and_told_of_once(world: TrustWorld) -> None:
    world.root("main")
    theirs = world.config_map("shop", {"ca.crt": "theirs"})
    world.namespace("shop")
    await world.settle()
    await world.settle()
    assert await world.cluster.read(Ref("ConfigMap", "shop", BUNDLE)) == theirs
    told = [report for report in world.cluster.reports if report[1] == "Conflict"]
    assert [(ref.namespace, warning) for ref, _, _, warning in told] == [("shop", True)]


async def test_it_is_not_deleted_either_when_the_label_goes(world: TrustWorld) -> None:
    world.root("main")
    theirs = world.config_map("shop", {"ca.crt": "theirs"})
    world.namespace("shop")
    await world.settle()
    world.namespace("shop", None)
    await world.settle()
    assert await world.cluster.read(Ref("ConfigMap", "shop", BUNDLE)) == theirs


async def test_a_bundle_whose_label_was_taken_away_is_still_ours(world: TrustWorld) -> None:
    world.root("main")
    world.namespace("shop")
    await world.settle()
    ref = Ref("ConfigMap", "shop", BUNDLE)
    world.config_map("shop", {"ca.crt": "mine"}, {})
    assert world.cluster.get(ref) is None
    await world.settle()
    assert (world.bundle("shop") or "").startswith("# ")
    assert (world.cluster.get(ref) or {})["metadata"]["labels"]["spork-ca.org/managed"] == "true"


async def test_a_refusal_is_told_once_and_looked_at_again_later(world: TrustWorld) -> None:
    world.root("main")
    world.namespace("shop")
    world.cluster.fail = lambda verb, ref: (
        Refused(Code.FORBIDDEN, "exceeded quota") if (verb, ref.kind) == ("create", "ConfigMap") else None
    )
    for _ in "12":
        assert await world.reconcilers[0].reconcile(Ref("Namespace", "", "shop")) == BLOCKED_S
    assert [report[1] for report in world.cluster.reports] == ["Refused"]
    world.cluster.fail = lambda verb, ref: None
    await world.settle()
    assert world.bundle("shop")


async def test_a_write_that_came_too_late_is_tried_again_with_what_is_there(world: TrustWorld) -> None:
    world.root("main")
    world.namespace("shop")
    await world.settle()
    world.config_map("shop", {"ca.crt": "mine"}, {"spork-ca.org/managed": "true"})
    world.cluster.fail = lambda verb, ref: Conflict(ref) if verb == "replace" else None
    with pytest.raises(Conflict):
        await world.reconcilers[0].reconcile(Ref("Namespace", "", "shop"))
    world.cluster.fail = lambda verb, ref: AlreadyExists(ref) if verb == "create" else None
    await world.settle()
    assert (world.bundle("shop") or "").startswith("# ")


# What it costs


async def test_nothing_is_requested_where_nothing_changes_and_one_write_for_each_where_roots_do(
    world: TrustWorld,
) -> None:
    world.root("main")
    names = [f"n{number}" for number in range(20)]
    for name in names:
        world.namespace(name)
    assert sorted(await world.settle()) == sorted(
        [f"create {CTB}", *(f"create ConfigMap {name}/{BUNDLE}" for name in names)]
    )
    assert await world.settle() == []
    world.root("lab", "Lab Root")
    assert sorted(await world.settle()) == sorted(
        ["create ClusterTrustBundle spork-ca.org:lab:roots", *(f"replace ConfigMap {name}/{BUNDLE}" for name in names)]
    )
    assert await world.settle() == []


# ClusterTrustBundles


async def test_each_hierarchy_has_a_cluster_trust_bundle_that_kubernetes_accepts(world: TrustWorld) -> None:
    root = world.root("main")
    world.root(None, "File Root")
    await world.settle()
    (found,) = world.cluster.all("ClusterTrustBundle")
    assert found["metadata"]["name"] == "spork-ca.org:main:roots"
    assert found["spec"]["signerName"] == "spork-ca.org/main"
    assert fingerprints_in(found["spec"]["trustBundle"]) == prints(root)


async def test_an_edited_or_deleted_one_is_restored_and_it_goes_with_the_hierarchy(world: TrustWorld) -> None:
    world.root("main")
    await world.settle()
    found = dict(world.cluster.get(CTB) or {})
    world.cluster.add({**found, "spec": {**found["spec"], "trustBundle": "x"}})
    assert await world.settle() == [f"replace {CTB}"]
    await world.cluster.delete(CTB)
    assert await world.settle() == [f"create {CTB}"]
    world.authorities.every.clear()
    await world.cluster.delete(Ref("Hierarchy", "", "main"))
    assert world.cluster.get(CTB) is not None
    await world.reconcilers[1].reconcile(Ref("Hierarchy", "", "main"))
    assert world.cluster.get(CTB) is None


async def test_where_the_api_server_has_no_such_kind_nothing_is_asked_of_it() -> None:
    world = TrustWorld(optional=False)
    root = world.root("main")
    assert await world.settle() == []
    assert waits_for(world.context, below(root)) is None


async def test_somebody_elses_cluster_trust_bundle_is_left_alone(world: TrustWorld) -> None:
    theirs = world.cluster.add(
        {"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle", "metadata": {"name": CTB.name}}
        | {"spec": {"trustBundle": "x"}}
    )
    root = world.root("main")
    await world.settle()
    assert await world.cluster.read(CTB) == theirs
    assert [report[1] for report in world.cluster.reports] == ["Conflict"]
    assert waits_for(world.context, below(root)) is None


# Before the first signature


async def test_a_new_root_signs_nothing_before_every_bundle_holds_it(world: TrustWorld) -> None:
    root = world.root("main")
    for name in ("a", "b", "c", "d", "e"):
        world.namespace(name)
    world.namespace("other", "lab")
    waiting = waits_for(world.context, below(root))
    assert waiting is not None
    assert "'Root CA' is new" in waiting
    assert "a/spork-ca-bundle" in waiting
    assert "and 3 more" in waiting
    await world.settle()
    assert waits_for(world.context, below(root)) is None


async def test_a_new_generation_of_the_root_is_a_new_root(world: TrustWorld) -> None:
    first = world.root("main")
    world.namespace("a")
    await world.settle()
    assert waits_for(world.context, below(first)) is None
    second = world.root("main", "Root CA Two", id=first.authority.id, generation=2)
    assert waits_for(world.context, below(second)) is not None
    assert waits_for(world.context, below(first)) is None
    await world.settle()
    assert waits_for(world.context, below(second)) is None


async def test_whoever_asks_later_or_damages_a_bundle_stops_nobody(world: TrustWorld) -> None:
    root = world.root("main")
    world.namespace("a")
    await world.settle()
    assert waits_for(world.context, below(root)) is None
    world.namespace("late")
    await world.cluster.delete(Ref("ConfigMap", "a", BUNDLE))
    assert waits_for(world.context, below(root)) is None


async def test_nobody_waits_for_a_bundle_that_cannot_be_written(world: TrustWorld) -> None:
    root = world.root("main")
    world.namespace("broken")
    world.config_map("theirs", {"ca.crt": "theirs"})
    world.namespace("theirs")
    world.namespace("good")
    world.cluster.fail = lambda verb, ref: (
        Refused(Code.FORBIDDEN, "no") if (verb, ref.namespace) == ("create", "broken") else None
    )
    assert waits_for(world.context, below(root)) is not None
    await world.settle()
    assert world.bundle("good")
    assert waits_for(world.context, below(root)) is None


async def test_the_wait_has_an_end(world: TrustWorld) -> None:
    root = world.root("main")
    world.namespace("slow")
    assert waits_for(world.context, below(root)) is not None
    world.clock.current += BOUND - timedelta(seconds=1)
    assert waits_for(world.context, below(root)) is not None
    world.clock.current += timedelta(seconds=1)
    assert waits_for(world.context, below(root)) is None


async def test_a_restart_does_not_begin_to_wait_again_for_what_is_long_distributed(world: TrustWorld) -> None:
    root = world.root("main")
    world.namespace("a")
    await world.settle()
    world.clock.current += BOUND
    world.namespace("slow")
    written = (world.cluster.get(Ref("ConfigMap", "a", BUNDLE)) or {})["metadata"]["annotations"]
    assert written["spork-ca.org/trust-bundle-written"] == f"{NOW:%Y-%m-%dT%H:%M:%SZ}"
    distribution_of(world.cluster).arrived.clear()
    assert waits_for(world.context, below(root)) is None


@pytest.mark.parametrize("time", ["", "yesterday", "2026-01-01T00:00:00"])
async def test_a_time_that_somebody_wrote_by_hand_proves_nothing(world: TrustWorld, time: str) -> None:
    root = world.root("main")
    world.namespace("a")
    await world.settle()
    found = world.cluster.get(Ref("ConfigMap", "a", BUNDLE)) or {}
    await world.cluster.annotate(found, {"spork-ca.org/trust-bundle-written": time})
    world.namespace("slow")
    assert waits_for(world.context, below(root)) is not None


async def test_where_nobody_asks_nobody_waits(world: TrustWorld) -> None:
    root = world.root(None, "File Root")
    world.namespace("quiet", None)
    assert waits_for(world.context, below(root)) is None


async def test_a_ca_below_a_foreign_root_waits_for_nothing(world: TrustWorld) -> None:
    root = world.root("main")
    world.namespace("a")
    middle = root.subordinate("Middle CA").certificate
    assert middle.subject != middle.issuer
    assert waits_for(world.context, replace(below(root), chain=(middle,))) is None
    assert waits_for(world.context, replace(below(root), chain=(), certificate=None)) is None


@pytest.mark.parametrize(("waits", "reason"), [("The root is new.", "WaitingForTrust"), (None, "Ready")])
def test_an_issuer_says_that_it_waits_and_its_row_stays_as_it_is(
    world: TrustWorld, waits: str | None, reason: str
) -> None:
    resource = load_object(a_resource("ClusterIssuer", {"spec/protocols": {}}))
    assert isinstance(resource, ClusterIssuer)
    authority = replace(below(world.root("main")), id=AuthorityId("web"))
    ref = Ref("ClusterIssuer", "", "one")
    ruling = decide(Snapshot(ref, resource, "", authority, {authority.id: authority}, True, NOW, waits))
    assert (ruling.ready.reason.name, ruling.ready.status) == (reason, waits is None)
    assert ruling.waiting is (waits is not None)
