"""One CA whose key does not open must not keep the others from their lists and responders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from status_world import OTHER, PASSPHRASES, WEB, StatusWorld, a_status_world

from spork.api.crl.publication import ensure_crls
from spork.api.ocsp.signing import ResponderKeys, renew_responders
from spork.errors import Code, SporkError
from spork.ids import AuthorityId
from spork.issuance.ports import Recorded
from spork.issuance.request import IssuanceRequest
from spork.services import Services, wire
from spork.store.database import Database

pytestmark = pytest.mark.store


@pytest.fixture
async def world(database: Database) -> AsyncIterator[StatusWorld]:
    async with a_status_world(database) as built:
        yield built


async def with_damaged_key(world: StatusWorld, authority_id: AuthorityId) -> Services:
    """A process that has not opened the key before it was damaged."""
    database = world.services.database
    await database.execute(
        "UPDATE private_key SET ciphertext = set_byte(ciphertext, 20, get_byte(ciphertext, 20) # 1) "
        "WHERE id = (SELECT private_key_id FROM authority_generation WHERE authority_id = %s)",
        [authority_id],
    )
    return await wire(world.services.settings, database, {"online": PASSPHRASES["online"]}, False, world.clock)


@pytest.mark.parametrize("damaged", [WEB, OTHER])
async def test_lists_of_the_other_cas_are_published(world: StatusWorld, damaged: AuthorityId) -> None:
    services = await with_damaged_key(world, damaged)
    made = await ensure_crls(services)
    assert {published.scope.authority_id for published in made} == {WEB, OTHER} - {damaged}


@pytest.mark.parametrize("damaged", [WEB, OTHER])
async def test_responders_of_the_other_cas_are_renewed_and_no_keys_pile_up(
    world: StatusWorld, damaged: AuthorityId, database: Database
) -> None:
    services = await with_damaged_key(world, damaged)
    for _ in range(3):
        with pytest.raises(SporkError) as refused:
            await renew_responders(services)
        assert refused.value.code is Code.CORRUPTED_KEY
    rows = await (
        await database.execute("SELECT authority_id FROM certificate WHERE profile = 'ocsp-signing'")
    ).fetchall()
    assert {row[0] for row in rows} == {WEB, OTHER} - {damaged}
    keys = await (await database.execute("SELECT count(*) FROM private_key WHERE purpose = 'ocsp'")).fetchone()
    assert keys == (1,)


class _Refusing:
    """A policy that will not have responders."""

    async def issue(self, request: IssuanceRequest) -> Recorded:
        raise SporkError(Code.POLICY_REFUSED, "No responders here.")


async def _ocsp_keys(database: Database) -> int:
    rows = await (await database.execute("SELECT id FROM private_key WHERE purpose = 'ocsp'")).fetchall()
    return len(rows)


async def test_a_responder_that_is_refused_for_good_leaves_one_key_which_is_used_later(
    world: StatusWorld, database: Database
) -> None:
    refusing = replace(world.services, pipeline=_Refusing())  # type: ignore[arg-type]  # All of it that is used here.
    for _ in range(3):
        with pytest.raises(SporkError, match="No responders"):
            await renew_responders(refusing)
    assert await _ocsp_keys(database) == 2

    assert await renew_responders(world.services) == 2
    assert await _ocsp_keys(database) == 2


async def test_a_left_responder_key_that_does_not_open_is_not_used(world: StatusWorld, database: Database) -> None:
    refusing = replace(world.services, pipeline=_Refusing())  # type: ignore[arg-type]  # As above.
    with pytest.raises(SporkError):
        await renew_responders(refusing)
    await database.execute(
        "UPDATE private_key SET ciphertext = set_byte(ciphertext, 20, get_byte(ciphertext, 20) # 1) "
        "WHERE purpose = 'ocsp'"
    )
    services = await wire(world.services.settings, database, {"online": PASSPHRASES["online"]}, False, world.clock)

    assert await renew_responders(services) == 2

    assert (await ResponderKeys(services).responder(WEB, 1)).signer.spki
    assert await _ocsp_keys(database) == 4
