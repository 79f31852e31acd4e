"""Every sentence of the port `spork.controller.cluster.Cluster`, in each world."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from contract_world import ContractWorld

from spork.controller.cluster import (
    KINDS,
    AlreadyExists,
    Conflict,
    Object,
    Ref,
    owner_reference,
    ref_of,
)

FINALIZER = "spork-ca.org/test"
OTHER_UID = "11111111-2222-3333-4444-555555555555"


def conditions(status: str, reason: str = "Tested") -> list[dict[str, Any]]:
    return [
        {
            "type": "Ready",
            "status": status,
            "reason": reason,
            "message": "It was tested.",
            "lastTransitionTime": "2026-11-24T12:00:00Z",
        }
    ]


def as_read(item: Object, **metadata: Any) -> dict[str, Any]:
    """A copy that may be changed, with other metadata."""
    changed = copy.deepcopy(dict(item))
    changed["metadata"].update(metadata)
    return changed


async def recreated(world: ContractWorld, old: Object) -> Object:
    """The user deletes the object and makes it again under the same name."""
    ref = ref_of(old)
    await world.remove(ref)
    await world.apply(world.certificate(ref.name))
    uid = old["metadata"]["uid"]
    return await world.until(
        lambda: (now := world.cluster.get(ref)) is not None and now["metadata"]["uid"] != uid and now,
        "it is known anew",
    )


# What is given out


async def test_metadata_is_complete_and_without_managed_fields(world: ContractWorld) -> None:
    metadata = (await world.declared())["metadata"]
    assert metadata["name"] == "one"
    assert metadata["namespace"] == world.namespace
    assert metadata["uid"]
    assert int(metadata["resourceVersion"]) > 0
    assert metadata["creationTimestamp"].endswith("Z")
    assert metadata["generation"] == 1
    assert "managedFields" not in metadata


async def test_what_is_given_out_names_its_kind_and_version(world: ContractWorld) -> None:
    await world.declared()
    for item in [*world.cluster.all("Certificate"), await world.cluster.read(world.ref("Certificate"))]:
        assert item is not None
        assert (item["apiVersion"], item["kind"]) == (KINDS["Certificate"].api_version, "Certificate")


async def test_a_write_answers_as_complete_as_a_read(world: ContractWorld) -> None:
    made = await world.cluster.create(world.secret())
    assert "managedFields" not in made["metadata"]
    assert (made["apiVersion"], made["kind"]) == ("v1", "Secret")
    assert await world.cluster.read(ref_of(made)) == made


async def test_the_generation_counts_changes_of_the_spec_alone(world: ContractWorld) -> None:
    item = await world.declared()
    item = await world.cluster.set_status(item, {"revision": 1})
    item = await world.cluster.annotate(item, {"example.com/a": "1"})
    assert item["metadata"]["generation"] == 1
    changed = await world.declared(changes={"spec/secretName": "another"})
    assert changed["metadata"]["generation"] == 2


# Reading


async def test_get_knows_nothing_of_what_is_not_there(world: ContractWorld) -> None:
    assert world.cluster.get(world.ref("Certificate", "none")) is None
    assert await world.cluster.read(world.ref("Certificate", "none")) is None


async def test_all_gives_one_namespace_or_every(world: ContractWorld) -> None:
    await world.declared("a")
    await world.declared("b")
    assert [one["metadata"]["name"] for one in world.cluster.all("Certificate", world.namespace)] == ["a", "b"]
    assert len(world.cluster.all("Certificate")) == 2
    assert world.cluster.all("Certificate", "elsewhere") == []


async def test_get_and_all_cost_no_request(world: ContractWorld) -> None:
    await world.declared()
    before = world.requests()
    assert world.cluster.get(world.ref("Certificate")) is not None
    assert len(world.cluster.all("Certificate")) == 1
    assert world.requests() == before


async def test_read_is_one_request_and_sees_what_is_at_this_moment(world: ContractWorld) -> None:
    await world.apply(world.certificate())
    before = world.requests()
    found = await world.cluster.read(world.ref("Certificate"))
    assert found is not None
    assert found["spec"]["secretName"] == "web-tls"
    assert world.requests() == before + 1


async def test_kinds_that_are_not_optional_are_there(world: ContractWorld) -> None:
    assert all(world.cluster.has(kind.name) for kind in KINDS.values() if not kind.optional and kind.watched)
    assert not world.cluster.has("Nonsense")


# create


async def test_create_makes_an_object_that_the_copy_holds_at_once(world: ContractWorld) -> None:
    before = world.requests()
    made = await world.cluster.create(world.secret())
    assert world.cluster.get(ref_of(made)) == made
    assert made["data"] == {"value": "b25l"}
    assert world.requests() == before + 1


async def test_create_refuses_a_name_that_is_taken(world: ContractWorld) -> None:
    made = await world.cluster.create(world.secret())
    with pytest.raises(AlreadyExists, match="exists already"):
        await world.cluster.create(world.secret(data="dHdv"))
    assert world.cluster.get(ref_of(made)) == made


# replace


async def test_replace_takes_the_place_of_that_version(world: ContractWorld) -> None:
    made = await world.cluster.create(world.secret())
    wanted = {**as_read(made), "data": {"other": "dHdv"}}
    before = world.requests()
    after = await world.cluster.replace(wanted)
    assert after["data"] == {"other": "dHdv"}
    assert after["metadata"]["uid"] == made["metadata"]["uid"]
    assert world.cluster.get(ref_of(made)) == after
    assert world.requests() == before + 1


async def test_replace_refuses_a_version_that_is_past(world: ContractWorld) -> None:
    made = await world.cluster.create(world.secret())
    newer = await world.cluster.replace({**as_read(made), "data": {"value": "dHdv"}})
    with pytest.raises(Conflict, match="changed in the meantime"):
        await world.cluster.replace({**as_read(made), "data": {"value": "dGhyZWU="}})
    assert world.cluster.get(ref_of(made)) == newer


async def test_replace_refuses_where_no_version_is_given(world: ContractWorld) -> None:
    made = as_read(await world.cluster.create(world.secret()))
    del made["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await world.cluster.replace(made)


async def test_replace_refuses_what_is_gone(world: ContractWorld) -> None:
    made = await world.cluster.create(world.secret())
    await world.cluster.delete(ref_of(made))
    with pytest.raises(Conflict):
        await world.cluster.replace(made)
    assert world.cluster.get(ref_of(made)) is None


async def test_replace_leaves_the_status_alone(world: ContractWorld) -> None:
    item = await world.cluster.set_status(await world.declared(), {"revision": 7})
    changed = as_read(item, labels={"a": "b"})
    changed["status"] = {"revision": 8}
    after = await world.cluster.replace(changed)
    assert after["status"]["revision"] == 7
    assert after["metadata"]["labels"] == {"a": "b"}


# apply


async def test_apply_makes_what_is_not_there(world: ContractWorld) -> None:
    before = world.requests()
    made = await world.cluster.apply(world.secret())
    assert world.cluster.get(ref_of(made)) == made
    assert world.requests() == before + 1


async def test_apply_changes_its_own_fields_and_leaves_those_of_others(world: ContractWorld) -> None:
    await world.apply(world.secret("one", labels={"spork-ca.org/managed": "true", "users": "own"}))
    item = world.secret()
    item["data"] = {"ours": "b25l"}
    made = await world.cluster.apply(item)
    assert made["data"] == {"value": "b25l", "ours": "b25l"}
    assert made["metadata"]["labels"]["users"] == "own"


async def test_apply_takes_away_what_it_no_longer_names(world: ContractWorld) -> None:
    first = world.secret()
    first["data"] = {"a": "b25l", "b": "b25l"}
    await world.cluster.apply(first)
    second = world.secret()
    second["data"] = {"a": "b25l"}
    after = await world.cluster.apply(second)
    assert after["data"] == {"a": "b25l"}


async def test_apply_wins_over_others_by_force(world: ContractWorld) -> None:
    await world.apply(world.secret(data="dHdv"))
    assert (await world.cluster.apply(world.secret(data="b25l")))["data"] == {"value": "b25l"}


async def test_apply_of_the_same_makes_no_new_version(world: ContractWorld) -> None:
    made = await world.cluster.apply(world.secret())
    assert await world.cluster.apply(world.secret()) == made


async def test_what_was_given_out_may_be_applied_again(world: ContractWorld) -> None:
    made = await world.cluster.apply(world.secret())
    assert (await world.cluster.apply({**as_read(made), "data": {"value": "dHdv"}}))["data"] == {"value": "dHdv"}


# delete


async def test_delete_takes_the_object_out_of_the_copy_at_once(world: ContractWorld) -> None:
    made = await world.cluster.create(world.secret())
    before = world.requests()
    await world.cluster.delete(ref_of(made), uid=made["metadata"]["uid"])
    assert world.cluster.get(ref_of(made)) is None
    assert await world.cluster.read(ref_of(made)) is None
    assert world.requests() == before + 2
    last = world.told_of(ref_of(made))[-1]
    assert (last.new, last.old) == (None, made)


@pytest.mark.parametrize(
    "precondition", [pytest.param({"uid": OTHER_UID}, id="uid"), pytest.param({"resource_version": "1"}, id="version")]
)
async def test_delete_refuses_another_one(world: ContractWorld, precondition: dict[str, str]) -> None:
    await world.cluster.create(world.secret("before"))
    made = await world.cluster.create(world.secret())
    with pytest.raises(Conflict):
        await world.cluster.delete(ref_of(made), **precondition)
    assert world.cluster.get(ref_of(made)) == made


async def test_delete_of_what_is_gone_is_no_error(world: ContractWorld) -> None:
    await world.cluster.delete(world.ref("Secret", "none"), uid=OTHER_UID)


async def test_delete_waits_for_finalizers(world: ContractWorld) -> None:
    item = await world.cluster.set_finalizer(await world.declared(), FINALIZER, present=True)
    await world.cluster.delete(ref_of(item))
    held = world.cluster.get(ref_of(item))
    assert held is not None
    assert held["metadata"]["deletionTimestamp"]
    await world.cluster.set_finalizer(held, FINALIZER, present=False)
    assert world.cluster.get(ref_of(item)) is None
    assert await world.cluster.read(ref_of(item)) is None


# set_status


async def test_set_status_makes_it_the_whole_status(world: ContractWorld) -> None:
    item = await world.declared()
    before = world.requests()
    item = await world.cluster.set_status(item, {"revision": 1, "serial": "0a", "conditions": conditions("False")})
    assert world.requests() == before + 1
    item = await world.cluster.set_status(item, {"revision": 2, "conditions": conditions("True")})
    assert item["status"] == {"revision": 2, "conditions": conditions("True")}
    assert world.cluster.get(ref_of(item)) == item


async def test_set_status_touches_nothing_but_the_status(world: ContractWorld) -> None:
    item = await world.declared()
    after = await world.cluster.set_status({**as_read(item), "spec": {"secretName": "another"}}, {"revision": 1})
    assert after["spec"] == item["spec"]


async def test_set_status_of_an_older_state_of_the_same_object_is_accepted(world: ContractWorld) -> None:
    old = await world.declared()
    await world.declared(changes={"spec/secretName": "another"})
    after = await world.cluster.set_status(old, {"revision": 1})
    assert (after["status"], after["spec"]["secretName"]) == ({"revision": 1}, "another")


async def test_set_status_refuses_when_the_object_is_gone(world: ContractWorld) -> None:
    item = await world.declared()
    await world.remove(ref_of(item))
    with pytest.raises(Conflict):
        await world.cluster.set_status(item, {"revision": 1})


async def test_set_status_refuses_another_object_of_that_name(world: ContractWorld) -> None:
    old = await world.declared()
    new = await recreated(world, old)
    with pytest.raises(Conflict):
        await world.cluster.set_status(old, {"revision": 1})
    found = await world.cluster.read(ref_of(new))
    assert found is not None
    assert "status" not in found


async def test_set_status_refuses_another_object_that_the_copy_does_not_know_yet(world: ContractWorld) -> None:
    old = await world.declared()
    await world.remove(ref_of(old))
    await world.apply(world.certificate())
    with pytest.raises(Conflict):
        await world.cluster.set_status(old, {"revision": 1})
    found = await world.cluster.read(ref_of(old))
    assert found is not None
    assert "status" not in found


# set_finalizer


async def test_a_finalizer_is_added_once(world: ContractWorld) -> None:
    item = await world.cluster.set_finalizer(await world.declared(), FINALIZER, present=True)
    before = world.requests()
    assert await world.cluster.set_finalizer(item, FINALIZER, present=True) == item
    assert world.requests() == before
    assert item["metadata"]["finalizers"] == [FINALIZER]


async def test_taking_away_a_finalizer_leaves_the_others(world: ContractWorld) -> None:
    item = await world.cluster.set_finalizer(await world.declared(), "example.com/other", present=True)
    item = await world.cluster.set_finalizer(item, FINALIZER, present=True)
    before = world.requests()
    item = await world.cluster.set_finalizer(item, FINALIZER, present=False)
    assert item["metadata"]["finalizers"] == ["example.com/other"]
    assert world.requests() == before + 1
    assert await world.cluster.set_finalizer(item, FINALIZER, present=False) == item
    assert world.requests() == before + 1


@pytest.mark.parametrize("present", [True, False], ids=["adding", "taking away"])
async def test_a_finalizer_is_refused_when_the_object_changed(world: ContractWorld, present: bool) -> None:
    item = await world.declared()
    if not present:
        item = await world.cluster.set_finalizer(item, FINALIZER, present=True)
    await world.cluster.annotate(item, {"example.com/a": "1"})
    with pytest.raises(Conflict):
        await world.cluster.set_finalizer(item, FINALIZER, present=present)


async def test_a_finalizer_is_refused_when_the_object_is_gone(world: ContractWorld) -> None:
    item = await world.declared()
    await world.remove(ref_of(item))
    with pytest.raises(Conflict):
        await world.cluster.set_finalizer(item, FINALIZER, present=True)


# annotate


async def test_annotations_are_set_and_taken_away(world: ContractWorld) -> None:
    item = await world.cluster.annotate(await world.declared(), {"example.com/a": "1", "example.com/b": "2"})
    before = world.requests()
    item = await world.cluster.annotate(item, {"example.com/a": None, "example.com/b": "3"})
    assert item["metadata"]["annotations"] == {"example.com/b": "3"}
    assert world.cluster.get(ref_of(item)) == item
    assert world.requests() == before + 1


async def test_annotating_an_older_state_of_the_same_object_is_accepted(world: ContractWorld) -> None:
    old = await world.declared()
    await world.cluster.annotate(old, {"example.com/a": "1"})
    item = await world.cluster.annotate(old, {"example.com/b": "2"})
    assert item["metadata"]["annotations"] == {"example.com/a": "1", "example.com/b": "2"}


async def test_annotating_refuses_when_the_object_is_gone(world: ContractWorld) -> None:
    item = await world.declared()
    await world.remove(ref_of(item))
    with pytest.raises(Conflict):
        await world.cluster.annotate(item, {"example.com/a": "1"})


async def test_annotating_refuses_another_object_of_that_name(world: ContractWorld) -> None:
    old = await world.declared()
    new = await recreated(world, old)
    with pytest.raises(Conflict):
        await world.cluster.annotate(old, {"example.com/a": "1"})
    found = await world.cluster.read(ref_of(new))
    assert found is not None
    assert "example.com/a" not in (found["metadata"].get("annotations") or {})


# report


async def test_reporting_never_raises(world: ContractWorld) -> None:
    item = await world.declared()
    await world.remove(ref_of(item))
    await world.cluster.report(item, "Tested", "It was tested. " * 500, warning=True)


# subscribe


async def test_each_change_is_told_once_and_in_order(world: ContractWorld) -> None:
    item = await world.declared()
    item = await world.cluster.annotate(item, {"example.com/a": "1"})
    item = await world.cluster.set_status(item, {"revision": 1})
    await world.remove(ref_of(item))
    await world.until(lambda: world.cluster.get(ref_of(item)) is None, "it is gone")
    told = world.told_of(ref_of(item))
    versions = [int(one.new["metadata"]["resourceVersion"]) for one in told if one.new is not None]
    assert versions == sorted(set(versions))
    assert [one.new is None for one in told] == [False, False, False, True]
    assert told[0].old is None
    assert [one.old for one in told[1:]] == [one.new for one in told[:-1]]


async def test_an_own_write_is_told_before_the_call_returns(world: ContractWorld) -> None:
    made = await world.cluster.create(world.secret())
    assert [one.new for one in world.told_of(ref_of(made))] == [made]


async def test_a_listener_that_fails_keeps_nothing_from_the_others(world: ContractWorld) -> None:
    def fails(_: Any) -> None:
        raise RuntimeError("a listener's own fault")

    heard: list[Ref] = []
    world.cluster.subscribe(fails)
    world.cluster.subscribe(lambda change: heard.append(change.ref))
    made = await world.cluster.create(world.secret())
    assert ref_of(made) in heard
    assert world.cluster.get(ref_of(made)) == made


# Owners


async def test_what_belongs_to_an_object_goes_with_it(world: ContractWorld) -> None:
    owner = await world.declared()
    owned = await world.cluster.create(world.secret("owned", ownerReferences=[owner_reference(owner)]))
    kept = await world.cluster.create(world.secret("kept"))
    await world.remove(ref_of(owner))
    await world.until(lambda: world.cluster.get(ref_of(owned)) is None, "what it owned is gone")
    assert world.cluster.get(ref_of(kept)) == kept
