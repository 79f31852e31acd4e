"""What an issuer says of namespaces holds at the operator and again at the signer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from signing_world import SigningWorld, a_signing_world

from spork.errors import Code, SporkError
from spork.issuance.ports import AuditEvent
from spork.policy.issuer import Expression, NamePolicy
from spork.policy.proposal import Door, Requester
from spork.store.database import Database

pytestmark = pytest.mark.store
_AUDIT = AuditEvent("issuer.configure", "test", "issuer:web")


@pytest.fixture
async def world(database: Database) -> AsyncIterator[SigningWorld]:
    async with a_signing_world(database) as world:
        issuer = replace(
            await world.host.issuers.issuer("web"),
            names=NamePolicy({"dns": ("**.{namespace}.test",)}),
            expressions=(Expression("request.namespace != 'evil'", "Not for you."),),
        )
        await world.host.issuers.put(issuer, origin="file", audit=_AUDIT)
        await world.operator.issuers.put(issuer, origin="file", audit=_AUDIT)
        yield world


def of(namespace: str) -> Requester:
    return Requester(Door.KUBERNETES, f"kubernetes:{namespace}/web", namespace=namespace)


async def test_a_name_of_ones_own_namespace_is_signed(world: SigningWorld) -> None:
    assert await world.issue("a.shop.test", requester=of("shop")) is not None


@pytest.mark.parametrize("namespace", ["other", "", "evil"])
async def test_a_name_of_another_namespace_is_refused(world: SigningWorld, namespace: str) -> None:
    with pytest.raises(SporkError) as caught:
        await world.issue("a.shop.test", requester=of(namespace))
    assert caught.value.code in (Code.REJECTED_IDENTIFIER, Code.POLICY_REFUSED)


async def test_the_signer_judges_the_namespace_by_itself(world: SigningWorld, database: Database) -> None:
    await world.reserved("a.shop.test", requester=of("shop"))
    await database.execute("""UPDATE certificate SET attributes = '{"namespace": "other"}' WHERE state = 'reserved'""")
    with pytest.raises(SporkError) as caught:
        await world.issue("a.shop.test", requester=of("shop"))
    assert caught.value.code is Code.REJECTED_IDENTIFIER
