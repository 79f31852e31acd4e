"""The Helm chart says what the kustomize base says."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_template import render
from operator_world import Cluster
from shipped_world import MANIFESTS, NAMESPACE, ROOT, rendered

pytestmark = [
    pytest.mark.operator,
    pytest.mark.expected_skip("a user's machine need not have a Kubernetes control plane or Helm"),
]
CHART = MANIFESTS / "helm" / "spork-ca"
Manifest = dict[str, Any]
Key = tuple[str, str, str]


def _values(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return {**values, **changes}


def _chart(values: dict[str, Any], namespace: str = NAMESPACE) -> list[Manifest]:
    texts = (render(path.read_text(), values, namespace) for path in sorted((CHART / "templates").glob("*.yaml")))
    return [one for text in texts for one in yaml.safe_load_all(text) if one is not None]


def _key(item: Manifest) -> Key:
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _comparable(items: list[Manifest]) -> dict[Key, Manifest]:
    """Without what differs on purpose: names that change with each revision, and the namespace that Helm makes."""
    found = {}
    for item in copy.deepcopy(items):
        if item["kind"] in ("Namespace", "CustomResourceDefinition"):
            continue
        if item["kind"] == "ConfigMap":
            item["metadata"] = {"name": "spork-settings", "namespace": item["metadata"]["namespace"]}
        if item["kind"] == "Job":
            item["metadata"]["name"] = "spork-migrate"
        if item["kind"] == "Deployment":
            template = item["spec"]["template"]
            template["metadata"].pop("annotations", None)
        for container in _containers(item):
            container["image"] = container["image"].partition(":")[0]
            for source in container.get("envFrom", []):
                source["configMapRef"] = {"name": "spork-settings"}
        found[_key(item)] = item
    return found


def _containers(item: Manifest) -> list[Manifest]:
    spec = item.get("spec") or {}
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    containers: list[Manifest] = spec.get("template", {}).get("spec", {}).get("containers", [])
    return containers


def test_the_generated_files_are_as_they_would_be_made() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make-manifests", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_chart_is_the_base_with_the_workloads(kube_assets: Path, tmp_path: Path) -> None:
    values = _values()
    values["api"]["replicas"] = values["controller"]["replicas"] = 1
    both = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, both)
    (both / "both").mkdir()
    (both / "both" / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        "resources: [../base]\ncomponents: [../components/workloads]\n"
    )
    expected = _comparable(rendered(kube_assets / "kubectl", both / "both"))
    assert _comparable(_chart(values)) == expected


def test_the_definitions_are_those_of_the_project_and_stay_when_the_release_goes() -> None:
    made = {_key(item): item for item in _chart(_values()) if item["kind"] == "CustomResourceDefinition"}
    for item in made.values():
        assert item["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    ours = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    assert made == {_key(item): item for item in ours}
    without = _chart(_values(crds={"install": False}))
    assert not [item for item in without if item["kind"] == "CustomResourceDefinition"]


def test_every_value_has_an_effect() -> None:
    values = _values(
        workloadNamespaces=["shop", "billing"],
        urls={
            "status": "http://pki.example.com",
            "enrol": "https://acme.example.com",
            "admin": "https://ca.example.com",
        },
        settings={"SPORK_WORKERS": 2},
        secrets={
            name: f"my-{name.lower()}"
            for name in ("databaseOwner", "databaseServer", "databaseController", "passphrase", "sealedPassphrase")
        },
    )
    values["image"] = {"repository": "example/spork", "tag": "9", "pullPolicy": "Always"}
    for name, replicas in (("api", 5), ("controller", 3)):
        values[name] = {"replicas": replicas, "resources": {"requests": {"cpu": "9"}, "limits": {"memory": "9Gi"}}}
    text = yaml.safe_dump_all(items := _chart(values, "pki"))
    by_key = {_key(item): item for item in items}

    assert NAMESPACE not in text
    assert {space for kind, space, name in by_key if kind == "RoleBinding" and name == "spork-controller"} == {
        "shop",
        "billing",
    }
    controller = by_key["Deployment", "pki", "spork-controller"]["spec"]
    (container,) = controller["template"]["spec"]["containers"]
    assert container["args"] == ["controller", "--namespace=shop", "--namespace=billing"]
    assert (container["image"], container["imagePullPolicy"]) == ("example/spork:9", "Always")
    assert container["resources"] == {"requests": {"cpu": "9"}, "limits": {"memory": "9Gi"}}
    assert (controller["replicas"], by_key["Deployment", "pki", "spork-api"]["spec"]["replicas"]) == (3, 5)
    data = by_key["ConfigMap", "pki", "spork-settings"]["data"]
    assert data["SPORK_STATUS_URL"] == "http://pki.example.com"
    assert data["SPORK_WORKERS"] == "2"
    assert all(secret in text for secret in values["secrets"].values())


def test_a_construct_that_is_not_understood_is_an_error() -> None:
    for text in ('{{ include "x" . }}', "{{ .Values.a | indent 2 }}", "{{ if .Values }}", "{{ end }}", "{{ printf }}"):
        with pytest.raises(ValueError, match=r"not known|no end|closes nothing"):
            render(text, {"a": 1}, "x")


def test_the_api_server_takes_every_object_of_the_chart(shipped_kube: Cluster) -> None:
    words = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-")
    done = shipped_kube.kubectl(*words, stdin=yaml.safe_dump_all(_chart(_values())))
    assert done.returncode == 0, done.stderr


def test_helm_itself_renders_the_same() -> None:
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("the program helm is not installed")
    words = [helm, "template", "spork", CHART, "--namespace", NAMESPACE, "--kube-version", "1.36.0"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    made = [one for one in yaml.safe_load_all(text) if one is not None]
    assert {_key(one): one for one in made} == {_key(one): one for one in _chart(_values())}
