"""What the operator knows of each Certificate, for Prometheus: read from the copy when somebody asks, and never kept.

Labels are the namespace and name of the object, which are as many as there are objects. The serial number stands in an `info`
metric of its own, so that a renewal begins no new series of the others.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from spork.controller.cluster import Cluster, Object
from spork.controller.conditions import is_true, time_of

_LABELS = ("namespace", "name")


class CertificateMetrics(Collector):
    """Registered while an operator runs."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def describe(self) -> list[Metric]:
        """Nothing is promised, so that a second operator in one process, as tests have it, is no conflict of names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        ready = GaugeMetricFamily(
            "spork_certificate_ready", "Whether the Certificate is Ready: 1 or 0.", labels=_LABELS
        )
        end = GaugeMetricFamily(
            "spork_certificate_not_after_seconds", "Last second of the certificate, as Unix time.", labels=_LABELS
        )
        renewal = GaugeMetricFamily(
            "spork_certificate_renewal_seconds", "When it will be renewed, as Unix time.", labels=_LABELS
        )
        info = InfoMetricFamily("spork_certificate", "The certificate in the Secret.", labels=_LABELS)
        for item in self._cluster.all("Certificate"):
            names, status = _names(item), item.get("status") or {}
            ready.add_metric(names, 1 if is_true(item, "Ready") else 0)
            for family, key in ((end, "notAfter"), (renewal, "renewalTime")):
                if (text := status.get(key)) is not None:
                    family.add_metric(names, time_of(text).timestamp())
            if "serial" in status:
                issuer = item["spec"]["issuerRef"]
                info.add_metric(
                    names,
                    {
                        "serial": status["serial"],
                        "issuer_kind": issuer.get("kind", "Issuer"),
                        "issuer": issuer["name"],
                        "revision": str(status.get("revision", "")),
                    },
                )
        yield from (ready, end, renewal, info)


def _names(item: Object) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata.get("namespace") or "", metadata["name"]
