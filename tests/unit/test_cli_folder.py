"""`spork get`, `annotate`, `prune`, `cert renew NAMESPACE/NAME` and `pki approve` on the state of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from folder_world import Folder, a_secret, ref_to, there
from operator_world import a_resource

from spork.cli import resources
from spork.cli.main import run
from spork.controller.folder.cluster import FolderCluster

HASH = "ab" * 32
Spork = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "dir", tmp_path / "home")


@pytest.fixture
def spork(folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Spork:
    """Runs a command; nobody is there to take a request in, so it is not waited for."""
    monkeypatch.setenv("SPORK_HOME", str(folder.home))
    monkeypatch.setattr(resources, "_TAKEN_S", 0)

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
async def cluster(folder: Folder) -> FolderCluster:
    folder.write("a.yaml", a_resource("Certificate", name="shop"), a_resource("Hierarchy", name="tree"))
    cluster = await folder.open()
    ready = {"type": "Ready", "status": "True", "reason": "Issued", "lastTransitionTime": "2026-11-24T12:00:00Z"}
    status = {"conditions": [{**ready, "message": "It is."}], "serial": "0A", "notAfter": "2027-02-22T12:00:00Z"}
    await cluster.set_status(there(cluster, ref_to("Certificate", "shop")), status)
    plan = {"hash": HASH, "changes": [{"changeClass": "in place", "subject": "web", "message": "it goes."}]}
    await cluster.set_status(there(cluster, ref_to("Hierarchy", "tree")), {"conditions": [], "plan": plan})
    await cluster.create(a_secret())
    return cluster


def test_get_shows_the_columns_of_kubectl(cluster: FolderCluster, spork: Spork) -> None:
    code, out, err = spork("get", "spc")
    headings, _, row = out.splitlines()
    assert headings.split() == ["NAMESPACE", "NAME", "READY", "SECRET", "ISSUER", "UNTIL", "REASON", "AGE"]
    assert row.split()[:-1] == ["default", "shop", "True", "web-tls", "web", "2027-02-22T12:00:00Z", "Issued"]
    assert (code, err) == (0, "")
    assert spork("get", "certificates", "-o", "wide")[1].splitlines()[2].split()[7:9] == ["It", "is."]


def test_get_without_a_kind_shows_all_of_them(cluster: FolderCluster, spork: Spork) -> None:
    out = spork("get")[1]
    assert "HIERARCHY" in out and "CERTIFICATE" in out and "shop" in out and "tree" in out


def test_one_object_is_one_value_and_several_are_a_list(cluster: FolderCluster, spork: Spork) -> None:
    one: dict[str, Any] = json.loads(spork("get", "certificate", "shop", "-o", "json")[1])
    assert one == there(cluster, ref_to("Certificate", "shop"))
    assert json.loads(spork("get", "certificate", "-o", "json")[1]) == [one]
    assert "secretName: web-tls" in spork("get", "certificate", "shop", "-n", "default", "-o", "yaml")[1]
    assert json.loads(spork("get", "spc/shop", "-o", "json")[1]) == one


@pytest.mark.parametrize("form", ["table", "json", "yaml", "wide"])
def test_get_never_shows_what_is_in_a_secret(cluster: FolderCluster, spork: Spork, folder: Folder, form: str) -> None:
    out = spork("get", "secrets", "-o", form)[1]
    assert "tls.key" in out and str(folder.home / "secrets" / "default" / "web-tls") in out
    assert "a2V5" not in out and "Y2VydA" not in out


def test_get_of_something_that_is_not_there_says_so(cluster: FolderCluster, spork: Spork) -> None:
    for words in (("certificate", "none"), ("certificate", "shop", "-n", "other"), ("issuer", "../../x")):
        code, out, err = spork("get", *words)
        assert (code, out) == (4, "") and f"called {words[1]!r}" in err
    code, _, err = spork("get", "certifcate")
    assert code == 2 and "did you mean 'certificate'?" in err


def test_get_on_a_host_without_any_state_finds_nothing(spork: Spork, folder: Folder) -> None:
    code, out, err = spork("get")
    assert (code, out, err) == (0, "", "No resources found.\n") and not folder.home.exists()


async def test_get_says_what_is_wrong_with_the_folder(cluster: FolderCluster, folder: Folder, spork: Spork) -> None:
    folder.write("bad.yaml", text="[")
    folder.write(
        "a.yaml", a_resource("Certificate", name="shop"), a_resource("Hierarchy", {"spec/root/id": "x"}, name="tree")
    )
    await cluster.scan()
    err = spork("get")[2]
    assert "spork: bad.yaml:" in err and err.count("What was there before goes on to hold.") == 1


async def test_prune_needs_the_hash_of_what_is_missing(cluster: FolderCluster, folder: Folder, spork: Spork) -> None:
    assert spork("prune", "00")[0] == 4
    (folder.path / "a.yaml").unlink()
    await cluster.scan()
    err = spork("get")[2]
    digest = err.rpartition("spork prune ")[2].partition("`")[0]
    code, _, err = spork("prune", "00")
    assert code == 5 and digest in err and "Certificate default/shop" in err
    code, out, err = spork("prune", digest)
    assert code == 0 and out == "Certificate default/shop is deleted.\nHierarchy tree is deleted.\n"
    assert "the next one does" in err
    await cluster.scan()
    assert not cluster.all("Certificate") and not cluster.all("Hierarchy")


async def test_prune_waits_until_faults_are_mended(cluster: FolderCluster, folder: Folder, spork: Spork) -> None:
    folder.write("a.yaml", a_resource("Issuer"))
    folder.write("bad.yaml", text="[")
    await cluster.scan()
    digest = json.loads((folder.home / "status" / "folder.json").read_text())["hash"]
    code, _, err = spork("prune", digest)
    assert code == 5 and "First mend" in err and "bad.yaml" in err


async def test_renew_by_namespace_and_name_asks_for_it(cluster: FolderCluster, spork: Spork) -> None:
    code, out, _ = spork("cert", "renew", "default/shop")
    assert code == 0 and out.startswith("Certificate default/shop is being renewed")
    await cluster.scan()
    assert there(cluster, ref_to("Certificate", "shop"))["metadata"]["annotations"].keys() == {"spork-ca.org/renew"}


def test_renew_of_an_unknown_certificate_names_the_command_for_a_cluster(cluster: FolderCluster, spork: Spork) -> None:
    code, _, err = spork("cert", "renew", "default/none")
    assert (
        code == 4
        and "kubectl annotate --overwrite certificates.spork-ca.org -n default none spork-ca.org/renew=" in err
    )


async def test_approve_takes_only_the_hash_of_the_plan_that_waits(cluster: FolderCluster, spork: Spork) -> None:
    assert spork("pki", "approve", "none", HASH)[0] == 4
    code, _, err = spork("pki", "approve", "tree", "cd" * 32)
    assert code == 5 and HASH in err and "web: it goes." in err
    assert spork("pki", "approve", "tree", HASH)[0] == 0
    await cluster.scan()
    assert there(cluster, ref_to("Hierarchy", "tree"))["metadata"]["annotations"] == {"spork-ca.org/approve": HASH}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("certificate", "none", "renew=1"), 4),
        (("certificate", "shop", "renew"), 2),
        (("certificate", "shop", "other.org/x=1"), 2),
        (("certificate", "../../etc/passwd", "renew=1"), 4),
        (("nothing", "shop", "renew=1"), 2),
    ],
)
def test_annotate_refuses_what_it_cannot_do(
    cluster: FolderCluster, folder: Folder, spork: Spork, words: Any, code: int
) -> None:
    assert spork("annotate", *words)[0] == code
    assert not list((folder.home / "requests").iterdir())


async def test_annotate_completes_the_key(cluster: FolderCluster, spork: Spork) -> None:
    assert spork("annotate", "hierarchy", "tree", "confirm-delete=3")[0] == 0
    await cluster.scan()
    assert there(cluster, ref_to("Hierarchy", "tree"))["metadata"]["annotations"] == {
        "spork-ca.org/confirm-delete": "3"
    }
