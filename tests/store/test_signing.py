"""Certificates that one process asks for and another one signs, on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from cryptography import x509
from signing_world import SigningWorld, a_signing_world
from store_builders import one

from spork.store.database import Database

pytestmark = pytest.mark.store


@pytest.fixture
async def world(database: Database) -> AsyncIterator[SigningWorld]:
    async with a_signing_world(database) as world:
        yield world


async def test_a_process_without_keys_gets_its_certificate_from_the_signer(
    world: SigningWorld, database: Database
) -> None:
    recorded = await world.issue("www.test")
    assert recorded is not None
    certificate = x509.load_der_x509_certificate(recorded.der)
    issuer = (await world.operator.authorities.authority(recorded.authority_id)).certificate
    assert issuer is not None
    certificate.verify_directly_issued_by(issuer)
    assert await one(database, "SELECT count(*) FROM job") == (0,)
    assert await one(
        database,
        "SELECT actor, detail ->> 'door' FROM audit_event WHERE action = 'certificate.issue' ORDER BY id DESC LIMIT 1",
    ) == ("certificate:shop/web", "kubernetes")
