"""Keystores in the Secret of a Certificate: where the password comes from, and when the stores are made again."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from certificate_world import SECRET, CertificateWorld, a_certificate_world
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from spork.controller.certificate import marks
from spork.controller.cluster import Ref
from spork.store.database import Database

pytestmark = pytest.mark.store

PASSWORD = Ref("Secret", "default", "store-password")


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> CertificateWorld:
    return await a_certificate_world(database, tmp_path)


def a_password(
    world: CertificateWorld, value: bytes = b"first", *, key: str = "password", watched: bool = False
) -> None:
    labels = {"labels": {"spork-ca.org/managed": "true"}} if watched else {}
    world.cluster.add(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": PASSWORD.name, "namespace": "default", **labels},
            "type": "Opaque",
            "data": {key: base64.b64encode(value).decode()},
        }
    )


def asked(**changes: Any) -> dict[str, Any]:
    stores = {"create": True, "trustStore": True, "passwordSecretRef": {"name": PASSWORD.name}, **changes}
    return {"spec/keystores": {"pkcs12": stores}}


async def test_both_stores_are_written_with_everything_else(world: CertificateWorld) -> None:
    a_password(world)
    world.add(asked())
    requests = await world.settle()
    data = world.secret()
    assert set(data) == {"tls.key", "tls.crt", "ca.crt", "keystore.p12", "truststore.p12"}
    store = load_pkcs12(data["keystore.p12"], b"first")
    assert store.cert is not None
    assert store.cert.certificate == world.leaf()
    assert len(load_pkcs12(data["truststore.p12"], b"first").additional_certs) == 1
    assert len(requests) == 7
    assert await world.settle() == []


async def test_a_password_that_is_not_there_yet_is_waited_for_and_nothing_is_issued(world: CertificateWorld) -> None:
    world.add(asked())
    await world.settle()
    status, reason, message = world.condition("Ready")
    assert (status, reason) == ("False", "PasswordMissing")
    assert "'store-password'" in message
    assert await world.issued() == 0
    a_password(world, key="other")
    await world.run()
    assert "no value under the key 'password'" in world.condition("Ready")[2]
    a_password(world)
    await world.settle()
    assert world.condition("Ready")[0] == "True"
    assert await world.issued() == 1
    assert "first" not in str(world.status())


async def test_a_store_that_somebody_edits_is_made_again(world: CertificateWorld) -> None:
    a_password(world)
    world.add(asked())
    await world.settle()
    world.edit(SECRET, keystore__p12=b"rubbish")
    await world.settle()
    assert load_pkcs12(world.secret()["keystore.p12"], b"first").key is not None
    assert await world.issued() == 1


async def test_stores_that_are_no_longer_asked_for_go(world: CertificateWorld) -> None:
    a_password(world)
    world.add(asked())
    await world.settle()
    world.add({"spec/secretName": "web-tls"})
    await world.settle()
    assert set(world.secret()) == {"tls.key", "tls.crt", "ca.crt"}
    assert await world.issued() == 1


async def test_another_encryption_makes_the_stores_again_without_issuing(world: CertificateWorld) -> None:
    a_password(world)
    world.add(asked())
    await world.settle()
    before = world.secret()
    world.add(asked(profile="LegacyDES"))
    await world.settle()
    after = world.secret()
    assert before["keystore.p12"] != after["keystore.p12"]
    assert before["tls.crt"] == after["tls.crt"]


async def test_a_new_password_is_noticed_at_once_where_its_secret_is_watched(world: CertificateWorld) -> None:
    a_password(world, watched=True)
    world.add(asked())
    await world.settle()
    a_password(world, b"second", watched=True)
    await world.settle()
    assert load_pkcs12(world.secret()["keystore.p12"], b"second").key is not None
    assert await world.issued() == 1
    assert await world.settle() == []


async def test_a_new_password_is_taken_at_the_next_renewal_where_it_is_not(world: CertificateWorld) -> None:
    a_password(world)
    world.add(asked())
    await world.settle()
    a_password(world, b"second")
    assert await world.settle() == []
    world.add({**asked(), "metadata/annotations": {"spork-ca.org/renew": "1"}})
    await world.settle()
    assert load_pkcs12(world.secret()["keystore.p12"], b"second").key is not None


async def test_a_key_that_no_store_can_hold_is_said_before_anything_is_issued(world: CertificateWorld) -> None:
    a_password(world)
    world.add({**asked(), "spec/privateKey": {"algorithm": "ml-dsa-44"}})
    await world.settle()
    status, reason, message = world.condition("Ready")
    assert (status, reason) == ("False", "KeystoreImpossible")
    assert "ml-dsa-44" in message
    assert await world.issued() == 0


async def test_a_trust_store_alone_is_possible_for_every_key(world: CertificateWorld) -> None:
    a_password(world)
    world.add({**asked(create=False), "spec/privateKey": {"algorithm": "ml-dsa-44"}})
    await world.settle()
    assert "truststore.p12" in world.secret()
    assert "keystore.p12" not in world.secret()
    assert world.condition("Ready")[0] == "True"


async def test_the_password_is_in_no_annotation(world: CertificateWorld) -> None:
    a_password(world, b"very-secret-password")
    world.add(asked())
    await world.settle()
    secret = world.cluster.get(SECRET)
    assert secret is not None
    assert "very-secret-password" not in str(secret["metadata"])
    assert secret["metadata"]["annotations"][marks.PASSWORD_VERSION]
