"""The folder adapter: files become objects, state survives, and nothing is half written."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from folder_world import Folder, a_secret, ref_to, there
from operator_world import a_resource

from spork.controller.cluster import Change, Ref, Unreachable, owner_reference
from spork.controller.folder import requests, state
from spork.controller.folder.cluster import FolderCluster
from spork.controller.folder.deletions import hash_of
from spork.errors import ConfigurationError

ONE = ref_to("Certificate")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "dir", tmp_path / "home")


def _summary(folder: Folder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder.home / "status" / "folder.json").read_text())
    return found


async def test_a_file_becomes_an_object_and_a_change_of_it_a_generation(folder: Folder) -> None:
    folder.write("a.yaml", a_resource("Certificate"))
    cluster = await folder.open()
    first = there(cluster, ONE)
    folder.write("a.yaml", a_resource("Certificate", {"spec/secretName": "other", "metadata/labels": {"a": "b"}}))
    await cluster.scan()
    second = there(cluster, ONE)
    assert second["metadata"] == {**first["metadata"], "generation": 2, "labels": {"a": "b"}, "resourceVersion": "3"}
    assert second["spec"]["secretName"] == "other"


async def test_a_file_that_stays_as_it_is_writes_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.certificates(3)
    cluster = await folder.open()
    monkeypatch.setattr(state, "write", lambda *_: pytest.fail("nothing has to be written"))
    await cluster.scan()
    await (await folder.open()).scan()


async def test_the_folder_is_never_written(folder: Folder) -> None:
    file = folder.write("a.yaml", a_resource("Certificate"))
    before = (file.read_bytes(), file.stat().st_mtime_ns, sorted(folder.path.rglob("*")))
    folder.path.chmod(0o555)
    cluster = await folder.open()
    await cluster.annotate(there(cluster, ONE), {"spork-ca.org/a": "b"})
    assert (file.read_bytes(), file.stat().st_mtime_ns, sorted(folder.path.rglob("*"))) == before


async def test_a_restart_finds_everything(folder: Folder) -> None:
    folder.write("a.yaml", a_resource("Certificate"), a_resource("Issuer", name="held"))
    folder.write("secret.yaml", a_secret("password", managed=False, password="aHVudGVy"))
    cluster = await folder.open()
    owner = await cluster.set_status(there(cluster, ONE), {"conditions": [], "revision": 3})
    await cluster.annotate(owner, {"spork-ca.org/x": "y"})
    secret = a_secret()
    secret["metadata"]["ownerReferences"] = [owner_reference(owner)]
    await cluster.apply(secret)
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": a_secret("trust")["metadata"]}
    await cluster.create({**config, "data": {"ca.pem": "PEM\n"}, "binaryData": {"trust.p12": "AAEC"}})
    issuer = there(cluster, ref_to("Issuer", "held"))
    await cluster.set_finalizer(issuer, "spork-ca.org/live-certificates", present=True)
    await cluster.delete(ref_to("Issuer", "held"))
    again = await folder.open()
    assert again._items == cluster._items and again._applied == cluster._applied
    assert "deletionTimestamp" in there(again, ref_to("Issuer", "held"))["metadata"]
    made = await again.create(a_secret("another"))
    assert int(made["metadata"]["resourceVersion"]) > max(
        int(o["metadata"]["resourceVersion"]) for o in cluster._items.values()
    )


async def test_annotations_of_reconcilers_stay_and_those_of_the_file_follow_it(folder: Folder) -> None:
    folder.write(
        "a.yaml", a_resource("Certificate", {"metadata/annotations": {"spork-ca.org/renew": "1", "team": "a"}})
    )
    cluster = await folder.open()
    await cluster.annotate(there(cluster, ONE), {"spork-ca.org/seen": "1"})
    folder.write("a.yaml", a_resource("Certificate", {"metadata/annotations": {"team": "b"}}))
    cluster = await folder.open()
    assert there(cluster, ONE)["metadata"]["annotations"] == {"spork-ca.org/seen": "1", "team": "b"}


async def test_an_annotation_of_the_file_that_was_taken_away_is_not_put_back_until_the_file_changes(
    folder: Folder,
) -> None:
    folder.write("a.yaml", a_resource("Certificate", {"metadata/annotations": {"spork-ca.org/approve": "1"}}))
    cluster = await folder.open()
    await cluster.annotate(there(cluster, ONE), {"spork-ca.org/approve": None})
    await cluster.scan()
    cluster = await folder.open()
    assert "annotations" not in there(cluster, ONE)["metadata"]


async def test_a_bad_file_keeps_the_last_good_state_also_over_a_restart(folder: Folder) -> None:
    folder.write("a.yaml", a_resource("Certificate"))
    folder.write("b.yaml", a_resource("Certificate", name="two"))
    before = there(await folder.open(), ONE)
    folder.write("a.yaml", text="spec: [")
    folder.write("b.yaml", a_resource("Certificate", {"spec/secretName": "new"}, name="two"))
    cluster = await folder.open()
    assert there(cluster, ONE) == before
    assert there(cluster, ref_to("Certificate", "two"))["spec"]["secretName"] == "new"
    assert cluster.faults[0].startswith("a.yaml:") and _summary(folder)["faults"] == list(cluster.faults)


async def test_a_change_that_must_not_be_is_refused_with_its_place(folder: Folder) -> None:
    folder.write("h.yaml", a_resource("Hierarchy"))
    before = there(await folder.open(), ref_to("Hierarchy"))
    folder.write("h.yaml", a_resource("Hierarchy", {"spec/root/id": "other", "spec/crossCertificates": []}))
    for _ in range(2):  # The fault is still known after a restart.
        cluster = await folder.open()
        (fault,) = cluster.faults
        assert fault.startswith("h.yaml:1: Hierarchy one: ") and fault.endswith(
            "What was there before goes on to hold."
        )
        assert there(cluster, ref_to("Hierarchy")) == before
    folder.write("h.yaml", a_resource("Hierarchy"))
    await cluster.scan()
    assert cluster.faults == () and (await folder.open()).faults == ()


async def test_a_double_declaration_leaves_what_was_there(folder: Folder) -> None:
    folder.write("a.yaml", a_resource("Certificate"))
    cluster = await folder.open()
    folder.write("b.yaml", a_resource("Certificate", {"spec/secretName": "other"}))
    for _ in range(3):
        await folder.wait(cluster, 60)
    assert there(cluster, ONE)["spec"]["secretName"] == "web-tls" and "declared twice" in cluster.faults[0]


async def test_what_the_hierarchy_file_declares_no_other_file_may(folder: Folder) -> None:
    folder.claims = {("CA", "lab"): "hierarchy.toml", ("issuer", "one"): "hierarchy.toml"}
    folder.write("h.yaml", a_resource("Hierarchy"), a_resource("ClusterIssuer"))
    cluster = await folder.open()
    assert not cluster.all("Hierarchy") and not cluster.all("ClusterIssuer")
    assert [one.partition(" declares ")[2] for one in cluster.faults] == [
        "the CA 'lab', which hierarchy.toml declares as well; remove one.",
        "the issuer 'one', which hierarchy.toml declares as well; remove one.",
    ]


async def test_a_file_that_is_gone_deletes_after_two_scans(folder: Folder) -> None:
    files = folder.certificates(3)
    cluster = await folder.open()
    files[0].unlink()
    await cluster.scan()
    await folder.wait(cluster, 29)
    assert cluster.get(ref_to("Certificate", "c0")) is not None
    await folder.wait(cluster, 1)
    assert cluster.get(ref_to("Certificate", "c0")) is None and len(cluster.all("Certificate")) == 2
    assert len((await folder.open()).all("Certificate")) == 2


async def test_a_broken_file_freezes_deletions(folder: Folder) -> None:
    files = folder.certificates(3)
    cluster = await folder.open()
    files[0].unlink()
    files[1].write_text("[")
    for _ in range(3):
        await folder.wait(cluster, 60)
    assert len(cluster.all("Certificate")) == 3 and _summary(folder)["frozen"].startswith("Some files cannot be used")


@pytest.mark.parametrize("how", ["emptied", "removed", "a file in its place"])
async def test_a_lost_folder_deletes_nothing(folder: Folder, how: str) -> None:
    folder.certificates(2)
    cluster = await folder.open()
    shutil.rmtree(folder.path)
    if how == "emptied":
        folder.path.mkdir()
    elif how != "removed":
        folder.path.write_text("x")
    for _ in range(3):
        await folder.wait(cluster, 60)
    assert len(cluster.all("Certificate")) == 2 and _summary(folder)["frozen"]


async def test_many_that_vanish_wait_for_somebody_to_confirm(folder: Folder) -> None:
    files = folder.certificates(4)
    cluster = await folder.open()
    for file in files[:2]:
        file.unlink()
    for _ in range(3):
        await folder.wait(cluster, 60)
    summary = _summary(folder)
    assert summary["missing"] == ["Certificate default/c0", "Certificate default/c1"]
    assert summary["frozen"] == "2 of 4 objects have vanished at once." and len(cluster.all("Certificate")) == 4
    requests.leave(folder.home, requests.Request(prune=summary["hash"]))
    await cluster.scan()
    assert [one["metadata"]["name"] for one in cluster.all("Certificate")] == ["c2", "c3"]
    assert summary["hash"] == hash_of([ref_to("Certificate", "c0"), ref_to("Certificate", "c1")])


async def test_what_reconcilers_made_is_not_missed_in_the_folder(folder: Folder) -> None:
    folder.certificates(1)
    cluster = await folder.open()
    await cluster.create(a_resource("Certificate", name="from-an-ingress"))
    await cluster.apply(a_secret())
    for _ in range(3):
        await folder.wait(cluster, 60)
    assert len(cluster.all("Certificate")) == 2 and _summary(folder)["missing"] == []


async def test_a_held_object_whose_file_is_gone_waits_for_its_finalizer_and_comes_anew_with_its_file(
    folder: Folder,
) -> None:
    file = folder.write("i.yaml", a_resource("Issuer"))
    folder.certificates(1)
    cluster = await folder.open()
    ref = ref_to("Issuer")
    held = await cluster.set_finalizer(there(cluster, ref), "spork-ca.org/live-certificates", present=True)
    file.unlink()
    await cluster.scan()
    await folder.wait(cluster, 31)
    marked = there(cluster, ref)
    assert "deletionTimestamp" in marked["metadata"]
    folder.write("i.yaml", a_resource("Issuer"))
    await folder.wait(cluster, 31)
    await cluster.set_finalizer(there(cluster, ref), "spork-ca.org/live-certificates", present=False)
    assert cluster.get(ref) is None
    await cluster.scan()
    assert there(cluster, ref)["metadata"]["uid"] != held["metadata"]["uid"]


async def test_namespaces_are_there_when_something_lies_in_them_and_lose_only_their_labels(folder: Folder) -> None:
    folder.write("a.yaml", a_resource("Certificate", {"metadata/namespace": "shop"}))
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "labelled", "labels": {"pki": "yes"}}}
    file = folder.write("n.yaml", space)
    cluster = await folder.open()
    names = {one["metadata"]["name"]: one["metadata"]["labels"] for one in cluster.all("Namespace")}
    assert names["labelled"] == {"pki": "yes", "kubernetes.io/metadata.name": "labelled"}
    assert names.keys() == {"default", "labelled", "shop"}
    file.unlink()
    await cluster.scan()
    await folder.wait(cluster, 31)
    cluster = await folder.open()
    assert there(cluster, Ref("Namespace", "", "labelled"))["metadata"]["labels"] == {
        "kubernetes.io/metadata.name": "labelled"
    }
    assert _summary(folder)["missing"] == []


async def test_kinds_that_a_folder_has_not_are_said_not_to_be_there(folder: Folder) -> None:
    cluster = await folder.open()
    assert (
        cluster.has("Ingress")
        and not cluster.has("CertificateSigningRequest")
        and not cluster.has("CertificateRequest")
    )


# Files of the state


async def test_a_secret_lies_in_files_for_programs_and_only_its_owner_can_read_it(folder: Folder) -> None:
    cluster = await folder.open()
    await cluster.create(a_secret())
    place = folder.home / "secrets" / "default" / "web-tls"
    assert (place / "tls.key").read_bytes() == b"key" and sorted(os.listdir(place)) == ["tls.crt", "tls.key"]
    for path in (place, place.parent, place.parent.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in place.iterdir()} == {0o600}
    assert "a2V5" not in "".join(file.read_text() for file in folder.home.rglob("*.json"))


async def test_old_versions_of_a_key_do_not_stay_on_the_disk(folder: Folder) -> None:
    cluster = await folder.open()
    for value in ("b25l", "dHdv", "dGhyZWU="):
        await cluster.apply(a_secret(**{"tls.key": value}))
    contents = [file.read_bytes() for file in folder.home.rglob("tls.key")]
    assert set(contents) == {b"three"}
    await cluster.delete(ref_to("Secret", "web-tls"))
    assert not list((folder.home / "secrets" / "default").iterdir())


_READER = """
import os, sys
place, rounds = sys.argv[1], 0
while not os.path.exists(sys.argv[2]):
    try:
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        continue
    try:
        pair = [open(os.open(name, os.O_RDONLY, dir_fd=folder)).read() for name in ("tls.crt", "tls.key")]
    except FileNotFoundError:
        continue  # That version is gone; a reader looks again.
    finally:
        os.close(folder)
    assert pair[0] == pair[1], pair
    rounds += 1
print(rounds)
"""


async def test_a_reader_never_sees_a_key_without_its_certificate(folder: Folder, tmp_path: Path) -> None:
    cluster = await folder.open()
    await cluster.apply(a_secret(**{"tls.crt": "MA==", "tls.key": "MA=="}))
    place, end = folder.home / "secrets" / "default" / "web-tls", tmp_path / "end"
    reader = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _READER,
        str(place),
        str(end),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    for value in ("MQ==", "Mg==", "Mw==", "NA==") * 25:
        await cluster.apply(a_secret(**{"tls.crt": value, "tls.key": value}))
        assert (place / "tls.crt").read_bytes() == (place / "tls.key").read_bytes()
    end.touch()
    output, errors = await reader.communicate()
    assert reader.returncode == 0 and int(output) > 0, errors.decode()


async def test_the_longest_names_have_files_of_their_own(folder: Folder) -> None:
    cluster = await folder.open()
    names = ["x" * 253, "x" * 252 + "y", "x" * 200]
    for name in names:
        await cluster.create(a_resource("Certificate", name=name))
        await cluster.create(a_secret(name))
    again = await folder.open()
    assert {one["metadata"]["name"] for one in again.all("Certificate")} == set(names)
    assert {one["metadata"]["name"] for one in again.all("Secret")} == set(names)


async def test_what_an_interrupted_write_left_is_removed(folder: Folder) -> None:
    folder.write("a.yaml", a_resource("Certificate"))
    cluster = await folder.open()
    await cluster.create(a_secret())
    status = folder.home / "status" / "certificate" / "default"
    spaces = folder.home / "secrets" / "default"
    (status / ".one.json.abc").write_text("{")
    (spaces / ".web-tls" / "half" / "data").mkdir(parents=True)
    (spaces / ".web-tls" / "next").symlink_to("half")
    (spaces / ".never" / "half" / "data").mkdir(parents=True)
    again = await folder.open()
    assert again._items == cluster._items
    assert len(os.listdir(spaces / ".web-tls")) == 1 and sorted(os.listdir(spaces)) == [".web-tls", "web-tls"]
    assert os.listdir(status) == ["one.json"]


async def test_what_belonged_to_an_owner_goes_even_if_the_end_was_interrupted(folder: Folder) -> None:
    cluster = await folder.open()
    owner = await cluster.create(a_resource("Certificate"))
    pending = a_secret("pending")
    pending["metadata"]["ownerReferences"] = [owner_reference(owner)]
    await cluster.create(pending)
    state.remove(folder.home, ONE)  # Here it was killed.
    again = await folder.open()
    assert again.get(ref_to("Secret", "pending")) is None
    assert not (folder.home / "secrets" / "default" / "pending").exists()


async def test_a_secret_whose_folder_somebody_removed_counts_as_deleted(folder: Folder) -> None:
    cluster = await folder.open()
    await cluster.create(a_secret())
    (folder.home / "secrets" / "default" / "web-tls").unlink()
    await cluster.scan()
    assert cluster.get(ref_to("Secret", "web-tls")) is None
    assert not (folder.home / "secrets" / "default" / ".web-tls").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"kind": "Certificate"}', "null", '"x"'])
async def test_a_status_that_was_spoiled_is_named(folder: Folder, content: str) -> None:
    folder.write("a.yaml", a_resource("Certificate"))
    await folder.open()
    file = folder.home / "status" / "certificate" / "default" / "one.json"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"{file}: is not what was written there"):
        await folder.open()


async def test_a_status_cannot_name_a_place_outside(folder: Folder) -> None:
    folder.write("a.yaml", a_resource("Certificate"))
    await folder.open()
    file = folder.home / "status" / "certificate" / "default" / "one.json"
    file.write_text(file.read_text().replace('"name": "one"', '"name": "../../../etc/x"'))
    with pytest.raises(ConfigurationError, match="is not what was written there"):
        await folder.open()


async def test_a_disk_that_is_full_leaves_the_old_state_in_the_copy_and_in_the_files(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("a.yaml", a_resource("Certificate"))
    cluster = await folder.open()
    before = there(cluster, ONE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(state, "write", full)
        with pytest.raises(Unreachable, match="No space left on device"):
            await cluster.set_status(before, {"conditions": []})
        folder.write("a.yaml", a_resource("Certificate", {"spec/secretName": "other"}))
        with pytest.raises(Unreachable):
            await cluster.scan()
    assert there(cluster, ONE) == before
    await cluster.scan()
    assert there(cluster, ONE)["spec"]["secretName"] == "other"


# Requests of commands


async def test_a_request_annotates_and_is_removed(folder: Folder) -> None:
    folder.write("a.yaml", a_resource("Certificate"))
    cluster = await folder.open()
    requests.leave(folder.home, requests.Request(ONE, {"spork-ca.org/renew": "now"}))
    await cluster.scan()
    assert there(cluster, ONE)["metadata"]["annotations"] == {"spork-ca.org/renew": "now"}
    assert not list((folder.home / "requests").iterdir())


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"kind": "Certificate", "namespace": "default", "name": "one", "annotations": {"other.org/x": "y"}}',
        '{"kind": "Certificate", "namespace": "default", "name": "one", "annotations": {"spork-ca.org/x": 5}}',
        '{"kind": "Certificate", "namespace": "default", "name": "none", "annotations": {"spork-ca.org/x": "y"}}',
    ],
)
async def test_a_request_that_is_none_changes_nothing_and_is_removed(folder: Folder, content: str) -> None:
    folder.write("a.yaml", a_resource("Certificate"))
    cluster = await folder.open()
    before = there(cluster, ONE)
    (folder.home / "requests" / "x.json").write_text(content)
    await cluster.scan()
    assert there(cluster, ONE) == before and not list((folder.home / "requests").iterdir())


async def test_a_request_that_is_a_link_or_a_pipe_is_not_followed(folder: Folder, tmp_path: Path) -> None:
    cluster = await folder.open()
    (folder.home / "requests" / "a.json").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder.home / "requests" / "b.json")
    await cluster.scan()
    assert not list((folder.home / "requests").iterdir())


# Watching


async def _until(condition: Any, what: str) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert condition(), what


@pytest.fixture
async def running(folder: Folder) -> Any:
    folder.write("v1/a.yaml", a_resource("Certificate"))
    link = folder.path.with_name("current")
    link.symlink_to(folder.path / "v1")
    cluster = FolderCluster(link, folder.home, (await folder.open())._clock, scan_s=0.2)
    seen: list[Change] = []
    cluster.subscribe(seen.append)
    stop = asyncio.Event()
    task = asyncio.create_task(cluster.run(stop))
    await cluster.synced()
    yield cluster, link, seen
    stop.set()
    await asyncio.wait_for(task, 30)


async def test_listeners_hear_of_what_is_there_and_of_what_comes(folder: Folder, running: Any) -> None:
    cluster, _, seen = running
    assert {(one.ref, one.old) for one in seen} == {(Ref("Namespace", "", "default"), None), (ONE, None)}
    folder.write("v1/b.yaml", a_resource("Certificate", name="two"))
    await _until(lambda: cluster.get(ref_to("Certificate", "two")), "the new file is seen")
    assert seen[-1] == Change(ref_to("Certificate", "two"), there(cluster, ref_to("Certificate", "two")), None)


async def test_a_checkout_that_is_swapped_by_its_link_is_followed(folder: Folder, running: Any) -> None:
    cluster, link, _ = running
    folder.write("v2/a.yaml", a_resource("Certificate", {"spec/secretName": "second"}))
    fresh = link.with_name("fresh")
    fresh.symlink_to(folder.path / "v2")
    fresh.rename(link)
    await _until(lambda: there(cluster, ONE)["spec"]["secretName"] == "second", "the other checkout is read")
    folder.write("v2/a.yaml", a_resource("Certificate", {"spec/secretName": "third"}))
    await _until(lambda: there(cluster, ONE)["spec"]["secretName"] == "third", "the other checkout is watched")


async def test_a_folder_that_goes_away_and_comes_back_is_read_again(folder: Folder, running: Any) -> None:
    cluster, link, _ = running
    link.unlink()
    await _until(lambda: cluster.faults, "its absence is noticed")
    assert there(cluster, ONE)
    folder.write("v3/a.yaml", a_resource("Certificate", {"spec/secretName": "back"}))
    link.symlink_to(folder.path / "v3")
    await _until(lambda: there(cluster, ONE)["spec"]["secretName"] == "back", "it is read again")
