"""Certificates whose object goes, and comes back: kept, held, released, revoked; in a database that is away now and then."""

from __future__ import annotations

import gc
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from certificate_world import CA, REF, SECRET, CertificateWorld, a_certificate_world

from spork.api.status.holds import make_holds_final
from spork.controller.certificate import marks
from spork.controller.certificate.deletion import Deletion
from spork.controller.certificate.stored import Stored
from spork.controller.cluster import Change
from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.ids import AuthorityId, Serial
from spork.store.cessation import Cessations
from spork.store.database import Database

pytestmark = pytest.mark.store


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> CertificateWorld:
    return await a_certificate_world(database, tmp_path)


async def ready(world: CertificateWorld, policy: str, **changes: Any) -> int:
    """A Certificate with the policy, Ready; gives its serial."""
    world.add({"spec/deletionPolicy": policy, **changes})
    await world.settle()
    assert world.condition("Ready")[0] == "True"
    world.cluster.reports.clear()
    return world.leaf().serial_number


async def delete(world: CertificateWorld) -> None:
    await world.cluster.delete(REF)
    await world.settle()


async def reason(world: CertificateWorld, serial: int) -> int | None:
    """The CRLReason as OCSP would read it."""
    statuses = await world.services.revocations.statuses(AuthorityId(CA), [Serial(serial)])
    return statuses.by_serial[Serial(serial)].reason


async def grace_passes(database: Database) -> None:
    await database.execute("UPDATE job SET run_at = now() - interval '1 second' WHERE kind = 'cease'")


async def plans(database: Database) -> list[datetime]:
    return [row[0] for row in await (await database.execute("SELECT run_at FROM job WHERE kind = 'cease'")).fetchall()]


def finalizers(world: CertificateWorld) -> list[str]:
    return list((world.cluster.get(REF) or {"metadata": {}})["metadata"].get("finalizers") or ())


async def test_retain_leaves_everything_and_needs_no_finalizer(world: CertificateWorld) -> None:
    serial = await ready(world, "Retain")
    assert finalizers(world) == []
    await delete(world)
    assert world.cluster.get(REF) is None
    assert world.secrets() == ["web-tls"]
    assert await reason(world, serial) is None


async def test_the_finalizer_follows_the_policy(world: CertificateWorld) -> None:
    await ready(world, "Retain")
    for policy, there in (("Hold", True), ("Revoke", True), ("Retain", False)):
        world.add({"spec/deletionPolicy": policy})
        await world.settle()
        assert finalizers(world) == ([marks.FINALIZER] if there else [])
    assert await world.issued() == 1


class TestRevoke:
    async def test_every_live_certificate_of_the_object_is_revoked(self, world: CertificateWorld) -> None:
        first = await ready(world, "Revoke")
        world.add({"spec/deletionPolicy": "Revoke", "metadata/annotations": {"spork-ca.org/renew": "1"}})
        await world.settle()
        second = world.leaf().serial_number
        world.cluster.reports.clear()
        await delete(world)
        assert world.cluster.get(REF) is None
        assert [await reason(world, first), await reason(world, second)] == [5, 5]
        assert world.events() == ["RevokedOnDeletion"]

    async def test_certificates_of_others_stay(self, world: CertificateWorld) -> None:
        await ready(world, "Revoke")
        world.add({"spec/secretName": "two"}, name="two")
        await world.settle()
        await delete(world)
        rows = await (await world.database.execute("SELECT count(*) FROM revocation")).fetchone()
        assert rows == (1,)

    async def test_one_that_was_taken_over_from_an_earlier_object_is_revoked_too(self, world: CertificateWorld) -> None:
        serial = await ready(world, "Retain")
        await delete(world)
        assert await ready(world, "Revoke") == serial
        await delete(world)
        assert await reason(world, serial) == 5

    async def test_one_that_was_revoked_before_is_no_obstacle(self, world: CertificateWorld) -> None:
        serial = await ready(world, "Revoke")
        await world.revoke(serial, 1)
        await delete(world)
        assert world.cluster.get(REF) is None
        assert await reason(world, serial) == 1

    async def test_an_object_that_never_got_a_certificate_goes_at_once(self, world: CertificateWorld) -> None:
        world.add({"spec/deletionPolicy": "Revoke", "spec/dnsNames": ["www.example.com"]})
        await world.settle()
        await delete(world)
        assert world.cluster.get(REF) is None

    async def test_an_object_whose_spec_is_invalid_goes_too(self, world: CertificateWorld) -> None:
        serial = await ready(world, "Revoke")
        world.add({"spec/deletionPolicy": "Revoke", "spec/privateKey": {"algorithm": "dsa"}})
        await delete(world)
        assert world.cluster.get(REF) is None
        assert await reason(world, serial) == 5

    async def test_a_secret_that_is_gone_already_as_in_a_deleted_namespace_is_no_obstacle(
        self, world: CertificateWorld
    ) -> None:
        serial = await ready(world, "Revoke")
        await world.cluster.delete(REF)
        await world.cluster.delete(SECRET)
        before = len(world.cluster.requests)
        await world.settle()
        assert await reason(world, serial) == 5
        verbs = [request.split(" ")[0] for request in world.cluster.requests[before:]]
        assert set(verbs) <= {"report", "set_finalizer"}


class TestHold:
    async def test_it_is_on_hold_for_the_grace_and_then_revoked_without_anybody_in_the_cluster(
        self, world: CertificateWorld
    ) -> None:
        serial = await ready(world, "Hold")
        await delete(world)
        assert world.cluster.get(REF) is None
        assert world.events() == ["HeldOnDeletion"]
        assert await reason(world, serial) == 6
        (due,) = await plans(world.database)
        assert abs(due - world.clock.now() - timedelta(days=7)) < timedelta(seconds=5)
        assert await make_holds_final(world.services) == 0
        await grace_passes(world.database)
        assert await make_holds_final(world.services) == 1
        assert await reason(world, serial) == 5
        assert await plans(world.database) == []

    async def test_it_is_undone_if_the_object_comes_back(self, world: CertificateWorld) -> None:
        serial = await ready(world, "Hold")
        await delete(world)
        world.cluster.reports.clear()
        assert await ready_again(world, "Hold") == serial
        assert await reason(world, serial) is None
        assert await plans(world.database) == []
        assert "HoldReleased" in world.events()
        assert await world.issued() == 1

    async def test_without_its_key_it_is_not_undone(self, world: CertificateWorld) -> None:
        serial = await ready(world, "Hold")
        await delete(world)
        await world.cluster.delete(SECRET)
        assert await ready_again(world, "Hold") != serial
        assert await reason(world, serial) == 6
        assert len(await plans(world.database)) == 1

    async def test_an_object_of_another_name_does_not_undo_it(self, world: CertificateWorld) -> None:
        serial = await ready(world, "Hold")
        await delete(world)
        world.add({}, name="other")
        await world.settle()
        assert await reason(world, serial) == 6

    async def test_who_carries_the_key_to_another_namespace_does_not_undo_it(self, world: CertificateWorld) -> None:
        serial = await ready(world, "Hold")
        stolen = world.cluster.get(SECRET)
        assert stolen is not None
        await delete(world)
        world.cluster.add({**stolen, "metadata": {**stolen["metadata"], "namespace": "elsewhere", "uid": "elsewhere"}})
        world.add({"metadata/namespace": "elsewhere", "spec/deletionPolicy": "Hold"})
        await world.settle()
        assert await reason(world, serial) == 6
        assert len(await plans(world.database)) == 1

    async def test_a_hold_of_an_administrator_is_neither_planned_nor_undone(self, world: CertificateWorld) -> None:
        serial = await ready(world, "Hold")
        await world.revoke(serial, 6)
        await delete(world)
        assert await plans(world.database) == []
        world.add({"spec/deletionPolicy": "Hold"})
        await world.settle()
        assert await reason(world, serial) == 6
        assert world.condition("Ready")[1] == "OnHold"

    async def test_a_hold_that_an_administrator_released_is_not_revoked_later(self, world: CertificateWorld) -> None:
        serial = await ready(world, "Hold")
        await delete(world)
        await world.revoke(serial, 8)
        await grace_passes(world.database)
        await make_holds_final(world.services)
        assert await reason(world, serial) is None
        assert await plans(world.database) == []

    async def test_coming_back_while_it_is_made_final_waits_and_does_not_undo_it(self, world: CertificateWorld) -> None:
        await ready(world, "Hold")
        await delete(world)
        await world.database.execute("UPDATE job SET lease_until = now() + interval '1 minute' WHERE kind = 'cease'")
        world.add({"spec/deletionPolicy": "Hold"})
        with pytest.raises(SporkError) as caught:
            await world.run()
        assert caught.value.code is Code.IN_PROGRESS

    async def test_after_the_grace_the_object_gets_another_certificate(self, world: CertificateWorld) -> None:
        serial = await ready(world, "Hold")
        await delete(world)
        await grace_passes(world.database)
        await make_holds_final(world.services)
        world = world.restarted()
        assert await ready_again(world, "Hold") != serial
        assert await world.issued() == 2


async def ready_again(world: CertificateWorld, policy: str) -> int:
    world.add({"spec/deletionPolicy": policy})
    await world.settle()
    assert world.condition("Ready")[0] == "True"
    return world.leaf().serial_number


@pytest.mark.parametrize("policy", ["Hold", "Revoke"])
async def test_the_object_waits_for_the_database_and_says_so(
    world: CertificateWorld, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial = await ready(world, policy)
    await world.cluster.delete(REF)

    async def away(*arguments: Any) -> Any:
        raise DatabaseUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(Cessations, "live", away)
        wait = await world.run()
    assert wait is not None
    assert wait > 0
    assert world.condition("Ready")[:2] == ("False", "Unavailable")
    assert world.status()["serial"]
    await world.settle()
    assert world.cluster.get(REF) is None
    assert await reason(world, serial) == (6 if policy == "Hold" else 5)


@pytest.mark.parametrize("step", range(4))
async def test_a_deletion_that_is_killed_anywhere_is_finished_later(
    world: CertificateWorld, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    serial = await ready(world, "Hold")
    await world.cluster.delete(REF)
    targets: list[tuple[Any, str]] = [
        (Cessations, "plan"), (Deletion, "_change"), (Deletion, "_tell"), (type(world.cluster), "set_finalizer"),
    ]  # fmt: skip

    async def killed(*arguments: Any, **options: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(*targets[step], killed)
        with pytest.raises(Killed):
            await world.run()
    assert world.cluster.get(REF) is not None
    await world.restarted().settle()
    assert world.cluster.get(REF) is None
    assert await reason(world, serial) == 6
    assert len(await plans(world.database)) == 1


async def test_a_deleted_secret_of_a_deleted_object_wakes_nobody(world: CertificateWorld) -> None:
    await ready(world, "Retain")
    await delete(world)
    secret = world.cluster.get(SECRET)
    assert list(world.reconciler.concerned(Change(SECRET, None, secret))) == []


async def test_a_key_whose_secret_has_gone_after_its_certificate_does_not_stay_in_memory(
    world: CertificateWorld,
) -> None:
    await ready(world, "Retain")
    uid = (world.cluster.get(SECRET) or {})["metadata"]["uid"]
    await delete(world)
    await world.cluster.delete(SECRET)
    await world.settle()
    gc.collect()
    held = [one for one in gc.get_objects() if isinstance(one, Stored) and one.item["metadata"]["uid"] == uid]
    assert held == []
