"""What hostile or careless hands in a namespace try with Certificates, on a real API server."""

from __future__ import annotations

from typing import Any

import pytest
from operator_running import RunningOperator, is_ready, until
from operator_world import a_resource

from spork.controller.cluster import Ref
from spork.controller.conditions import condition_of

pytestmark = pytest.mark.operator


def an_issuer() -> dict[str, Any]:
    changes = {
        "spec/ca": "web",
        "spec/protocols": {},
        "spec/names": {"permit": {"dns": ["**.example.com"]}},
        "spec/allowedNamespaces": {"names": ["*"]},
    }
    return a_resource("ClusterIssuer", changes, name="certs")


async def test_a_template_that_the_api_server_refuses_costs_no_certificate_and_is_told(
    operator: RunningOperator,
) -> None:
    namespace = await operator.user.namespace("hostile-template")
    await operator.user.apply(an_issuer())
    changes = {
        "metadata/namespace": namespace,
        "spec/issuerRef": {"kind": "ClusterIssuer", "name": "certs"},
        "spec/secretName": "one-tls",
        "spec/secretTemplate": {"labels": {"not a label": "!"}},
    }
    ref = Ref("Certificate", namespace, "one")
    await operator.user.apply(a_resource("Certificate", changes, name="one"))

    def told() -> bool:
        item = operator.cluster.get(ref)
        found = condition_of(item, "Ready") if item is not None else None
        return found is not None and found["status"] == "False" and "secretTemplate" in found["message"]

    await until(told, "the status says what is wrong")
    query = "SELECT count(*) FROM certificate WHERE requester = %s"
    row = await (await operator.database.execute(query, [f"kubernetes:{namespace}/one"])).fetchone()
    assert row == (0,)
    await operator.user.patch(ref, {"spec": {"secretTemplate": None}})
    await until(lambda: is_ready(operator.cluster.get(ref)), "it is ready")
