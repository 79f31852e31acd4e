"""SIGKILL of the signer between claim, signature and record, while a process without keys waits for its certificate."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from pathlib import Path

import pytest

from spork.clock import SystemClock
from spork.ids import AuthorityId
from spork.issuance.ports import IdempotencyKey, Recorded
from spork.issuance.request import IssuanceRequest
from spork.keys.ephemeral import EphemeralKey
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.services import Services, wire
from spork.settings import Settings
from spork.store.database import OPERATOR_ROLE, Database
from spork.store.embedded_access import running_urls
from spork.x509.der import KeyPurpose
from spork.x509.names import dns
from spork.x509.profiles import profile_named
from tests.e2e.auditing import ISSUING, Books
from tests.e2e.running import RunningCA

pytestmark = pytest.mark.e2e

_PLACES = [
    "before:spork.issuance.signing:CertificateSigner._judged",
    "after:spork.issuance.signing:CertificateSigner._judged",
    "after:spork.store.signing:CertificateSigning.finish",
]
"""Claimed; signed; recorded."""
_SPKI = EphemeralKey.generate("ecdsa-p256", KeyPurpose.LEAF).spki


async def _request(services: Services, name: str) -> IssuanceRequest:
    issuer = await services.issuers.issuer(None)
    return IssuanceRequest(
        requester=Requester(Door.KUBERNETES, "certificate:shop/web"),
        grant=Grant(),
        evidence=Evidence("kubernetes", "shop/web"),
        idempotency=IdempotencyKey(f"issuer:{issuer.id}", Door.KUBERNETES, name, hashlib.sha256(_SPKI).digest()),
        authority=await services.authorities.authority(AuthorityId(ISSUING)),
        issuer=issuer,
        profile=profile_named("tls-server"),
        spki=_SPKI,
        names=(dns(name),),
    )


async def _issue(ca: RunningCA, name: str, wait_s: float) -> Recorded | None:
    """As the operator would, in a process of its own."""
    database = await Database.open(running_urls(ca.home)[1], min_size=1, max_size=2, role=OPERATOR_ROLE)
    try:
        services = await wire(Settings(home=ca.home), database, {}, clock=SystemClock())
        return await services.issuing.issue(await _request(services, name), wait_s=wait_s)
    finally:
        await database.close()


@pytest.mark.timeout(120)
def test_a_killed_signer_s_work_is_done_once_by_the_next_one(own_ca: RunningCA) -> None:
    armed = own_ca.home.parent / "armed"
    launcher = Path(__file__).with_name("kill_launcher.py")
    own_ca.command = [sys.executable, str(launcher), ",".join(_PLACES), str(armed), "up"]
    own_ca.extra["SPORK_TEST_JOB_LEASE_S"] = "1"
    own_ca.start()
    books = Books(own_ca)
    for number, place in enumerate(_PLACES):
        name = f"n{number}.localhost"
        armed.write_text(place)
        assert own_ca.process is not None
        assert asyncio.run(_issue(own_ca, name, 0)) is None
        assert own_ca.process.wait(20) == -signal.SIGKILL
        armed.unlink()
        own_ca.start()
        recorded = asyncio.run(_issue(own_ca, name, 30))
        assert recorded is not None, place
        rows = books.rows("SELECT state, serial FROM certificate WHERE idempotency_key = %s", name)
        assert rows == [("issued", recorded.serial.to_bytes(16, "big"))], place
    assert books.count("SELECT count(*) FROM job WHERE kind = 'sign'") == 0
    books.check()
    assert own_ca.stop() == 0
