"""The store refuses, defaults, counts and tells as an API server does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from folder_world import NOW, a_secret, ref_to
from operator_world import a_resource

from spork.clock import FixedClock
from spork.controller.cluster import AlreadyExists, Change, ClusterError, Conflict, Ref, Refused, owner_reference
from spork.controller.objects import ObjectStore

HELD = "spork-ca.org/live-certificates"


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore(FixedClock(NOW))


async def test_a_new_object_has_what_every_object_has(store: ObjectStore) -> None:
    made = await store.create(a_resource("Certificate"))
    assert {"name", "uid", "resourceVersion", "creationTimestamp"} <= made["metadata"].keys()
    assert made["metadata"]["generation"] == 1
    assert store.get(ref_to("Certificate")) == made


async def test_defaults_are_filled_in_where_the_object_around_them_is_there(store: ObjectStore) -> None:
    made = await store.create(a_resource("Certificate"))
    assert made["spec"]["privateKey"] == {"algorithm": "ecdsa-p256", "rotationPolicy": "Always"}
    assert made["spec"]["issuerRef"]["group"] == "spork-ca.org"
    assert "keystores" not in made["spec"]


async def test_a_status_and_a_uid_of_a_new_object_are_not_taken_over(store: ObjectStore) -> None:
    item = a_resource("Certificate", {"status": {"revision": 5}, "metadata/uid": "mine"})
    made = await store.create(item)
    assert "status" not in made and made["metadata"]["uid"] != "mine"


async def test_an_object_that_is_there_is_not_created_again(store: ObjectStore) -> None:
    await store.create(a_resource("Certificate"))
    with pytest.raises(AlreadyExists, match="Certificate default/one exists already"):
        await store.create(a_resource("Certificate"))


@pytest.mark.parametrize(
    ("item", "word"),
    [
        (a_resource("Certificate", {"spec/secretNam": "x"}), "secretNam"),
        (a_resource("Certificate", name="../../etc/passwd"), "a name has"),
        (a_resource("Certificate", name=".."), "a name has"),
        (a_resource("Certificate", name="a..b"), "a name has"),
        (a_resource("Certificate", name="x" * 254), "a name has"),
        (a_resource("Certificate", {"metadata/namespace": "../x"}), "a namespace has"),
        (a_resource("Certificate", {"metadata/namespace": ""}), "a namespace has"),
        (a_resource("ClusterIssuer", {"metadata/namespace": "default"}), "has no namespace"),
        (a_secret(**{"../key": "YQ=="}), "the key '../key'"),
        (a_secret(**{"..data": "YQ=="}), "the key '..data'"),
        (a_secret(**{".": "YQ=="}), "the key '.'"),
        (a_secret(**{"tls.key": "no base64!"}), "tls.key is not base64"),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}},
            "no objects of this kind",
        ),
    ],
)
async def test_what_an_api_server_refuses_is_refused(store: ObjectStore, item: dict[str, Any], word: str) -> None:
    with pytest.raises(Refused, match=word.replace("(", r"\(")):
        await store.create(item)
    assert not list(store.all(item["kind"]))


async def test_a_spec_that_must_not_change_stays_as_it_was(store: ObjectStore) -> None:
    made = await store.create(a_resource("Hierarchy"))
    changed = a_resource("Hierarchy", {"spec/root/id": "other", "spec/crossCertificates": []})
    with pytest.raises(Refused):
        await store.apply(changed)
    assert store.get(ref_to("Hierarchy")) == made


async def test_the_generation_counts_changes_of_the_spec_alone(store: ObjectStore) -> None:
    made = await store.create(a_resource("Certificate"))
    annotated = await store.annotate(made, {"a": "b"})
    told = await store.set_status(annotated, {"conditions": []})
    changed = await store.apply(a_resource("Certificate", {"spec/secretName": "other"}))
    same = await store.apply(a_resource("Certificate", {"spec/secretName": "other"}))
    assert [one["metadata"]["generation"] for one in (made, annotated, told, changed, same)] == [1, 1, 1, 2, 2]
    assert same["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]


async def test_replacing_needs_the_version_that_is_there(store: ObjectStore) -> None:
    first = await store.create(a_secret())
    second = await store.replace({**first, "data": {"tls.key": "bmV3"}})
    assert second["data"] == {"tls.key": "bmV3"} and second["metadata"]["uid"] == first["metadata"]["uid"]
    for stale in (first, a_secret()):
        with pytest.raises(Conflict):
            await store.replace(stale)


async def test_replacing_takes_away_what_is_left_out(store: ObjectStore) -> None:
    first = await store.annotate(await store.create(a_secret()), {"a": "b"})
    bare = {**first, "metadata": {k: v for k, v in first["metadata"].items() if k != "annotations"}}
    assert "annotations" not in (await store.replace(bare))["metadata"]


async def test_the_type_of_a_secret_cannot_be_changed(store: ObjectStore) -> None:
    first = await store.create(a_secret())
    with pytest.raises(Refused, match="type of a Secret"):
        await store.replace({**first, "type": "kubernetes.io/tls"})


async def test_applying_again_takes_away_only_what_was_applied_before(store: ObjectStore) -> None:
    await store.apply(
        {**a_secret(a="YQ==", b="Yg=="), "metadata": {**a_secret()["metadata"], "annotations": {"mine": "1"}}}
    )
    found = await store.read(ref_to("Secret", "web-tls"))
    assert found is not None
    await store.annotate(found, {"theirs": "2"})
    last = await store.apply(a_secret(b="Yg=="))
    assert last["data"] == {"b": "Yg=="} and last["metadata"]["annotations"] == {"theirs": "2"}


async def test_owners_that_are_no_longer_applied_go(store: ObjectStore) -> None:
    owner = await store.create(a_resource("Certificate"))
    item = a_secret()
    item["metadata"]["ownerReferences"] = [owner_reference(owner)]
    assert (await store.apply(item))["metadata"]["ownerReferences"] == [owner_reference(owner)]
    assert "ownerReferences" not in (await store.apply(a_secret()))["metadata"]


async def test_labels_called_like_a_key_of_the_object_can_be_taken_away(store: ObjectStore) -> None:
    item = a_secret()
    item["metadata"]["labels"] |= {"name": "x", "kind": "y"}
    await store.apply(item)
    assert (await store.apply(a_secret()))["metadata"]["labels"] == {"spork-ca.org/managed": "true"}


async def test_applying_with_a_uid_that_is_gone_is_a_conflict(store: ObjectStore) -> None:
    item = a_secret()
    item["metadata"]["uid"] = "gone"
    with pytest.raises(Conflict):
        await store.apply(item)
    assert store.get(ref_to("Secret", "web-tls")) is None


async def test_what_is_not_labelled_as_managed_is_not_in_the_copy(store: ObjectStore) -> None:
    seen: list[Change] = []
    store.subscribe(seen.append)
    ref = ref_to("Secret", "web-tls")
    made = await store.create(a_secret(managed=False))
    assert store.get(ref) is None and not store.all("Secret") and not seen
    assert await store.read(ref) == made
    managed = await store.apply(a_secret())
    assert store.get(ref) == managed and seen == [Change(ref, managed, None)]


async def test_a_finalizer_holds_an_object_until_it_is_taken_away(store: ObjectStore) -> None:
    made = await store.create(a_resource("Issuer"))
    held = await store.set_finalizer(made, HELD, present=True)
    assert await store.set_finalizer(held, HELD, present=True) is held
    await store.delete(ref_to("Issuer"))
    marked = store.get(ref_to("Issuer"))
    assert marked is not None and marked["metadata"]["deletionTimestamp"] == "2026-11-24T12:00:00Z"
    with pytest.raises(Refused, match="no finalizer can be added"):
        await store.set_finalizer(marked, "another/one", present=True)
    await store.set_finalizer(marked, HELD, present=False)
    assert store.get(ref_to("Issuer")) is None


async def test_a_finalizer_on_an_older_state_is_a_conflict(store: ObjectStore) -> None:
    made = await store.create(a_resource("Issuer"))
    await store.annotate(made, {"a": "b"})
    with pytest.raises(Conflict):
        await store.set_finalizer(made, HELD, present=True)


async def test_a_deletion_of_another_one_of_that_name_is_a_conflict(store: ObjectStore) -> None:
    made = await store.create(a_secret())
    ref = ref_to("Secret", "web-tls")
    for wrong in ({"uid": "other"}, {"resource_version": "999"}):
        with pytest.raises(Conflict):
            await store.delete(ref, **wrong)
    await store.delete(ref, uid=made["metadata"]["uid"], resource_version=made["metadata"]["resourceVersion"])
    await store.delete(ref)
    assert store.get(ref) is None


async def test_what_belonged_to_an_object_goes_with_its_last_owner(store: ObjectStore) -> None:
    owners = [await store.create(a_resource("Certificate", name=name)) for name in ("a", "b")]
    item = a_secret()
    item["metadata"]["ownerReferences"] = [owner_reference(one, controller=False) for one in owners]
    await store.create(item)
    await store.delete(ref_to("Certificate", "a"))
    assert store.get(ref_to("Secret", "web-tls")) is not None
    await store.delete(ref_to("Certificate", "b"))
    assert store.get(ref_to("Secret", "web-tls")) is None


async def test_a_status_of_an_object_that_was_made_anew_is_a_conflict(store: ObjectStore) -> None:
    old = await store.create(a_resource("Certificate"))
    await store.delete(ref_to("Certificate"))
    await store.create(a_resource("Certificate"))
    with pytest.raises(Conflict):
        await store.set_status(old, {})
    with pytest.raises(Conflict):
        await store.annotate(old, {"a": "b"})


async def test_a_status_that_its_schema_does_not_take_is_refused(store: ObjectStore) -> None:
    made = await store.create(a_resource("Certificate"))
    with pytest.raises(Refused, match="serials"):
        await store.set_status(made, {"serials": "01"})


async def test_a_write_that_nobody_waits_for_any_more_is_finished(store: ObjectStore) -> None:
    started, going = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any) -> None:
        started.set()
        await going.wait()

    store._kept = slow  # type: ignore[method-assign]
    task = asyncio.create_task(store.create(a_secret()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.get(ref_to("Secret", "web-tls")) is None
    going.set()
    await store.delete(Ref("Secret", "default", "another"))  # It waits for its turn.
    assert store.get(ref_to("Secret", "web-tls")) is not None


async def test_a_write_that_cannot_be_kept_shows_nowhere(store: ObjectStore) -> None:
    seen: list[Change] = []
    store.subscribe(seen.append)

    async def full(*_: Any) -> None:
        raise ClusterError.__new__(Refused)

    store._kept = full  # type: ignore[method-assign]
    with pytest.raises(Refused):
        await store.apply(a_secret())
    assert not seen and await store.read(ref_to("Secret", "web-tls")) is None
