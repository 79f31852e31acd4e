"""Requests of cert-manager and Kubernetes before our issuers: a tree on a database, a signer beside it, and objects in memory."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from memory_cluster import MemoryCluster
from signing_world import SigningWorld, a_signing_world
from x509_world import a_signer

from spork.controller.certmanager.reconcile import CertificateRequests
from spork.controller.cluster import Attributes, Object, Ref
from spork.controller.issuer.reconcile import cluster_issuer_reconciler, issuer_reconciler
from spork.controller.reconciler import Context
from spork.controller.signing_requests.reconcile import SigningRequests
from spork.store.database import Database
from spork.x509.csr import build_csr
from spork.x509.der import Extension, KeyPurpose
from spork.x509.names import SubjectName, dns

PERMIT = {"dns": ["**.test"], "dn": ["*"], "uri": ["spiffe://cluster.test"]}
HIERARCHY = {
    "root": {"id": "status-root-ca", "commonName": "Status Root CA", "algorithm": "ecdsa-p256", "validityYears": 10},
    "issuingCAs": [
        {
            "id": "web",
            "commonName": "Status Web CA",
            "algorithm": "ecdsa-p256",
            "validityYears": 5,
            "allowedNamespaces": {"names": ["shop"]},
        },
    ],
}


def ours(kind: str, name: str, spec: dict[str, Any], *, namespace: str = "") -> dict[str, Any]:
    """An object of this group."""
    return {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": kind,
        "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
        "spec": copy.deepcopy(spec),
    }


def an_issuer(**changes: Any) -> dict[str, Any]:
    """The spec of an issuer of the CA `web`."""
    return {"ca": "web", "profiles": ["tls-server", "tls-client"], "names": {"permit": PERMIT}, **changes}


def csr_pem(
    *names: str | SubjectName,
    algorithm: str = "ecdsa-p256",
    subject: str = "",
    extensions: Sequence[Extension] = (),
) -> str:
    """A CSR as PEM, with a key of its own."""
    signer = a_signer(algorithm, purpose=KeyPurpose.LEAF)
    wanted = [name if isinstance(name, SubjectName) else dns(name) for name in names]
    der = build_csr(x509.Name.from_rfc4514_string(subject), wanted, signer, extensions)
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


def encoded(text: str) -> str:
    """As the API has octets in JSON."""
    return base64.b64encode(text.encode()).decode()


def condition(kind: str, *, reason: str = "Test", status: str = "True") -> dict[str, Any]:
    """A condition that somebody else wrote."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": "By the test.",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def a_certificate_request(
    *conditions: str, name: str = "one", namespace: str = "shop", pem: str | None = None, **spec: Any
) -> dict[str, Any]:
    """A CertificateRequest for the Issuer `web`, with these conditions."""
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "CertificateRequest",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "request": encoded(csr_pem("www.test") if pem is None else pem),
            "issuerRef": {"group": "spork-ca.org", "kind": "Issuer", "name": "web"},
            "usages": ["digital signature", "key encipherment", "server auth"],
            "username": "system:serviceaccount:cert-manager:cert-manager",
            "groups": ["system:serviceaccounts"],
            **spec,
        },
        "status": {"conditions": [condition(one) for one in conditions]},
    }


def a_signing_request(*conditions: str, name: str = "one", pem: str | None = None, **spec: Any) -> dict[str, Any]:
    """A CertificateSigningRequest for the Issuer `web` of the namespace `shop`, with these conditions."""
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": encoded(csr_pem("www.test") if pem is None else pem),
            "signerName": "spork-ca.org/shop.web",
            "usages": ["digital signature", "server auth"],
            "username": "ada",
            "uid": "7",
            "groups": ["system:authenticated"],
            "extra": {"example.com/key": ["one"]},
            **spec,
        },
        "status": {"conditions": [condition(one) for one in conditions]},
    }


class ForeignCluster(MemoryCluster):
    """Knows that a foreign status has several owners, as an API server does: conditions of types that we never wrote stay."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._written: dict[Ref, set[str]] = {}

    def has(self, kind: str) -> bool:
        # Where it is there, an issuer waits until its root stands in it.
        return kind != "ClusterTrustBundle" and super().has(kind)

    def put(self, item: dict[str, Any]) -> Object:
        """An object with its status, as others made it."""
        status = item.pop("status", None)
        made = dict(self.add({**item, "metadata": {"uid": str(uuid.uuid4()), **item["metadata"]}}))
        return self._put({**copy.deepcopy(made), "status": status}) if status is not None else made

    def add_condition(self, ref: Ref, kind: str) -> None:
        """What an approver does."""
        item = copy.deepcopy(dict(self._items[ref]))
        item.setdefault("status", {}).setdefault("conditions", []).append(condition(kind))
        self._put(item)

    async def _set_status(self, item: Object, status: Mapping[str, Any]) -> Object:
        if item["apiVersion"].startswith("spork-ca.org/"):
            return await super()._set_status(item, status)
        ref = Ref(item["kind"], item["metadata"].get("namespace") or "", item["metadata"]["name"])
        kept = [
            one
            for one in (self._items[ref].get("status") or {}).get("conditions") or ()
            if one["type"] not in self._written.get(ref, set())
        ]
        conditions = list(status.get("conditions") or ())
        self._written[ref] = {one["type"] for one in conditions}
        mine = [one for one in kept if one["type"] not in self._written[ref]]
        return await super()._set_status(item, {**status, "conditions": [*mine, *conditions]})


@dataclass
class Permissions:
    """Answers access reviews, and remembers them."""

    allowed: bool = True
    error: Exception | None = None
    asked: list[tuple[Mapping[str, Any], Attributes]] = field(default_factory=list)

    async def may(self, user: Mapping[str, Any], attributes: Attributes) -> bool:
        self.asked.append((user, attributes))
        if self.error is not None:
            raise self.error
        return self.allowed


@dataclass
class RequestsWorld:
    """The Issuer `shop/web`, the ClusterIssuers `everyone` and `some`, and who signs for them."""

    signing: SigningWorld
    cluster: ForeignCluster
    context: Context
    permissions: Permissions

    def __post_init__(self) -> None:
        self.certificate_requests = CertificateRequests(self.context)
        self.signing_requests = SigningRequests(self.context)

    async def issuers(self, *issuers: dict[str, Any]) -> None:
        """Applies issuers, and lets them become ready."""
        for one in issuers:
            self.cluster.add(one)
        reconcilers = issuer_reconciler(self.context), cluster_issuer_reconciler(self.context)
        for reconciler in reconcilers:
            for item in self.cluster.all(reconciler.kind):
                metadata = item["metadata"]
                await reconciler.reconcile(Ref(item["kind"], metadata.get("namespace") or "", metadata["name"]))

    async def answered(self, item: dict[str, Any]) -> tuple[Object, list[str]]:
        """The object after it has come to rest, and the requests that were made for it."""
        made = self.cluster.put(item)
        ref = Ref(made["kind"], made["metadata"].get("namespace") or "", made["metadata"]["name"])
        before = len(self.cluster.requests)
        await self.cluster.settle(self.certificate_requests, self.signing_requests)
        found = self.cluster.get(ref)
        assert found is not None
        return found, self.cluster.requests[before:]


def state(item: Object, kind: str = "Ready") -> tuple[str, str, str] | None:
    """Status, reason and message of a condition."""
    for one in (item.get("status") or {}).get("conditions") or ():
        if one["type"] == kind:
            return one["status"], one["reason"], one["message"]
    return None


def certificates(text: str) -> list[x509.Certificate]:
    """Of a field of a status."""
    return x509.load_pem_x509_certificates(base64.b64decode(text))


@asynccontextmanager
async def a_requests_world(database: Database) -> AsyncIterator[RequestsWorld]:
    async with a_signing_world(database) as signing, _signing(signing):
        await database.execute("UPDATE authority SET declared_by = 'Hierarchy/main' WHERE id <> 'management'")
        cluster = ForeignCluster()
        permissions = Permissions()
        world = RequestsWorld(signing, cluster, Context(cluster, signing.operator, reviews=permissions), permissions)
        for name in ("shop", "other"):
            cluster.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        cluster.add(ours("Hierarchy", "main", HIERARCHY))
        await world.issuers(
            ours("Issuer", "web", an_issuer(), namespace="shop"),
            ours("ClusterIssuer", "everyone", an_issuer(allowedNamespaces={"names": ["*"]})),
            ours("ClusterIssuer", "some", an_issuer(allowedNamespaces={"names": ["shop"]})),
        )
        cluster.requests.clear()
        yield world


@asynccontextmanager
async def _signing(world: SigningWorld) -> AsyncIterator[None]:
    async def work() -> None:
        while True:
            await world.signer.work()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
