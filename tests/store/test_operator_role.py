"""What the operator's login may do in the database, and that all the rest is denied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import LiteralString

import psycopg
import pytest
from signing_world import SigningWorld, a_signing_world
from status_world import WEB
from store_builders import a_reservation, an_event, lapse, one, plant_authority, reserved

from spork.hierarchy.model import DeclaredIssuer
from spork.issuance.ports import Recorded
from spork.issuance.revoke import Reason
from spork.policy.issuer import KeyPolicy, NamePolicy
from spork.store.certificate import CertificateLedger
from spork.store.crl import CRLStore
from spork.store.database import OPERATOR_ROLE, Database
from spork.store.feed import StatusFeed

pytestmark = pytest.mark.store


@pytest.fixture
async def operator(database: Database) -> AsyncIterator[Database]:
    await plant_authority(database)
    await reserved(CertificateLedger(database), a_reservation())
    opened = await Database.open(database.url, min_size=1, max_size=4, role=OPERATOR_ROLE)
    assert await one(opened, "SELECT current_user") == (OPERATOR_ROLE,)
    yield opened
    await opened.close()


@pytest.fixture
async def world(database: Database) -> AsyncIterator[SigningWorld]:
    async with a_signing_world(database, role=OPERATOR_ROLE) as world:
        yield world


_DENIED: list[LiteralString] = [
    "SELECT id FROM private_key",
    "SELECT kind FROM key_encryption_key",
    "INSERT INTO private_key (id) VALUES ('x')",
    "DELETE FROM key_encryption_key",
    "SELECT action FROM audit_event",
    "UPDATE audit_event SET actor = 'nobody'",
    "DELETE FROM audit_event",
    "SELECT * FROM acme_account",
    "SELECT * FROM enrolment_token",
    "SELECT * FROM nonce_key",
    "SELECT payload FROM outbox",
    "DELETE FROM outbox",
    "UPDATE certificate SET der = 'x', state = 'issued'",
    "UPDATE certificate SET der = 'x'",
    "UPDATE certificate SET tbs = 'x'",
    "UPDATE certificate SET issuer_id = NULL, profile = 'issuing-ca'",
    "UPDATE certificate SET not_after = now()",
    "UPDATE certificate SET attributes = '{}'",
    "INSERT INTO certificate (state, der) VALUES ('issued', 'x')",
    "INSERT INTO certificate (state, refusal) VALUES ('abandoned', '{}')",
    "DELETE FROM certificate",
    "DELETE FROM revocation",
    "DELETE FROM issuer",
    "DELETE FROM crl",
    "INSERT INTO crl (authority_id, generation, shard, number) VALUES ('issuing', 1, 0, 1)",
    "UPDATE crl SET der = 'x'",
    "INSERT INTO authority (id) VALUES ('mine')",
    "UPDATE authority SET disabled_at = NULL",
    "UPDATE authority SET crl_shards = 2",
    "DELETE FROM authority",
    "INSERT INTO authority_generation (authority_id, generation) VALUES ('issuing', 9)",
    "UPDATE authority_generation SET certificate_der = 'x'",
    "TRUNCATE job",
    "DELETE FROM schema_migration",
    "CREATE TABLE mine (id int)",
]


async def test_everything_else_is_denied(operator: Database) -> None:
    allowed = []
    for statement in _DENIED:
        try:
            await operator.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            continue
        allowed.append(statement)
    assert allowed == []


async def test_a_row_cannot_be_called_issued(operator: Database) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        await operator.execute("UPDATE certificate SET state = 'issued'")


async def test_no_table_is_open_by_accident(operator: Database) -> None:
    """A new table is denied until somebody decides otherwise in roles.sql."""
    query = """SELECT DISTINCT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm') AND (
                      has_any_column_privilege('spork_operator', c.oid, 'SELECT, INSERT, UPDATE')
                      OR has_table_privilege('spork_operator', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER'))
                ORDER BY 1"""
    tables = [row[0] for row in await (await operator.execute(query)).fetchall()]
    assert tables == [
        "audit_event", "authority", "authority_generation", "certificate", "configuration_version", "crl", "issuer", "job",
        "outbox", "revocation", "schema_migration",
    ]  # fmt: skip


async def test_with_that_role_certificates_are_had_and_revoked(world: SigningWorld, database: Database) -> None:
    operator = world.operator
    recorded = await world.issue()
    assert isinstance(recorded, Recorded)
    assert await operator.ledger.find((await world.request()).idempotency) == recorded
    await operator.revoker.revoke(
        recorded.certificate_id, Reason.superseded, actor="c:shop/web", subject="certificate:web", authority=WEB
    )
    assert await one(database, "SELECT reason FROM revocation") == (4,)


@pytest.mark.parametrize("role", [None, OPERATOR_ROLE])
async def test_no_login_takes_a_revocation_back(world: SigningWorld, database: Database, role: str | None) -> None:
    recorded = await world.issue()
    assert isinstance(recorded, Recorded)
    await world.operator.revoker.revoke(
        recorded.certificate_id, Reason.keyCompromise, actor="admin", subject="certificate:web", authority=WEB
    )
    changes: list[LiteralString] = [
        "released_at = now()", "reason = 6", "reason = 0", "serial = '\\x01'", "not_after = now() - interval '1 year'",
        "crl_shard = 7", "revoked_at = now() + interval '1 year'", "authority_id = 'root'",
    ]  # fmt: skip
    login = database if role is None else world.operator.database
    for change in changes:
        with pytest.raises(psycopg.Error):
            await login.execute("UPDATE revocation SET " + change)
    assert await one(database, "SELECT reason, released_at FROM revocation") == (1, None)


async def test_with_that_role_an_expired_reservation_is_closed_and_made_anew(
    world: SigningWorld, database: Database
) -> None:
    await world.reserved()
    await lapse(database)
    await world.reserved()
    await world.reserved("other.test")
    await lapse(database)
    assert await world.operator.ledger.abandon_expired() == 2
    waiting = asyncio.create_task(world.operator.issuing.issue(await world.request(), wait_s=20))
    while not waiting.done():
        await world.signer.work()
        await asyncio.sleep(0.01)
    assert isinstance(waiting.result(), Recorded)


async def test_with_that_role_issuers_are_put_and_disabled(world: SigningWorld) -> None:
    names = NamePolicy(permit={"dns": ("**.test",)})
    issuer = DeclaredIssuer("mine", WEB, ("tls-server",), names, KeyPolicy(), None, {}, False)
    await world.operator.issuers.put(issuer, namespace="shop", origin="kubernetes", audit=an_event("issuer.configure"))
    assert (await world.operator.issuers.issuer("shop.mine")).authority_id == WEB
    await world.operator.issuers.disable(
        "mine", namespace="shop", origin="kubernetes", audit=an_event("issuer.disable")
    )
    assert "shop.mine" not in {issuer.label for issuer in await world.operator.issuers.all()}


async def test_with_that_role_trees_and_imports_are_asked_for(world: SigningWorld) -> None:
    building = world.operator.building
    assert (await world.operator.authorities.read_tree()).authorities
    for _ in range(2):
        await building.request({"a": 1}, "0" * 64, approve=False, actor="h", sealed=True, subject="Hierarchy/t")
    await building.take_in({"a": 1}, "PEM", kind="certificate", actor="h", subject="Hierarchy/t")
    state, taken = await building.state("Hierarchy/t"), await building.import_state("Hierarchy/t", "PEM")
    assert state is not None
    assert state.pending
    assert taken is not None
    assert taken.pending


async def test_with_that_role_conditions_can_be_told(world: SigningWorld) -> None:
    """CRLs, statuses, live certificates, and plans to revoke."""
    operator, recorded = world.operator, await world.issue()
    assert recorded is not None
    assert await CRLStore(operator.database).scopes(operator.clock.now())
    assert await operator.issuers.live_certificates("web", origin="file") == 1
    statuses = await operator.revocations.statuses(WEB, [recorded.serial])
    assert statuses.by_serial[recorded.serial].state == "issued"
    async with operator.database.connection() as connection:
        await StatusFeed(operator.database)._read(connection)
