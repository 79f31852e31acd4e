"""The admission policies of manifests/base on a real API server, with kubectl as the user's hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from operator_world import CLUSTER_KINDS, Cluster, a_resource
from shipped_world import NAMESPACE, OPERATOR, as_operator, until

pytestmark = [
    pytest.mark.operator,
    pytest.mark.expected_skip("a user's machine need not have a Kubernetes control plane"),
]
HOLDERS = ("Hierarchy", "ClusterIssuer", "Issuer")
CONFIRM = "spork-ca.org/confirm-delete"
EVERYTHING = "--as-group=system:masters"


def _ok(kube: Cluster, *words: str, stdin: str | None = None) -> None:
    done = kube.kubectl(*words, stdin=stdin)
    assert done.returncode == 0, done.stderr


def _target(resource: dict[str, Any]) -> str:
    return yaml.safe_dump({key: resource[key] for key in ("apiVersion", "kind", "metadata")})


def _with_live(kube: Cluster, kind: str, live: int | None, name: str, namespace: str = "default") -> dict[str, Any]:
    """An object whose status says that so many certificates are alive; that of a Hierarchy says it CA by CA."""
    resource = a_resource(kind, name=name)
    if kind not in CLUSTER_KINDS:
        resource["metadata"]["namespace"] = namespace
    done = kube.apply(resource)
    assert done.returncode == 0, done.stderr
    if live is not None:
        cas = [{"id": "web", "phase": "Ready", "liveCertificates": live // 2}, {"id": "lab", "phase": "Pending"}]
        cas.append({"id": "root", "phase": "Ready", "liveCertificates": live - live // 2})
        counted = {"authorities": cas} if kind == "Hierarchy" else {"liveCertificates": live}
        status = json.dumps({"status": counted})
        _ok(kube, "patch", "-f", "-", "--subresource=status", "--type=merge", "-p", status, stdin=_target(resource))
    return resource


def _annotate(kube: Cluster, resource: dict[str, Any], value: str | None) -> None:
    patch = json.dumps({"metadata": {"annotations": {CONFIRM: value}}})
    _ok(kube, "patch", "-f", "-", "--type=merge", "-p", patch, stdin=_target(resource))


def _deleted(kube: Cluster, resource: dict[str, Any], *words: str) -> str:
    """What kubectl has to complain about; empty if it is deleted."""
    done = kube.kubectl("delete", "-f", "-", "--wait=false", *words, stdin=_target(resource))
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("kind", HOLDERS)
def test_a_deletion_with_live_certificates_is_refused_and_says_how_many(shipped_kube: Cluster, kind: str) -> None:
    resource = _with_live(shipped_kube, kind, 12, "twelve")

    refusal = _deleted(shipped_kube, resource)

    assert f"{kind} twelve has 12 live certificates" in refusal
    assert f'{CONFIRM}: "12"' in refusal
    for wrong in ("11", "012", "true", "12.0", ""):
        _annotate(shipped_kube, resource, wrong)
        assert "has 12 live certificates" in _deleted(shipped_kube, resource), wrong
    _annotate(shipped_kube, resource, "12")
    assert _deleted(shipped_kube, resource) == ""


@pytest.mark.parametrize("kind", HOLDERS)
@pytest.mark.parametrize("live", [0, None], ids=["none is alive", "nothing was counted yet"])
def test_a_deletion_without_live_certificates_passes(shipped_kube: Cluster, kind: str, live: int | None) -> None:
    assert _deleted(shipped_kube, _with_live(shipped_kube, kind, live, "idle")) == ""


def test_a_number_that_was_confirmed_earlier_is_no_confirmation(shipped_kube: Cluster) -> None:
    resource = _with_live(shipped_kube, "Issuer", 3, "grown")
    _annotate(shipped_kube, resource, "3")
    _with_live(shipped_kube, "Issuer", 4, "grown")
    assert "has 4 live certificates" in _deleted(shipped_kube, resource)
    assert "says 3" in _deleted(shipped_kube, resource)


def test_one_live_certificate_is_told_of_in_the_singular(shipped_kube: Cluster) -> None:
    assert "has 1 live certificate. " in _deleted(shipped_kube, _with_live(shipped_kube, "Issuer", 1, "single"))


def test_deleting_all_of_a_namespace_stops_at_the_one_with_live_certificates(shipped_kube: Cluster) -> None:
    _ok(shipped_kube, "create", "namespace", "several")
    _with_live(shipped_kube, "Issuer", 0, "idle", "several")
    busy = _with_live(shipped_kube, "Issuer", 2, "busy", "several")
    done = shipped_kube.kubectl("delete", "issuers.spork-ca.org", "--all", "-n", "several")
    assert "Issuer busy has 2 live certificates" in done.stderr
    collection = "/apis/spork-ca.org/v1alpha1/namespaces/several/issuers"
    assert "Issuer busy has 2 live certificates" in shipped_kube.kubectl("delete", "--raw", collection).stderr
    assert shipped_kube.kubectl("get", "-f", "-", stdin=_target(busy)).returncode == 0


def test_a_namespace_is_deleted_with_its_issuers_and_does_not_hang(shipped_kube: Cluster) -> None:
    _ok(shipped_kube, "create", "namespace", "ending")
    _with_live(shipped_kube, "Issuer", 5, "busy", "ending")
    _ok(shipped_kube, "delete", "namespace", "ending", "--wait=false")
    until(lambda: "NotFound" in shipped_kube.kubectl("get", "namespace", "ending").stderr, "the namespace is gone")


def test_an_issuer_goes_with_its_owner(shipped_kube: Cluster) -> None:
    _ok(shipped_kube, "create", "configmap", "owner", "-n", "default")
    owner = shipped_kube.get("configmap", "owner", "-n", "default")["metadata"]
    resource = _with_live(shipped_kube, "Issuer", 5, "owned")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
    patch = json.dumps({"metadata": {"ownerReferences": [reference]}})
    _ok(shipped_kube, "patch", "-f", "-", "--type=merge", "-p", patch, stdin=_target(resource))
    _ok(shipped_kube, "delete", "configmap", "owner", "-n", "default")
    until(
        lambda: "NotFound" in shipped_kube.kubectl("get", "-f", "-", stdin=_target(resource)).stderr,
        "the garbage collector deleted the issuer",
    )


@pytest.mark.parametrize(
    "user",
    [
        "system:serviceaccount:kube-system:namespace-controller",
        "system:serviceaccount:kube-system:generic-garbage-collector",
        "system:kube-controller-manager",
    ],
)
def test_the_clusters_own_controllers_pass(shipped_kube: Cluster, user: str) -> None:
    resource = _with_live(shipped_kube, "Issuer", 5, "passing")
    assert _deleted(shipped_kube, resource, f"--as={user}", EVERYTHING, "--dry-run=server") == ""


@pytest.mark.parametrize("user", ["system:serviceaccount:default:namespace-controller", "admin", OPERATOR])
def test_nobody_else_passes_by_a_similar_name(shipped_kube: Cluster, user: str) -> None:
    resource = _with_live(shipped_kube, "Issuer", 5, "similar")
    assert "has 5 live" in _deleted(shipped_kube, resource, f"--as={user}", EVERYTHING, "--dry-run=server")


def test_asking_again_for_a_deletion_that_waits_is_no_error(shipped_kube: Cluster) -> None:
    resource = _with_live(shipped_kube, "Issuer", 0, "waiting")
    held = json.dumps({"metadata": {"finalizers": ["spork-ca.org/live-certificates"]}})
    _ok(shipped_kube, "patch", "-f", "-", "--type=merge", "-p", held, stdin=_target(resource))
    assert _deleted(shipped_kube, resource) == ""
    counted = json.dumps({"status": {"liveCertificates": 1}})
    _ok(
        shipped_kube, "patch", "-f", "-", "--subresource=status", "--type=merge", "-p", counted, stdin=_target(resource)
    )
    assert _deleted(shipped_kube, resource) == ""
    freed = json.dumps({"metadata": {"finalizers": None}})
    _ok(shipped_kube, "patch", "-f", "-", "--type=merge", "-p", freed, stdin=_target(resource))


def test_a_definition_is_deleted_only_by_name(shipped_kube: Cluster) -> None:
    delete = ("delete", "crd", "ceremonies.spork-ca.org", "--dry-run=server")
    assert "deletes every Ceremony of this cluster" in shipped_kube.kubectl(*delete).stderr
    _ok(shipped_kube, "annotate", "crd", "ceremonies.spork-ca.org", f"{CONFIRM}=certificates", "--overwrite")
    assert "deletes every Ceremony" in shipped_kube.kubectl(*delete).stderr
    _ok(shipped_kube, "annotate", "crd", "ceremonies.spork-ca.org", f"{CONFIRM}=ceremonies", "--overwrite")
    _ok(shipped_kube, *delete)
    _ok(shipped_kube, "annotate", "crd", "ceremonies.spork-ca.org", f"{CONFIRM}-")


def test_definitions_of_others_are_left_alone(shipped_kube: Cluster) -> None:
    other = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "things", "kind": "Thing"},
            "scope": "Cluster",
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }
    assert shipped_kube.apply(other).returncode == 0
    _ok(shipped_kube, "delete", "crd", "things.example.com", "--wait=false")


# What the operator writes


def _secret(name: str, namespace: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"a": "b"}}


MANAGED = {"spork-ca.org/managed": "true"}


@pytest.mark.parametrize(
    ("secret", "sentence"),
    [
        (_secret("new", NAMESPACE, MANAGED), "no Secrets and ConfigMaps in the CA's own namespace"),
        (_secret("new", "default"), "carries the label spork-ca.org/managed=true"),
        (_secret("new", "default", {"spork-ca.org/managed": "yes"}), "carries the label spork-ca.org/managed=true"),
    ],
    ids=["in the namespace of the CA", "without the label", "with another value of the label"],
)
def test_the_operator_cannot_write_although_roles_allow_everything(
    shipped_kube: Cluster, secret: dict[str, Any], sentence: str
) -> None:
    done = shipped_kube.kubectl("create", "-f", "-", *as_operator(everything=True), stdin=yaml.safe_dump(secret))
    assert sentence in done.stderr


def test_the_operator_cannot_touch_the_secret_of_somebody_else(shipped_kube: Cluster) -> None:
    _ok(shipped_kube, "create", "-f", "-", stdin=yaml.safe_dump(_secret("foreign", "default")))
    words = as_operator(everything=True)
    for verb in (
        ("delete", "secret", "foreign"),
        ("label", "secret", "foreign", "spork-ca.org/managed=true"),
        ("patch", "secret", "foreign", "-p", '{"stringData": {"a": "c"}}'),
    ):
        assert "only what it has made itself" in shipped_kube.kubectl(*verb, "-n", "default", *words).stderr, verb


def test_the_operator_writes_what_is_its_own_and_takes_a_lost_label_back(shipped_kube: Cluster) -> None:
    words = ("-n", "default", *as_operator(everything=True))
    secret = _secret("own", "default", MANAGED)
    secret["metadata"]["annotations"] = {"spork-ca.org/certificate-uid": "0"}
    _ok(shipped_kube, "create", "-f", "-", *words, stdin=yaml.safe_dump(secret))
    _ok(shipped_kube, "patch", "secret", "own", "-p", '{"stringData": {"a": "c"}}', *words)
    _ok(shipped_kube, "label", "secret", "own", "spork-ca.org/managed-", "-n", "default")
    _ok(shipped_kube, "label", "secret", "own", "spork-ca.org/managed=true", *words)
    _ok(shipped_kube, "delete", "secret", "own", *words)


def test_people_write_secrets_as_ever(shipped_kube: Cluster) -> None:
    for secret in (_secret("people", "default"), _secret("people", NAMESPACE, MANAGED)):
        _ok(shipped_kube, "create", "-f", "-", stdin=yaml.safe_dump(secret))
        _ok(shipped_kube, "delete", "-f", "-", stdin=yaml.safe_dump(secret))


# Which roles it may be given

SUBJECT = f"--serviceaccount={NAMESPACE}:spork-controller"


@pytest.mark.parametrize(
    "words",
    [
        ("rolebinding", "-n", NAMESPACE, "--clusterrole=spork-controller-workload", SUBJECT),
        ("rolebinding", "-n", NAMESPACE, "--clusterrole=spork-controller-lease", SUBJECT),
        ("rolebinding", "-n", NAMESPACE, "--clusterrole=view", f"--user={OPERATOR}"),
        ("rolebinding", "-n", NAMESPACE, "--clusterrole=view", f"--group=system:serviceaccounts:{NAMESPACE}"),
        ("clusterrolebinding", "--clusterrole=spork-controller-workload", SUBJECT),
        ("clusterrolebinding", "--clusterrole=cluster-admin", SUBJECT),
    ],
    ids=" ".join,
)
def test_a_binding_that_reaches_the_passphrase_is_refused(shipped_kube: Cluster, words: tuple[str, ...]) -> None:
    done = shipped_kube.kubectl("create", words[0], "probe", *words[1:], "--dry-run=server")
    assert "would let the operator read the passphrase of the CA" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("rolebinding", "-n", "default", "--clusterrole=spork-controller-workload", SUBJECT),
        ("rolebinding", "-n", NAMESPACE, "--role=spork-controller-lease", SUBJECT),
        ("rolebinding", "-n", NAMESPACE, "--clusterrole=view", "--user=ada"),
        ("clusterrolebinding", "--clusterrole=view", "--serviceaccount=default:spork-controller"),
    ],
    ids=" ".join,
)
def test_other_bindings_are_left_alone(shipped_kube: Cluster, words: tuple[str, ...]) -> None:
    _ok(shipped_kube, "create", words[0], "probe", *words[1:], "--dry-run=server")


# Who approves


@pytest.fixture(scope="module")
def people(shipped_kube: Cluster) -> Cluster:
    """ada owns trees, grace approves, mallory may look."""
    for name, role in (("ada", "spork-admin"), ("grace", "spork-approver"), ("mallory", "spork-view")):
        _ok(shipped_kube, "create", "clusterrolebinding", name, f"--clusterrole={role}", f"--user={name}")
    can = ("auth", "can-i", "approve", "hierarchies.spork-ca.org", "--as=grace")
    until(lambda: shipped_kube.kubectl(*can).returncode == 0, "the roles are in force")
    return shipped_kube


def test_an_approval_takes_the_verb_approve(people: Cluster) -> None:
    tree = _with_live(people, "Hierarchy", 0, "approved")
    approve = json.dumps({"metadata": {"annotations": {"spork-ca.org/approve": "0" * 64}}})

    def patched(who: str, patch: str) -> str:
        return people.kubectl(
            "patch", "-f", "-", "--type=merge", "-p", patch, f"--as={who}", stdin=_target(tree)
        ).stderr

    assert "needs the verb approve on Hierarchy approved, which ada has not" in patched("ada", approve)
    assert "forbidden" in patched("mallory", approve)
    assert patched("grace", approve) == ""
    # Who changes the tree need not take the approval away first, and may take it away.
    assert patched("ada", json.dumps({"spec": {"root": {"validityYears": 21}}})) == ""
    assert patched("ada", json.dumps({"metadata": {"annotations": {"spork-ca.org/approve": None}}})) == ""


def test_a_tree_is_not_born_approved(people: Cluster) -> None:
    tree = a_resource("Hierarchy", name="born")
    tree["metadata"]["annotations"] = {"spork-ca.org/approve": "0" * 64}
    done = people.kubectl("create", "-f", "-", "--as=ada", stdin=yaml.safe_dump(tree))
    assert "needs the verb approve" in done.stderr


@pytest.mark.parametrize(
    ("role", "verb", "resource", "allowed"),
    [
        ("view", "list", "certificates", True),
        ("view", "create", "certificates", False),
        ("edit", "create", "certificates", True),
        ("edit", "create", "issuers", False),
        ("admin", "create", "issuers", True),
        ("admin", "reference", "issuers", True),
        ("edit", "reference", "issuers", False),
        ("admin", "create", "clusterissuers", False),
        ("admin", "patch", "hierarchies", False),
        ("admin", "approve", "hierarchies", False),
        ("spork-issuer-reference", "reference", "issuers", True),
        ("spork-issuer-reference", "create", "certificates", False),
        ("spork-admin", "create", "hierarchies", True),
        ("spork-admin", "approve", "hierarchies", False),
        ("spork-approver", "approve", "hierarchies", True),
        ("spork-approver", "delete", "hierarchies", False),
    ],
)
def test_the_roles_of_people(shipped_kube: Cluster, role: str, verb: str, resource: str, allowed: bool) -> None:
    until(lambda: _grants(shipped_kube, role, verb, resource) is allowed, f"{role}: {verb} {resource}")


def _grants(kube: Cluster, role: str, verb: str, resource: str) -> bool:
    """By the role itself: whoever is bound to it may do what its rules say."""
    rules = kube.get("clusterrole", role)["rules"] or []
    return any(
        "spork-ca.org" in rule.get("apiGroups", []) and resource in rule.get("resources", []) and verb in rule["verbs"]
        for rule in rules
    )
