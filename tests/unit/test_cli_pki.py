"""`spork pki`: what needs no database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tree_world import TREE

from spork.cli.main import run
from spork.hierarchy.export import camel_case
from spork.hierarchy.presets import preset_names


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPORK_HOME", str(tmp_path / "home"))
    path = tmp_path / "hierarchy.toml"
    path.write_text(TREE)
    return path


def test_validate_says_what_the_tree_is_made_of(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pki", "validate"]) == 0
    assert "hierarchy.toml is valid: 1 root, 1 policy, 1 issuing CAs, 1 issuer." in capsys.readouterr().out


def test_validate_prints_one_line_for_each_fault(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(TREE.replace("ecdsa-p256", "ecdsa"))
    assert run(["pki", "validate", str(file)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": root")[0].partition(": policy")[0] for line in lines] == [
        f"spork: {file}:{number}" for number in (3, 7, 11)
    ]


def test_preview_shows_every_ca_with_its_extensions(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pki", "preview", "--status-url", "http://pki.example"]) == 0
    shown = capsys.readouterr().out
    for text in ("Root", "Policy", "Issuing", "path length 0", "http://pki.example/crl/policy/1.crl", "dns **.example"):
        assert text in shown


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_preview_gives_the_same_to_programs(file: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    assert run(["pki", "preview", "-o", form]) == 0
    data = yaml.safe_load(capsys.readouterr().out)
    assert [one["id"] for one in data["certificates"]] == ["root", "policy", "issuing"]
    basic = data["certificates"][2]["extensions"][0]
    assert basic == {"name": "basicConstraints", "critical": True, "content": ["CA, path length 0"]}
    assert data["issuers"][0]["name"] == "web"


def test_a_plan_on_a_fresh_host_creates_everything_and_touches_nothing(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pki", "plan", "--detailed-exitcode", "-o", "json"]) == 2
    plan = json.loads(capsys.readouterr().out)
    assert [step["change"] for step in plan["steps"]] == ["create"] * 4
    assert len(plan["hash"]) == 64
    assert not (file.parent / "home").exists()
    assert run(["pki", "plan"]) == 0


def test_settings_beside_the_file_are_read(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "spork.toml").write_text('status_url = "http://beside.example"\n')
    assert run(["pki", "preview", str(file)]) == 0
    assert "http://beside.example/crl/root/1.crl" in capsys.readouterr().out


def test_export_is_a_resource_with_the_keys_of_the_file_in_camel_case(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pki", "export", "--name", "main"]) == 0
    resource = yaml.safe_load(capsys.readouterr().out)
    assert (resource["apiVersion"], resource["kind"]) == ("spork-ca.org/v1alpha1", "Hierarchy")
    assert resource["metadata"] == {"name": "main"}
    assert resource["spec"]["root"] == {
        "id": "root",
        "commonName": "Root",
        "algorithm": "ecdsa-p256",
        "validityYears": 20,
    }
    assert resource["spec"]["policyCAs"][0]["issuingCAs"][0]["commonName"] == "Issuing"


def test_acronyms_keep_their_form_in_camel_case() -> None:
    keys = ["ca", "policy_cas", "crl_urls", "ca_issuer_urls", "ocsp_urls", "crl_shards", "subject_csr", "key_mode"]
    assert [camel_case(key) for key in keys] == [
        "ca", "policyCAs", "crlURLs", "caIssuerURLs", "ocspURLs", "crlShards", "subjectCSR", "keyMode",
    ]  # fmt: skip


def test_presets_are_listed_shown_and_written_but_never_over_a_file(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pki", "preset", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == preset_names()
    assert run(["pki", "preset", "show", "device"]) == 0
    shown = capsys.readouterr().out
    assert run(["pki", "preset", "write", "device", "new.toml"]) == 0
    assert (file.parent / "new.toml").read_text() == shown
    assert run(["pki", "preset", "write", "device"]) == 1
    assert file.read_text() == TREE
    assert run(["pki", "preset", "show", "devcie"]) == 4
    assert "did you mean 'device'" in capsys.readouterr().err


def test_a_missing_file_is_one_sentence(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pki", "validate", "none.toml"]) == 1
    assert capsys.readouterr().err == "spork: none.toml: cannot be read: No such file or directory.\n"
