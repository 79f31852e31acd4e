"""Roots, namespaces and a cluster in memory for tests of trust bundles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

from memory_cluster import MemoryCluster
from x509_world import CA, NOW, a_root

from spork.clock import FixedClock
from spork.controller.cluster import Object, Ref
from spork.controller.reconciler import Context, Reconciler
from spork.controller.trust import cluster_bundle, reconcile
from spork.services import Services
from spork.x509.authority import Authority, AuthorityKind

BUNDLE = "spork-ca-bundle"


def a_tree_root(hierarchy: str | None, name: str = "Root CA", **changes: Any) -> CA:
    """A root that a Hierarchy declares, or a file where that is None."""
    root = a_root(name)
    declared_by = f"Hierarchy/{hierarchy}" if hierarchy else "hierarchy.toml"
    return CA(replace(root.authority, declared_by=declared_by, **changes), root.signer)


def below(root: CA) -> Authority:
    """An issuing CA under the root, of the same tree."""
    return replace(root.subordinate().authority, declared_by=root.authority.declared_by)


@dataclass
class Authorities:
    """What the reconcilers read of the CAs."""

    every: list[Authority] = field(default_factory=list)

    async def all(self) -> tuple[Authority, ...]:
        newest = {one.id: one for one in sorted(self.every, key=lambda one: one.generation)}
        return tuple(newest.values())

    async def generations(self, authority_id: str) -> tuple[Authority, ...]:
        return tuple(one for one in self.every if one.id == authority_id)


@dataclass
class TrustWorld:
    """A cluster with both reconcilers over roots that a test adds and takes away."""

    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    authorities: Authorities = field(default_factory=Authorities)
    optional: bool = True

    def __post_init__(self) -> None:
        self.cluster = MemoryCluster(self.clock, optional=self.optional)
        services = cast(Services, SimpleNamespace(authorities=self.authorities, clock=self.clock))
        self.context = Context(self.cluster, services)
        self.reconcilers: tuple[Reconciler, ...] = (
            reconcile.reconciler(self.context),
            cluster_bundle.reconciler(self.context),
        )

    def root(self, hierarchy: str | None = "main", name: str = "Root CA", **changes: Any) -> CA:
        """Adds a root, and the Hierarchy that declares it."""
        root = a_tree_root(hierarchy, name, **changes)
        assert root.authority.kind is AuthorityKind.ROOT
        self.authorities.every.append(root.authority)
        if hierarchy is not None and self.cluster.get(Ref("Hierarchy", "", hierarchy)) is None:
            self.hierarchy(hierarchy)
        return root

    def hierarchy(self, name: str) -> Object:
        return self.cluster.add(
            {"apiVersion": "spork-ca.org/v1alpha1", "kind": "Hierarchy", "metadata": {"name": name}, "spec": {}}
        )

    def namespace(self, name: str, asks: str | None = "true") -> Object:
        labels = {} if asks is None else {"spork-ca.org/inject-trust": asks}
        return self.cluster.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def config_map(self, namespace: str, data: dict[str, str], labels: dict[str, str] | None = None) -> Object:
        metadata = {"name": BUNDLE, "namespace": namespace, "labels": labels or {}}
        return self.cluster.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})

    def bundle(self, namespace: str) -> str | None:
        """The text of the bundle there."""
        found = self.cluster.get(Ref("ConfigMap", namespace, BUNDLE))
        return None if found is None else found["data"]["ca.crt"]

    async def settle(self) -> list[str]:
        """Runs to rest; the requests that it took."""
        before = len(self.cluster.requests)
        await self.cluster.settle(*self.reconcilers)
        return self.cluster.requests[before:]
