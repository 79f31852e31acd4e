"""An ACME door over a real database for tests, and a small client that signs with another library than the door reads with."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from fastapi import FastAPI
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jws as jwcrypto_jws
from x509_world import CA, NOW, a_root

from spork.api.acme.routes import router
from spork.api.acme.validation import Validator, run
from spork.clock import FixedClock
from spork.errors import Code, SporkError
from spork.ids import AuthorityId, IssuerId, KeyId
from spork.issuance.pipeline import Pipeline
from spork.issuance.revoke import Revoker
from spork.policy.engine import PolicyEngine
from spork.policy.issuer import Issuer, KeyPolicy, NamePolicy
from spork.settings import Settings
from spork.store.certificate import CertificateLedger
from spork.store.database import Database
from spork.store.revocation import RevocationLedger
from spork.x509.authority import Authority
from spork.x509.der import Signer

BASE = "https://ca.test"


class _Authorities:
    def __init__(self, ca: CA) -> None:
        self._authority = replace(ca.authority, key_id=KeyId("the-key"))
        self.others: list[Authority] = []
        self.crosses: dict[str, list[x509.Certificate]] = {}

    async def authority(self, authority_id: AuthorityId, generation: int | None = None) -> Authority:
        assert (authority_id, generation or 1) == (self._authority.id, 1)
        return self._authority

    async def all(self) -> Sequence[Authority]:
        return [self._authority, *self.others]

    async def cross_certificates(self, authority_id: AuthorityId, generation: int) -> Sequence[x509.Certificate]:
        return self.crosses.get(authority_id, [])

    async def ca_spkis(self) -> frozenset[bytes]:
        return frozenset()


class _Signers:
    def __init__(self, ca: CA) -> None:
        self._signer = ca.signer

    async def signer(self, key_id: KeyId) -> Signer:
        assert key_id == "the-key"
        return self._signer


class _Issuers:
    def __init__(self, issuers: Sequence[Issuer]) -> None:
        self.all = {issuer.label: issuer for issuer in issuers}

    async def issuer(self, label: str | None) -> Issuer:
        if label is None:
            return next(issuer for issuer in self.all.values() if issuer.default)
        if label not in self.all:
            raise SporkError(Code.NOT_FOUND, f"There is no issuer {label}.")
        return self.all[label]


class NoResolver:
    """Names that tests give addresses to; all others do not exist."""

    def __init__(self) -> None:
        self.known: dict[str, Sequence[Any]] = {}
        self.asked: list[str] = []

    async def addresses(self, name: str) -> Sequence[Any]:
        self.asked.append(name)
        if name not in self.known:
            raise SporkError(Code.DNS, f"{name} does not exist in the DNS.", retry_after_s=1)
        return self.known[name]


@dataclass
class World:
    """One CA with one issuer `web`, served by one or more replicas."""

    database: Database
    ca: CA
    root: CA
    clock: FixedClock
    issuers: _Issuers
    settings: Settings
    validated: list[str] = field(default_factory=list)
    is_working: bool = False
    thumbprint: str = ""

    def services(self, database: Database | None = None) -> Any:
        database = database or self.database
        authorities = _Authorities(self.ca)
        ledger, revocations = CertificateLedger(database), RevocationLedger(database)
        return SimpleNamespace(
            settings=self.settings,
            clock=self.clock,
            database=database,
            authorities=authorities,
            issuers=self.issuers,
            ledger=ledger,
            revocations=revocations,
            pipeline=Pipeline(ledger, _Signers(self.ca), authorities, self.clock, PolicyEngine().decide),
            revoker=Revoker(revocations, self.clock),
        )

    def app(self, services: Any = None) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.include_router(router(services or self.services()))
        return app

    @asynccontextmanager
    async def client(self, app: Any = None, **key: Any) -> AsyncIterator[Client]:
        transport = httpx.ASGITransport(app or self.app(), raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as http:
            yield Client(http, jwcrypto_jwk.JWK.generate(**(key or {"kty": "EC", "crv": "P-256"})))

    async def validate(self, outcome: SporkError | None = None) -> None:
        """Does what the worker does with all due jobs, with the given outcome instead of a request to somewhere."""
        worker = Validator(self.services(), NoResolver())

        async def attempt(job: Any) -> SporkError | None:
            self.validated.append(job.payload["identifier_value"])
            return outcome

        worker._attempt = attempt  # type: ignore[method-assign]
        await asyncio.gather(*(worker.work(job) for job in await worker.claim()))

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Runs the real worker, and a web server that answers http-01 for the account with `thumbprint`."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.settings = replace(self.settings, acme_http01_port=server.sockets[0].getsockname()[1])
        self.change_issuer(acme={"networks": ["127.0.0.0/8"]})
        services, stop = self.services(), asyncio.Event()
        self.is_working = True
        worker = asyncio.create_task(run(services, stop))
        try:
            yield
        finally:
            stop.set()
            await worker
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        self.validated.append(head.lower().partition("host: ")[2].split()[0])
        body = f"{path.rpartition('/')[2]}.{self.thumbprint}\n".encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def change_issuer(self, name: str = "web", **changes: Any) -> None:
        """Replaces fields of an issuer; `acme` is its ACME table."""
        issuer = self.issuers.all[name]
        if "acme" in changes:
            changes["protocols"] = {"acme": changes.pop("acme")}
        self.issuers.all[name] = replace(issuer, **changes)


async def a_world(database: Database, **settings: Any) -> World:
    root = a_root("Test root")
    ca = root.subordinate("Web CA")
    issuers = [await _issuer(database, ca, name) for name in ("web", "other")]
    values = {"enrol_url": BASE, "acme_http01_port": 5002} | settings
    return World(database, ca, root, FixedClock(NOW), _Issuers(issuers), Settings(**values))


async def _issuer(database: Database, ca: CA, name: str) -> Issuer:
    authority = ca.authority
    await database.execute(
        "INSERT INTO authority (id, kind, subject_der, key_mode) VALUES (%s, 'issuing', %s, 'online') ON CONFLICT DO NOTHING",
        [authority.id, authority.subject_der],
    )
    cursor = await database.execute(
        "INSERT INTO issuer (name, origin, authority_id, profiles, names) VALUES (%s, 'file', %s, %s, '{}') RETURNING id",
        [name, authority.id, ["tls-server"]],
    )
    row = await cursor.fetchone()
    return Issuer(
        id=IssuerId(row[0]),
        namespace="",
        name=name,
        authority_id=authority.id,
        profiles=("tls-server",),
        names=NamePolicy(
            permit={"dns": ("**.example", "**.localhost"), "ip": ("127.0.0.0/8",)}, deny={"dns": ("bad.example",)}
        ),
        keys=KeyPolicy(),
        max_validity=None,
        protocols={"acme": {}},
        origin="file",
        default=name == "web",
    )


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def a_csr(
    names: Sequence[str],
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    common_name: str | None = None,
    more: Sequence[x509.GeneralName] = (),
) -> bytes:
    """A request (DER) made by the oracle."""
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    general = [x509.DNSName(name) for name in names] + list(more)
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)


class Client:
    """Signs and posts. It keeps the nonce of the last reply, as real clients do."""

    def __init__(self, http: httpx.AsyncClient, key: jwcrypto_jwk.JWK) -> None:
        self.http = http
        self.key = key
        self.kid: str | None = None
        self.nonce: str | None = None
        self.directory: Mapping[str, Any] = {}

    @property
    def algorithm(self) -> str:
        curve = self.key.export_public(as_dict=True).get("crv")
        return {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA", None: "RS256"}[curve]

    def url(self, path: str) -> str:
        return f"{BASE}/acme/web/{path}"

    async def fresh_nonce(self) -> str:
        return (await self.http.head(self.url("new-nonce"))).headers["replay-nonce"]

    def sign(
        self, url: str, payload: Any, *, nonce: str | None, key: jwcrypto_jwk.JWK | None = None, **header: Any
    ) -> str:
        """A JWS; header members given as None are left out. An empty payload is given as None."""
        by = {"kid": self.kid} if self.kid else {"jwk": self.key.export_public(as_dict=True)}
        members = {"alg": self.algorithm, "nonce": nonce, "url": url} | by | header
        members = {name: value for name, value in members.items() if value is not None}
        octets = b"" if payload is None else payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        token = jwcrypto_jws.JWS(octets)
        token.add_signature(key or self.key, None, json.dumps(members))
        # The library leaves an empty payload out; on the wire it is there, and empty.
        return json.dumps({"payload": ""} | json.loads(token.serialize(compact=False)))

    async def post(self, url: str, payload: Any = None, **header: Any) -> httpx.Response:
        """Signs with the nonce at hand (or the one given) and posts."""
        nonce = header.pop("nonce", None) or self.nonce or await self.fresh_nonce()
        self.nonce = None
        body = header.pop("body", None) or self.sign(url, payload, nonce=nonce, **header)
        response = await self.http.post(url, content=body, headers={"Content-Type": "application/jose+json"})
        self.nonce = response.headers.get("replay-nonce")
        assert self.nonce, "every reply to a POST has a nonce"
        return response

    async def register(self, **payload: Any) -> httpx.Response:
        response = await self.post(self.url("new-account"), {"termsOfServiceAgreed": True} | payload)
        if response.status_code in (200, 201):
            self.kid = response.headers["location"]
        return response

    async def new_order(self, *names: str, **more: Any) -> httpx.Response:
        identifiers = [{"type": "dns", "value": name} for name in names]
        return await self.post(self.url("new-order"), {"identifiers": identifiers} | more)

    async def answer(self, order: Mapping[str, Any], kind: str = "http-01") -> None:
        """Answers the challenges of all pending authorizations."""
        for url in order["authorizations"]:
            authorization = (await self.post(url)).json()
            if authorization["status"] == "pending":
                challenge = next(one for one in authorization["challenges"] if one["type"] == kind)
                response = await self.post(challenge["url"], {})
                assert response.status_code == 200, response.text

    async def ready_order(self, world: World, *names: str) -> tuple[str, dict[str, Any]]:
        """URL and object of an order that can be finalized."""
        response = await self.new_order(*names)
        assert response.status_code == 201, response.text
        await self.answer(response.json())
        if not world.is_working:
            await world.validate()
        url = response.headers["location"]
        order = (await self.post(url)).json()
        while order["status"] == "pending" and world.is_working:
            await asyncio.sleep(0.02)
            order = (await self.post(url)).json()
        assert order["status"] == "ready", order
        return url, order

    async def certificate(self, world: World, *names: str, key: Any = None) -> list[x509.Certificate]:
        """A whole flow."""
        _, order = await self.ready_order(world, *names)
        done = await self.post(order["finalize"], {"csr": b64(a_csr(names, key=key))})
        assert done.status_code == 200, done.text
        pem = await self.post(done.json()["certificate"])
        return x509.load_pem_x509_certificates(pem.content)


def problem_of(response: httpx.Response) -> tuple[int, str]:
    """Status and short type of a problem document."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    document = response.json()
    assert document["status"] == response.status_code
    assert document["detail"]
    return response.status_code, document["type"].removeprefix("urn:ietf:params:acme:error:")


def some_name() -> str:
    return f"{secrets.token_hex(4)}.example"


@pytest.fixture
async def world(database: Database) -> World:
    return await a_world(database)


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    """A registered client."""
    async with world.client() as client:
        await client.register()
        yield client
