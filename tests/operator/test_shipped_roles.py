"""Least privilege, on a real API server: what each identity of manifests/base may do, and that it is not one thing more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import yaml
from operator_world import Cluster, a_resource
from shipped_world import API, NAMESPACE, OPERATOR, as_operator, until

pytestmark = [
    pytest.mark.operator,
    pytest.mark.expected_skip("a user's machine need not have a Kubernetes control plane"),
]
OURS = ("hierarchies", "clusterissuers", "issuers", "certificates", "ceremonies")
Right = tuple[str, str, str]
"""Resource with its group, name or empty for all, verb."""


def _rights(resources: Iterable[str], verbs: str, name: str = "") -> set[Right]:
    return {(resource, name, verb) for resource in resources for verb in verbs.split()}


EVERYWHERE: set[Right] = (
    _rights((f"{one}.spork-ca.org" for one in OURS), "get list watch patch")
    | _rights((f"{one}/status.spork-ca.org" for one in OURS), "patch")
    | _rights(["namespaces.", "certificatesigningrequests.certificates.k8s.io"], "get list watch")
    | _rights(["certificatesigningrequests/status.certificates.k8s.io"], "patch")
    | _rights(["signers.certificates.k8s.io"], "sign attest", "spork-ca.org/*")
    | _rights(["subjectaccessreviews.authorization.k8s.io"], "create")
    | _rights(["clustertrustbundles.certificates.k8s.io"], "get list watch create update delete")
)
EVENTS: set[Right] = _rights(["events.events.k8s.io"], "create")
IN: dict[str, set[Right]] = {
    NAMESPACE: _rights(["leases.coordination.k8s.io"], "create")
    | _rights(["leases.coordination.k8s.io"], "get update", "spork-controller"),
    "default": EVENTS,
    "kube-system": set(),
}
IN_A_WORKLOAD: set[Right] = (
    _rights(["secrets.", "configmaps."], "get list watch create update delete")
    | EVENTS
    | _rights(["ingresses.networking.k8s.io", "certificaterequests.cert-manager.io"], "get list watch")
    | _rights(["certificaterequests/status.cert-manager.io"], "patch")
    | _rights(["certificates.spork-ca.org"], "create update delete")
    | _rights(["certificates/finalizers.spork-ca.org"], "update")
)


@pytest.fixture(scope="module")
def workload(shipped_kube: Cluster) -> str:
    """A namespace that the operator works for."""
    account = f"--serviceaccount={NAMESPACE}:spork-controller"
    binding = (
        "create",
        "rolebinding",
        "spork-controller",
        "-n",
        "team",
        "--clusterrole=spork-controller-workload",
        account,
    )
    for words in (("create", "namespace", "team"), binding):
        done = shipped_kube.kubectl(*words)
        assert done.returncode == 0, done.stderr
    until(lambda: _may(shipped_kube, OPERATOR, "get", "secrets", "team"), "the binding is in force")
    return "team"


def _may(kube: Cluster, who: str, verb: str, resource: str, namespace: str) -> bool:
    return kube.kubectl("auth", "can-i", verb, resource, "-n", namespace, f"--as={who}").stdout.startswith("yes")


def _all_rights(kube: Cluster, who: str, namespace: str) -> set[Right]:
    """Everything that the API server says an identity may do in a namespace, less what every ServiceAccount may."""

    def found(name: str) -> Iterator[Right]:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        done = kube.kubectl(
            "create", "--validate=false", "-f", "-", "-o", "json", f"--as={name}", stdin=yaml.safe_dump(review)
        )
        assert done.returncode == 0, done.stderr
        status = json.loads(done.stdout)["status"]
        assert not status.get("incomplete"), status
        for rule in status["resourceRules"]:
            for group in rule.get("apiGroups") or [""]:
                for resource in rule["resources"]:
                    for name_ in rule.get("resourceNames") or [""]:
                        yield from ((f"{resource}.{group}", name_, verb) for verb in rule["verbs"])
        for rule in status["nonResourceRules"]:
            yield from ((url, "", verb) for url in rule["nonResourceURLs"] for verb in rule["verbs"])

    return set(found(who)) - set(found("system:serviceaccount:default:nobody"))


@pytest.mark.parametrize("namespace", IN)
def test_the_operator_may_do_exactly_this_where_it_does_not_work(shipped_kube: Cluster, namespace: str) -> None:
    assert _all_rights(shipped_kube, OPERATOR, namespace) == EVERYWHERE | IN[namespace]


def test_the_operator_may_do_exactly_this_where_it_works(shipped_kube: Cluster, workload: str) -> None:
    assert _all_rights(shipped_kube, OPERATOR, workload) == EVERYWHERE | IN_A_WORKLOAD


@pytest.mark.parametrize("namespace", [NAMESPACE, "default"])
def test_the_api_may_ask_whose_a_token_is_and_nothing_else(shipped_kube: Cluster, namespace: str) -> None:
    assert _all_rights(shipped_kube, API, namespace) == _rights(["tokenreviews.authentication.k8s.io"], "create")


def test_the_jobs_may_do_nothing_at_all(shipped_kube: Cluster) -> None:
    assert _all_rights(shipped_kube, f"system:serviceaccount:{NAMESPACE}:spork-jobs", NAMESPACE) == set()


READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch", "delete", "deletecollection")
REFUSED = [
    *((verb, "secrets", NAMESPACE) for verb in (*READ, *WRITE)),
    *((verb, "configmaps", NAMESPACE) for verb in (*READ, *WRITE)),
    *((verb, "secrets", "default") for verb in (*READ, *WRITE)),
    *((verb, "pods", namespace) for verb in ("create", "patch", "delete") for namespace in (NAMESPACE, "team")),
    ("create", "pods/exec", "team"),
    ("create", "serviceaccounts/token", NAMESPACE),
    ("create", "jobs.batch", NAMESPACE),
    ("patch", "deployments.apps", NAMESPACE),
    *((verb, kind, "team") for kind in ("issuers.spork-ca.org", "hierarchies.spork-ca.org") for verb in ("create", "update")),
    *(("delete", f"{kind}.spork-ca.org", "team") for kind in ("hierarchies", "clusterissuers", "issuers", "ceremonies")),
    ("approve", "hierarchies.spork-ca.org", "team"),
    ("reference", "issuers.spork-ca.org", "team"),
    ("approve", "signers.certificates.k8s.io", "team"),
    ("update", "certificatesigningrequests.certificates.k8s.io/approval", "team"),
    ("create", "tokenreviews.authentication.k8s.io", "team"),
    *((verb, kind, "team") for verb in ("impersonate",) for kind in ("users", "groups", "serviceaccounts")),
    *((verb, "roles.rbac.authorization.k8s.io", "team") for verb in ("escalate", "bind", "create", "patch")),
    ("create", "rolebindings.rbac.authorization.k8s.io", "team"),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io", "team"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io", "team"),
    ("patch", "validatingadmissionpolicies.admissionregistration.k8s.io", "team"),
    ("patch", "namespaces", "team"),
]  # fmt: skip


def test_the_operator_may_do_none_of_this(shipped_kube: Cluster, workload: str) -> None:
    assert workload == "team"
    allowed = [row for row in REFUSED if _may(shipped_kube, OPERATOR, row[0], row[1], row[2])]
    assert allowed == []


@pytest.mark.parametrize("kind", ["Hierarchy", "ClusterIssuer", "Issuer", "Certificate"])
def test_the_operator_patches_status_finalizers_and_annotations(
    shipped_kube: Cluster, workload: str, kind: str
) -> None:
    resource = _made(shipped_kube, kind, "mine", workload)
    for patch, more in (
        ({"metadata": {"finalizers": ["spork-ca.org/live-certificates"]}}, ()),
        ({"metadata": {"annotations": {"spork-ca.org/seen": "yes"}}}, ()),
        ({"status": {"observedGeneration": 1}}, ("--subresource=status",)),
        ({"metadata": {"finalizers": None}}, ()),
    ):
        done = _patched(shipped_kube, resource, patch, *as_operator(), *more)
        assert done == "", patch


@pytest.mark.parametrize("kind", ["Hierarchy", "ClusterIssuer", "Issuer"])
def test_the_operator_cannot_change_what_was_declared(shipped_kube: Cluster, workload: str, kind: str) -> None:
    resource = _made(shipped_kube, kind, "declared", workload)
    spec = {"root": {"validityYears": 30}} if kind == "Hierarchy" else {"profiles": ["tls-client"]}
    assert "does not change what people have declared" in _patched(
        shipped_kube, resource, {"spec": spec}, *as_operator()
    )


def _made(kube: Cluster, kind: str, name: str, namespace: str) -> dict[str, Any]:
    resource = a_resource(kind, name=name)
    if "namespace" in resource["metadata"]:
        resource["metadata"]["namespace"] = namespace
    done = kube.apply(resource)
    assert done.returncode == 0, done.stderr
    return resource


def _patched(kube: Cluster, resource: dict[str, Any], patch: dict[str, Any], *words: str) -> str:
    """What kubectl has to complain about."""
    target = yaml.safe_dump({key: resource[key] for key in ("apiVersion", "kind", "metadata")})
    done = kube.kubectl("patch", "-f", "-", "--type=merge", "-p", json.dumps(patch), *words, stdin=target)
    return "" if done.returncode == 0 else done.stderr
