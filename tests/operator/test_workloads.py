"""Workloads that ask as they do with cert-manager and Kubernetes, on a real API server, with kubectl as their hand."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from operator_running import RunningOperator, an_operator, until
from operator_world import Cluster
from requests_world import (
    HIERARCHY,
    a_certificate_request,
    a_signing_request,
    an_issuer,
    certificates,
    condition,
    csr_pem,
    ours,
    state,
)
from shipped_world import as_operator

from spork.controller.certmanager import reconcile as certmanager
from spork.controller.cluster import Ref
from spork.controller.ingress import reconcile as ingress
from spork.controller.issuer import reconcile as issuer
from spork.controller.signing_requests import reconcile as signing_requests

pytestmark = [
    pytest.mark.operator,
    pytest.mark.store,
    pytest.mark.expected_skip("a user's machine need not have a Kubernetes control plane"),
]
_FACTORIES = (
    issuer.issuer_reconciler,
    issuer.cluster_issuer_reconciler,
    certmanager.reconciler,
    signing_requests.reconciler,
    ingress.reconciler,
)
_CRD = Path(__file__).parent / "certificate-requests.yaml"
_PEOPLE = [
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "ask-for-certificates"},
        "rules": [
            {
                "apiGroups": ["certificates.k8s.io"],
                "resources": ["certificatesigningrequests"],
                "verbs": ["create", "get", "watch"],
            }
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "ask-for-certificates"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ask-for-certificates"},
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "workloads"},
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reference-web", "namespace": "shop"},
        "rules": [
            {"apiGroups": ["spork-ca.org"], "resources": ["issuers"], "resourceNames": ["web"], "verbs": ["reference"]}
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "reference-web", "namespace": "shop"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reference-web"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ada"}],
    },
]


@pytest.fixture
def cert_manager(kube: Cluster) -> Iterator[None]:
    """The one resource of cert-manager by which it is known; gone again afterwards."""
    assert kube.kubectl("apply", "-f", str(_CRD)).returncode == 0
    waited = kube.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(_CRD))
    assert waited.returncode == 0, waited.stderr
    yield
    kube.kubectl("delete", "--wait", "-f", str(_CRD))


@pytest.fixture
async def operator(kube: Cluster, database_url: str, tmp_path: Path) -> AsyncIterator[RunningOperator]:
    """The operator with an Issuer `web` in `shop`, and a ClusterIssuer `some` that only `shop` may use."""
    async with an_operator(kube, database_url, tmp_path, factories=_FACTORIES, start=False) as running:
        host = running.world.services.database
        await host.execute("UPDATE authority SET declared_by = 'Hierarchy/main' WHERE id <> 'management'")
        for namespace in ("shop", "other"):
            await running.user.namespace(namespace)
        await running.user.apply(
            ours("Hierarchy", "main", HIERARCHY),
            ours("Issuer", "web", an_issuer(), namespace="shop"),
            ours("ClusterIssuer", "some", an_issuer(allowedNamespaces={"names": ["shop"]})),
        )
        await running.start()
        await until(
            lambda: all(
                (state(running.cluster.get(ref) or {}) or ("",))[0] == "True"
                for ref in (Ref("Issuer", "shop", "web"), Ref("ClusterIssuer", "", "some"))
            ),
            "the issuers are ready",
        )
        await running.quiet()
        yield running


def create(kube: Cluster, item: dict[str, Any], *words: str) -> None:
    """As `kubectl create`; whoever asks sets no status."""
    spec = {key: value for key, value in item.items() if key != "status"}
    done = kube.kubectl("create", "-f", "-", *words, stdin=json.dumps(spec))
    assert done.returncode == 0, done.stderr


def approve(kube: Cluster, name: str, kind: str = "Approved", namespace: str = "shop") -> None:
    """What cert-manager's approver does, as another manager of the same status."""
    status = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "CertificateRequest",
        "metadata": {"name": name, "namespace": namespace},
        "status": {"conditions": [condition(kind)]},
    }
    words = ("apply", "--server-side", "--subresource=status", "--field-manager=approver", "-f", "-")
    done = kube.kubectl(*words, stdin=yaml.safe_dump(status))
    assert done.returncode == 0, done.stderr


def fields_of(item: dict[str, Any], manager: str) -> dict[str, Any]:
    """What that manager owns of the status."""
    for entry in item["metadata"]["managedFields"]:
        if entry["manager"] == manager and entry.get("subresource") == "status":
            found: dict[str, Any] = entry["fieldsV1"]["f:status"]
            return found
    return {}


@pytest.mark.usefixtures("cert_manager")
async def test_certificate_requests_get_the_answers_that_cert_manager_expects(
    kube: Cluster, operator: RunningOperator
) -> None:
    group = {"group": "spork-ca.org"}
    create(kube, a_certificate_request(name="good"))
    create(
        kube,
        a_certificate_request(name="by-cluster-issuer", issuerRef=group | {"kind": "ClusterIssuer", "name": "some"}),
    )
    create(kube, a_certificate_request(name="not-approved"))
    create(kube, a_certificate_request(name="denied"))
    create(kube, a_certificate_request(name="a-ca", isCA=True))
    create(kube, a_certificate_request(name="foreign-name", pem=csr_pem("www.example.com")))
    create(kube, a_certificate_request(name="too-early", issuerRef=group | {"name": "later"}))
    create(kube, a_certificate_request(name="not-ours", issuerRef={"kind": "Issuer", "name": "web"}))
    other = group | {"kind": "ClusterIssuer", "name": "some"}
    create(kube, a_certificate_request(name="not-granted", namespace="other", issuerRef=other))
    await operator.quiet()
    assert "patch certificaterequests/status" not in operator.counted(), "nothing happens before approval"

    for name in ("good", "by-cluster-issuer", "a-ca", "foreign-name", "too-early", "not-ours"):
        approve(kube, name)
    approve(kube, "not-granted", namespace="other")
    approve(kube, "denied", "Denied")
    expected = {
        "good": ("True", "Issued"),
        "by-cluster-issuer": ("True", "Issued"),
        "denied": ("False", "Denied"),
        "a-ca": ("False", "Failed"),
        "foreign-name": ("False", "Failed"),
        "too-early": ("False", "Pending"),
    }

    def found(name: str, namespace: str = "shop") -> dict[str, Any]:
        return kube.get("certificaterequest", name, "-n", namespace, "--show-managed-fields")

    for name, answer in expected.items():
        ref = Ref("CertificateRequest", "shop", name)
        await until(
            lambda ref=ref, answer=answer: (state(operator.cluster.get(ref) or {}) or ())[:2] == answer,
            f"{ref} is {answer}",
        )
    refused = Ref("CertificateRequest", "other", "not-granted")
    await until(lambda: (state(operator.cluster.get(refused) or {}) or ())[:2] == ("False", "Pending"), "no grant")
    await operator.quiet()

    good = found("good")
    leaf, _ = certificates(good["status"]["certificate"])
    request = x509.load_pem_x509_csr(base64.b64decode(good["spec"]["request"]))
    assert leaf.public_key() == request.public_key()
    assert fields_of(good, "approver")["f:conditions"].keys() == {'k:{"type":"Approved"}'}
    mine = fields_of(good, "spork-controller")
    assert mine.keys() == {"f:conditions", "f:certificate", "f:ca"}
    assert mine["f:conditions"].keys() == {'k:{"type":"Ready"}'}
    assert state(found("a-ca"), "InvalidRequest") is not None
    assert state(found("foreign-name"), "InvalidRequest") is None
    assert all(found(name)["status"]["failureTime"] for name in ("denied", "a-ca", "foreign-name"))
    assert "status" not in found("not-approved")
    assert state(found("not-ours")) is None

    counts = operator.counted()
    assert counts["patch certificaterequests/status"] == 7, "one write for each answer"
    assert counts["get certificaterequests"] == 0
    await operator.user.apply(ours("Issuer", "later", an_issuer(), namespace="shop"))
    early = Ref("CertificateRequest", "shop", "too-early")
    await until(lambda: (state(operator.cluster.get(early) or {}) or ("",))[0] == "True", "what waited is signed")

    before = {name: found(name)["metadata"]["resourceVersion"] for name in ("good", "denied", "a-ca", "too-early")}
    await operator.quiet()
    await operator.stop()
    seen = len(operator.requests())
    await operator.start()
    await operator.quiet()
    writes = [one for one in operator.requests(since=seen) if one.writes and "certificaterequests" in one.resource]
    assert writes == [], "a restart writes nothing"
    assert {name: found(name)["metadata"]["resourceVersion"] for name in before} == before
    assert kube.kubectl("delete", "certificaterequests", "--all", "-A", "--wait=false").returncode == 0


async def test_signing_requests_of_users_who_may_name_the_issuer_are_signed(
    kube: Cluster, operator: RunningOperator
) -> None:
    assert kube.apply(*_PEOPLE).returncode == 0
    ada = ("--as=ada", "--as-group=workloads")
    eve = ("--as=eve", "--as-group=workloads")

    def ask(name: str, *words: str, **spec: Any) -> None:
        item = a_signing_request(name=name, **spec)
        for key in ("username", "uid", "groups", "extra"):
            del item["spec"][key]
        create(kube, item, *words)

    names = ("good", "unapproved", "eve", "foreign", "cert-sign", "huge", "no-issuer", "denied", "cluster")
    kube.kubectl("delete", "csr", *names)
    ask("good", *ada, expirationSeconds=3600)
    ask("unapproved", *ada)
    ask("denied", *ada)
    # Whatever she writes there, the API server puts in who she is.
    create(kube, a_signing_request(name="eve", username="ada"), *eve)
    ask("foreign", *ada, pem=csr_pem("www.example.com"))
    ask("cert-sign", *ada, usages=["cert sign", "digital signature"])
    ask("huge", *ada, pem=csr_pem(*(f"{number:03}-{'a' * 58}.{'b' * 60}.{'c' * 60}.test" for number in range(400))))
    ask("no-issuer", *ada, signerName="spork-ca.org/other.web")
    ask("cluster", *ada, signerName="spork-ca.org/some")
    await operator.quiet()
    assert not operator.counted()["create subjectaccessreviews"], "nobody is asked about what nobody has approved"

    approved = [name for name in names if name not in ("unapproved", "denied")]
    done = kube.kubectl("certificate", "approve", *approved)
    assert done.returncode == 0, done.stderr
    assert kube.kubectl("certificate", "deny", "denied").returncode == 0

    def there(name: str) -> dict[str, Any]:
        return dict(operator.cluster.get(Ref("CertificateSigningRequest", "", name)) or {})

    await until(lambda: (there("good").get("status") or {}).get("certificate"), "it is signed")
    refusals = {
        "eve": "MayNotReference",
        "foreign": "Failed",
        "cert-sign": "Invalid",
        "huge": "Invalid",
        "no-issuer": "MayNotReference",
        "cluster": "MayNotReference",
    }
    for name, reason in refusals.items():
        await until(lambda name=name: state(there(name), "Failed"), f"{name} is refused")
        assert (state(there(name), "Failed") or ("", ""))[1] == reason, name
        assert "certificate" not in there(name)["status"]
    await operator.quiet()
    counts = operator.counted()
    assert counts["patch certificatesigningrequests/status"] == 7
    # Requests that can never be signed are refused before anybody is asked; those are two.
    assert counts["create subjectaccessreviews"] == 5
    assert "certificate" not in (there("unapproved").get("status") or {})
    assert "certificate" not in there("denied")["status"]

    leaf, _ = certificates(there("good")["status"]["certificate"])
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() == 3599
    shown = kube.kubectl("get", "csr", "good", "eve", "--no-headers")
    good, refused = shown.stdout.splitlines()
    assert good.endswith("Approved,Issued")
    assert refused.endswith("Approved,Failed")

    await operator.stop()
    seen = len(operator.requests())
    await operator.start()
    await operator.quiet()
    writes = [one for one in operator.requests(since=seen) if one.writes]
    assert [one for one in writes if "signing" in one.resource or "reviews" in one.resource] == []
    kube.kubectl("delete", "csr", *names)


def an_ingress(name: str, annotations: dict[str, str], *hosts: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
        "spec": {
            "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}},
            "tls": [{"hosts": list(hosts), "secretName": f"{name}-tls"}],
        },
    }


async def test_an_annotated_ingress_has_its_certificate_and_takes_it_along(
    kube: Cluster, operator: RunningOperator
) -> None:
    options = {"cert-manager.io/duration": "720h", "cert-manager.io/private-key-algorithm": "Ed25519"}
    theirs = {"cert-manager.io/issuer": "web", "cert-manager.io/issuer-group": "spork-ca.org"}
    done = kube.apply(
        an_ingress("mine", {"spork-ca.org/issuer": "web", **options}, "www.test", "*.www.test"),
        an_ingress("theirs", theirs, "b.test"),
        an_ingress("plain", {}, "c.test"),
        an_ingress("wrong", {"spork-ca.org/issuer": "web", "spork-ca.org/cluster-issuer": "some"}, "d.test"),
    )
    assert done.returncode == 0, done.stderr
    mine = Ref("Certificate", "shop", "mine-tls")
    await until(lambda: operator.cluster.get(mine), "the Certificate is there")
    await until(lambda: operator.cluster.get(Ref("Certificate", "shop", "theirs-tls")), "without cert-manager, too")
    await operator.quiet()
    made = kube.get("certificates.spork-ca.org", "mine-tls", "-n", "shop")
    assert made["spec"]["dnsNames"] == ["www.test", "*.www.test"]
    assert made["spec"]["privateKey"]["algorithm"] == "ed25519"
    assert {one["metadata"]["name"] for one in operator.cluster.all("Certificate")} == {"mine-tls", "theirs-tls"}
    counts = operator.counted()
    assert counts["create certificates"] == 2
    assert counts["update certificates"] == 0

    kube.kubectl("annotate", "ingress", "mine", "-n", "shop", "cert-manager.io/duration-")
    await until(lambda: "duration" not in (operator.cluster.get(mine) or {})["spec"], "the Certificate follows")
    await operator.quiet()
    assert operator.counted()["update certificates"] == 1
    told = kube.get("events", "-n", "shop", "--field-selector=reason=BadAnnotation")["items"]
    assert [(one["type"], one["involvedObject"]["name"]) for one in told] == [("Warning", "wrong")]
    assert "exclude each other" in told[0]["message"]

    assert kube.kubectl("delete", "ingress", "--all", "-n", "shop").returncode == 0
    await until(lambda: not operator.cluster.all("Certificate"), "they are collected with their owners")


def test_the_operators_own_role_lets_it_answer_its_signers_requests_and_no_others(shipped_kube: Cluster) -> None:
    certificate = base64.b64encode((shipped_kube.kubeconfig.parent / "ca.crt").read_bytes()).decode()
    for name, signer in (("mine", "spork-ca.org/shop.web"), ("foreign", "example.com/web")):
        create(shipped_kube, a_signing_request(name=name, signerName=signer))
        assert shipped_kube.kubectl("certificate", "approve", name).returncode == 0
        answer = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "status": {"certificate": certificate},
        }
        words = ("apply", "--server-side", "--subresource=status", "--field-manager=spork-controller", "-f", "-")
        done = shipped_kube.kubectl(*words, *as_operator(), stdin=json.dumps(answer))
        assert (done.returncode == 0) is (name == "mine"), done.stderr
        assert name == "mine" or "not permitted to sign" in done.stderr
    refused = shipped_kube.kubectl("certificate", "deny", "mine", *as_operator())
    assert refused.returncode != 0, "approval is for others"
    shipped_kube.kubectl("delete", "csr", "mine", "foreign")


_DOCS = Path(__file__).resolve().parents[2] / "docs"


def typed(page: str, kube: Cluster, folder: Path) -> subprocess.CompletedProcess[str]:
    """Every command of a page in one shell, as its reader would type them."""
    blocks = re.findall(r"```sh\n(.*?)```", (_DOCS / page).read_text(), re.DOTALL)
    path = f"{kube.kubectl_path.parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euxo", "pipefail"],
        input="\n".join(blocks),
        cwd=folder,
        env={**os.environ, "KUBECONFIG": str(kube.kubeconfig), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


@pytest.mark.usefixtures("cert_manager")
async def test_the_commands_of_both_pages_work(kube: Cluster, operator: RunningOperator, tmp_path: Path) -> None:
    for page in ("cert-manager.md", "kubernetes-csr.md"):
        folder = tmp_path / page
        folder.mkdir()
        done = await asyncio.to_thread(typed, page, kube, folder)
        assert done.returncode == 0, f"{page}:\n{done.stdout}\n{done.stderr}"
        leaf = x509.load_pem_x509_certificates((folder / "www.pem").read_bytes())[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["www.test"]
    assert "Approved,Issued" in done.stdout
