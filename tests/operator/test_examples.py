"""examples/kubernetes becomes what it says, once the namespace has what the examples ask of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from operator_running import Programs, is_ready, until
from operator_world import Cluster

from spork.controller.cluster import Object
from spork.controller.conditions import condition_of

pytestmark = [pytest.mark.operator, pytest.mark.store, pytest.mark.timeout(400)]
_EXAMPLES = str(Path(__file__).resolve().parents[2] / "examples" / "kubernetes")


@pytest.fixture
def applied(installation: Programs) -> Iterator[Programs]:
    """The examples, the label and the password that they ask for, and an operator and a signer."""
    kubectl = installation.kube.kubectl
    for words in (
        ("label", "--overwrite", "namespace", "default", "pki.example.com/web=true"),
        ("create", "secret", "generic", "shop-keystore", "--from-literal=password=for-this-test-only"),
        ("apply", "--server-side", "-f", _EXAMPLES),
    ):
        done = kubectl(*words)
        assert done.returncode == 0, done.stderr
    yield installation
    for program in installation.started:
        program.discard()
    _take_away(installation.kube)


def _take_away(kube: Cluster) -> None:
    """Whoever holds them: other tests find a cluster without them."""
    for name in kube.kubectl("get", "-f", _EXAMPLES, "-o", "name").stdout.split():
        place = ("-n", "default") if name.startswith(("issuer.", "certificate.")) else ()
        kube.kubectl("patch", name, *place, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        kube.kubectl("delete", name, *place, "--wait=false")
    kube.kubectl("delete", "secret", "shop-keystore", "shop-tls", "--ignore-not-found")
    kube.kubectl("label", "namespace", "default", "pki.example.com/web-")


async def test_every_example_becomes_what_it_says(applied: Programs) -> None:
    async def found(*words: str) -> Object:
        return await asyncio.to_thread(applied.kube.get, *words)

    async def ready(*words: str) -> bool:
        return is_ready(await found(*words))

    applied.serve()
    controller = applied.controller()

    async def sealed() -> bool:
        controller.ready()
        condition = condition_of(await found("hierarchies.spork-ca.org", "example"), "Ready")
        return condition is not None and condition["reason"] == "WaitingForSealedKeys"

    await until(sealed, "the plan waits for the sealed keys", 120)
    await asyncio.to_thread(applied.spork, "pki", "work", "--sealed", "--once")
    began = time.monotonic()
    for words in (
        ("hierarchies.spork-ca.org", "example"),
        ("clusterissuers.spork-ca.org", "web"),
        ("issuers.spork-ca.org", "shop", "-n", "default"),
        ("certificates.spork-ca.org", "shop", "-n", "default"),
    ):
        await until(
            lambda words=words: ready(*words), f"{words[1]} is Ready after {time.monotonic() - began:.0f} s", 120
        )
    secret = await found("secret", "shop-tls", "-n", "default")
    assert {"tls.crt", "tls.key", "ca.crt", "keystore.p12", "truststore.p12"} <= set(secret["data"])
    ceremony = condition_of(await found("ceremonies.spork-ca.org", "first-signing"), "Ready")
    assert ceremony is not None and ceremony["status"] == "False", "no engine holds ceremonies yet"
    assert applied.kube.kubectl("diff", "--server-side", "-f", _EXAMPLES).stdout == ""
