"""Certificates in a cluster in memory over a whole CA: real database, real keys, real tree."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from admin_world import AdminWorld, an_admin_world
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from memory_cluster import MemoryCluster
from operator_world import a_resource

from spork.clock import FixedClock
from spork.controller.certificate.reconcile import CertificateReconciler
from spork.controller.cluster import Object, Ref
from spork.controller.conditions import condition_of
from spork.controller.reconciler import Context
from spork.issuance.ports import Recorded
from spork.issuance.request import IssuanceRequest
from spork.services import Services
from spork.store.database import Database

CA = "test-web-issuing-ca"
REF = Ref("Certificate", "default", "one")
SECRET = Ref("Secret", "default", "web-tls")


@dataclass
class InProcess:
    """Issues at once with the keys of this process, and remembers what it was asked for."""

    services: Services
    asked: list[IssuanceRequest] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    """What is given instead, first things first: None for "not yet", or an error to raise."""

    async def issue(self, request: IssuanceRequest, *, wait_s: float = 5.0) -> Recorded | None:
        self.asked.append(request)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return None
        return await self.services.pipeline.issue(request)


@dataclass
class CertificateWorld:
    """A cluster with a ClusterIssuer `web`, and the reconciler."""

    admin: AdminWorld
    cluster: MemoryCluster
    issuing: InProcess
    reconciler: CertificateReconciler
    database: Database

    @property
    def services(self) -> Services:
        return self.admin.services

    @property
    def clock(self) -> FixedClock:
        return self.admin.clock

    def restarted(self) -> CertificateWorld:
        """The same world after a new start of the operator."""
        return _with(self.admin, self.cluster, self.database)

    def add(self, changes: dict[str, Any] | None = None, *, name: str = "one") -> Object:
        """Applies a Certificate of `web` with changes by path."""
        base = {"spec/issuerRef": {"kind": "ClusterIssuer", "name": "web"}, "spec/dnsNames": ["www.test"]}
        return self.cluster.add(a_resource("Certificate", {**base, **(changes or {})}, name=name))

    async def run(self, ref: Ref = REF) -> float | None:
        """One reconciliation."""
        return await self.reconciler.reconcile(ref)

    async def settle(self) -> list[str]:
        """Reconciles until nothing changes any more; gives the requests that it cost."""
        before = len(self.cluster.requests)
        await self.cluster.settle(self.reconciler)
        return self.cluster.requests[before:]

    def status(self, ref: Ref = REF) -> dict[str, Any]:
        item = self.cluster.get(ref)
        assert item is not None
        return dict(item.get("status") or {})

    def condition(self, kind: str, ref: Ref = REF) -> tuple[str, str, str]:
        """Status, reason and message."""
        item = self.cluster.get(ref)
        assert item is not None
        found = condition_of(item, kind)
        assert found is not None, f"{ref} has no condition {kind}"
        return found["status"], found["reason"], found["message"]

    def secret(self, ref: Ref = SECRET) -> dict[str, bytes]:
        item = self.cluster.get(ref)
        assert item is not None, f"there is no {ref}"
        return {key: base64.b64decode(value) for key, value in item["data"].items()}

    def leaf(self, ref: Ref = SECRET) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.secret(ref)["tls.crt"])

    def edit(self, ref: Ref, **data: bytes | None) -> None:
        """What `kubectl edit secret` does; double underscores stand for dots."""
        item = dict(self.cluster.get(ref) or {})
        changed = {key.replace("__", "."): value for key, value in data.items()}
        kept = {key: value for key, value in item["data"].items() if key not in changed}
        coded = {key: base64.b64encode(value).decode() for key, value in changed.items() if value is not None}
        self.cluster.add({**item, "data": {**kept, **coded}})

    def secrets(self) -> list[str]:
        return sorted(item["metadata"]["name"] for item in self.cluster.all("Secret"))

    def events(self) -> list[str]:
        return [reason for _, reason, _, _ in self.cluster.reports]

    async def issued(self) -> int:
        """How many certificates the database has for this cluster, whatever their state."""
        query = "SELECT count(*) FROM certificate WHERE door = 'kubernetes'"
        row = await (await self.database.execute(query)).fetchone()
        assert row is not None
        return int(row[0])

    async def revoke(self, serial: int, reason: int = 1) -> None:
        """What an administrator does."""
        from spork.ids import AuthorityId, Serial
        from spork.issuance.revoke import Reason
        from spork.store.certificate_search import CertificateRecords

        found = await CertificateRecords(self.database).by_serial(AuthorityId(CA), Serial(serial))
        assert found is not None
        await self.services.revoker.revoke(found.id, Reason(reason), actor="admin", subject="c", authority=CA)
        self.reconciler._statuses.statuses_changed(AuthorityId(CA), 1, [found.serial_octets])


def key_and_certificate_fit(data: dict[str, bytes]) -> bool:
    """Whether the private key is that of the first certificate."""
    key = load_pem_private_key(data["tls.key"], None).public_key()
    leaf = x509.load_pem_x509_certificate(data["tls.crt"]).public_key()
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_bytes(*form) == leaf.public_bytes(*form)


async def a_certificate_world(database: Database, home: Path) -> CertificateWorld:
    """With the issuer `web` ready for every namespace."""
    admin = await an_admin_world(database, home)
    cluster = MemoryCluster(admin.clock)
    await an_issuer(cluster)
    cluster.requests.clear()
    return _with(admin, cluster, database)


async def an_issuer(cluster: MemoryCluster, name: str = "web", *, ready: bool = True) -> Object:
    """A ClusterIssuer that the tree of the world has under the same name."""
    changes = {
        "spec/ca": CA,
        "spec/profiles": ["tls-server", "tls-client"],
        "spec/allowedNamespaces": {"names": ["*"]},
        "spec/protocols": {},
    }
    item = cluster.add(a_resource("ClusterIssuer", changes, name=name))
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "reason": "Ready",
        "message": "It issues.",
        "lastTransitionTime": "2026-11-24T00:00:00Z",
        "observedGeneration": item["metadata"]["generation"],
    }
    return await cluster.set_status(item, {"conditions": [condition]})


def _with(admin: AdminWorld, cluster: MemoryCluster, database: Database) -> CertificateWorld:
    issuing = InProcess(admin.services)
    reconciler = CertificateReconciler(Context(cluster, admin.services), issuing=issuing)
    return CertificateWorld(admin, cluster, issuing, reconciler, database)
