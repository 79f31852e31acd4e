"""A CA that was disabled, or whose certificate was revoked, signs no more certificates; its lists and answers go on."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from status_world import OTHER, PASSPHRASES, ROOT, WEB, StatusWorld, a_status_world

from spork.api.crl.publication import ensure_crls
from spork.api.ocsp.signing import renew_responders
from spork.errors import Code, SporkError
from spork.ids import AuthorityId
from spork.issuance.ports import AuditEvent
from spork.issuance.revoke import Reason
from spork.services import wire
from spork.store.certificate_search import CertificateRecords
from spork.store.database import Database

pytestmark = pytest.mark.store


@pytest.fixture
async def world(database: Database) -> AsyncIterator[StatusWorld]:
    async with a_status_world(database) as built:
        yield built


async def change_status(world: StatusWorld, authority_id: AuthorityId, reason: Reason) -> None:
    der = (await world.certificate(authority_id)).public_bytes(Encoding.DER)
    row = await CertificateRecords(world.services.database).by_sha256(hashlib.sha256(der).digest())
    assert row is not None
    await world.services.revoker.revoke(row.id, reason, actor="admin:test", subject="ca", authority=row.authority_id)


async def refused(world: StatusWorld) -> str:
    with pytest.raises(SporkError) as caught:
        await world.issue()
    assert caught.value.code is Code.POLICY_REFUSED
    return caught.value.detail


@pytest.mark.parametrize("revoked", [WEB, ROOT])
async def test_nothing_is_issued_below_a_revoked_certificate(world: StatusWorld, revoked: AuthorityId) -> None:
    await world.issue()
    await change_status(world, revoked, Reason.cACompromise)
    assert "revoked" in await refused(world)


async def test_a_hold_stops_and_its_release_starts_again(world: StatusWorld) -> None:
    await change_status(world, WEB, Reason.certificateHold)
    await refused(world)
    await change_status(world, WEB, Reason.removeFromCRL)
    await world.issue()


async def test_a_revoked_sister_stops_nobody(world: StatusWorld) -> None:
    await change_status(world, OTHER, Reason.superseded)
    await world.issue()


async def test_a_disabled_ca_issues_nothing(world: StatusWorld) -> None:
    await world.services.authorities.disable_authority(WEB, AuditEvent("authority.disable", "host", "authority:web"))
    assert "disabled" in await refused(world)


async def test_another_replica_hears_of_it(world: StatusWorld, database_url: str) -> None:
    database = await Database.open(database_url, min_size=1, max_size=3)
    try:
        services = await wire(world.services.settings, database, {"online": PASSPHRASES["online"]}, False, world.clock)
        assert (await services.authorities.authority(WEB)).stopped is None
        await change_status(world, WEB, Reason.keyCompromise)
        services.authorities.configuration_changed()
        assert (await services.authorities.authority(WEB)).stopped is not None
    finally:
        await database.close()


async def test_lists_and_responders_of_a_revoked_ca_go_on(world: StatusWorld) -> None:
    await change_status(world, WEB, Reason.cACompromise)
    assert WEB in {made.scope.authority_id for made in await ensure_crls(world.services)}
    assert await renew_responders(world.services) == 2


async def test_revoking_a_leaf_moves_no_configuration(world: StatusWorld, database: Database) -> None:
    issued = await world.issue()
    before = await (await database.execute("SELECT version FROM configuration_version")).fetchone()
    await world.revoke(issued)
    assert await (await database.execute("SELECT version FROM configuration_version")).fetchone() == before
