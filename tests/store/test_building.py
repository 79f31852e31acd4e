"""Trees that a process without keys has built by those that have them."""

from __future__ import annotations

import asyncio
import tomllib
from typing import Any

import pytest
from status_world import PASSPHRASES
from store_builders import one

from spork.cli import building
from spork.cli.building import Outcome
from spork.clock import SystemClock
from spork.errors import Code, SporkError
from spork.hierarchy.build import make_plan
from spork.hierarchy.load import load_declaration
from spork.hierarchy.sealed import needs_sealed
from spork.hierarchy.steps import Plan
from spork.ids import AuthorityId
from spork.services import Services, wire
from spork.settings import Settings
from spork.store.authority import Authorities
from spork.store.certificate import CertificateLedger
from spork.store.database import Database

pytestmark = pytest.mark.store

TREE = """
[root]
common_name = "Built Root CA"
algorithm = "ecdsa-p256"
validity_years = 10

[[issuing_cas]]
id = "web"
common_name = "Built Web CA"
algorithm = "ecdsa-p256"
validity_years = 5
"""
MORE = """
[[issuing_cas]]
id = "mail"
common_name = "Built Mail CA"
algorithm = "ecdsa-p256"
validity_years = 5
"""
SUBJECT = "Hierarchy/tree"


class Killed(BaseException):
    """Where a process would be killed."""


async def a_process(database: Database, *kinds: str) -> Services:
    passphrases = {kind: PASSPHRASES[kind] for kind in kinds}
    settings = Settings(status_url="http://status.test")
    return await wire(settings, database, passphrases, bool(kinds), SystemClock())


@pytest.fixture
async def operator(database: Database) -> Services:
    return await a_process(database)


@pytest.fixture
async def host(database: Database) -> Services:
    return await a_process(database, "online", "sealed")


async def planned(services: Services, text: str = TREE) -> tuple[dict[str, Any], Plan]:
    values = tomllib.loads(text)
    return values, await make_plan(load_declaration(values, SUBJECT), services.workshop)


async def requested(operator: Services, text: str = TREE, *, sealed: bool = True, approve: bool = False) -> Plan:
    values, plan = await planned(operator, text)
    await operator.building.request(
        values, plan.hash, approve=approve, actor="hierarchy:tree", sealed=sealed, subject=SUBJECT
    )
    return plan


async def works(host: Services) -> tuple[Outcome, list[str]]:
    said: list[str] = []
    outcome = await building.work(host, "build", "build-sealed", progress=said.append)
    return outcome, said


async def test_a_plan_is_carried_out_with_its_first_crls_by_whoever_has_the_keys(
    operator: Services, host: Services, database: Database
) -> None:
    plan = await requested(operator)
    state = await operator.building.state(SUBJECT)
    assert state is not None
    assert (state.pending, state.running, state.sealed, state.plan_hash) == (True, False, True, plan.hash)
    outcome, said = await works(host)
    assert outcome is Outcome.DONE
    assert said[0] == f"{SUBJECT}: carrying out plan {plan.hash}"
    assert await operator.building.state(SUBJECT) is None
    assert {one.id for one in await operator.authorities.all()} == {"built-root-ca", "web"}
    assert await one(database, "SELECT count(*) FROM crl WHERE der IS NOT NULL") == (2,)
    assert await one(
        database, "SELECT DISTINCT actor FROM audit_event WHERE action = 'authority.certify'"
    ) == ("hierarchy:tree",)  # fmt: skip
    assert await works(host) == (Outcome.NONE, [])


async def test_a_plan_that_has_changed_is_not_carried_out_and_says_so(operator: Services, host: Services) -> None:
    values, _ = await planned(operator)
    await operator.building.request(values, "0" * 64, approve=True, actor="a", sealed=True, subject=SUBJECT)
    assert (await works(host))[0] is Outcome.FAILED
    state = await operator.building.state(SUBJECT)
    assert state is not None
    assert not state.pending
    assert state.last_error is not None
    assert state.last_error.startswith("The plan has changed since it was asked for")
    assert await operator.authorities.all() == ()
    assert (await works(host))[0] is Outcome.NONE, "a closed job is not tried again"


async def test_a_signer_with_another_status_url_says_what_to_set(operator: Services, host: Services) -> None:
    values, plan = await planned(operator)
    await operator.building.request(
        values, plan.hash, approve=False, actor="a", sealed=True, subject=SUBJECT, status_url="http://other.test"
    )
    assert (await works(host))[0] is Outcome.FAILED
    state = await operator.building.state(SUBJECT)
    assert state is not None and state.last_error is not None
    assert "set SPORK_STATUS_URL to the same for both" in state.last_error


async def test_asking_again_opens_a_closed_job_and_a_new_plan_takes_its_place(
    operator: Services, host: Services
) -> None:
    values, plan = await planned(operator)
    for plan_hash in ("0" * 64, "0" * 64, plan.hash):
        await operator.building.request(values, plan_hash, approve=False, actor="a", sealed=True, subject=SUBJECT)
        state = await operator.building.state(SUBJECT)
        assert state is not None
        assert (state.pending, state.plan_hash, state.last_error) == (True, plan_hash, None)
        outcome, _ = await works(host)
    assert outcome is Outcome.DONE


async def test_a_process_with_online_keys_only_leaves_what_needs_sealed_ones(
    operator: Services, database: Database
) -> None:
    await requested(operator)
    serving = await a_process(database, "online")
    assert await building.work(serving, "build", progress=print) is Outcome.NONE


async def test_the_sealed_keys_are_shut_again_after_the_job(
    operator: Services, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await requested(operator)
    up = await a_process(database, "online")
    monkeypatch.setattr(building, "find_passphrases", lambda kind, _: PASSPHRASES[kind])
    assert (await works(up))[0] is Outcome.DONE
    assert up.keys.kinds == {"online"}


async def test_a_passphrase_that_is_missing_keeps_the_job_waiting_with_a_sentence(
    operator: Services, database: Database
) -> None:
    await requested(operator)
    up = await a_process(database, "online")
    assert (await works(up))[0] is Outcome.FAILED
    state = await operator.building.state(SUBJECT)
    assert state is not None
    assert state.pending
    assert "SPORK_SEALED_PASSPHRASE_FILE" in str(state.last_error)


async def test_what_needs_approval_is_done_only_with_it(operator: Services, host: Services, database: Database) -> None:
    await requested(operator, TREE + MORE)
    assert (await works(host))[0] is Outcome.DONE
    plan = await requested(operator, sealed=False)
    assert plan.as_json()["needs_approval"]
    assert (await works(host))[0] is Outcome.FAILED
    state = await operator.building.state(SUBJECT)
    assert state is not None
    assert "needs approval" in str(state.last_error)
    await requested(operator, sealed=False, approve=True)
    assert (await works(host))[0] is Outcome.DONE
    assert await one(database, "SELECT disabled_at IS NULL FROM authority WHERE id = 'mail'") == (False,)


@pytest.mark.parametrize(
    ("where", "name", "calls"),
    [(Authorities, "create_authority", 2), (CertificateLedger, "record", 2), (Authorities, "set_certificate", 1)],
    ids=["with a second key and no CA", "with a certificate nobody knows of", "with one CA done"],
)
async def test_a_worker_killed_in_the_middle_leaves_what_the_next_one_completes(
    operator: Services, host: Services, database: Database, where: Any, name: str, calls: int
) -> None:
    await requested(operator)
    real, count = getattr(where, name), 0

    async def deadly(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        result = await real(*arguments, **named)
        if count == calls:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, deadly)
        with pytest.raises(Killed):
            await works(host)
    await database.execute("UPDATE job SET lease_until = now() - interval '1 second'")
    await database.execute("UPDATE certificate SET lease_until = now() - interval '1 second' WHERE state = 'reserved'")
    outcome, said = await works(await a_process(database, "online", "sealed"))
    assert outcome is Outcome.DONE, said
    assert {one.id for one in await operator.authorities.all()} == {"built-root-ca", "web"}
    assert await one(database, "SELECT count(*) FROM certificate WHERE state = 'issued'") == (2,)


async def test_while_a_plan_is_carried_out_no_other_takes_its_place(operator: Services) -> None:
    await requested(operator)
    assert await operator.building.claim("build-sealed", lease_s=60) is not None
    await requested(operator)  # The very same one is no other.
    with pytest.raises(SporkError) as caught:
        await requested(operator, TREE + MORE)
    assert caught.value.code is Code.IN_PROGRESS
    state = await operator.building.state(SUBJECT)
    assert state is not None
    assert state.running


async def test_a_declaration_that_is_not_valid_is_closed_with_its_faults(operator: Services, host: Services) -> None:
    await operator.building.request(
        {"root": {"nonsense": 1}}, "0" * 64, approve=False, actor="a", sealed=True, subject=SUBJECT
    )
    assert (await works(host))[0] is Outcome.FAILED
    state = await operator.building.state(SUBJECT)
    assert state is not None
    assert "nonsense" in str(state.last_error)


async def test_which_keys_a_plan_needs(operator: Services, host: Services) -> None:
    values, plan = await planned(operator)
    root, hierarchy = AuthorityId("built-root-ca"), load_declaration(values, SUBJECT)
    assert needs_sealed(plan, hierarchy) == (root,)
    await requested(operator)
    await works(host)
    values, plan = await planned(operator)
    assert needs_sealed(plan, hierarchy) == ()
    issuers = '[[issuers]]\nname = "web"\nca = "web"\nprofiles = ["tls-server"]\nnames.permit.dns = ["**.test"]\n'
    values, plan = await planned(operator, TREE + issuers)
    assert plan.changes
    assert needs_sealed(plan, load_declaration(values, SUBJECT)) == ()


async def test_while_another_process_builds_the_job_waits(
    operator: Services, host: Services, database: Database
) -> None:
    await requested(operator)
    async with operator.authorities.lock():
        assert (await works(host))[0] is Outcome.FAILED
    state = await operator.building.state(SUBJECT)
    assert state is not None
    assert (state.pending, state.running) == (True, False)
    assert "Another process is building the tree" in str(state.last_error)
    await database.execute("UPDATE job SET run_at = now()")
    assert (await works(host))[0] is Outcome.DONE


async def test_the_worker_of_a_serving_process_builds_what_comes_until_it_is_stopped(
    operator: Services, host: Services
) -> None:
    stop = asyncio.Event()
    worker = asyncio.create_task(building.run(host, stop, sealed=True))
    await requested(operator)
    while await operator.building.state(SUBJECT) is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    stop.set()
    await worker
    assert {one.id for one in await operator.authorities.all()} == {"built-root-ca", "web"}
    await building.run(operator, asyncio.Event())  # Without keys there is nothing to do.
