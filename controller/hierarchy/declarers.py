"""Which Hierarchy declares a CA, and which namespaces its owner lets Issuers bind it from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spork.controller.cluster import Cluster, Object
from spork.controller.namespaces import granted
from spork.x509.authority import Authority


def declarer_name(hierarchy: Object) -> str:
    """How the store calls this Hierarchy; see `ids.HIERARCHY_FILE`."""
    return f"Hierarchy/{hierarchy['metadata']['name']}"


def declared_cas(hierarchy: Object) -> Iterator[Mapping[str, Any]]:
    """The CAs of a Hierarchy as they stand in its spec, which need not be valid."""
    spec = hierarchy.get("spec") or {}
    policies = spec.get("policyCAs") or []
    nested = [one for policy in policies for one in policy.get("issuingCAs") or []]
    for one in (spec.get("root"), *policies, *nested, *(spec.get("issuingCAs") or [])):
        if isinstance(one, Mapping):
            yield one


def declares(hierarchy: Object, ca: str) -> bool:
    """Whether a CA of that id stands in its spec."""
    return any(one.get("id") == ca for one in declared_cas(hierarchy))


def declaring(cluster: Cluster, ca: str) -> Object | None:
    """The Hierarchy that a CA belongs to: the oldest of those that declare its id."""
    found = [one for one in cluster.all("Hierarchy") if declares(one, ca)]
    return min(found, key=_age, default=None)


def grants(cluster: Cluster, authority: Authority, namespace: str) -> bool:
    """Whether Issuers of the namespace may bind the CA now.

    The grant counts only in the Hierarchy that the stored CA comes from: one that merely names the id of somebody else's CA,
    such as one of the hierarchy file, grants nothing.
    """
    hierarchy = declaring(cluster, authority.id)
    if hierarchy is None or authority.declared_by != declarer_name(hierarchy):
        return False
    (declared,) = [one for one in declared_cas(hierarchy) if one.get("id") == authority.id][:1]
    return granted(declared.get("allowedNamespaces"), namespace, cluster)


def _age(item: Object) -> tuple[str, str]:
    return item["metadata"]["creationTimestamp"], item["metadata"]["name"]
