"""Every overlay of manifests/: rendered by kubectl, accepted by a real API server, and consistent with the program."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from operator_world import Cluster
from shipped_world import MANIFESTS, NAMESPACE, ROOT, rendered

from spork.cli.main import cli
from spork.settings import load_settings

pytestmark = [
    pytest.mark.operator,
    pytest.mark.expected_skip("a user's machine need not have a Kubernetes control plane"),
]
OVERLAYS = sorted(path.parent for path in MANIFESTS.glob("overlays/*/kustomization.yaml"))
# Kinds of others, which this API server does not know, with the paths that their schemas require.
FOREIGN = {"postgresql.cnpg.io/v1/Cluster": ("spec.instances", "spec.storage.size")}
Manifest = dict[str, Any]


@functools.cache
def _rendered(kubectl: Path, folder: Path) -> tuple[Manifest, ...]:
    return tuple(rendered(kubectl, folder))


@pytest.fixture(params=[MANIFESTS / "base", *OVERLAYS], ids=lambda path: path.name)
def shipped(request: pytest.FixtureRequest, kube_assets: Path) -> tuple[Manifest, ...]:
    return _rendered(kube_assets / "kubectl", request.param)


@pytest.fixture(params=OVERLAYS, ids=lambda path: path.name)
def overlay(request: pytest.FixtureRequest, kube_assets: Path) -> tuple[Manifest, ...]:
    return _rendered(kube_assets / "kubectl", request.param)


def _kind(item: Manifest) -> str:
    return f"{item['apiVersion']}/{item['kind']}"


def _at(item: Any, path: str) -> Any:
    return functools.reduce(lambda value, key: value[key], path.split("."), item)


def _pods(items: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    """Each pod template by the name of its owner."""
    for item in items:
        if item["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield item["metadata"]["name"], item["spec"]["template"]
        elif item["kind"] == "CronJob":
            yield item["metadata"]["name"], item["spec"]["jobTemplate"]["spec"]["template"]


def _containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]


def _spork_pods(items: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    return ((name, pod) for name, pod in _pods(items) if _containers(pod)[0]["image"] == "spork-ca")


def test_the_api_server_takes_every_object(shipped_kube: Cluster, shipped: tuple[Manifest, ...]) -> None:
    known = [item for item in shipped if _kind(item) not in FOREIGN]
    words = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-")
    done = shipped_kube.kubectl(*words, stdin=yaml.safe_dump_all(known))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    for item in (item for item in shipped if _kind(item) in FOREIGN):
        assert all(_at(item, path) for path in FOREIGN[_kind(item)])


def test_the_pods_are_admitted_under_restricted_pod_security(
    shipped_kube: Cluster, shipped: tuple[Manifest, ...]
) -> None:
    for name, template in _pods(shipped):
        pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": name, "namespace": NAMESPACE}}
        pod["spec"] = {**template["spec"], "restartPolicy": template["spec"].get("restartPolicy", "Always")}
        pod["spec"].pop("serviceAccountName", None)
        if name == "spork-postgres":
            # What a StatefulSet adds from its claim.
            pod["spec"]["volumes"] = [*pod["spec"]["volumes"], {"name": "data", "emptyDir": {}}]
        done = shipped_kube.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))
        assert done.returncode == 0, done.stderr


def test_a_pod_that_is_not_restricted_is_refused(shipped_kube: Cluster) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": NAMESPACE}}
    pod["spec"] = {"containers": [{"name": "root", "image": "spork-ca"}]}  # type: ignore[assignment]
    done = shipped_kube.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))
    assert 'violates PodSecurity "restricted' in done.stderr


def test_every_container_is_confined(shipped: tuple[Manifest, ...]) -> None:
    for name, pod in _pods(shipped):
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in _containers(pod):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] and security["runAsNonRoot"], name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


def test_only_who_speaks_to_the_api_server_has_a_token(shipped: tuple[Manifest, ...]) -> None:
    with_token = {name for name, pod in _pods(shipped) if pod["spec"]["automountServiceAccountToken"]}
    assert with_token == {"spork-api", "spork-controller"}


def test_no_service_puts_settings_into_a_pod(shipped: tuple[Manifest, ...]) -> None:
    # A Service named spork-admin becomes the variables SPORK_ADMIN_PORT and more, which SPORK refuses as unknown settings.
    assert all(pod["spec"]["enableServiceLinks"] is False for _, pod in _pods(shipped))


def test_secrets_reach_whom_they_are_for(shipped: tuple[Manifest, ...]) -> None:
    def secrets(pod: Manifest) -> set[str]:
        volumes = {one["secret"]["secretName"] for one in pod["spec"].get("volumes", []) if "secret" in one}
        variables = {
            one["valueFrom"]["secretKeyRef"]["name"]
            for container in _containers(pod)
            for one in container.get("env", [])
            if "secretKeyRef" in one.get("valueFrom", {})
        }
        return volumes | variables

    found = {name: secrets(pod) for name, pod in _spork_pods(shipped)}
    assert found == {
        "spork-api": {"spork-passphrase", "spork-database-server"},
        "spork-controller": {"spork-database-controller"},
        "spork-migrate": {"spork-passphrase", "spork-database-owner"},
        "spork-sealed": {"spork-passphrase", "spork-sealed-passphrase", "spork-database-server"},
    }


def test_no_secret_is_shipped(shipped: tuple[Manifest, ...]) -> None:
    assert not [item for item in shipped if item["kind"] == "Secret"]


def test_every_setting_is_one_that_the_program_knows(shipped: tuple[Manifest, ...]) -> None:
    maps = {item["metadata"]["name"]: item["data"] for item in shipped if item["kind"] == "ConfigMap"}
    for name, pod in _spork_pods(shipped):
        (container,) = _containers(pod)
        environment = {one["name"]: one.get("value", "postgresql://db/spork") for one in container["env"]}
        for source in container.get("envFrom", []):
            environment |= maps[source["configMapRef"]["name"]]
        settings = load_settings(environment=environment)
        assert settings.home == Path("/var/lib/spork"), name
        mounts = {one["mountPath"] for one in container["volumeMounts"]}
        assert {"/var/lib/spork", "/tmp"} <= mounts, name
        if "SPORK_PASSPHRASE_FILE" in environment:
            assert str(settings.passphrase_file) == "/run/secrets/spork/online/passphrase"
            assert "/run/secrets/spork/online" in mounts, name


def test_every_command_is_one_that_the_program_has(shipped: tuple[Manifest, ...]) -> None:
    for name, pod in _spork_pods(shipped):
        (container,) = _containers(pod)
        words: list[str] = container["args"]
        command: click.Command = cli
        context = click.Context(cli)
        while isinstance(command, click.Group):
            found = command.get_command(context, words[0])
            assert found is not None, f"{name}: {container['args']}"
            command, words = found, words[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in words} <= options, name


def test_services_and_probes_lead_to_ports_that_are_there(shipped: tuple[Manifest, ...]) -> None:
    pods = dict(_pods(shipped))
    for service in (item for item in shipped if item["kind"] == "Service"):
        selector = service["spec"]["selector"]
        (pod,) = [pod for pod in pods.values() if selector.items() <= pod["metadata"]["labels"].items()]
        names = {port["name"] for container in _containers(pod) for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for name in ("spork-api", "spork-controller"):
        (container,) = _containers(pods[name])
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "ops"}


def test_nothing_is_reachable_that_no_policy_names(shipped: tuple[Manifest, ...]) -> None:
    policies = [item for item in shipped if item["kind"] == "NetworkPolicy"]
    assert any(policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for policy in policies), (
        "what no other policy names is denied"
    )
    ports = {
        port["port"]
        for policy in policies
        for rule in policy["spec"].get("ingress", [])
        for port in rule.get("ports", [None])
    }
    assert None not in ports
    assert ports <= {"status", "enrol", "admin", "ops", "postgres", 5432, 8000}
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            if not {port["port"] for port in rule["ports"]} <= {"status", "enrol"}:
                assert rule.get("from"), f"{policy['metadata']['name']}: only status and enrolment are for everybody"


def test_the_operator_watches_where_it_is_bound_and_never_the_namespace_of_the_ca(
    overlay: tuple[Manifest, ...],
) -> None:
    (args,) = [_containers(pod)[0]["args"] for name, pod in _pods(overlay) if name == "spork-controller"]
    watched = {word.removeprefix("--namespace=") for word in args if word.startswith("--namespace=")}
    bound = {
        item["metadata"]["namespace"]
        for item in overlay
        if item["kind"] == "RoleBinding" and item["roleRef"]["name"] == "spork-controller-workload"
    }
    assert watched == bound
    assert bound
    assert NAMESPACE not in bound


def test_high_availability_is_two_of_each_that_may_not_go_together(kube_assets: Path) -> None:
    for name in ("ha", "ha-cloudnativepg"):
        items = _rendered(kube_assets / "kubectl", MANIFESTS / "overlays" / name)
        deployments = {item["metadata"]["name"]: item["spec"] for item in items if item["kind"] == "Deployment"}
        assert {name: spec["replicas"] for name, spec in deployments.items()} == {"spork-api": 2, "spork-controller": 2}
        for spec in deployments.values():
            spread = spec["template"]["spec"]["topologySpreadConstraints"]
            assert {one["topologyKey"] for one in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        budgets = {item["metadata"]["name"] for item in items if item["kind"] == "PodDisruptionBudget"}
        assert budgets == deployments.keys()


def test_the_bundled_database_makes_the_logins_of_the_documentation() -> None:
    script = (MANIFESTS / "overlays" / "single-node" / "init.sql").read_text()
    documented = (ROOT / "docs" / "database.md").read_text()
    statements = re.findall(
        r"^((?:CREATE ROLE \w+ (?:NO)?LOGIN|GRANT|CREATE DATABASE)[^;']*)", documented, re.MULTILINE
    )
    assert len(statements) >= 8
    for statement in statements:
        assert statement in script


def test_metrics_are_an_option_that_can_be_added(kube_assets: Path, tmp_path: Path) -> None:
    component = yaml.safe_load((MANIFESTS / "components" / "servicemonitor" / "servicemonitor.yaml").read_text())
    services = [item for item in _rendered(kube_assets / "kubectl", MANIFESTS / "base") if item["kind"] == "Service"]
    labels = component["spec"]["selector"]["matchLabels"]
    chosen = [one for one in services if labels.items() <= one["metadata"]["labels"].items()]
    assert {one["metadata"]["name"] for one in chosen} == {"spork-api-ops", "spork-controller-ops"}
    ports = {port["name"] for one in chosen for port in one["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in component["spec"]["endpoints"]} == ports
