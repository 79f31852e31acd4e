"""Issuer and ClusterIssuer over a real database: bound, granted, shut, deleted."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from resource_world import ISSUER, TREE, World, a_world
from store_builders import a_reservation, issued, one

from spork.api.acme.routes import router
from spork.controller.cluster import Ref
from spork.controller.issuer.reconcile import cluster_issuer_reconciler, issuer_reconciler
from spork.controller.issuer.usable import NotUsable, usable_issuer
from spork.controller.reasons import Reason
from spork.errors import Code, SporkError
from spork.hierarchy.build import build
from spork.hierarchy.load import load_text
from spork.ids import AuthorityId
from spork.store.audit import EventFilter, list_events
from spork.store.database import Database

pytestmark = pytest.mark.store

GRANTED = {**TREE, "issuingCAs": [{**TREE["issuingCAs"][0], "allowedNamespaces": {"names": ["shop"]}}]}


@pytest.fixture
async def world(database: Database) -> World:
    """A tree whose CA `web` is granted to the namespace shop."""
    world = await a_world(database)
    world.add_namespace("shop")
    world.add_namespace("lab")
    world.add("Hierarchy", "main", GRANTED)
    await world.built()
    return world


async def _issue(world: World, count: int, namespace: str = "", name: str = "web") -> None:
    """Certificates of that issuer, as if signed."""
    row = await one(
        world.services.database, "SELECT id FROM issuer WHERE namespace = %s AND name = %s", namespace, name
    )
    for _ in range(count):
        reservation = a_reservation(authority_id=AuthorityId("web"), issuer_id=row[0])
        await issued(world.services.ledger, reservation)


async def _is_open(world: World, label: str) -> bool:
    app = FastAPI(openapi_url=None)
    app.include_router(router(world.services))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://ca.example") as client:
        return (await client.get(f"/acme/{label}/directory")).status_code == 200


async def _refused(world: World, kind: str, name: str, namespace: str) -> NotUsable:
    with pytest.raises(NotUsable) as caught:
        await usable_issuer(world.context, kind, name, namespace)
    return caught.value


async def test_an_issuer_opens_its_door_at_once_and_says_where(world: World) -> None:
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    assert world.ready("Issuer", "web", "shop") == ("True", "Ready")
    url = "https://ca.example/acme/shop.web/directory"
    assert world.status("Issuer", "web", "shop")["doors"] == [{"protocol": "acme", "url": url}]
    assert await _is_open(world, "shop.web")
    authority = await world.services.authorities.authority(AuthorityId("web"))
    assert authority.not_after is not None
    assert world.status("Issuer", "web", "shop")["notAfter"] == f"{authority.not_after:%Y-%m-%dT%H:%M:%SZ}"


async def test_a_cluster_issuer_has_its_name_as_label(world: World) -> None:
    world.add("ClusterIssuer", "web", ISSUER)
    await world.settle()
    assert world.status("ClusterIssuer", "web")["doors"][0]["url"] == "https://ca.example/acme/web/directory"
    assert await _is_open(world, "web")


async def test_what_is_as_declared_costs_no_request_and_no_audit_event(world: World, database: Database) -> None:
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    requests, events = len(world.cluster.requests), len(await list_events(database, EventFilter()))
    world.restart()
    await world.settle()
    assert (len(world.cluster.requests), len(await list_events(database, EventFilter()))) == (requests, events)


async def test_an_issuer_that_needs_nothing_costs_one_statement_at_most(world: World) -> None:
    world.add("Issuer", "web", ISSUER, "shop")
    world.add("Issuer", "other", {**ISSUER, "ca": "nowhere"}, "shop")
    await world.settle()
    reconciler = issuer_reconciler(world.context)
    for name in ("web", "other"):
        await reconciler.reconcile(Ref("Issuer", "shop", name))
        before = world.services.database.statistics.statements
        await reconciler.reconcile(Ref("Issuer", "shop", name))
        # Whether the configuration has moved is asked every half second.
        assert world.services.database.statistics.statements - before <= 3


async def test_a_new_issuer_costs_two_requests(world: World) -> None:
    before = len(world.cluster.requests)
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    assert world.cluster.requests[before:] == ["set_finalizer Issuer shop/web", "set_status Issuer shop/web"]


async def test_a_change_holds_for_the_next_certificate(world: World) -> None:
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    world.add("Issuer", "web", {**ISSUER, "maxValidityDays": 7}, "shop")
    assert (await _refused(world, "Issuer", "web", "shop")).reason.name == "IssuerNotReady"
    await world.settle()
    validity = (await usable_issuer(world.context, "Issuer", "web", "shop")).max_validity
    assert validity is not None and validity.days == 7


@pytest.mark.parametrize(
    ("changes", "reason", "sentence"),
    [
        ({"ca": "wbe"}, "CAMissing", "There is no CA 'wbe'; did you mean 'web'?"),
        ({"ca": "management"}, "CAMissing", "There is no CA 'management'"),
        ({"ca": "root"}, "Invalid", "'root' is a root CA; certificates are issued by issuing CAs."),
        ({"profiles": ["code-signing"]}, "ProfileNotAllowed", "does not offer 'code-signing', only tls-server"),
        ({"names": {"permit": {"dn": ["nonsense"]}}}, "Invalid", "spec.names.permit.dn[0]"),
    ],
    ids=["a CA that is not there", "the CA of administrators", "a root", "a profile of others", "a name pattern"],
)
async def test_what_cannot_be_bound_says_why(
    database: Database, changes: dict[str, Any], reason: str, sentence: str
) -> None:
    world = await a_world(database)
    profiles = {**TREE["issuingCAs"][0], "profiles": ["tls-server", "tls-client"]}
    world.add("Hierarchy", "main", {**TREE, "issuingCAs": [profiles]})
    await world.built()
    world.add("ClusterIssuer", "web", {**ISSUER, **changes})
    await world.settle()
    assert world.ready("ClusterIssuer", "web") == ("False", reason)
    assert sentence.removeprefix("spec.") in world.message("ClusterIssuer", "web")
    assert not await _is_open(world, "web")


async def test_an_issuer_that_becomes_invalid_is_shut(world: World) -> None:
    world.add("ClusterIssuer", "web", ISSUER)
    await world.settle()
    world.add("ClusterIssuer", "web", {**ISSUER, "ca": "nowhere"})
    await world.settle()
    assert not await _is_open(world, "web")
    world.add("ClusterIssuer", "web", ISSUER)
    await world.settle()
    assert await _is_open(world, "web")


async def test_an_issuer_waits_for_a_ca_that_is_built_later(database: Database) -> None:
    world = await a_world(database)
    world.add("ClusterIssuer", "web", ISSUER)
    await world.settle()
    assert world.ready("ClusterIssuer", "web") == ("False", "CAMissing")
    world.add("Hierarchy", "main", TREE)
    await world.built()
    assert world.ready("ClusterIssuer", "web") == ("True", "Ready")


# Grants


async def test_a_namespace_without_a_grant_cannot_bind_the_ca(world: World) -> None:
    world.add("Issuer", "web", ISSUER, "lab")
    await world.settle()
    assert world.ready("Issuer", "web", "lab") == ("False", "NamespaceNotAllowed")
    assert "allowedNamespaces of the CA" in world.message("Issuer", "web", "lab")
    assert not await _is_open(world, "lab.web")


async def test_a_grant_that_is_taken_back_shuts_the_door(world: World) -> None:
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    world.add("Hierarchy", "main", TREE)
    assert (await _refused(world, "Issuer", "web", "shop")).reason.name == "NamespaceNotAllowed"
    await world.built()
    assert world.ready("Issuer", "web", "shop") == ("False", "NamespaceNotAllowed")
    assert not await _is_open(world, "shop.web")


async def test_a_grant_by_label_follows_the_label(world: World) -> None:
    granted = {**TREE["issuingCAs"][0], "allowedNamespaces": {"matchLabels": {"tier": "front"}}}
    world.add("Hierarchy", "main", {**TREE, "issuingCAs": [granted]})
    world.add_namespace("lab", tier="front")
    world.add("Issuer", "web", ISSUER, "lab")
    await world.built()
    assert world.ready("Issuer", "web", "lab") == ("True", "Ready")
    world.add_namespace("lab", tier="back")
    assert (await _refused(world, "Issuer", "web", "lab")).reason.name == "NamespaceNotAllowed"
    await world.settle()
    assert world.ready("Issuer", "web", "lab")[0] == "False"


async def test_a_ca_of_the_hierarchy_file_is_granted_to_no_namespace(database: Database) -> None:
    world = await a_world(database)
    tree = (
        '[root]\nid = "root"\ncommon_name = "Root"\nalgorithm = "ecdsa-p256"\nvalidity_years = 20\n'
        '[[issuing_cas]]\nid = "web"\ncommon_name = "Web"\nalgorithm = "ecdsa-p256"\nvalidity_years = 5\n'
    )
    await build(load_text(tree), world.services.workshop)
    world.add_namespace("shop")
    # Somebody who may make Hierarchies claims the CA to grant it to himself.
    claim = {**GRANTED, "root": {**TREE["root"], "id": "mine", "commonName": "Mine"}}
    world.add("Hierarchy", "claim", claim)
    world.add("Issuer", "web", ISSUER, "shop")
    world.add("ClusterIssuer", "web", ISSUER)
    await world.built()
    assert world.ready("Hierarchy", "claim")[0] == "False"
    assert world.ready("Issuer", "web", "shop") == ("False", "NamespaceNotAllowed")
    assert world.ready("ClusterIssuer", "web") == ("True", "Ready")


@pytest.mark.parametrize(
    ("kind", "name", "namespace", "reason", "code"),
    [
        ("Issuer", "web", "lab", "IssuerMissing", Code.NOT_FOUND),
        ("ClusterIssuer", "nobody", "shop", "IssuerMissing", Code.NOT_FOUND),
        ("Certificate", "web", "shop", "IssuerMissing", Code.NOT_FOUND),
        ("ClusterIssuer", "open", "lab", "NamespaceNotAllowed", Code.FORBIDDEN),
        ("ClusterIssuer", "closed", "shop", "NamespaceNotAllowed", Code.FORBIDDEN),
        ("ClusterIssuer", "broken", "shop", "IssuerNotReady", Code.FORBIDDEN),
        ("ClusterIssuer", "unseen", "shop", "IssuerNotReady", Code.FORBIDDEN),
    ],
    ids=[
        "an Issuer of another namespace",
        "one that is not there",
        "no issuer at all",
        "a namespace that is not named",
        "one that names none",
        "one that is not ready",
        "one that was not looked at",
    ],
)
async def test_an_issuer_is_refused_to_who_may_not_use_it(
    world: World, kind: str, name: str, namespace: str, reason: str, code: Code
) -> None:
    allowed = {"allowedNamespaces": {"names": ["shop"]}}
    world.add("Issuer", "web", ISSUER, "shop")
    world.add("ClusterIssuer", "open", {**ISSUER, **allowed})
    world.add("ClusterIssuer", "closed", ISSUER)
    world.add("ClusterIssuer", "broken", {**ISSUER, **allowed, "ca": "nowhere"})
    await world.settle()
    world.add("ClusterIssuer", "unseen", {**ISSUER, **allowed})
    assert (await usable_issuer(world.context, "ClusterIssuer", "open", "shop")).label == "open"
    error = await _refused(world, kind, name, namespace)
    assert (error.reason.name, error.code) == (reason, code)
    assert isinstance(error.reason, Reason)


# Others who own the name


async def test_a_name_of_the_hierarchy_is_a_conflict_and_changes_nothing(database: Database) -> None:
    world = await a_world(database)
    world.add("Hierarchy", "main", {**TREE, "issuers": [{"name": "web", "ca": "web", "profiles": ["tls-client"]}]})
    await world.built()
    world.add("ClusterIssuer", "web", ISSUER)
    await world.settle()
    assert world.ready("ClusterIssuer", "web") == ("False", "Conflict")
    assert "declared by Hierarchy/main" in world.message("ClusterIssuer", "web")
    assert (await world.services.issuers.issuer("web")).profiles == ("tls-client",)
    assert (await _refused(world, "ClusterIssuer", "web", "shop")).reason.name == "Conflict"
    await world.delete("ClusterIssuer", "web")
    await world.settle()
    assert (await world.services.issuers.issuer("web")).declared_by == "Hierarchy/main"


async def test_a_cluster_that_is_set_up_anew_goes_on_with_its_issuers(world: World) -> None:
    world.cluster.origin = "kubernetes"
    system = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "first"}}
    world.cluster.add(system)
    world.add("ClusterIssuer", "web", ISSUER)
    await world.settle()
    assert (await world.services.issuers.issuer("web")).declared_by == "cluster:first"
    again = await a_world(world.services.database)
    again.cluster.origin = "kubernetes"
    again.cluster.add({**system, "metadata": {"name": "kube-system", "uid": "second"}})
    again.add("ClusterIssuer", "web", ISSUER)
    await again.settle()
    assert again.ready("ClusterIssuer", "web") == ("True", "Ready")
    assert (await again.services.issuers.issuer("web")).declared_by == "cluster:second"
    third = await a_world(world.services.database)
    third.cluster.origin = "kubernetes"
    third.cluster.add({**system, "metadata": {"name": "kube-system", "uid": "third"}})
    third.add("ClusterIssuer", "web", {**ISSUER, "profiles": ["nothing"]})
    await third.settle()
    assert not await _is_open(world, "web")


# Rows whose objects went while nobody looked


async def _swept(world: World) -> list[str]:
    """What the reconcilers of both kinds find when they begin to work."""
    woken: list[str] = []
    for reconciler in (issuer_reconciler(world.context), cluster_issuer_reconciler(world.context)):
        await reconciler.follow(lambda ref: woken.append(str(ref)), asyncio.Event())
    return woken


async def test_a_row_without_its_object_is_found_and_shut(world: World) -> None:
    world.add("ClusterIssuer", "web", ISSUER)
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    assert await _swept(world) == []
    world.cluster._items.pop(Ref("Issuer", "shop", "web"))
    assert await _swept(world) == ["Issuer shop/web"]
    await issuer_reconciler(world.context).reconcile(Ref("Issuer", "shop", "web"))
    assert not await _is_open(world, "shop.web") and await _is_open(world, "web")
    assert await _swept(world) == []


async def test_many_rows_without_objects_are_left_alone(world: World) -> None:
    for name in ("one", "two", "three"):
        world.add("ClusterIssuer", name, ISSUER)
    await world.settle()
    for name in ("one", "two"):
        world.cluster._items.pop(Ref("ClusterIssuer", "", name))
    assert await _swept(world) == []


async def test_an_operator_in_another_cluster_finds_nothing_of_its_own(world: World) -> None:
    world.add("ClusterIssuer", "web", ISSUER)
    await world.settle()
    other = await a_world(world.services.database)
    other.cluster.origin = "kubernetes"
    system = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "elsewhere"}}
    other.cluster.add(system)
    assert await _swept(other) == []
    assert await _is_open(world, "web")


# Deletion


async def test_an_issuer_without_live_certificates_goes_at_once(world: World, database: Database) -> None:
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    await world.delete("Issuer", "web", "shop")
    assert (await _refused(world, "Issuer", "web", "shop")).reason.name == "Deleting"
    await world.settle()
    assert world.is_gone("Issuer", "web", "shop")
    with pytest.raises(SporkError, match="no issuer"):
        await world.services.issuers.issuer("shop.web")
    events = await list_events(database, EventFilter(subject="issuer:shop.web"))
    assert [event.action for event in events] == ["issuer.disable", "issuer.configure"]


async def test_live_certificates_hold_an_issuer_until_their_number_is_confirmed(world: World) -> None:
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    await _issue(world, 2, "shop")
    await world.delete("Issuer", "web", "shop")
    await world.settle()
    assert world.ready("Issuer", "web", "shop") == ("False", "LiveCertificates")
    assert "2 certificates are alive" in world.message("Issuer", "web", "shop")
    await world.annotate("Issuer", "web", "shop", confirm_delete="1")
    await world.settle()
    assert "says '1', which is not that number" in world.message("Issuer", "web", "shop")
    await world.annotate("Issuer", "web", "shop", confirm_delete="2")
    await world.settle()
    assert world.is_gone("Issuer", "web", "shop")
    assert not await _is_open(world, "shop.web")


async def test_a_number_that_was_shown_may_be_confirmed_though_it_has_moved_on(world: World) -> None:
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    await _issue(world, 2, "shop")
    await world.delete("Issuer", "web", "shop")
    await world.settle()
    assert world.status("Issuer", "web", "shop")["liveCertificates"] == 2
    await _issue(world, 1, "shop")
    await world.annotate("Issuer", "web", "shop", confirm_delete="2")
    await world.settle()
    assert world.is_gone("Issuer", "web", "shop")


async def test_nobody_confirms_what_the_status_never_showed(world: World) -> None:
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    assert world.status("Issuer", "web", "shop")["liveCertificates"] == 0
    await _issue(world, 1, "shop")
    await world.annotate("Issuer", "web", "shop", confirm_delete="0")
    await world.delete("Issuer", "web", "shop")
    await world.settle()
    assert world.ready("Issuer", "web", "shop") == ("False", "LiveCertificates")


async def test_revoked_certificates_hold_nothing(world: World, database: Database) -> None:
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    await _issue(world, 1, "shop")
    await database.execute(
        "INSERT INTO revocation (certificate_id, authority_id, generation, crl_shard, serial, reason, revoked_at, not_after,"
        " version) SELECT id, authority_id, generation, 0, serial, 1, now(), not_after, 1 FROM certificate"
        " WHERE issuer_id IS NOT NULL"
    )
    await world.delete("Issuer", "web", "shop")
    await world.settle()
    assert world.is_gone("Issuer", "web", "shop")


async def test_a_namespace_that_is_terminated_is_never_held_up(world: World, database: Database) -> None:
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    await _issue(world, 3, "shop")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "finalizers": ["kubernetes"]}}
    world.cluster.add(namespace)
    await world.cluster.delete(Ref("Namespace", "", "shop"))
    await world.delete("Issuer", "web", "shop")
    await world.settle()
    assert world.is_gone("Issuer", "web", "shop")
    event = (await list_events(database, EventFilter(subject="issuer:shop.web")))[0]
    assert (event.action, event.detail["why"]) == ("issuer.disable", "its namespace is terminated")
    alive = await one(database, "SELECT count(*) FROM certificate WHERE issuer_id IS NOT NULL AND state = 'issued'")
    assert alive == (3,)


async def test_an_issuer_that_comes_back_is_enabled_again(world: World) -> None:
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    await world.delete("Issuer", "web", "shop")
    await world.settle()
    world.add("Issuer", "web", ISSUER, "shop")
    await world.settle()
    assert await _is_open(world, "shop.web")


async def test_a_deletion_that_was_never_looked_at_holds_nothing(world: World) -> None:
    world.add("Issuer", "web", {**ISSUER, "ca": "nowhere"}, "shop")
    await world.settle()
    await world.delete("Issuer", "web", "shop")
    assert world.is_gone("Issuer", "web", "shop")
