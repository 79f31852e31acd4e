"""Trees and issuers on a real API server: from `kubectl apply` to their end, with kubectl as the user's hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from operator_running import RunningOperator, is_ready, until

from spork.controller.cluster import Object, Ref
from spork.controller.conditions import condition_of
from spork.errors import SporkError
from spork.ids import AuthorityId

pytestmark = pytest.mark.operator

_MAIN = Ref("Hierarchy", "", "trees")
_TREE: Mapping[str, Any] = {
    "root": {"id": "trees-root", "commonName": "Trees Root", "algorithm": "ecdsa-p256", "validityYears": 20},
    "issuingCAs": [
        {
            "id": "trees-web",
            "commonName": "Trees Web",
            "algorithm": "ecdsa-p256",
            "validityYears": 5,
            "allowedNamespaces": {"matchLabels": {"tier": "front"}},
        }
    ],
}


def _an_object(kind: str, name: str, spec: Mapping[str, Any], namespace: str = "") -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, **place},
        "spec": dict(spec),
    }


def _issuer(namespace: str) -> dict[str, Any]:
    permitted = {"permit": {"dns": ["**.trees.test"]}}
    spec = {"ca": "trees-web", "profiles": ["tls-server"], "names": permitted, "protocols": {"acme": {}}}
    return _an_object("Issuer", "trees", spec, namespace)


def _certificate(name: str, namespace: str) -> dict[str, Any]:
    names = [f"{name}.trees.test"]
    return _an_object(
        "Certificate", name, {"secretName": f"{name}-tls", "dnsNames": names, "issuerRef": {"name": "trees"}}, namespace
    )


def _reason(item: Object | None) -> str:
    found = condition_of(item, "Ready") if item is not None else None
    return found["reason"] if found is not None else ""


async def _is_gone(operator: RunningOperator, ref: Ref) -> bool:
    try:
        await operator.user.get(ref)
    except SporkError:
        return operator.cluster.get(ref) is None
    return False


async def _ready(operator: RunningOperator, ref: Ref) -> None:
    await until(lambda: is_ready(operator.cluster.get(ref)), f"{ref} is ready")


async def _with_certificate(operator: RunningOperator, namespace: str) -> Ref:
    """A tree, an Issuer in the namespace, and a certificate from it; the Issuer."""
    await operator.user.namespace(namespace, tier="front")
    # In no order: the certificate comes before its issuer, and that before its CA.
    await operator.user.apply(
        _certificate("www", namespace), _issuer(namespace), _an_object("Hierarchy", "trees", _TREE)
    )
    await _ready(operator, _MAIN)
    await _ready(operator, Ref("Certificate", namespace, "www"))
    return Ref("Issuer", namespace, "trees")


async def test_a_tree_lives_and_ends_by_kubectl(operator: RunningOperator) -> None:
    issuer = await _with_certificate(operator, "trees-life")
    shown = operator.kube.kubectl("get", "hierarchy", "trees", "--no-headers")
    assert shown.stdout.split()[:3] == ["trees", "True", "2/2"], shown.stdout + shown.stderr
    url = (operator.cluster.get(issuer) or {})["status"]["doors"][0]["url"]
    assert url.endswith("/acme/trees-life.trees/directory")

    # An Issuer with a live certificate is held; its door stays open meanwhile.
    await operator.user.delete(issuer)
    await until(lambda: _reason(operator.cluster.get(issuer)) == "LiveCertificates", "the issuer is held")
    assert (await operator.services.issuers.issuer("trees-life.trees")).name == "trees"
    annotation = "spork-ca.org/confirm-delete=1"
    done = operator.kube.kubectl("annotate", "-n", "trees-life", "issuers.spork-ca.org/trees", annotation)
    assert done.returncode == 0, done.stderr
    await until(lambda: _is_gone(operator, issuer), "the confirmed issuer is gone")
    with pytest.raises(SporkError, match="no issuer"):
        await operator.services.issuers.issuer("trees-life.trees")

    # So is a Hierarchy, and its message names the command that ends it.
    await operator.user.delete(_MAIN)
    held = await until(lambda: _held(operator), "the hierarchy is held")
    command = held.rpartition("kubectl ")[2].split()
    assert operator.kube.kubectl(*command).returncode == 0
    await until(lambda: _is_gone(operator, _MAIN), "the confirmed hierarchy is gone")
    authority = await operator.services.authorities.authority(AuthorityId("trees-web"))
    assert authority.stopped == "it is disabled"


def _held(operator: RunningOperator) -> str:
    found = condition_of(operator.cluster.get(_MAIN) or {}, "Ready")
    return str(found["message"]) if found is not None and found["reason"] == "LiveCertificates" else ""


async def test_a_namespace_with_live_certificates_goes_all_the_same(operator: RunningOperator) -> None:
    issuer = await _with_certificate(operator, "trees-end")
    assert operator.kube.kubectl("delete", "namespace", "trees-end", "--wait=false").returncode == 0
    namespace = Ref("Namespace", "", "trees-end")
    await until(lambda: _is_gone(operator, namespace), "the namespace is gone")
    assert operator.cluster.get(issuer) is None
    with pytest.raises(SporkError, match="no issuer"):
        await operator.services.issuers.issuer("trees-end.trees")
    rows = await operator.database.execute(
        "SELECT count(*) FROM certificate WHERE state = 'issued' AND names @> ARRAY['dns:www.trees.test']"
    )
    assert await rows.fetchone() == (1,)
    assert await rows_of(operator, "issuer:trees-end.trees") == ["issuer.configure", "issuer.disable"]


async def rows_of(operator: RunningOperator, subject: str) -> list[str]:
    # The operator itself may not read the audit log.
    database = operator.world.services.database
    cursor = await database.execute("SELECT action FROM audit_event WHERE subject = %s ORDER BY id", [subject])
    return [row[0] for row in await cursor.fetchall()]


async def test_an_approval_is_given_by_the_command_that_the_status_names(operator: RunningOperator) -> None:
    mail = {**_TREE["issuingCAs"][0], "id": "trees-mail", "commonName": "Trees Mail"}
    await operator.user.apply(_an_object("Hierarchy", "trees", {**_TREE, "issuingCAs": [*_TREE["issuingCAs"], mail]}))
    await _ready(operator, _MAIN)
    await operator.user.apply(_an_object("Hierarchy", "trees", _TREE))
    await until(lambda: _reason(operator.cluster.get(_MAIN)) == "NeedsApproval", "the plan waits for approval")
    item = operator.cluster.get(_MAIN)
    assert item is not None
    changes = item["status"]["plan"]["changes"]
    assert [one["subject"] for one in changes] == ["trees-mail"], json.dumps(changes)
    found = condition_of(item, "Ready")
    assert found is not None
    assert operator.kube.kubectl(*found["message"].rpartition("kubectl ")[2].split()).returncode == 0
    await _ready(operator, _MAIN)
    authority = await operator.services.authorities.authority(AuthorityId("trees-mail"))
    assert authority.stopped == "it is disabled"
