"""Which namespaces may use what: the grants of a CA's owner and of a ClusterIssuer's."""

from __future__ import annotations

from typing import Any

import pydantic

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


def granted(values: Any, namespace: str, cluster: Cluster) -> bool:
    """The same for `allowedNamespaces` as it stands in an object's spec; a value that its schema refuses grants nothing."""
    try:
        allowed = None if values is None else AllowedNamespaces.model_validate(values)
    except pydantic.ValidationError:
        return False
    return allows(allowed, namespace, cluster)


def is_terminating(cluster: Cluster, namespace: str) -> bool:
    """Whether the namespace is going, or gone: nothing in it may be held back then. In a folder a namespace is only a word."""
    found = cluster.get(Ref("Namespace", "", namespace))
    return cluster.origin == "kubernetes" if found is None else "deletionTimestamp" in found["metadata"]
