"""Certificates that are there: edited, deleted, renewed, revoked, and claimed by somebody else."""

from __future__ import annotations

import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from certificate_world import (
    CA,
    REF,
    SECRET,
    CertificateWorld,
    a_certificate_world,
    an_issuer,
    key_and_certificate_fit,
)

from spork.controller.certificate import marks
from spork.controller.cluster import Ref
from spork.controller.conditions import time_of
from spork.ids import AuthorityId, serial_octets
from spork.keys.ephemeral import EphemeralKey
from spork.store.database import Database
from spork.x509.der import KeyPurpose

pytestmark = pytest.mark.store


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> CertificateWorld:
    """With one Certificate that is Ready."""
    made = await a_certificate_world(database, tmp_path)
    made.add()
    await made.settle()
    made.cluster.reports.clear()
    return made


def a_key() -> bytes:
    return EphemeralKey.generate("ecdsa-p256", KeyPurpose.LEAF).pkcs8_pem()


def marked(world: CertificateWorld, **changes: str | None) -> None:
    """Changes annotations of the target Secret, by the names of `marks`."""
    item = copy.deepcopy(dict(world.cluster.get(SECRET) or {}))
    for name, value in changes.items():
        if value is None:
            item["metadata"]["annotations"].pop(getattr(marks, name))
        else:
            item["metadata"]["annotations"][getattr(marks, name)] = value
    world.cluster.add(item)


class TestSomebodyTouchedTheSecret:
    @pytest.mark.parametrize("name", ["ca__crt", "tls__crt"])
    async def test_a_damaged_certificate_is_written_again_and_not_issued(
        self, world: CertificateWorld, name: str
    ) -> None:
        before = world.secret()
        world.edit(SECRET, **{name: b"rubbish"})
        await world.settle()
        assert world.secret() == before
        assert await world.issued() == 1
        assert world.events() == ["SecretRestored"]
        assert world.condition("Ready")[0] == "True"

    async def test_another_certificate_for_the_same_key_is_replaced_by_the_recorded_one(
        self, world: CertificateWorld
    ) -> None:
        before = world.secret()
        world.add({"spec/dnsNames": ["two.test"], "spec/secretName": "two"}, name="two")
        await world.settle()
        other = world.secret(Ref("Secret", "default", "two"))["tls.crt"]
        world.edit(SECRET, tls__crt=other)
        await world.settle()
        assert world.secret() == before
        assert await world.issued() == 2

    @pytest.mark.parametrize("key", [b"rubbish", None], ids=["rubbish", "gone"])
    async def test_a_lost_key_means_a_new_revision(self, world: CertificateWorld, key: bytes | None) -> None:
        world.edit(SECRET, tls__key=key)
        await world.settle()
        assert key_and_certificate_fit(world.secret())
        assert world.status()["revision"] == 2
        assert await world.issued() == 2

    async def test_a_key_of_somebody_else_means_a_new_revision(self, world: CertificateWorld) -> None:
        theirs = a_key()
        world.edit(SECRET, tls__key=theirs)
        await world.settle()
        assert world.secret()["tls.key"] != theirs
        assert key_and_certificate_fit(world.secret())

    async def test_a_deleted_secret_means_a_new_revision(self, world: CertificateWorld) -> None:
        await world.cluster.delete(SECRET)
        await world.settle()
        assert world.status()["revision"] == 2
        assert world.status()["revisions"] == [
            {"revision": 1, "serial": world.status()["revisions"][0]["serial"], "notAfter": world.status()["notAfter"]}
        ]
        assert world.condition("Ready")[0] == "True"

    @pytest.mark.parametrize(
        ("name", "value"),
        [("PROFILE", "email"), ("DURATION", "60"), ("ISSUER", "Issuer/other"), ("AUTHORITY", "x/9"), ("REVISION", "7")],
    )
    async def test_a_changed_annotation_is_put_right_and_nothing_is_issued(
        self, world: CertificateWorld, name: str, value: str
    ) -> None:
        before = world.secret()
        marked(world, **{name: value})
        await world.settle()
        assert world.secret() == before
        assert world.condition("Ready")[0] == "True"
        assert await world.issued() == 1

    async def test_a_label_that_was_taken_away_is_put_back_and_nothing_is_issued(self, world: CertificateWorld) -> None:
        # Without the label the API server no longer shows it to the watch.
        found = await world.cluster.read(SECRET)
        assert found is not None
        world.cluster.add({**found, "metadata": {**found["metadata"], "labels": {"team": "blue"}}})
        assert world.cluster.get(SECRET) is None
        await world.settle()
        found = world.cluster.get(SECRET)
        assert found is not None
        assert found["metadata"]["labels"] == {"spork-ca.org/managed": "true", "team": "blue"}
        assert world.condition("Ready")[0] == "True"
        assert await world.issued() == 1


class TestWhoseSecret:
    @pytest.mark.parametrize("owner", [None, "somebody"])
    async def test_a_secret_of_somebody_else_is_never_touched_and_nothing_is_issued_for_it(
        self, world: CertificateWorld, owner: str | None
    ) -> None:
        annotations = {marks.CERTIFICATE_NAME: owner} if owner else {}
        theirs = world.cluster.add(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "theirs", "namespace": "default", "annotations": annotations},
                "type": "Opaque",
                "data": {"a": "Yg=="},
            }
        )
        ref = Ref("Certificate", "default", "two")
        world.add({"spec/secretName": "theirs"}, name="two")
        await world.settle()
        status, reason, message = world.condition("Ready", ref)
        assert (status, reason) == ("False", "SecretNotOurs")
        assert "'theirs'" in message
        assert await world.cluster.read(Ref("Secret", "default", "theirs")) == theirs
        assert await world.issued() == 1
        assert await world.run(ref) == 60
        await world.cluster.delete(Ref("Secret", "default", "theirs"))
        await world.settle()
        assert world.condition("Ready", ref)[0] == "True"

    async def test_of_two_certificates_with_one_secret_the_older_has_it(self, world: CertificateWorld) -> None:
        world.clock.current += timedelta(seconds=5)
        world.add({}, name="a-younger")
        requests = await world.settle()
        ref = Ref("Certificate", "default", "a-younger")
        assert world.condition("Ready", ref)[1] in ("SecretNotOurs", "SecretNameTaken")
        assert "'one'" in world.condition("Ready", ref)[2]
        assert [request.split(" ")[0] for request in requests] == ["set_status"]
        assert world.condition("Ready")[0] == "True"

    async def test_before_either_has_written_it_the_older_one_wins(self, world: CertificateWorld) -> None:
        world.add({"spec/secretName": "fresh"}, name="z-older")
        world.clock.current += timedelta(seconds=5)
        world.add({"spec/secretName": "fresh"}, name="a-younger")
        await world.run(Ref("Certificate", "default", "a-younger"))
        await world.settle()
        assert world.condition("Ready", Ref("Certificate", "default", "z-older"))[0] == "True"
        younger = world.condition("Ready", Ref("Certificate", "default", "a-younger"))
        assert younger[1] in ("SecretNotOurs", "SecretNameTaken")
        assert await world.issued() == 2

    async def test_the_younger_one_hears_when_the_older_one_takes_another_name(self, world: CertificateWorld) -> None:
        world.add({"spec/secretName": "fresh", "spec/dnsNames": ["www.example.com"]}, name="older")
        world.clock.current += timedelta(seconds=5)
        world.add({"spec/secretName": "fresh"}, name="younger")
        await world.settle()
        ref = Ref("Certificate", "default", "younger")
        assert world.condition("Ready", ref)[1] == "SecretNameTaken"
        world.add({"spec/secretName": "else", "spec/dnsNames": ["www.example.com"]}, name="older")
        await world.settle()
        assert world.condition("Ready", ref)[0] == "True"

    async def test_an_object_that_comes_back_takes_its_secret_over_and_issues_nothing(
        self, world: CertificateWorld
    ) -> None:
        before = world.secret()
        await world.cluster.delete(REF)
        assert world.secret() == before
        item = world.add()
        await world.settle()
        assert world.secret() == before
        assert world.condition("Ready")[0] == "True"
        assert await world.issued() == 1
        secret = world.cluster.get(SECRET)
        assert secret is not None
        assert secret["metadata"]["annotations"][marks.CERTIFICATE_UID] == item["metadata"]["uid"]


class TestTheSpecChanges:
    @pytest.mark.parametrize(
        "change",
        [
            {"spec/dnsNames": ["www.test", "more.test"]},
            {"spec/profile": "tls-client"},
            {"spec/duration": "240h", "spec/renewBefore": "100h"},
            {"spec/privateKey": {"algorithm": "ecdsa-p384"}},
        ],
        ids=["names", "profile", "duration", "key"],
    )
    async def test_what_is_in_the_certificate_is_issued_anew(
        self, world: CertificateWorld, change: dict[str, Any]
    ) -> None:
        world.add(change)
        await world.settle()
        assert world.status()["revision"] == 2
        assert world.condition("Ready")[0] == "True"
        assert await world.settle() == []

    @pytest.mark.parametrize(
        "change",
        [{"spec/renewBefore": "100h"}, {"spec/revisionHistoryLimit": 2}, {"spec/deletionPolicy": "Retain"}],
        ids=["renewBefore", "history", "deletion policy"],
    )
    async def test_what_is_not_in_it_is_not(self, world: CertificateWorld, change: dict[str, Any]) -> None:
        world.add(change)
        await world.settle()
        assert world.status()["revision"] == 1
        assert world.status()["observedGeneration"] == 2

    async def test_another_secret_name_gets_a_certificate_of_its_own(self, world: CertificateWorld) -> None:
        world.add({"spec/secretName": "new-tls"})
        await world.settle()
        assert world.secrets() == ["new-tls", "web-tls"]
        assert world.condition("Ready")[0] == "True"

    async def test_the_history_is_as_long_as_it_is_asked_for(self, world: CertificateWorld) -> None:
        for number in range(4):
            world.add({"metadata/annotations": {"spork-ca.org/renew": str(number)}, "spec/revisionHistoryLimit": 2})
            await world.settle()
        assert [one["revision"] for one in world.status()["revisions"]] == [3, 4]
        assert world.status()["revision"] == 5


class TestRenewal:
    async def test_it_is_renewed_when_it_is_due_and_once(self, world: CertificateWorld) -> None:
        due = time_of(world.status()["renewalTime"])
        world.clock.current = due - timedelta(seconds=1)
        assert await world.run() == 1
        assert await world.issued() == 1
        world.clock.current = due
        old = world.secret()["tls.key"]
        await world.settle()
        assert await world.issued() == 2
        assert world.secret()["tls.key"] != old
        assert await world.settle() == []
        assert world.status()["revision"] == 2

    async def test_with_rotation_policy_never_the_key_stays(self, world: CertificateWorld) -> None:
        world.add({"spec/privateKey": {"rotationPolicy": "Never"}})
        old = world.secret()["tls.key"]
        world.clock.current += timedelta(days=70)
        requests = await world.settle()
        assert world.secret()["tls.key"] == old
        assert [request.split(" ")[0] for request in requests] == ["replace", "set_status", "report"]
        assert key_and_certificate_fit(world.secret())
        assert await world.issued() == 2

    async def test_each_value_of_the_annotation_renews_once(self, world: CertificateWorld) -> None:
        for value in ("a", "a", "b", "b"):
            world.add({"metadata/annotations": {"spork-ca.org/renew": value}})
            await world.settle()
            world = world.restarted()
            await world.settle()
        assert await world.issued() == 3

    async def test_an_annotation_from_the_beginning_renews_nothing(self, world: CertificateWorld) -> None:
        world.add({"metadata/annotations": {"spork-ca.org/renew": "x"}, "spec/secretName": "two"}, name="two")
        await world.settle()
        assert world.status(Ref("Certificate", "default", "two"))["revision"] == 1

    async def test_a_clock_that_went_back_issues_nothing_and_is_said(self, world: CertificateWorld) -> None:
        world.clock.current -= timedelta(days=30)
        await world.settle()
        assert await world.issued() == 1
        assert world.condition("Ready")[:2] == ("False", "NotYetValid")
        world.clock.current += timedelta(days=30)
        await world.settle()
        assert world.condition("Ready")[:2] == ("True", "Issued")
        assert await world.issued() == 1

    async def test_a_clock_that_jumps_and_returns_renews_once(self, world: CertificateWorld) -> None:
        world.clock.current += timedelta(days=80)
        await world.settle()
        assert await world.issued() == 2
        world.clock.current -= timedelta(days=80)
        await world.settle()
        assert await world.issued() == 2
        assert world.condition("Ready")[1] == "NotYetValid"

    async def test_an_expired_one_is_not_ready_even_if_nothing_can_be_issued(self, world: CertificateWorld) -> None:
        issuer = world.cluster.get(Ref("ClusterIssuer", "", "web"))
        assert issuer is not None
        await world.cluster.delete(Ref("ClusterIssuer", "", "web"))
        await world.settle()
        assert world.condition("Ready")[:2] == ("True", "Issued")
        world.clock.current += timedelta(days=85)
        await world.run()
        assert world.condition("Ready")[:2] == ("True", "Issued")
        assert world.condition("Issuing")[:2] == ("False", "IssuerMissing")
        world.clock.current += timedelta(days=10)
        await world.run()
        assert world.condition("Ready")[:2] == ("False", "Expired")


class TestRevocation:
    async def test_a_revoked_certificate_is_replaced_at_once_with_a_new_key(self, world: CertificateWorld) -> None:
        world.add({"spec/privateKey": {"rotationPolicy": "Never"}})
        await world.settle()
        before = world.secret()
        await world.revoke(world.leaf().serial_number)
        await world.settle()
        after = world.secret()
        assert after["tls.key"] != before["tls.key"]
        assert world.status()["revision"] == 2
        assert world.condition("Ready")[0] == "True"
        assert await world.settle() == []

    async def test_it_is_found_after_a_restart_too(self, world: CertificateWorld) -> None:
        await world.revoke(world.leaf().serial_number)
        again = world.restarted()
        await again.settle()
        assert await again.issued() == 2

    async def test_the_feed_wakes_the_one_whose_certificate_it_is(self, world: CertificateWorld) -> None:
        world.add({"spec/secretName": "two"}, name="two")
        await world.settle()
        woken: list[Ref] = []
        world.reconciler._statuses._wake = woken.append
        statuses = world.reconciler._statuses
        statuses.statuses_changed(AuthorityId(CA), 2, [serial_octets(world.leaf().serial_number), b"\x01\x02"])
        assert woken == [REF]

    async def test_one_on_hold_is_not_ready_and_is_not_replaced_until_the_hold_ends(
        self, world: CertificateWorld
    ) -> None:
        await world.revoke(world.leaf().serial_number, 6)
        world.add({"metadata/annotations": {"spork-ca.org/renew": "1"}})
        await world.settle()
        assert world.condition("Ready")[:2] == ("False", "OnHold")
        assert await world.issued() == 1
        await world.revoke(world.leaf().serial_number, 8)
        await world.settle()
        assert world.condition("Ready")[0] == "True"
        assert await world.issued() == 2


class TestTheCaChanges:
    async def test_another_issuer_means_a_new_certificate(self, world: CertificateWorld) -> None:
        await an_issuer(world.cluster, "lab")
        world.add({"spec/issuerRef": {"kind": "ClusterIssuer", "name": "lab"}, "spec/dnsNames": ["x.lab"]})
        await world.settle()
        assert world.status()["revision"] == 2
        assert world.condition("Ready")[0] == "True"

    async def test_a_certificate_of_another_ca_in_the_secret_is_not_believed(self, world: CertificateWorld) -> None:
        world.edit(SECRET, tls__crt=world.secret()["ca.crt"])
        await world.settle()
        assert key_and_certificate_fit(world.secret())
        assert world.condition("Ready")[0] == "True"
