"""A whole CA behind the administration API for tests: real database, real keys, real tree, and administrators of every level."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from spork.api.admin.application import application
from spork.bootstrap import ensure_management_ca, issue_admin
from spork.clock import FixedClock
from spork.hierarchy.build import Workshop, build
from spork.hierarchy.load import load_text
from spork.issuance.ports import Recorded
from spork.keys.ephemeral import EphemeralKey
from spork.keys.passphrase import Passphrases
from spork.policy.levels import AdminLevel
from spork.services import Services, wire
from spork.settings import load_settings
from spork.store.database import Database
from spork.x509.csr import build_csr
from spork.x509.der import KeyPurpose
from spork.x509.names import EMPTY_NAME, SubjectName, dns

TREE = """
[root]
common_name = "Test Root CA"
algorithm = "ecdsa-p256"
validity_years = 20
key_mode = "online"
[[policy_cas]]
common_name = "Test Policy CA"
algorithm = "ecdsa-p256"
validity_years = 10
key_mode = "online"
[[policy_cas.issuing_cas]]
common_name = "Test Web Issuing CA"
algorithm = "ecdsa-p256"
validity_years = 5
[[issuers]]
name = "web"
ca = "test-web-issuing-ca"
profiles = ["tls-server", "tls-client"]
default = true
names.permit.dns = ["**.test"]
names.permit.email = ["@example.test"]
[[issuers]]
name = "lab"
ca = "test-web-issuing-ca"
profiles = ["tls-server", "code-signing"]
names.permit.dns = ["**.lab"]
"""


def csr_pem(*names: SubjectName, key: EphemeralKey | None = None, subject: Any = EMPTY_NAME) -> str:
    """A CSR for a fresh P-256 key."""
    import base64

    signer = (key or EphemeralKey.generate("ecdsa-p256", KeyPurpose.LEAF)).signer
    text = base64.encodebytes(build_csr(subject, names, signer)).decode("ascii")
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


@dataclass
class Administrator:
    """An administrator's certificate with its key."""

    recorded: Recorded
    key: EphemeralKey

    @property
    def pem(self) -> str:
        return ssl.DER_cert_to_PEM_cert(self.recorded.der)

    @property
    def serial(self) -> str:
        return f"{self.recorded.serial:032X}"

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Certificate and key as files."""
        certificate, key = folder / f"{self.serial}.pem", folder / f"{self.serial}.key"
        certificate.write_text(self.pem)
        key.write_bytes(self.key.pkcs8_pem())
        key.chmod(0o600)
        return certificate, key


@dataclass
class AdminWorld:
    """Services, the application over them, and a client that presents certificates as the TLS layer would."""

    services: Services
    app: FastAPI
    clock: FixedClock
    made: dict[Any, Administrator] = field(default_factory=dict)

    async def administrator(self, level: AdminLevel, *, issuers: tuple[str, ...] | None = None) -> Administrator:
        """One of the level; the same one for the same arguments."""
        if (level, issuers) not in self.made:
            key = EphemeralKey.generate("ecdsa-p256", KeyPurpose.ADMIN)
            name = f"{level.name.lower()}{'' if issuers is None else '-' + '-'.join(issuers)}"
            recorded = await issue_admin(self.services, level=level, name=name, spki=key.spki, issuers=issuers)
            self.made[level, issuers] = Administrator(recorded, key)
        return self.made[level, issuers]

    @asynccontextmanager
    async def client(
        self, who: Administrator | AdminLevel | str | None, *, issuers: tuple[str, ...] | None = None
    ) -> AsyncIterator[httpx.AsyncClient]:
        """A client below /api/v1 with the certificate of an administrator, with a PEM, or with none."""
        if isinstance(who, AdminLevel):
            who = await self.administrator(who, issuers=issuers)
        chain = [] if who is None else [who if isinstance(who, str) else who.pem]
        transport = httpx.ASGITransport(with_tls(self.app, chain), client=("192.0.2.7", 1234))
        async with httpx.AsyncClient(transport=transport, base_url="https://admin.test/api/v1") as http:
            yield http

    async def issue(self, *names: str, **body: Any) -> dict[str, Any]:
        """A certificate of the issuer `web`, through the API."""
        wanted = [dns(name) for name in names or ("www.test",)]
        async with self.client(AdminLevel.OPERATOR) as http:
            answer = await http.post("/certificates", json={"csr": csr_pem(*wanted), **body})
        assert answer.status_code == 201, answer.text
        issued: dict[str, Any] = answer.json()
        return issued


def with_tls(app: Any, chain: list[str]) -> Any:
    """What the listener does: the client's certificates stand in the TLS extension of the scope."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope.setdefault("extensions", {})["tls"] = {"client_cert_chain": chain}
        await app(scope, receive, send)

    return application


async def an_admin_world(database: Database, home: Path, tree: str = TREE, **settings_given: Any) -> AdminWorld:
    """Management CA, tree and its issuers on a fresh database."""
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    settings = load_settings(environment={}, home=home, **settings_given)
    passphrases = {kind: Passphrases(b"a passphrase for tests") for kind in ("online", "sealed")}
    services = await wire(settings, database, passphrases, create=True, clock=clock)
    await ensure_management_ca(services)
    workshop = Workshop(
        services.authorities, services.keys, services.keys, services.pipeline, clock, settings.url_of_status()
    )
    await build(load_text(tree), workshop)
    return AdminWorld(services, application(services), clock)
