from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from store_builders import ISSUING, an_event, one, plant_authority

from spork.errors import Code, SporkError
from spork.ids import AuthorityId
from spork.policy.issuer import Expression, KeyPolicy, NamePolicy
from spork.store.authority import Authorities
from spork.store.database import Database
from spork.store.issuer import Issuers

pytestmark = pytest.mark.store

NAMES = NamePolicy({"dns": (".example.test",)}, {"dns": ("bad.example.test",)}, wildcards=False)
KEYS = KeyPolicy(("ecdsa-p256",))
AUDIT = an_event("issuer.configure", "issuer:web")


@dataclass(frozen=True)
class Fields:
    """What an origin declares."""

    name: str = "web"
    authority_id: AuthorityId = ISSUING
    profiles: tuple[str, ...] = ("tls-server", "tls-client")
    names: NamePolicy = NAMES
    keys: KeyPolicy = KEYS
    max_validity: timedelta | None = timedelta(days=90)
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"acme": {"ports": {"http-01": 5002}}})
    expressions: tuple[Expression, ...] = (Expression("request.dnsNames.size() <= 3", "Three names at most."),)
    default: bool = False


@pytest.fixture
async def issuers(database: Database) -> Issuers:
    await plant_authority(database)
    return Issuers(database)


async def _version(database: Database) -> tuple[Any, ...]:
    return await one(database, "SELECT version, (SELECT count(*) FROM audit_event) FROM configuration_version")


async def test_an_issuer_is_read_as_it_was_put(issuers: Issuers) -> None:
    number = await issuers.put(Fields(), origin="file", audit=AUDIT)
    found = await issuers.issuer("web")
    assert (found.id, found.label, found.origin) == (number, "web", "file")
    for name in ("authority_id", "profiles", "names", "keys", "max_validity", "protocols", "expressions", "default"):
        assert getattr(found, name) == getattr(Fields(), name)


async def test_a_namespaced_issuer_has_a_label_with_a_dot(issuers: Issuers) -> None:
    await issuers.put(Fields(), namespace="team", origin="kubernetes", audit=AUDIT)
    assert (await issuers.issuer("team.web")).namespace == "team"
    with pytest.raises(SporkError):
        await issuers.issuer("web")


async def test_a_change_is_seen_at_once_and_audited(issuers: Issuers, database: Database) -> None:
    first = await issuers.put(Fields(), origin="file", audit=AUDIT)
    before = await _version(database)
    assert await issuers.put(replace(Fields(), max_validity=None), origin="file", audit=AUDIT) == first
    assert (await issuers.issuer("web")).max_validity is None
    assert await _version(database) == (before[0] + 1, before[1] + 1)


async def test_putting_the_same_again_changes_nothing(issuers: Issuers, database: Database) -> None:
    first = await issuers.put(Fields(), origin="file", audit=AUDIT)
    before = await _version(database)
    assert await issuers.put(Fields(), origin="file", audit=AUDIT) == first
    assert await _version(database) == before


async def test_another_origin_is_refused_and_changes_nothing(issuers: Issuers, database: Database) -> None:
    await issuers.put(Fields(), origin="file", audit=AUDIT)
    before = await _version(database)
    attempts = [
        issuers.put(replace(Fields(), profiles=("device",)), origin="rest", audit=AUDIT),
        issuers.disable("web", origin="kubernetes", audit=AUDIT),
    ]
    for attempt in attempts:
        with pytest.raises(SporkError) as caught:
            await attempt
        assert caught.value.code is Code.CONFLICT
    assert (await issuers.issuer("web")).profiles == ("tls-server", "tls-client")
    assert await _version(database) == before


async def test_a_disabled_issuer_is_gone_until_it_is_put_again(issuers: Issuers, database: Database) -> None:
    number = await issuers.put(Fields(), origin="file", audit=AUDIT)
    await issuers.disable("web", origin="file", audit=AUDIT)
    before = await _version(database)
    await issuers.disable("web", origin="file", audit=AUDIT)
    assert await _version(database) == before
    with pytest.raises(SporkError):
        await issuers.issuer("web")
    assert await issuers.all() == ()
    assert await issuers.put(Fields(), origin="file", audit=AUDIT) == number
    assert (await issuers.issuer("web")).id == number


async def test_a_disabled_issuer_still_belongs_to_its_origin(issuers: Issuers) -> None:
    await issuers.put(Fields(), origin="file", audit=AUDIT)
    await issuers.disable("web", origin="file", audit=AUDIT)
    with pytest.raises(SporkError):
        await issuers.put(Fields(), origin="rest", audit=AUDIT)


@pytest.mark.parametrize("label", ["nobody", "", "team.web", "web/../x"])
async def test_an_issuer_that_is_not_there_is_not_found(issuers: Issuers, label: str) -> None:
    with pytest.raises(SporkError) as caught:
        await issuers.issuer(label)
    assert caught.value.code is Code.NOT_FOUND


async def test_the_default_is_the_declared_one_or_the_only_one(issuers: Issuers) -> None:
    with pytest.raises(SporkError):
        await issuers.issuer(None)
    await issuers.put(Fields(), origin="file", audit=AUDIT)
    assert (await issuers.issuer(None)).name == "web"
    await issuers.put(replace(Fields(), name="mail"), origin="file", audit=AUDIT)
    with pytest.raises(SporkError):
        await issuers.issuer(None)
    await issuers.put(replace(Fields(), name="api", default=True), origin="rest", audit=AUDIT)
    assert (await issuers.issuer(None)).name == "api"
    await issuers.put(replace(Fields(), name="mail", default=True), origin="file", audit=AUDIT)
    assert (await issuers.issuer(None)).name == "mail"


async def test_an_issuer_of_an_unknown_authority_cannot_be_put(issuers: Issuers) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        await issuers.put(replace(Fields(), authority_id=AuthorityId("nobody")), origin="file", audit=AUDIT)
    assert await issuers.all() == ()


async def test_disabling_what_is_not_there_is_not_found(issuers: Issuers) -> None:
    with pytest.raises(SporkError) as caught:
        await issuers.disable("nobody", origin="file", audit=AUDIT)
    assert caught.value.code is Code.NOT_FOUND


async def test_racing_origins_end_with_one_owner(issuers: Issuers, database: Database) -> None:
    for number in range(5):
        mine = replace(Fields(), name=f"race-{number}")
        work = [
            issuers.put(mine, origin=origin, audit=AUDIT) for origin in ("file", "kubernetes", "rest") for _ in range(2)
        ]
        outcomes = await asyncio.gather(*work, return_exceptions=True)
        assert {outcome.code for outcome in outcomes if isinstance(outcome, SporkError)} == {Code.CONFLICT}
        assert len({outcome for outcome in outcomes if isinstance(outcome, int)}) == 1
    assert await one(database, "SELECT count(*) FROM issuer") == (5,)


async def test_the_tree_sees_issuers_without_a_namespace(issuers: Issuers, database: Database) -> None:
    store = Authorities(database)
    await store.put_issuer(Fields(), AUDIT)
    await issuers.put(Fields(), namespace="team", origin="kubernetes", audit=AUDIT)
    assert [issuer.label for issuer in (await store.read_tree()).issuers] == ["web"]
    await store.disable_issuer("web", AUDIT)
    assert (await store.read_tree()).issuers == ()
