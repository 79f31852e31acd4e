"""Certificates on a real API server: what they cost, what is put right, and what a revocation does."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from operator_running import RunningOperator, is_ready, until
from operator_world import a_resource

from spork.controller.cluster import Object, Ref
from spork.ids import AuthorityId, serial_from_text
from spork.issuance.revoke import Reason
from spork.store.certificate_search import CertificateRecords

pytestmark = pytest.mark.operator


def an_issuer() -> dict[str, Any]:
    changes = {
        "spec/ca": "web",
        "spec/protocols": {},
        "spec/names": {"permit": {"dns": ["**.example.com"]}},
        "spec/allowedNamespaces": {"names": ["*"]},
    }
    return a_resource("ClusterIssuer", changes, name="certs")


def a_certificate(namespace: str, name: str = "one", **spec: Any) -> dict[str, Any]:
    changes = {f"spec/{key}": value for key, value in spec.items()}
    reference = {"kind": "ClusterIssuer", "name": "certs"}
    return a_resource(
        "Certificate",
        {"metadata/namespace": namespace, "spec/issuerRef": reference, "spec/secretName": f"{name}-tls", **changes},
        name=name,
    )


async def ready(operator: RunningOperator, namespace: str, name: str = "one", *, revision: int = 1) -> Object:
    """The Certificate when it is Ready with that revision."""
    ref = Ref("Certificate", namespace, name)

    def met() -> Object | None:
        item = operator.cluster.get(ref)
        return item if is_ready(item) and item is not None and item["status"].get("revision") == revision else None

    found: Object = await until(met, f"{ref} is Ready with revision {revision}")
    return found


async def test_a_new_certificate_costs_at_most_seven_requests_and_a_restart_none(operator: RunningOperator) -> None:
    namespace = await operator.user.namespace("certificates-costs")
    await operator.user.apply(an_issuer())
    await until(lambda: is_ready(operator.cluster.get(Ref("ClusterIssuer", "", "certs"))), "the issuer is ready")
    await operator.quiet()
    before = len(operator.requests())
    await operator.user.apply(*(a_certificate(namespace, f"c{number}") for number in range(10)))
    for number in range(10):
        await ready(operator, namespace, f"c{number}")
    await operator.quiet()
    about = [one for one in operator.requests(since=before) if one.namespace == namespace]
    assert len(about) <= 70, operator.counted(since=before)
    assert {one.status for one in about if one.writes} <= {200, 201}
    await operator.stop()
    before = len(operator.requests())
    await operator.start()
    await operator.quiet()
    again = [one for one in operator.requests(since=before) if one.namespace == namespace]
    assert not [one for one in again if one.writes], operator.counted(since=before)


async def test_it_is_put_right_renewed_on_demand_and_replaced_when_it_is_revoked(operator: RunningOperator) -> None:
    namespace = await operator.user.namespace("certificates-care")
    await operator.user.apply(an_issuer(), a_certificate(namespace, deletionPolicy="Revoke"))
    first = await ready(operator, namespace)
    secret, ref = Ref("Secret", namespace, "one-tls"), Ref("Certificate", namespace, "one")
    whole = (await operator.user.get(secret))["data"]

    await operator.user.patch(secret, {"data": {"ca.crt": "eA=="}, "metadata": {"labels": None}})

    async def restored() -> bool:
        found = await operator.user.get(secret)
        labels: dict[str, str] = found["metadata"].get("labels") or {}
        return bool(found["data"] == whole) and labels.get("spork-ca.org/managed") == "true"

    await until(restored, "the Secret is as it was")
    await operator.user.patch(ref, {"metadata": {"annotations": {"spork-ca.org/renew": "now"}}})
    second = await ready(operator, namespace, revision=2)
    assert second["status"]["serial"] != first["status"]["serial"]

    records = CertificateRecords(operator.database)
    serial = serial_from_text(second["status"]["serial"])
    found = await records.by_serial(AuthorityId("web"), serial)
    assert found is not None
    await operator.world.services.revoker.revoke(
        found.id, Reason.keyCompromise, actor="test", subject="certificate", authority="web"
    )
    await ready(operator, namespace, revision=3)
    assert await _renewed(operator, f"{namespace}/other") != 0
    assert await _renewed(operator, f"{namespace}/one") == 0
    last_one = await ready(operator, namespace, revision=4)

    await operator.user.delete(ref)
    await until(lambda: operator.cluster.get(ref) is None, "the Certificate is gone")
    last = await records.by_serial(AuthorityId("web"), serial_from_text(last_one["status"]["serial"]))
    assert last is not None
    assert last.reason == Reason.cessationOfOperation


async def _renewed(operator: RunningOperator, which: str) -> int:
    """The exit code of `spork cert renew`."""
    words = ["cert", "renew", which, "--kubeconfig", str(operator.kube.kubeconfig)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "spork", *words, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert b"Traceback" not in said, said.decode()
    return process.returncode or 0


async def test_a_namespace_with_certificates_under_every_policy_does_not_hang(operator: RunningOperator) -> None:
    namespace = await operator.user.namespace("certificates-going")
    policies = ("Retain", "Hold", "Revoke")
    await operator.user.apply(
        an_issuer(), *(a_certificate(namespace, policy.lower(), deletionPolicy=policy) for policy in policies)
    )
    for policy in policies:
        await ready(operator, namespace, policy.lower())
    for policy in policies:
        await operator.user.delete(Ref("Certificate", namespace, policy.lower()))
    await until(lambda: not operator.cluster.all("Certificate", namespace), "all Certificates are gone")
