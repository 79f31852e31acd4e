"""Reading a folder: what is declared, what is wrong, and what cannot hurt."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from folder_world import Folder, ref_to
from operator_world import a_resource

from spork.controller.folder import reading
from spork.controller.folder.declared import parse
from spork.controller.folder.reading import FolderReader, Scan

ROOT = Path(__file__).resolve().parents[2]
_HEAD = "apiVersion: v1\nkind: Secret\nmetadata: {name: p, namespace: default}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "dir", tmp_path / "home")


def _read(folder: Folder) -> Scan:
    return FolderReader(folder.path, excluded=folder.home).read()


def test_the_examples_load(folder: Folder) -> None:
    scan = FolderReader(ROOT / "examples" / "kubernetes").read()
    assert scan.faults == () and {ref.kind for ref in scan.declared} >= {"Hierarchy", "ClusterIssuer", "Certificate"}


def test_yaml_and_json_are_read_in_all_folders_below_but_hidden_ones(folder: Folder) -> None:
    folder.write("a.yaml", a_resource("Certificate", name="a"), a_resource("Certificate", name="b"))
    folder.write("x/y/c.yml", a_resource("Certificate", name="c"))
    folder.write("d.json", text=json.dumps(a_resource("Certificate", name="d"), indent="\t"))
    folder.write(".hidden.yaml", a_resource("Certificate", name="e"))
    folder.write(".git/f.yaml", a_resource("Certificate", name="f"))
    folder.write("notes.txt", text="not yaml")
    scan = _read(folder)
    assert [ref.name for ref in scan.declared] == ["a", "b", "d", "c"] and not scan.faults


def test_a_list_is_what_is_in_it(folder: Folder) -> None:
    items = [a_resource("Certificate", name="a"), a_resource("Certificate", {"spec/nonsense": 1}, name="b")]
    folder.write("l.yaml", {"apiVersion": "v1", "kind": "List", "items": items[:1]})
    folder.write("m.yaml", {"apiVersion": "v1", "kind": "List", "items": items[1:]})
    scan = _read(folder)
    assert [ref.name for ref in scan.declared] == ["a"]
    assert [one.partition(": ")[0] for one in scan.faults] == ["m.yaml:15"]


def test_what_a_server_writes_is_left_out_and_a_namespace_is_filled_in(folder: Folder) -> None:
    item = a_resource("Certificate", {"status": {"revision": 1}})
    item["metadata"] = {"name": "one", "uid": "u", "resourceVersion": "5", "managedFields": [], "finalizers": ["a/b"]}
    folder.write("a.yaml", item)
    (one,) = _read(folder).declared.values()
    assert one.item["metadata"] == {"name": "one", "namespace": "default"} and "status" not in one.item


def test_other_kinds_are_named_and_not_read(folder: Folder) -> None:
    folder.write("a.yaml", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}})
    folder.write("b.yaml", {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"})
    scan = _read(folder)
    assert scan.foreign == {"apps/v1 Deployment", "kustomize.config.k8s.io/v1beta1 Kustomization"} and not scan.faults


def test_the_same_object_in_two_files_names_both(folder: Folder) -> None:
    folder.write("a.yaml", a_resource("Certificate"))
    folder.write("b/b.yaml", a_resource("Certificate"))
    scan = _read(folder)
    assert scan.faults == ("Certificate default/one is declared twice: in a.yaml:1 and in b/b.yaml:1.",)
    assert not scan.declared


def test_one_bad_file_stops_itself_alone(folder: Folder) -> None:
    folder.write("bad.yaml", a_resource("Certificate", {"spec/secretNam": "x"}), a_resource("Issuer"))
    folder.write("good.yaml", a_resource("Certificate", name="two"))
    scan = _read(folder)
    assert list(scan.declared) == [ref_to("Certificate", "two")]
    (fault,) = scan.faults
    assert fault == "bad.yaml:14: spec.secretNam: unknown key 'secretNam'; did you mean 'secretName'?"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.yaml", "a: [1,", "a.yaml:1: not valid YAML"),
        ("a.yaml", "just a text", "a.yaml:1: an object with apiVersion"),
        ("a.yaml", "a: &a [x]\nb: *a\n", "a.yaml:2: aliases (*a) are not read here."),
        ("a.yaml", "&a [*a]", "a.yaml:1: aliases (*a) are not read here."),
        ("a.yaml", "[" * 500, "a.yaml:1: is nested too deeply."),
        ("a.yaml", "!!python/object/apply:os.system [id]", "a.yaml:1: not valid YAML"),
        ("a.json", "[" * 100_000, "a.json: is nested too deeply."),
        ("a.json", '{"a": 1, "a": 2}', "a.json: not valid JSON: the key 'a' stands twice in one object."),
        ("a.json", '{"a": \n}', "a.json:2: not valid JSON"),
        ("a.yaml", "apiVersion: spork-ca.org/v2\nkind: Issuer\n", "a.yaml:1: apiVersion: 'spork-ca.org/v2' is not known"),
        ("a.yaml", f"{_HEAD}data: {{a: hello!}}\n", "a.yaml:1: Secret default/p: the value of a is not base64."),
        ("a.yaml", f"{_HEAD}stringData: {{a: 5}}\n", "a.yaml:4: stringData.a: Input should be a valid string."),
        ("a.yaml", f"{_HEAD}stringData: {{../a: x}}\n", "a.yaml:1: Secret default/p: the key '../a'"),
        ("a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: ../x}\n", "a.yaml:1: Namespace ../x: a name has"),
        ("a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {}\n", "a.yaml:3: metadata.name: Field required."),
        ("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: !!binary YQ==}\n", "a.yaml:4: data.a: "),
        ("a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\nx: .nan\n", "a.yaml:1: it has a value that JSON"),
        ("a.yaml", 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: "\\ud800"}\n', "a.yaml"),
        ("a.yaml", "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\nspec: {tls: [{hosts: x}]}\n",
         "a.yaml:4: spec.tls[0].hosts: Input should be a valid list."),
    ],
)  # fmt: skip
def test_a_wrong_text_gives_a_sentence_with_its_line(name: str, text: str, sentence: str) -> None:
    content = parse(text, name)
    assert content.faults[0].startswith(sentence) and not content.declared


def test_a_password_is_not_repeated_in_a_fault() -> None:
    content = parse(f"{_HEAD}stringData: [geheim]\n", "a.yaml")
    assert content.faults and "geheim" not in " ".join(content.faults)


def test_the_text_of_a_secret_is_kept_as_data() -> None:
    (one,) = parse(f"{_HEAD}stringData: {{password: hunter2}}\n", "a.yaml").declared
    assert one.item["data"] == {"password": "aHVudGVyMg=="} and "stringData" not in one.item


def test_a_large_file_is_not_even_opened_to_the_end(folder: Folder) -> None:
    folder.write("big.yaml", text="a: b\n" * 2_000_000)
    folder.write("good.yaml", a_resource("Certificate"))
    scan = _read(folder)
    assert scan.faults == ("big.yaml: is larger than 1048576 octets, too large for a manifest.",)
    assert list(scan.declared) == [ref_to("Certificate")]


def test_more_files_than_allowed_are_a_fault(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_FILES", 2)
    folder.certificates(3)
    scan = _read(folder)
    assert len(scan.declared) == 2 and scan.faults == ("c2.yaml: is one of more than 2 files and is not read.",)


def test_more_octets_than_allowed_are_a_fault(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_OCTETS", 500)
    folder.certificates(3)
    assert "together have more than 500 octets" in _read(folder).faults[0]


def test_folders_that_go_too_deep_are_a_fault(folder: Folder) -> None:
    folder.write(f"{'d/' * 17}a.yaml", a_resource("Certificate"))
    assert _read(folder).faults == (f"{'d/' * 17}: lies more than 16 folders deep and is not read.",)


def test_links_out_of_the_folder_are_refused(folder: Folder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "s.yaml").write_text("x")
    (folder.path / "file.yaml").symlink_to(outside / "s.yaml")
    (folder.path / "tree").symlink_to(outside)
    (folder.path / "nowhere.yaml").symlink_to("missing")
    scan = _read(folder)
    assert scan.faults == (
        "file.yaml: is a link that leads out of the folder, and is not followed.",
        "nowhere.yaml: is a link that leads nowhere.",
        "tree: is a link that leads out of the folder, and is not followed.",
    )


def test_links_within_the_folder_are_followed_and_loops_end(folder: Folder) -> None:
    folder.write("..data_1/a.yaml", a_resource("Certificate"))
    (folder.path / "..data").symlink_to("..data_1")
    (folder.path / "a.yaml").symlink_to("..data/a.yaml")
    (folder.path / "b.yaml").symlink_to("a.yaml")
    folder.write("sub/x.txt", text="")
    (folder.path / "sub" / "loop").symlink_to("..")
    scan = _read(folder)
    assert list(scan.declared) == [ref_to("Certificate")] and not scan.faults


def test_a_pipe_is_refused_and_does_not_block(folder: Folder) -> None:
    os.mkfifo(folder.path / "pipe.yaml")
    assert _read(folder).faults == ("pipe.yaml: is not a regular file.",)


def test_a_folder_that_is_not_there_is_a_fault(folder: Folder) -> None:
    folder.path.rmdir()
    assert _read(folder).faults == (f"{folder.path}: cannot be read: No such file or directory.",)


def test_names_of_files_cannot_steer_a_terminal(folder: Folder) -> None:
    folder.write("a\x1b[2J\n.yaml", text="x")
    assert _read(folder).faults[0].isprintable()


def test_text_that_is_not_utf8_names_its_line(folder: Folder) -> None:
    (folder.path / "a.yaml").write_bytes(b"a: b\nc: \xff\n")
    assert _read(folder).faults == ("a.yaml:2: is not UTF-8 text.",)


def test_the_state_folder_within_the_folder_is_left_out(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "dir", tmp_path / "dir" / "state")
    folder.write("state/status/certificate/default/one.json", a_resource("Certificate"))
    assert not _read(folder).declared


def test_only_what_has_changed_is_parsed_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.certificates(3)
    reader, parsed = FolderReader(folder.path), []
    monkeypatch.setattr(reading, "parse", lambda text, name: parsed.append(name) or parse(text, name))
    reader.read()
    folder.write("c1.yaml", a_resource("Certificate", {"spec/secretName": "other-tls"}, name="c1"))
    scan = reader.read()
    assert parsed == ["c0.yaml", "c1.yaml", "c2.yaml", "c1.yaml"]
    assert scan.declared[ref_to("Certificate", "c1")].item["spec"]["secretName"] == "other-tls"
