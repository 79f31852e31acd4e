"""A built tree over a real database, with certificates to issue and revoke, and replicas of the status address."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from x509_world import a_signer

from spork.api.status import StatusApplication, application
from spork.clock import Clock, SystemClock
from spork.hierarchy.build import Workshop, build
from spork.hierarchy.load import load_text
from spork.ids import AuthorityId
from spork.issuance.ports import IdempotencyKey, Recorded
from spork.issuance.request import IssuanceRequest
from spork.issuance.revoke import Reason
from spork.keys.passphrase import Passphrases
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.services import Services, wire
from spork.settings import Settings
from spork.store.database import Database
from spork.x509.der import KeyPurpose
from spork.x509.names import dns
from spork.x509.ocsp import build_request
from spork.x509.profiles import profile_named

TREE = """
[root]
common_name = "Status Root CA"
algorithm = "{algorithm}"
validity_years = 10

[[issuing_cas]]
id = "web"
common_name = "Status Web CA"
algorithm = "{algorithm}"
validity_years = 5
{web}

[[issuing_cas]]
id = "other"
common_name = "Status Other CA"
algorithm = "ecdsa-p256"
validity_years = 5

[[issuers]]
name = "web"
ca = "web"
profiles = ["tls-server"]
default = true
names.permit.dns = ["**.test"]
"""
WEB, OTHER, ROOT = AuthorityId("web"), AuthorityId("other"), AuthorityId("status-root-ca")
PASSPHRASES = {kind: Passphrases(f"only for these tests: {kind}".encode()) for kind in ("online", "sealed")}


@dataclass(frozen=True)
class Response:
    """What an ASGI application sent."""

    status: int
    headers: dict[str, str]
    body: bytes


async def call(
    app: Any, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Response:
    """One request straight into an ASGI application; `path` is as on the wire."""
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    names = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Response(sent[0]["status"], names, b"".join(message.get("body", b"") for message in sent[1:]))


@dataclass
class StatusWorld:
    """One installation."""

    services: Services
    clock: Clock
    replicas: list[tuple[Database, StatusApplication]] = field(default_factory=list)

    async def replica(self) -> StatusApplication:
        """A further process, as far as the status address is concerned: its own connections, caches and feed."""
        database = await Database.open(self.services.database.url, min_size=1, max_size=6)
        services = await wire(self.services.settings, database, {"online": PASSPHRASES["online"]}, False, self.clock)
        app = application(services)
        self.replicas.append((database, app))
        return app

    def services_of(self, replica: StatusApplication) -> Database:
        """The database handle of a replica."""
        return next(database for database, app in self.replicas if app is replica)

    async def issue(self, name: str = "www.test", *, validity: timedelta | None = None) -> Recorded:
        """A server certificate of the CA `web`."""
        issuer = await self.services.issuers.issuer("web")
        spki = a_signer(purpose=KeyPurpose.LEAF).spki
        return await self.services.pipeline.issue(
            IssuanceRequest(
                requester=Requester(Door.REST, "admin:test"),
                grant=Grant(),
                evidence=Evidence("local", "test"),
                idempotency=IdempotencyKey(
                    f"issuer:{issuer.id}", Door.REST, secrets.token_hex(8), hashlib.sha256(spki).digest()
                ),
                authority=await self.services.authorities.authority(WEB),
                issuer=issuer,
                profile=profile_named("tls-server"),
                spki=spki,
                names=(dns(name),),
                validity=validity,
            )
        )

    async def revoke(self, recorded: Recorded, reason: Reason = Reason.keyCompromise) -> int:
        return await self.services.revoker.revoke(
            recorded.certificate_id,
            reason,
            actor="admin:test",
            subject="certificate:test",
            authority=recorded.authority_id,
        )

    async def certificate(self, authority_id: AuthorityId = WEB) -> x509.Certificate:
        found = (await self.services.authorities.authority(authority_id)).certificate
        assert found is not None
        return found

    async def request(
        self,
        *serials: int,
        authority_id: AuthorityId = WEB,
        hash_name: str = "sha1",
        nonce: bytes | None = None,
    ) -> bytes:
        authority = await self.services.authorities.authority(authority_id)
        return build_request(authority.subject_der, authority.spki, serials, hash_name, nonce)

    async def write_chain(self, folder: Path) -> tuple[Path, Path]:
        """Files of the root and of the CA `web`, in PEM."""
        root, web = folder / "root.pem", folder / "web.pem"
        root.write_bytes((await self.certificate(ROOT)).public_bytes(Encoding.PEM))
        web.write_bytes((await self.certificate(WEB)).public_bytes(Encoding.PEM))
        return root, web


@asynccontextmanager
async def a_status_world(
    database: Database,
    *,
    algorithm: str = "ecdsa-p256",
    web: str = "",
    status_url: str = "http://status.test",
    clock: Clock | None = None,
    home: Path = Path("/nonexistent"),
) -> AsyncIterator[StatusWorld]:
    """Builds the tree and closes all replicas at the end."""
    clock = clock or SystemClock()
    services = await wire(Settings(home=home, status_url=status_url), database, PASSPHRASES, True, clock)
    workshop = Workshop(
        store=services.authorities,  # type: ignore[arg-type]
        keys=services.keys,
        signers=services.keys,
        pipeline=services.pipeline,
        clock=clock,
        status_url=status_url,
    )
    await build(load_text(TREE.format(algorithm=algorithm, web=web), "tree.toml"), workshop)
    world = StatusWorld(services, clock)
    try:
        yield world
    finally:
        for replica_database, app in world.replicas:
            await app.aclose()
            await replica_database.close()
