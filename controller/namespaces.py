"""Which namespaces may use what: the grants of a CA's owner and of a ClusterIssuer's."""

from __future__ import annotations

from spork.controller.cluster import Cluster, Ref
from spork.controller.models.issuer import AllowedNamespaces


def allows(allowed: AllowedNamespaces | None, namespace: str, cluster: Cluster) -> bool:
    """Whether the grant covers the namespace as it is labelled now. Left out means none; an unknown namespace has no labels."""
    if allowed is None:
        return False
    if "*" in allowed.names or namespace in allowed.names:
        return True
    found = cluster.get(Ref("Namespace", "", namespace))
    labels = (found["metadata"].get("labels") or {}) if found is not None else {}
    return bool(allowed.match_labels) and allowed.match_labels.items() <= labels.items()
