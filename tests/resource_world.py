"""Reconcilers over a cluster in memory and a real database, with the signer a call away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from memory_cluster import MemoryCluster

from spork.cli.building import Outcome, work
from spork.clock import Clock, FixedClock, SystemClock
from spork.controller.ceremony.reconcile import reconciler as ceremony_reconciler
from spork.controller.cluster import Object, Ref
from spork.controller.conditions import condition_of
from spork.controller.hierarchy.reconcile import HierarchyReconciler
from spork.controller.hierarchy.reconcile import reconciler as hierarchy_reconciler
from spork.controller.issuer.reconcile import cluster_issuer_reconciler, issuer_reconciler
from spork.controller.reconciler import Context, Reconciler
from spork.keys.passphrase import Passphrases
from spork.services import Services, wire
from spork.settings import Settings
from spork.store.building import KEYLESS, KINDS
from spork.store.database import Database

TREE: Mapping[str, Any] = {
    "root": {"id": "root", "commonName": "Root", "algorithm": "ecdsa-p256", "validityYears": 20},
    "issuingCAs": [{"id": "web", "commonName": "Web", "algorithm": "ecdsa-p256", "validityYears": 5}],
}
"""A sealed root and an online CA below it."""
ISSUER: Mapping[str, Any] = {
    "ca": "web",
    "profiles": ["tls-server"],
    "names": {"permit": {"dns": ["**.example.com"]}},
    "protocols": {"acme": {}},
}


@dataclass
class World:
    """One installation with one cluster."""

    services: Services
    cluster: MemoryCluster
    hierarchies: HierarchyReconciler = field(init=False)
    context: Context = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The operator, which remembers nothing, starts again."""
        self.context = Context(self.cluster, self.services)
        self.hierarchies = hierarchy_reconciler(self.context)

    @property
    def reconcilers(self) -> tuple[Reconciler, ...]:
        context = self.context
        return (
            self.hierarchies,
            issuer_reconciler(context),
            cluster_issuer_reconciler(context),
            ceremony_reconciler(context),
        )

    async def settle(self) -> None:
        await self.cluster.settle(*self.reconcilers)

    async def sign(self, *kinds: str) -> list[str]:
        """What the signers of these kinds do until nothing is left; what they say."""
        said: list[str] = []
        while await work(self.services, *(kinds or (*KEYLESS, *KINDS)), progress=said.append) is not Outcome.NONE:
            pass
        return said

    async def built(self) -> None:
        """Reconciles and signs until both rest."""
        for _ in range(4):
            await self.settle()
            await self.sign()
        await self.settle()

    def add(self, kind: str, name: str, spec: Mapping[str, Any], namespace: str = "", **metadata: Any) -> Object:
        place = {"namespace": namespace} if namespace else {}
        return self.cluster.add(
            {
                "apiVersion": "spork-ca.org/v1alpha1",
                "kind": kind,
                "metadata": {"name": name, **place, **metadata},
                "spec": dict(spec),
            }
        )

    def add_namespace(self, name: str, **labels: str) -> Object:
        return self.cluster.add(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}
        )

    def item(self, kind: str, name: str, namespace: str = "") -> Object:
        found = self.cluster.get(Ref(kind, namespace, name))
        assert found is not None, f"{kind} {name} is gone"
        return found

    def is_gone(self, kind: str, name: str, namespace: str = "") -> bool:
        return self.cluster.get(Ref(kind, namespace, name)) is None

    def ready(self, kind: str, name: str, namespace: str = "") -> tuple[str, str]:
        """Status and reason of the condition Ready."""
        found = condition_of(self.item(kind, name, namespace), "Ready")
        assert found is not None, f"{kind} {name} has not been looked at"
        return found["status"], found["reason"]

    def message(self, kind: str, name: str, namespace: str = "", condition: str = "Ready") -> str:
        found = condition_of(self.item(kind, name, namespace), condition)
        assert found is not None, f"{kind} {name} has no condition {condition}"
        return str(found["message"])

    def status(self, kind: str, name: str, namespace: str = "") -> Mapping[str, Any]:
        status: Mapping[str, Any] = self.item(kind, name, namespace)["status"]
        return status

    async def annotate(self, kind: str, name: str, namespace: str = "", **annotations: str | None) -> None:
        """`approve="..."` is `spork-ca.org/approve`."""
        named = {f"spork-ca.org/{key.replace('_', '-')}": value for key, value in annotations.items()}
        await self.cluster.annotate(self.item(kind, name, namespace), named)

    async def delete(self, kind: str, name: str, namespace: str = "") -> None:
        await self.cluster.delete(Ref(kind, namespace, name))


async def a_world(database: Database, *, clock: Clock | None = None, **settings: Any) -> World:
    """Nothing is served in these tests, so that drift is not looked for at the status address."""
    passphrases = {kind: Passphrases(b"correct horse battery staple") for kind in ("online", "sealed")}
    values = {"status_url": "http://pki.example", "enrol_url": "https://ca.example", "drift_checks": False, **settings}
    services = await wire(replace(Settings(), **values), database, passphrases, True, clock or SystemClock())
    return World(services, MemoryCluster(clock, optional=False))


def advance(clock: FixedClock, **time: float) -> None:
    """Later, by `days=...` and the like."""
    from datetime import timedelta

    clock.current += timedelta(**time)
