from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from store_builders import ISSUING, NOW, a_reservation, an_event, issued, one, plant_authority

from spork.errors import Code, SporkError
from spork.ids import AuthorityId
from spork.policy.issuer import Expression, KeyPolicy, NamePolicy
from spork.store import issuer as issuer_module
from spork.store.authority import Authorities
from spork.store.certificate import CertificateLedger
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


# Declarations of one origin


async def _declared_by(database: Database) -> str:
    return str((await one(database, "SELECT declared_by FROM issuer WHERE name = 'web'"))[0])


@pytest.mark.parametrize(
    ("owner", "other"),
    [
        ("hierarchy.toml", "Hierarchy/main"),
        ("Hierarchy/main", "Hierarchy/other"),
        ("Hierarchy/main", "cluster:folder"),
        ("cluster:folder", "Hierarchy/main"),
    ],
)
async def test_an_issuer_of_another_declaration_is_left_alone(
    issuers: Issuers, database: Database, owner: str, other: str
) -> None:
    await issuers.put(Fields(), origin="file", audit=AUDIT, declared_by=owner)
    before = await _version(database)
    with pytest.raises(SporkError, match="is declared by") as caught:
        await issuers.put(Fields(), origin="file", audit=AUDIT, declared_by=other)
    assert (caught.value.code, await _version(database)) == (Code.CONFLICT, before)
    assert await _declared_by(database) == owner


async def test_a_cluster_that_is_set_up_anew_goes_on_with_its_issuers_rows(
    issuers: Issuers, database: Database
) -> None:
    await issuers.put(Fields(), origin="kubernetes", audit=AUDIT, declared_by="cluster:one")
    await issuers.put(Fields(), origin="kubernetes", audit=AUDIT, declared_by="cluster:two")
    assert await _declared_by(database) == "cluster:two"


async def test_only_its_own_declaration_disables_an_issuer(issuers: Issuers, database: Database) -> None:
    await issuers.put(Fields(), origin="file", audit=AUDIT, declared_by="Hierarchy/main")
    with pytest.raises(SporkError, match="declared by Hierarchy/main"):
        await issuers.disable("web", origin="file", audit=AUDIT, declared_by="cluster:folder")
    await issuers.disable("web", origin="file", audit=AUDIT, declared_by="Hierarchy/main")
    # What is disabled is free for every declaration of the origin.
    await issuers.put(Fields(), origin="file", audit=AUDIT, declared_by="cluster:folder")
    assert await _declared_by(database) == "cluster:folder"


@pytest.mark.parametrize(("owner", "taken"), [("hierarchy.toml", True), ("cluster:folder", False)])
async def test_a_tree_takes_over_only_what_trees_have_declared(
    issuers: Issuers, database: Database, owner: str, taken: bool
) -> None:
    await issuers.put(Fields(), origin="file", audit=AUDIT, declared_by=owner)
    store = Authorities(database)
    if taken:
        await store.put_issuer(Fields(), AUDIT, declared_by="Hierarchy/main")
    else:
        with pytest.raises(SporkError, match="an Issuer or ClusterIssuer resource"):
            await store.put_issuer(Fields(), AUDIT, declared_by="Hierarchy/main")
    assert await _declared_by(database) == ("Hierarchy/main" if taken else owner)


async def test_live_certificates_are_counted_from_an_index(issuers: Issuers, database: Database) -> None:
    number = await issuers.put(Fields(), origin="file", audit=AUDIT)
    ledger = CertificateLedger(database)
    for not_after in (NOW + timedelta(days=1), NOW + timedelta(days=1), NOW - timedelta(days=1)):
        await issued(ledger, a_reservation(issuer_id=number, not_after=not_after))
    await issued(ledger, a_reservation())
    assert await issuers.live_certificates("web", origin="file") == 2
    assert await issuers.live_certificates("web", origin="kubernetes") == 0
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL enable_seqscan = off")
        query = f"EXPLAIN {issuer_module._LIVE}"
        plan = await (await connection.execute(query, ["", "web", "file"])).fetchall()  # type: ignore[arg-type]
    assert any("certificate_live_by_issuer" in row[0] for row in plan), plan
