"""A signer and an operator without keys on one database, as two processes would be."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from status_world import WEB, a_status_world
from x509_world import a_signer

from spork.issuance.ports import IdempotencyKey, Recorded
from spork.issuance.request import IssuanceRequest
from spork.issuance.signing import CertificateSigner
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.services import Services, wire
from spork.store.database import RUNTIME_ROLE, Database
from spork.x509.der import KeyPurpose
from spork.x509.names import dns
from spork.x509.profiles import profile_named


@dataclass
class SigningWorld:
    """One tree; `operator` has no keys, `host` has all."""

    host: Services
    operator: Services
    signer: CertificateSigner

    async def request(self, *names: str, key: str | None = None, **changes: Any) -> IssuanceRequest:
        """For the issuer `web`; the key is the idempotency key, by default the first name."""
        issuer = await self.operator.issuers.issuer("web")
        names = names or ("www.test",)
        spki = a_signer(purpose=KeyPurpose.LEAF).spki
        request = IssuanceRequest(
            requester=Requester(Door.KUBERNETES, "certificate:shop/web"),
            grant=Grant(),
            evidence=Evidence("kubernetes", "shop/web"),
            idempotency=IdempotencyKey(
                f"issuer:{issuer.id}", Door.KUBERNETES, key or names[0], hashlib.sha256(b"request").digest()
            ),
            authority=await self.operator.authorities.authority(WEB),
            issuer=issuer,
            profile=profile_named("tls-server"),
            spki=spki,
            names=tuple(dns(name) for name in names),
        )
        return replace(request, **changes)

    async def reserved(self, *names: str, **changes: Any) -> None:
        """A request that nobody waits for."""
        assert await self.operator.issuing.issue(await self.request(*names, **changes), wait_s=0) is None

    async def issue(self, *names: str, wait_s: float = 20.0, **changes: Any) -> Recorded | None:
        """Asks, and signs beside it until the answer is there."""
        waiting = asyncio.create_task(self.operator.issuing.issue(await self.request(*names, **changes), wait_s=wait_s))
        while not waiting.done():
            await self.signer.work()
            await asyncio.sleep(0.01)
        return waiting.result()


@asynccontextmanager
async def a_signing_world(database: Database, role: str = RUNTIME_ROLE, **options: Any) -> AsyncIterator[SigningWorld]:
    async with a_status_world(database, **options) as world:
        other = await Database.open(database.url, min_size=1, max_size=6, role=role)
        try:
            operator = await wire(world.services.settings, other, {}, False, world.clock)
            yield SigningWorld(world.services, operator, world.services.signer())
        finally:
            await other.close()
