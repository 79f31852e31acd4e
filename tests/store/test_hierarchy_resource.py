"""Hierarchies over a real database: planned, approved, carried out by the signer, checked, deleted."""

from __future__ import annotations

import asyncio
import base64
import copy
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from offline_world import OfflineCA
from resource_world import TREE, World, a_world
from store_builders import a_reservation, issued, one

from spork.clock import FixedClock
from spork.controller.cluster import Ref
from spork.controller.conditions import condition_of
from spork.ids import AuthorityId
from spork.store.audit import EventFilter, list_events
from spork.store.database import Database

pytestmark = pytest.mark.store

WEB = TREE["issuingCAs"][0]


@pytest.fixture
async def world(database: Database) -> World:
    return await a_world(database)


@pytest.fixture
async def built(world: World) -> World:
    world.add("Hierarchy", "main", TREE)
    await world.built()
    return world


def _changed(path: str, value: Any, tree: Any = TREE) -> dict[str, Any]:
    """The tree with another value at `path`."""
    new: dict[str, Any] = copy.deepcopy(dict(tree))
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    target: Any = new
    for part in parents:
        target = target[part]
    target[last] = value
    return new


def _row(world: World, ca: str, name: str = "main") -> dict[str, Any]:
    rows = world.status("Hierarchy", name)["authorities"]
    return next(dict(row) for row in rows if row["id"] == ca)


async def _jobs(database: Database) -> list[tuple[Any, ...]]:
    return await (await database.execute("SELECT kind, subject FROM job WHERE kind LIKE 'build%'")).fetchall()


# From nothing to a tree


async def test_the_plan_stands_in_the_status_before_anything_is_done(world: World, database: Database) -> None:
    world.add("Hierarchy", "main", TREE)
    await world.settle()
    plan = world.status("Hierarchy", "main")["plan"]
    assert [(one["subject"], one["changeClass"]) for one in plan["changes"]] == [("root", "create"), ("web", "create")]
    assert (await one(database, "SELECT count(*) FROM authority")) == (0,)
    assert world.ready("Hierarchy", "main") == ("False", "WaitingForSealedKeys")
    assert "spork pki work --sealed" in world.message("Hierarchy", "main")
    assert await _jobs(database) == [("build-sealed", "Hierarchy/main")]
    assert await world.sign("build") == []


async def test_a_tree_is_built_and_says_what_it_is(built: World) -> None:
    assert built.ready("Hierarchy", "main") == ("True", "Ready")
    status = built.status("Hierarchy", "main")
    assert (status["ready"], "plan" in status) == ("2/2", False)
    root, web = _row(built, "root"), _row(built, "web")
    assert (root["phase"], web["phase"], root["liveCertificates"]) == ("Ready", "Ready", 1)
    authority = await built.services.authorities.authority(AuthorityId("web"))
    assert authority.certificate is not None and authority.declared_by == "Hierarchy/main"
    assert web["serial"] == f"{authority.certificate.serial_number:032X}"
    assert status["notAfter"] == web["notAfter"] == f"{authority.not_after:%Y-%m-%dT%H:%M:%SZ}"


async def test_an_online_ca_below_an_online_one_needs_no_sealed_keys(world: World, database: Database) -> None:
    world.add("Hierarchy", "main", _changed("root/keyMode", "online"))
    await world.settle()
    assert world.ready("Hierarchy", "main") == ("False", "WaitingForSigner")
    assert await _jobs(database) == [("build", "Hierarchy/main")]


async def test_what_is_as_declared_costs_neither_requests_nor_jobs(built: World, database: Database) -> None:
    requests = len(built.cluster.requests)
    built.restart()
    await built.settle()
    await built.settle()
    assert (built.cluster.requests[requests:], await _jobs(database)) == ([], [])


async def test_building_a_tree_costs_few_requests(built: World) -> None:
    # The plan, the tree, and what a look at it found.
    verbs = [request.split()[0] for request in built.cluster.requests]
    assert (verbs.count("set_finalizer"), verbs.count("set_status"), verbs.count("report")) == (1, 3, 1)


async def test_a_change_in_place_is_carried_out_by_whoever_has_online_keys(built: World, database: Database) -> None:
    built.add("Hierarchy", "main", _changed("issuingCAs/0/crlShards", 4))
    await built.settle()
    assert await _jobs(database) == [("build", "Hierarchy/main")]
    await built.built()
    assert built.ready("Hierarchy", "main")[0] == "True"
    assert (await built.services.authorities.authority(AuthorityId("web"))).crl_shards == 4


async def test_issuers_of_the_tree_belong_to_it(world: World) -> None:
    issuers = [{"name": "web", "ca": "web", "profiles": ["tls-server"]}]
    world.add("Hierarchy", "main", {**TREE, "issuers": issuers})
    await world.built()
    assert (await world.services.issuers.issuer("web")).declared_by == "Hierarchy/main"
    world.add("Hierarchy", "main", TREE)
    await world.built()
    assert await world.services.issuers.all() == ()


# What must not happen, or not without being asked for


@pytest.mark.parametrize(
    ("spec", "reason", "sentence"),
    [
        (_changed("issuingCAs/0/commonName", "Other"), "ForbiddenChange", "web: subject: the name of a CA"),
        (_changed("issuingCAs/0/algorithm", "ecdsa-p384"), "NewKeyNeeded", "another algorithm needs another key"),
        (_changed("issuingCAs/0/validityYears", 30), "Invalid", "issuing_cas[0]"),
        (_changed("issuingCAs/0/keyMode", "pkcs11"), "Invalid", "keyMode"),
    ],
    ids=["another name", "another key", "a child that outlives the root", "a key in hardware"],
)
async def test_what_must_not_change_is_said_and_nothing_is_done(
    built: World, database: Database, spec: dict[str, Any], reason: str, sentence: str
) -> None:
    before = await one(database, "SELECT version FROM configuration_version")
    built.add("Hierarchy", "main", spec)
    await built.built()
    assert built.ready("Hierarchy", "main") == ("False", reason)
    assert sentence in built.message("Hierarchy", "main")
    assert (await _jobs(database), await one(database, "SELECT version FROM configuration_version")) == ([], before)
    built.add("Hierarchy", "main", TREE)
    await built.settle()
    assert built.ready("Hierarchy", "main") == ("True", "Ready")


async def test_a_ca_goes_out_of_service_only_with_the_plans_own_hash(world: World) -> None:
    other = {**WEB, "id": "mail", "commonName": "Mail"}
    world.add("Hierarchy", "main", {**TREE, "issuingCAs": [WEB, other]})
    await world.built()
    world.add("Hierarchy", "main", TREE)
    await world.built()
    assert world.ready("Hierarchy", "main") == ("False", "NeedsApproval")
    digest = world.status("Hierarchy", "main")["plan"]["hash"]
    command = f"kubectl annotate --overwrite hierarchy main spork-ca.org/approve={digest}"
    assert world.message("Hierarchy", "main").endswith(command)
    await world.annotate("Hierarchy", "main", approve="f" * 64)
    await world.built()
    assert world.message("Hierarchy", "main").startswith(f"The annotation spork-ca.org/approve names '{'f' * 64}'")
    assert (await world.services.authorities.authority(AuthorityId("mail"))).stopped is None
    await world.annotate("Hierarchy", "main", approve=digest)
    await world.built()
    assert world.ready("Hierarchy", "main") == ("True", "Ready")
    assert (await world.services.authorities.authority(AuthorityId("mail"))).stopped == "it is disabled"


async def test_an_approval_given_beforehand_does_not_hold_for_another_plan(world: World) -> None:
    three = {**TREE, "issuingCAs": [WEB, *({**WEB, "id": ca, "commonName": ca} for ca in ("mail", "lab"))]}
    world.add("Hierarchy", "main", three)
    await world.built()
    world.add("Hierarchy", "main", {**TREE, "issuingCAs": three["issuingCAs"][:2]})
    await world.settle()
    await world.annotate("Hierarchy", "main", approve=world.status("Hierarchy", "main")["plan"]["hash"])
    world.add("Hierarchy", "main", TREE)
    await world.built()
    assert world.ready("Hierarchy", "main") == ("False", "NeedsApproval")
    assert (await world.services.authorities.authority(AuthorityId("mail"))).stopped is None


async def test_a_plan_that_is_no_longer_wanted_is_taken_back(built: World, database: Database) -> None:
    built.add("Hierarchy", "main", {**TREE, "issuingCAs": [WEB, {**WEB, "id": "mail", "commonName": "Mail"}]})
    await built.settle()
    assert await _jobs(database) == [("build-sealed", "Hierarchy/main")]
    built.add("Hierarchy", "main", TREE)
    await built.settle()
    assert (await _jobs(database), await built.sign()) == ([], [])
    assert (await one(database, "SELECT count(*) FROM authority")) == (2,)


async def test_a_signer_that_fails_is_shown_and_asked_again_later(database: Database) -> None:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    world = await a_world(database, clock=clock)
    world.add("Hierarchy", "main", TREE)
    await world.settle()
    await database.execute(
        "UPDATE job SET run_at = 'infinity', last_error = 'The disk is full.' WHERE kind LIKE 'build%'"
    )
    await world.settle()
    await world.hierarchies.reconcile(_main())
    assert world.ready("Hierarchy", "main") == ("False", "SignerFailed")
    assert "The disk is full." in world.message("Hierarchy", "main")
    assert await world.sign() == []
    clock.current += timedelta(seconds=31)
    await world.hierarchies.reconcile(_main())
    assert await world.sign() != []
    await world.settle()
    await world.hierarchies.reconcile(_main())
    assert world.ready("Hierarchy", "main") == ("True", "Ready")


async def test_what_is_half_built_is_not_written_down(world: World, database: Database) -> None:
    world.add("Hierarchy", "main", TREE)
    await world.settle()
    before = world.item("Hierarchy", "main")
    await database.execute("UPDATE job SET lease_until = now() + interval '1 minute' WHERE kind LIKE 'build%'")
    world.add("Hierarchy", "main", _changed("issuingCAs/0/crlShards", 4))
    await world.settle()
    assert world.item("Hierarchy", "main")["status"] == before["status"]
    await world.delete("Hierarchy", "main")
    await world.settle()
    assert not world.is_gone("Hierarchy", "main")


async def test_a_change_of_the_configuration_wakes_the_hierarchy(built: World, database: Database) -> None:
    stop, woken = asyncio.Event(), asyncio.Queue[Ref]()
    following = asyncio.create_task(built.hierarchies.follow(woken.put_nowait, stop))
    async with asyncio.timeout(60):
        while woken.empty():
            # Again and again, as the follower may not have begun when the first one comes.
            await database.execute("UPDATE configuration_version SET version = version + 1")
            await asyncio.sleep(0.05)
    assert woken.get_nowait() == _main()
    stop.set()
    await following


# Several declarations


async def test_two_hierarchies_stand_beside_each_other(built: World) -> None:
    other = {
        "root": {**TREE["root"], "id": "other-root", "commonName": "Other Root"},
        "issuingCAs": [{**WEB, "id": "other", "commonName": "Other"}],
        "issuers": [{"name": "other", "ca": "other", "profiles": ["tls-server"]}],
    }
    built.add("Hierarchy", "second", other)
    await built.built()
    assert built.ready("Hierarchy", "main") == built.ready("Hierarchy", "second") == ("True", "Ready")
    assert "plan" not in built.status("Hierarchy", "main")


async def test_a_ca_belongs_to_the_older_of_two_that_declare_it(database: Database) -> None:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    world = await a_world(database, clock=clock)
    world.add("Hierarchy", "main", TREE)
    clock.current += timedelta(seconds=1)
    claim = _changed("root/id", "mine", _changed("root/commonName", "Mine"))
    world.add("Hierarchy", "claim", claim)
    await world.built()
    assert world.ready("Hierarchy", "claim") == ("False", "Conflict")
    assert "web by main" in world.message("Hierarchy", "claim")
    assert world.ready("Hierarchy", "main") == ("True", "Ready")
    await world.delete("Hierarchy", "claim")
    await world.settle()
    assert world.is_gone("Hierarchy", "claim")


async def test_a_hierarchy_under_another_name_takes_its_cas_over_with_approval(database: Database) -> None:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    world = await a_world(database, clock=clock)
    world.add("Hierarchy", "main", TREE)
    await world.built()
    clock.current += timedelta(seconds=1)
    world.add("Hierarchy", "renamed", TREE)
    await world.delete("Hierarchy", "main")
    await world.settle()
    # The other one declares all of its CAs, so that nothing ends with it.
    assert world.is_gone("Hierarchy", "main")
    assert world.ready("Hierarchy", "renamed") == ("False", "NeedsApproval")
    assert "taken over from another declaration" in world.message("Hierarchy", "renamed")
    await world.annotate("Hierarchy", "renamed", approve=world.status("Hierarchy", "renamed")["plan"]["hash"])
    await world.built()
    assert world.ready("Hierarchy", "renamed") == ("True", "Ready")
    assert (await world.services.authorities.authority(AuthorityId("web"))).declared_by == "Hierarchy/renamed"


# Deletion


async def test_a_hierarchy_is_held_while_certificates_are_alive(built: World, database: Database) -> None:
    for _ in range(2):
        await issued(built.services.ledger, a_reservation(authority_id=AuthorityId("web")))
    await built.delete("Hierarchy", "main")
    await built.settle()
    assert built.ready("Hierarchy", "main") == ("False", "LiveCertificates")
    message = built.message("Hierarchy", "main")
    assert "3 certificates are alive" in message and "root: 1, web: 2" in message
    assert built.status("Hierarchy", "main")["ready"] == "2/2"
    await built.annotate("Hierarchy", "main", confirm_delete="2")
    await built.settle()
    assert "says '2', which is not that number" in built.message("Hierarchy", "main")
    # The command is copied: nothing may stand behind it.
    assert built.message("Hierarchy", "main").split()[-1].startswith("spork-ca.org/confirm-delete=")
    await built.annotate("Hierarchy", "main", confirm_delete="3")
    await built.settle()
    assert built.ready("Hierarchy", "main") == ("False", "WaitingForSigner")
    assert "take web, root out of service" in built.message("Hierarchy", "main")
    await built.built()
    assert built.is_gone("Hierarchy", "main")
    assert [one.id for one in await built.services.authorities.all() if one.id != "management"] == []
    events = await list_events(database, EventFilter(action="authority.disable"))
    assert [event.subject for event in reversed(events)] == ["authority:web", "authority:root"]


async def test_a_deletion_that_was_killed_in_the_middle_goes_on(built: World) -> None:
    await issued(built.services.ledger, a_reservation(authority_id=AuthorityId("web")))
    await built.delete("Hierarchy", "main")
    await built.annotate("Hierarchy", "main", confirm_delete="2")
    calls = 0

    def killed(verb: str, ref: Ref) -> Exception | None:
        nonlocal calls
        calls += verb == "set_finalizer"
        return ConnectionError("killed") if verb == "set_finalizer" and calls == 1 else None

    built.cluster.fail = killed
    await built.settle()
    await built.sign()
    with pytest.raises(ConnectionError):
        await built.settle()
    built.restart()
    await built.settle()
    assert built.is_gone("Hierarchy", "main")
    events = await list_events(built.services.database, EventFilter(action="authority.disable"))
    assert len(events) == 2


async def test_a_deleted_hierarchy_takes_its_issuers_along(world: World) -> None:
    world.add("Hierarchy", "main", {**TREE, "issuers": [{"name": "web", "ca": "web", "profiles": ["tls-server"]}]})
    await world.built()
    await world.delete("Hierarchy", "main")
    await world.annotate("Hierarchy", "main", confirm_delete="1")
    await world.built()
    assert world.is_gone("Hierarchy", "main") and await world.services.issuers.all() == ()


async def test_a_hierarchy_that_was_never_built_goes_and_takes_its_plan_along(world: World, database: Database) -> None:
    world.add("Hierarchy", "main", TREE)
    await world.settle()
    await world.delete("Hierarchy", "main")
    await world.settle()
    assert (world.is_gone("Hierarchy", "main"), await _jobs(database)) == (True, [])


# Keys that are elsewhere


async def test_an_offline_root_is_handed_in_by_config_map(world: World) -> None:
    away = OfflineCA("Root")
    tree = _changed("root/keyMode", "offline")
    world.add("Hierarchy", "main", tree)
    await world.built()
    assert world.ready("Hierarchy", "main") == ("False", "WaitingForOfflineCA")
    assert "certificateRef" in _row(world, "root")["message"]
    ref = {"namespace": "pki", "name": "signed", "key": "root.pem"}
    tree["root"]["certificateRef"] = ref
    tree["issuingCAs"][0]["certificateRef"] = {**ref, "key": "web.pem"}
    world.add("Hierarchy", "main", tree)
    await world.built()
    assert (
        "the ConfigMap pki/signed, key root.pem, cannot be used: it is not there yet" in _row(world, "root")["message"]
    )
    data = {"root.pem": "nonsense"}
    _config_map(world, data)
    await world.built()
    assert "holds no PEM certificate" in _row(world, "root")["message"]
    _config_map(world, {"root.pem": OfflineCA("Somebody").certificate_pem})
    await world.built()
    assert "No CA with the name" in _row(world, "root")["message"]
    data["root.pem"] = away.certificate_pem
    _config_map(world, data)
    await world.built()
    assert _row(world, "root")["phase"] == "Ready"
    row = _row(world, "web")
    assert (row["phase"], row["request"].splitlines()[0]) == ("Waiting", "-----BEGIN CERTIFICATE REQUEST-----")
    data["web.pem"] = away.signed(row["request"])
    _config_map(world, data)
    await world.built()
    assert world.ready("Hierarchy", "main") == ("True", "Ready")
    assert "request" not in _row(world, "web")


async def test_what_the_signer_says_of_a_text_is_seen_in_seconds(world: World) -> None:
    tree = _changed("root/keyMode", "offline")
    tree["root"]["certificateRef"] = {"namespace": "pki", "name": "signed", "key": "root.pem"}
    _config_map(world, {"root.pem": OfflineCA("Root").certificate_pem})
    world.add("Hierarchy", "main", tree)
    wait = await world.hierarchies.reconcile(_main())
    assert "is with the signer" in _row(world, "root")["message"]
    assert wait is not None and wait <= 2
    await world.built()
    assert _row(world, "root")["phase"] == "Ready"


@pytest.mark.parametrize(
    ("kind", "data", "sentence"),
    [
        ("ConfigMap", {"other": "x"}, "it has no key 'tls.crt'"),
        ("Secret", {"tls.crt": "!"}, "it is not PEM text"),
        ("Secret", {"tls.crt": base64.b64encode(bytes(range(256))).decode()}, "it is not PEM text"),
        ("ConfigMap", {"tls.crt": OfflineCA("Web").certificate_pem}, "cannot be used"),
        ("ConfigMap", {"tls.crt": OfflineCA("Somebody").request_pem()}, "No CA with the name 'CN=Somebody'"),
    ],
    ids=["another key", "no base64", "binary", "a certificate", "somebody else's request"],
)
async def test_what_is_handed_in_wrongly_is_refused_in_a_sentence(
    built: World, kind: str, data: dict[str, str], sentence: str
) -> None:
    mail = {**WEB, "id": "mail", "commonName": "Mail", "keyMode": "offline"}
    mail["requestRef"] = {"kind": kind, "namespace": "pki", "name": "signed"}
    built.cluster.add(
        {"apiVersion": "v1", "kind": kind, "metadata": {"namespace": "pki", "name": "signed"}, "data": data}
    )
    built.add("Hierarchy", "main", {**TREE, "issuingCAs": [WEB, mail]})
    await built.built()
    row = _row(built, "mail")
    assert row["phase"] == "Waiting" and sentence in row["message"], row
    assert _row(built, "web")["phase"] == "Ready"


async def test_the_request_of_an_offline_ca_is_handed_in_by_secret_and_signed_here(built: World) -> None:
    mail = {**WEB, "id": "mail", "commonName": "Mail", "keyMode": "offline"}
    built.add("Hierarchy", "main", {**TREE, "issuingCAs": [WEB, mail]})
    await built.built()
    assert "requestRef" in _row(built, "mail")["message"]
    mail["requestRef"] = {"kind": "Secret", "namespace": "pki", "name": "mail", "key": "mail.csr"}
    text = base64.b64encode(OfflineCA("Mail").request_pem().encode()).decode()
    metadata = {"namespace": "pki", "name": "mail"}
    built.cluster.add({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"mail.csr": text}})
    built.add("Hierarchy", "main", {**TREE, "issuingCAs": [WEB, mail]})
    await built.built()
    assert built.ready("Hierarchy", "main") == ("True", "Ready")
    authority = await built.services.authorities.authority(AuthorityId("mail"))
    assert authority.key_id is None and authority.certificate is not None
    reads = built.cluster.requests.count("read Secret pki/mail")
    await built.settle()
    assert built.cluster.requests.count("read Secret pki/mail") == reads


def _config_map(world: World, data: dict[str, str]) -> None:
    metadata = {"namespace": "pki", "name": "signed"}
    world.cluster.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def _main() -> Ref:
    return Ref("Hierarchy", "", "main")


# Time


async def test_cas_expire_visibly(database: Database) -> None:
    start = datetime.now(UTC).replace(microsecond=0)
    clock = FixedClock(start)
    world = await a_world(database, clock=clock)
    world.add("Hierarchy", "main", TREE)
    await world.built()
    clock.current = start + timedelta(days=5 * 365 - 30)
    await world.hierarchies.reconcile(_main())
    assert (_row(world, "web")["phase"], world.ready("Hierarchy", "main")) == ("Expiring", ("True", "Ready"))
    clock.current = start + timedelta(days=5 * 366)
    await world.hierarchies.reconcile(_main())
    assert _row(world, "web")["phase"] == "Expired"
    assert world.ready("Hierarchy", "main") == ("False", "CAOutOfService")
    assert world.status("Hierarchy", "main")["ready"] == "1/2"


async def test_counts_in_the_status_are_ten_minutes_old_at_most(database: Database) -> None:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    world = await a_world(database, clock=clock)
    world.add("Hierarchy", "main", TREE)
    await world.built()
    await issued(world.services.ledger, a_reservation(authority_id=AuthorityId("web")))
    requests = len(world.cluster.requests)
    clock.current += timedelta(minutes=9)
    await world.hierarchies.reconcile(_main())
    assert len(world.cluster.requests) == requests
    clock.current += timedelta(minutes=1)
    await world.hierarchies.reconcile(_main())
    assert (_row(world, "web")["liveCertificates"], len(world.cluster.requests)) == (1, requests + 1)


# Drift and lists


async def test_a_tree_with_lists_is_in_order(built: World) -> None:
    item = built.item("Hierarchy", "main")
    for kind, reason in (("InSync", "InSync"), ("CRLs", "Fresh")):
        found = condition_of(item, kind)
        assert found is not None and (found["status"], found["reason"]) == ("True", reason), found


async def test_missing_lists_are_named_with_what_to_do(built: World, database: Database) -> None:
    await database.execute("DELETE FROM crl")
    built.restart()
    await built.settle()
    message = built.message("Hierarchy", "main", condition="CRLs")
    assert "The list of root/1 is missing; `spork pki work --sealed --once`" in message
    assert "the list of web/1 is missing; `spork serve` makes it" in message
    assert built.ready("Hierarchy", "main") == ("True", "Ready")


async def test_old_urls_in_a_certificate_are_drift(built: World) -> None:
    again = await a_world(built.services.database, status_url="http://new.example")
    again.cluster = built.cluster
    again.restart()
    await again.built()
    assert again.ready("Hierarchy", "main") == ("True", "Ready")
    message = again.message("Hierarchy", "main", condition="InSync")
    assert "the certificate of web names revocation list URLs http://pki.example/crl/root/1.crl" in message
    assert "declared are http://new.example/crl/root/1.crl" in message


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, dict[str, bytes]]]:
    """A status address that serves what is put into the mapping by path, and nothing else."""
    served: dict[str, bytes] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split()[1]
        body = served.get(path)
        status = "404 Not Found" if body is None else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body or b'')}\r\n\r\n".encode() + (body or b""))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", served


async def _sync(world: World) -> tuple[str, str, str]:
    """Looks anew; status, reason and message of the condition."""
    world.restart()
    await world.settle()
    found = condition_of(world.item("Hierarchy", "main"), "InSync")
    assert found is not None
    return found["status"], found["reason"], found["message"]


async def test_what_is_served_is_compared_octet_by_octet(
    database: Database, address: tuple[str, dict[str, bytes]]
) -> None:
    url, served = address
    world = await a_world(database, status_url=url, drift_checks=True)
    world.add("Hierarchy", "main", TREE)
    await world.built()
    assert (await _sync(world))[2] == "root: its certificate is not served; web: its certificate is not served."
    for ca in ("root", "web"):
        certificate = (await world.services.authorities.authority(AuthorityId(ca))).certificate
        assert certificate is not None
        served[f"/ca/{ca}/1.cer"] = certificate.public_bytes(Encoding.DER)
    assert (await _sync(world))[:2] == ("True", "InSync")
    served["/ca/web/1.cer"] = served["/ca/root/1.cer"]
    assert await _sync(world) == (
        "False",
        "Drift",
        "web: another certificate is served than the one that is stored.",
    )
    served["/ca/web/1.cer"] = bytes(70_000)
    assert (await _sync(world))[:2] == ("Unknown", "NotChecked")
    assert world.ready("Hierarchy", "main") == ("True", "Ready")


async def test_an_address_that_cannot_be_reached_is_no_drift(database: Database) -> None:
    # Nothing listens on the port of discard here.
    world = await a_world(database, status_url="http://127.0.0.1:9", drift_checks=True)
    world.add("Hierarchy", "main", TREE)
    await world.built()
    status, reason, message = await _sync(world)
    assert (status, reason) == ("Unknown", "NotChecked")
    assert "http://127.0.0.1:9/ca/root/1.cer cannot be fetched (ConnectError)" in message
    assert "SPORK_DRIFT_CHECKS=off" in message
