"""What Prometheus reads of Certificates."""

from __future__ import annotations

from typing import Any

from memory_cluster import MemoryCluster
from operator_world import a_resource
from prometheus_client import CollectorRegistry, generate_latest

from spork.controller.metrics import CertificateMetrics

_STATUS: dict[str, Any] = {
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "Issued", "lastTransitionTime": "2026-11-24T00:00:00Z"}
    ],
    "notAfter": "2027-01-01T00:00:00Z",
    "renewalTime": "2026-12-01T00:00:00Z",
    "serial": "1A2B",
    "revision": 3,
}


async def scraped(*statuses: dict[str, Any]) -> list[str]:
    cluster = MemoryCluster()
    for number, status in enumerate(statuses):
        item = cluster.add(a_resource("Certificate", name=f"web-{number}"))
        if status:
            await cluster.set_status(item, status)
    registry = CollectorRegistry(auto_describe=True)
    registry.register(CertificateMetrics(cluster))
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#")]


async def test_a_certificate_is_told_by_namespace_and_name_with_its_serial() -> None:
    where = '{name="web-0",namespace="default"}'
    labels = '{issuer="web",issuer_kind="Issuer",name="web-0",namespace="default",revision="3",serial="1A2B"}'
    assert await scraped(_STATUS) == [
        f"spork_certificate_ready{where} 1.0",
        f"spork_certificate_not_after_seconds{where} 1.7987616e+09",
        f"spork_certificate_renewal_seconds{where} 1.7960832e+09",
        f"spork_certificate_info{labels} 1.0",
    ]


async def test_a_certificate_that_was_never_issued_is_only_not_ready() -> None:
    assert await scraped({}) == ['spork_certificate_ready{name="web-0",namespace="default"} 0.0']


async def test_without_certificates_there_are_no_series() -> None:
    assert await scraped() == []
