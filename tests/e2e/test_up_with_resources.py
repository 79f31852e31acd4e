"""`spork up` on a folder of YAML: first start, restart, change, deletion, and SIGKILL between the writes of its state."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.e2e.processes import eventually
from tests.e2e.running import ROOT, RunningCA, openssl

pytestmark = pytest.mark.e2e

_STATE = "spork.controller.folder.state"
_PLACES = [f"{when}:{_STATE}:{name}" for name in ("write", "_write", "_remove_others") for when in ("before", "after")]
_KEYSTORE = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "shop-keystore", "namespace": "default"},
    "stringData": {"password": "changeit"},
}


def _certificate(name: str, *names: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "Certificate",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "secretName": f"{name}-tls",
            "dnsNames": list(names),
            "issuerRef": {"name": "web", "kind": "ClusterIssuer"},
            **spec,
        },
    }


def _write(ca: RunningCA, name: str, *objects: dict[str, Any]) -> None:
    """As an editor saves: whole, or not at all."""
    fresh = ca.declarations / f"{name}.new"
    fresh.write_text(yaml.safe_dump_all(objects))
    fresh.rename(ca.declarations / name)


def _object(ca: RunningCA, kind: str, name: str) -> dict[str, Any]:
    done = ca.spork("get", kind, name, "-o", "json", check=False)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def _is_ready(item: dict[str, Any]) -> bool:
    found = {one["type"]: one for one in item.get("status", {}).get("conditions", ())}
    ready = found.get("Ready", {})
    return ready.get("status") == "True" and ready.get("observedGeneration") == item["metadata"]["generation"]


def _until_ready(ca: RunningCA, kind: str, name: str) -> dict[str, Any]:
    eventually(lambda: _is_ready(_object(ca, kind, name)), f"{kind} {name} being ready", 60)
    return _object(ca, kind, name)


def _pair(ca: RunningCA, name: str) -> x509.Certificate:
    """The certificate in the folder of the Secret, which belongs to the key beside it and to the tree."""
    folder = ca.home / "secrets" / "default" / f"{name}-tls"
    chain = x509.load_pem_x509_certificates((folder / "tls.crt").read_bytes())
    key = load_pem_private_key((folder / "tls.key").read_bytes(), None)
    assert chain[0].public_key() == key.public_key()
    openssl("verify", "-CAfile", str(ca.root_pem), "-untrusted", str(folder / "tls.crt"), str(folder / "tls.crt"))
    return chain[0]


def _issued(ca: RunningCA, name: str) -> list[str]:
    done = ca.spork("cert", "list", "--name", name, "-o", "json")
    return [one["serial"] for one in json.loads(done.stdout) if one["state"] == "issued"]


@pytest.fixture(scope="module")
def folder_ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCA]:
    """The folder of examples/kubernetes, running."""
    place = tmp_path_factory.mktemp("folder")
    declarations = place / "dir"
    declarations.mkdir()
    for file in (ROOT / "examples" / "kubernetes").glob("*.yaml"):
        (declarations / file.name).write_bytes(file.read_bytes())
    ca = RunningCA(place / "home", declarations=declarations)
    _write(ca, "keystore.yaml", _KEYSTORE)
    ca.start()
    yield ca
    ca.discard()


def _restarted(ca: RunningCA) -> RunningCA:
    if ca.process is None or ca.process.poll() is not None:
        ca.start()
    return ca


def test_a_folder_of_yaml_runs_and_goes_on_after_a_restart(folder_ca: RunningCA) -> None:
    ca = _restarted(folder_ca)
    before = _until_ready(ca, "certificate", "shop")
    first = _pair(ca, "shop")
    assert "secrets/default/shop-tls" in ca.output and "Example Root CA is running" in ca.output
    assert {"keystore.p12", "truststore.p12"} <= {one.name for one in (ca.home / "secrets/default/shop-tls").iterdir()}
    assert ca.stop(signal.SIGINT) == 0
    ca.start()
    _write(ca, "probe.yaml", _certificate("probe", "probe.example.com"))
    _until_ready(ca, "certificate", "probe")  # Everything was looked at since.
    assert _pair(ca, "shop") == first and _object(ca, "certificate", "shop") == before
    assert len(_issued(ca, "www.shop.example.com")) == 1


def test_a_change_of_a_file_is_carried_out_and_a_renewal_on_demand(folder_ca: RunningCA) -> None:
    ca = _restarted(folder_ca)
    _write(ca, "changed.yaml", _certificate("changed", "a.example.com"))
    first = _until_ready(ca, "certificate", "changed")
    _write(ca, "changed.yaml", _certificate("changed", "a.example.com", "b.example.com"))
    eventually(lambda: _object(ca, "certificate", "changed")["metadata"]["generation"] == 2, "the change being seen")
    second = _until_ready(ca, "certificate", "changed")
    names = _pair(ca, "changed").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example.com", "b.example.com"]
    assert second["status"]["revision"] == first["status"]["revision"] + 1
    ca.spork("cert", "renew", "default/changed")
    eventually(lambda: _object(ca, "certificate", "changed")["status"]["revision"] == 3, "the renewal", 60)
    assert second["metadata"]["uid"] == first["metadata"]["uid"]


def test_a_broken_file_is_named_and_stops_nothing_else(folder_ca: RunningCA) -> None:
    ca = _restarted(folder_ca)
    _write(ca, "good.yaml", _certificate("good", "good.example.com"))
    _until_ready(ca, "certificate", "good")
    _write(ca, "good.yaml", _certificate("good", "good.example.com", durationn="1h"))
    _write(ca, "other.yaml", _certificate("other", "other.example.com"))
    _until_ready(ca, "certificate", "other")
    said = ca.spork("get", "certificates").stderr
    assert "good.yaml:" in said and "did you mean 'duration'?" in said
    assert _object(ca, "certificate", "good")["metadata"]["generation"] == 1
    _write(ca, "good.yaml", _certificate("good", "good.example.com"))
    eventually(lambda: not ca.spork("get", "certificates").stderr, "the fault being gone")


def test_files_that_are_gone_delete_when_somebody_confirms_it(folder_ca: RunningCA) -> None:
    ca = _restarted(folder_ca)
    for name in ("gone-a", "gone-b", "gone-c"):
        _write(ca, f"{name}.yaml", _certificate(name, f"{name}.example.com"))
    for name in ("gone-a", "gone-b", "gone-c"):
        _until_ready(ca, "certificate", name)
        (ca.declarations / f"{name}.yaml").unlink()
    eventually(lambda: "3 of " in ca.spork("get").stderr, "the freeze being said")
    said = ca.spork("get").stderr
    assert _is_ready(_object(ca, "certificate", "gone-a"))
    ca.spork("prune", said.rpartition("spork prune ")[2].partition("`")[0])
    eventually(lambda: not _object(ca, "certificate", "gone-c"), "the deletion")
    assert _pair(ca, "gone-a")  # Retain: the key is still there, and the certificate good.


def test_sigkill_between_any_two_writes_leaves_the_old_or_the_new(folder_ca: RunningCA, tmp_path: Path) -> None:
    ca = _restarted(folder_ca)
    assert ca.stop() == 0
    armed = tmp_path / "armed"
    usual = ca.command
    launcher = str(ROOT / "tests" / "e2e" / "kill_launcher.py")
    ca.command = [sys.executable, launcher, ",".join(_PLACES), str(armed), "up"]
    try:
        for number, place in enumerate(_PLACES):
            _restarted(ca)
            assert ca.process is not None
            armed.write_text(place)
            _write(ca, f"kill{number}.yaml", _certificate(f"kill{number}", f"kill{number}.example.com"))
            assert ca.process.wait(60) == -signal.SIGKILL
            armed.unlink()
            ca.start()
            _until_ready(ca, "certificate", f"kill{number}")
            _pair(ca, f"kill{number}")
            assert len(_issued(ca, f"kill{number}.example.com")) == 1, place
    finally:
        ca.command = usual
    assert ca.stop() == 0


@pytest.mark.parametrize("content", ["", "apiVersion: spork-ca.org/v1alpha1\nkind: Hierarchy\nspec: {}\n"])
def test_a_folder_without_a_tree_that_can_be_used_is_refused_before_anything_is_made(
    own_ca: RunningCA, tmp_path: Path, content: str
) -> None:
    own_ca.declarations = tmp_path / "dir"
    own_ca.declarations.mkdir()
    (own_ca.declarations / "tree.yaml").write_text(content)
    done = own_ca.refused()
    assert done.returncode != 0 and "declares no tree: neither hierarchy.toml nor" in done.stderr
    assert ("tree.yaml:" in done.stderr) is bool(content) and "Traceback" not in done.stderr
    assert not own_ca.home.exists()


def test_a_hierarchy_file_and_resources_run_together_until_the_tree_is_yaml_too(
    own_ca: RunningCA, tmp_path: Path
) -> None:
    ca = own_ca
    ca.declarations = tmp_path / "dir"
    ca.declarations.mkdir()
    quickstart = ROOT / "examples" / "quickstart"
    for file in quickstart.iterdir():
        (ca.declarations / file.name).write_bytes(file.read_bytes())
    issuer = {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "ClusterIssuer",
        "metadata": {"name": "web"},
        "spec": {
            "ca": "spork-tls-web-server-issuing-ca",
            "profiles": ["tls-server"],
            "allowedNamespaces": {"names": ["*"]},
            "names": {"permit": {"dns": ["**.test"]}},
        },
    }
    _write(ca, "web.yaml", issuer, _certificate("mixed", "mixed.test"))
    (ca.declarations / "tree.yaml").write_text(ca.spork("pki", "export", str(quickstart / "hierarchy.toml")).stdout)
    ca.start()
    _until_ready(ca, "certificate", "mixed")
    first = _pair(ca, "mixed")
    assert "which hierarchy.toml declares as well; remove one." in ca.output
    assert ca.stop() == 0
    (ca.declarations / "hierarchy.toml").unlink()
    ca.start()
    # To take over what another declaration has made needs a person.
    eventually(lambda: "plan" in _object(ca, "hierarchy", "hierarchy").get("status", {}), "the plan being shown", 60)
    ca.spork("pki", "approve", "hierarchy", _object(ca, "hierarchy", "hierarchy")["status"]["plan"]["hash"])
    _until_ready(ca, "hierarchy", "hierarchy")
    assert _pair(ca, "mixed") == first and not ca.spork("get").stderr
    assert ca.stop() == 0
