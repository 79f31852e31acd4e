"""Trust bundles on a real API server that has ClusterTrustBundles, with kubectl as the user's hand."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import control_plane
from operator_running import RunningOperator, an_operator, is_ready, until
from operator_world import Cluster

from spork.controller.cluster import Ref
from spork.controller.trust.bundle import fingerprints_in

pytestmark = pytest.mark.operator

_ROOT = Path(__file__).resolve().parents[2]
_FLAGS = "--feature-gates=ClusterTrustBundle=true --runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true"
_CTB = Ref("ClusterTrustBundle", "", "spork-ca.org:roots-a:roots")
_TREE: dict[str, Any] = {
    "root": {"id": "roots-a", "commonName": "Roots A", "algorithm": "ecdsa-p256", "validityYears": 20},
    "issuingCAs": [{"id": "roots-a-web", "commonName": "Roots A Web", "algorithm": "ecdsa-p256", "validityYears": 5}],
}


@pytest.fixture(scope="module")
def trusting_kube(kube_assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane whose API server serves ClusterTrustBundles, which 1.36 does not by itself."""
    with control_plane(kube_assets, tmp_path_factory.mktemp("trusting"), KUBE_APISERVER_FLAGS=_FLAGS) as cluster:
        done = cluster.kubectl("apply", "--server-side", "-f", str(_ROOT / "crds"))
        assert done.returncode == 0, done.stderr
        end = time.monotonic() + 60
        while (got := cluster.kubectl("get", "spork", "-A")).returncode != 0:
            assert time.monotonic() < end, got.stderr
            time.sleep(0.1)
        yield cluster


@pytest.fixture
async def running(trusting_kube: Cluster, database_url: str, tmp_path: Path) -> AsyncIterator[RunningOperator]:
    async with an_operator(trusting_kube, database_url, tmp_path) as operator:
        yield operator


def _an_object(kind: str, name: str, spec: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, **place},
        "spec": spec,
    }


async def _with_a_tree(running: RunningOperator) -> None:
    """Three namespaces that ask, a new tree, an issuer and a certificate, all at once."""
    for name in ("trust-a", "trust-b"):
        await running.user.apply(_namespace(name, "true"))
    await running.user.apply(_namespace("trust-c", "roots-a"), _namespace("trust-no", None))
    issuer = {"ca": "roots-a-web", "profiles": ["tls-server"], "names": {"permit": {"dns": ["**.trust.test"]}}}
    certificate = {"secretName": "www", "dnsNames": ["www.trust.test"]}
    await running.user.apply(
        _an_object("ClusterIssuer", "trust", {**issuer, "allowedNamespaces": {"names": ["*"]}}),
        _an_object(
            "Certificate", "www", {**certificate, "issuerRef": {"name": "trust", "kind": "ClusterIssuer"}}, "trust-no"
        ),
        _an_object("Hierarchy", "roots-a", _TREE),
    )
    ref = Ref("Certificate", "trust-no", "www")
    await until(lambda: is_ready(running.cluster.get(ref)), "the certificate is there")
    await running.quiet()


def _namespace(name: str, asks: str | None) -> dict[str, Any]:
    labels = {} if asks is None else {"spork-ca.org/inject-trust": asks}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _bundle(kube: Cluster, namespace: str) -> frozenset[str] | None:
    done = kube.kubectl("get", "configmap", "spork-ca-bundle", "-n", namespace, "-o", "json", "--ignore-not-found")
    return fingerprints_in(json.loads(done.stdout)["data"]["ca.crt"]) if done.stdout else None


async def test_a_new_root_is_everywhere_before_anything_signs_below_it(running: RunningOperator) -> None:
    await _with_a_tree(running)
    kube = running.kube
    # The file's tree of this installation has a root, too.
    assert [len(_bundle(kube, name) or ()) for name in ("trust-a", "trust-b", "trust-c")] == [2, 2, 1]
    assert _bundle(kube, "trust-no") is None
    bundle = json.loads(kube.kubectl("get", "clustertrustbundle", _CTB.name, "-o", "json").stdout)
    assert bundle["spec"]["signerName"] == "spork-ca.org/roots-a"
    assert fingerprints_in(bundle["spec"]["trustBundle"]) == _bundle(kube, "trust-c")
    written = [(one.verb, one.resource, one.namespace) for one in running.requests() if one.writes]
    (signed,) = [at for at, one in enumerate(written) if one == ("create", "secrets", "trust-no")][-1:]
    last = {one: at for at, one in enumerate(written) if one[1] in ("configmaps", "clustertrustbundles")}
    assert {one[2] for one in last} == {"trust-a", "trust-b", "trust-c", ""}
    assert max(last.values()) < signed


async def test_nothing_is_requested_at_rest_and_nothing_written_after_a_restart(running: RunningOperator) -> None:
    await _with_a_tree(running)
    await running.stop()
    before = len(running.requests())
    await running.start()
    await running.quiet(for_s=3)
    about = [one for one in running.requests(since=before) if "bundle" in f"{one.name}{one.resource}"]
    assert [one for one in about if one.writes] == []
    assert [one for one in running.requests(since=before) if one.writes and one.resource == "configmaps"] == []


async def test_whatever_a_user_does_to_a_bundle_is_undone(running: RunningOperator) -> None:
    await _with_a_tree(running)
    kube = running.kube
    good = _bundle(kube, "trust-a")
    place = ("configmap", "spork-ca-bundle", "-n", "trust-a")
    for words in (
        ("patch", *place, "--type=merge", "-p", '{"data": {"ca.crt": "mine", "more": "x"}}'),
        ("delete", *place),
        ("label", *place, "spork-ca.org/managed-"),
        ("patch", *place, "--type=merge", "-p", '{"immutable": true, "data": {"ca.crt": "mine"}}'),
        ("patch", "clustertrustbundle", _CTB.name, "--type=merge", "-p", '{"metadata": {"annotations": null}}'),
        ("delete", "clustertrustbundle", _CTB.name),
    ):
        done = kube.kubectl(*words)
        assert done.returncode == 0, done.stderr
        await until(lambda: _is_restored(kube, good), f"undone: {words}")


def _is_restored(kube: Cluster, good: frozenset[str] | None) -> bool:
    item = kube.kubectl("get", "configmap", "spork-ca-bundle", "-n", "trust-a", "-o", "json", "--ignore-not-found")
    bundle = kube.kubectl("get", "clustertrustbundle", _CTB.name, "-o", "json", "--ignore-not-found")
    if not item.stdout or not bundle.stdout or _bundle(kube, "trust-a") != good:
        return False
    metadata = json.loads(item.stdout)["metadata"], json.loads(bundle.stdout)["metadata"]
    return all(
        one.get("labels", {}).get("spork-ca.org/managed") == "true"
        and "spork-ca.org/trust-bundle" in one.get("annotations", {})
        for one in metadata
    ) and set(json.loads(item.stdout)["data"]) == {"ca.crt"}


async def test_somebody_elses_config_map_stops_nobody_and_is_told_of(running: RunningOperator) -> None:
    kube = running.kube
    kube.apply(_namespace("trust-theirs", "true"))
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"ca.crt": "theirs"}}
    kube.apply({**theirs, "metadata": {"name": "spork-ca-bundle", "namespace": "trust-theirs"}})
    await _with_a_tree(running)

    def told() -> bool:
        events = yaml.safe_load(kube.kubectl("get", "events", "-n", "trust-theirs", "-o", "yaml").stdout)["items"]
        return [one["reason"] for one in events if one["involvedObject"]["name"] == "spork-ca-bundle"] == ["Conflict"]

    await until(told, "an event")
    item = json.loads(kube.kubectl("get", "configmap", "spork-ca-bundle", "-n", "trust-theirs", "-o", "json").stdout)
    assert item["data"] == {"ca.crt": "theirs"}
    kube.apply(_namespace("trust-theirs", "false"))
    await running.quiet()
    assert kube.kubectl("get", "configmap", "spork-ca-bundle", "-n", "trust-theirs").returncode == 0


async def test_the_bundle_goes_with_the_label_and_the_cluster_bundle_with_the_hierarchy(
    running: RunningOperator,
) -> None:
    await _with_a_tree(running)
    kube = running.kube
    kube.kubectl("label", "namespace", "trust-a", "spork-ca.org/inject-trust-")
    await until(lambda: _bundle(kube, "trust-a") is None, "the bundle is gone")
    # Whoever deletes it by force leaves nothing of it behind either.
    kube.kubectl("patch", "hierarchy", "roots-a", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    kube.kubectl("delete", "hierarchy", "roots-a", "--wait=false")
    kube.kubectl("patch", "hierarchy", "roots-a", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    await until(
        lambda: not kube.kubectl("get", "clustertrustbundle", _CTB.name, "--ignore-not-found").stdout,
        "the cluster's bundle is gone",
    )
    assert len(_bundle(kube, "trust-b") or ()) == 2
