"""SIGKILL at any moment, and two operators at once: nothing is issued twice, no key is lost, and no condition lies."""

from __future__ import annotations

import random
import signal
from collections import Counter

import pytest
from adversity_world import Writes, a_fleet, a_hand, issuer_ready
from operator_running import Program, Programs, until

from spork.store.database import Database

pytestmark = [pytest.mark.operator, pytest.mark.store, pytest.mark.slow, pytest.mark.timeout(600)]

NUMBER = 60
_HELD = "SELECT subject::bigint FROM job WHERE kind = 'sign' AND lease_until IS NOT NULL"


async def up(*programs: Program) -> None:
    for program in programs:
        await until(program.ready, f"{program.words[0]} is ready", 120)


async def let_leases_run_out(database: Database, *, reservations: bool) -> None:
    """As if a dead signer's time had passed: that of its jobs, or that of its reservations too."""
    if reservations:
        await database.execute(
            f"UPDATE certificate SET lease_until = now() WHERE state = 'reserved' AND id IN ({_HELD})"  # type: ignore[arg-type]
        )
    await database.execute("UPDATE job SET lease_until = now() WHERE kind = 'sign' AND lease_until IS NOT NULL")


async def test_operators_and_signers_that_are_killed_again_and_again(installation: Programs) -> None:
    async with a_hand(installation) as (user, database):
        fleet = await a_fleet(user, database, "adversity-kills", NUMBER)
        serve, operator = installation.serve(), installation.controller("--no-leader-election")
        await up(serve, operator)
        await issuer_ready(user)
        writes = Writes(installation)
        for number in range(5):
            await fleet.apply(*fleet.names[number::5])
            # Twelve Certificates are sixty writes, so that each kill strikes somewhere else in the middle of them.
            goal = writes.counted() + random.randint(1, 50)
            await until(lambda goal=goal: writes.counted() >= goal, "the operator goes on", 120)
            operator.stop(signal.SIGKILL)
            if number in (1, 3):
                serve.stop(signal.SIGKILL)
                await let_leases_run_out(database, reservations=number == 3)
                serve = installation.serve()
            operator = installation.controller("--no-leader-election")
            await up(operator)
        await fleet.settled()


async def test_two_operators_at_once_do_not_issue_twice(installation: Programs) -> None:
    async with a_hand(installation) as (user, database):
        fleet = await a_fleet(user, database, "adversity-two", NUMBER)
        words = "--no-leader-election"
        operators = [installation.controller(words), installation.controller(words)]
        await up(installation.serve(), *operators)
        await issuer_ready(user)
        before = len(installation.requests())
        await fleet.apply()
        await fleet.settled()
        asked = [one for one in installation.requests(since=before) if one.namespace == fleet.namespace]
        made = Counter((one.resource, one.name) for one in asked if one.verb == "create" and one.status == 201)
        targets = {f"{name}-tls" for name in fleet.names}
        # A key that one of them made too late was taken away unused; what was issued is in one Secret, made once.
        assert {made["secrets", name] for name in targets} == {1}, made
        assert len(asked) <= 2 * 7 * NUMBER, Counter(f"{one.verb} {one.resource} {one.status}" for one in asked)
        # Each of the two has seen what the other did, and has nothing to add.
        assert await fleet.rows() == [row for row in await fleet.rows() if row.live]
