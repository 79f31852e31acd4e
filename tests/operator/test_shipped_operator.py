"""The operator as it is shipped: with its ServiceAccount's rights and under its policies everything works."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operator_running import Programs, an_identity, is_ready, programs, requests_of, until
from operator_world import Cluster
from shipped_world import NAMESPACE, OPERATOR

pytestmark = [pytest.mark.operator, pytest.mark.store, pytest.mark.timeout(300)]
TEAM = "shipped-team"
GROUPS = ("system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated")
_TREE: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": TEAM, "labels": {"spork-ca.org/inject-trust": "true"}},
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "spork-controller", "namespace": TEAM},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "spork-controller-workload",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "spork-controller", "namespace": NAMESPACE}],
    },
    {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "Hierarchy",
        "metadata": {"name": "shipped"},
        "spec": {
            "root": {
                "id": "shipped-root",
                "commonName": "Shipped Root",
                "algorithm": "ecdsa-p256",
                "validityYears": 10,
                "keyMode": "online",
            },
            "issuingCAs": [
                {
                    "id": "shipped",
                    "commonName": "Shipped CA",
                    "algorithm": "ecdsa-p256",
                    "validityYears": 5,
                    "allowedNamespaces": {"names": [TEAM]},
                }
            ],
        },
    },
    {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "Issuer",
        "metadata": {"name": "team", "namespace": TEAM},
        "spec": {"ca": "shipped", "profiles": ["tls-server"], "names": {"permit": {"dns": ["**.team.test"]}}},
    },
    {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "Certificate",
        "metadata": {"name": "web", "namespace": TEAM},
        "spec": {
            "secretName": "web-tls",
            "dnsNames": ["web.team.test"],
            "issuerRef": {"name": "team"},
            "deletionPolicy": "Revoke",
        },
    },
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "site", "namespace": TEAM, "annotations": {"spork-ca.org/issuer": "team"}},
        "spec": {
            "tls": [{"hosts": ["site.team.test"], "secretName": "site-tls"}],
            "defaultBackend": {"service": {"name": "site", "port": {"number": 80}}},
        },
    },
]


@pytest.fixture
def shipped(shipped_kube: Cluster, database_url: str, tmp_path: Path) -> Iterator[Programs]:
    with programs(shipped_kube, database_url, tmp_path) as made:
        made.identity = OPERATOR
        made.kubeconfig = an_identity(shipped_kube.kubeconfig.parent, OPERATOR, *GROUPS)
        yield made
        shipped_kube.kubectl("delete", "namespace", TEAM, "--wait=false")


async def test_everything_works_with_the_rights_that_are_shipped(shipped: Programs) -> None:
    done = shipped.kube.apply(*_TREE)
    assert done.returncode == 0, done.stderr
    before = len(requests_of(shipped.kube, OPERATOR))
    shipped.serve()
    controller = shipped.controller("--namespace", TEAM, "--lease-namespace", NAMESPACE)

    async def ready(*words: str) -> bool:
        controller.ready()
        found = await asyncio.to_thread(shipped.kube.kubectl, "get", *words, "--ignore-not-found", "-o", "name")
        if not found.stdout.strip():
            return False
        return is_ready(await asyncio.to_thread(shipped.kube.get, *words))

    for name in ("web", "site-tls"):
        await until(lambda n=name: ready("certificates.spork-ca.org", n, "-n", TEAM), f"{name} is Ready", 120)
    there = shipped.kube.get("secrets", "-n", TEAM)["items"]
    assert {one["metadata"]["name"] for one in there} >= {"web-tls", "site-tls"}
    assert shipped.kube.get("configmap", "spork-ca-bundle", "-n", TEAM)["data"]["ca.crt"]

    # A finalizer, a revocation, and the going of what belongs to an Ingress.
    gone = shipped.kube.kubectl("delete", "certificates.spork-ca.org/web", "-n", TEAM, "--timeout=60s")
    assert gone.returncode == 0, gone.stderr
    requests = requests_of(shipped.kube, OPERATOR, since=before)
    assert len(requests) > 10
    assert [one for one in requests if one.status in (401, 403)] == []
