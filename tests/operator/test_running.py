"""The operator as a whole: it starts, reconciles what is there, comes to rest, and another one takes over."""

from __future__ import annotations

from typing import Any

import pytest
from operator_running import Programs, RunningOperator, is_ready, until

from spork.controller.cluster import Ref

pytestmark = pytest.mark.operator


def an_issuer(name: str = "web") -> dict[str, Any]:
    return {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "ClusterIssuer",
        "metadata": {"name": name},
        "spec": {
            "ca": "web",
            "profiles": ["tls-server"],
            "names": {"permit": {"dns": ["**.test"]}},
            "allowedNamespaces": {"names": ["*"]},
        },
    }


async def test_with_nothing_to_do_each_kind_is_listed_once_and_nothing_is_written(operator: RunningOperator) -> None:
    await operator.quiet()
    counted = operator.counted()
    assert not [one for one in operator.requests() if one.writes]
    assert counted["list certificates"] == 1
    assert counted["list secrets"] == 1


async def test_a_restart_writes_nothing_when_all_is_done(operator: RunningOperator) -> None:
    ref = Ref("ClusterIssuer", "", "restarted")
    await operator.user.apply(an_issuer("restarted"))
    await until(lambda: is_ready(operator.cluster.get(ref)), "the issuer is ready")
    await operator.quiet()
    await operator.stop()
    before = len(operator.requests())
    await operator.start()
    await operator.quiet()
    assert not [one for one in operator.requests(since=before) if one.writes]
    assert is_ready(operator.cluster.get(ref))


async def test_a_killed_operator_leaves_what_the_next_one_completes(operator: RunningOperator) -> None:
    await operator.kill()
    await operator.user.apply(*(an_issuer(f"killed-{number}") for number in range(3)))
    await operator.start()
    refs = [Ref("ClusterIssuer", "", f"killed-{number}") for number in range(3)]
    await until(lambda: all(is_ready(operator.cluster.get(ref)) for ref in refs), "all issuers are ready")


async def test_a_standby_is_ready_and_takes_over_when_the_leader_ends(installation: Programs) -> None:
    leader = installation.controller()
    await until(leader.ready, "the first is ready")
    await until(lambda: "spork_operator_leader 1.0" in leader.metrics(), "the first leads")
    standby = installation.controller()
    await until(standby.ready, "the second is ready")
    assert "spork_operator_leader 0.0" in standby.metrics()
    assert leader.stop() == 0
    await until(lambda: "spork_operator_leader 1.0" in standby.metrics(), "the second leads")
    assert standby.stop() == 0
    assert "Traceback" not in leader.log.read_text() + standby.log.read_text()


async def test_without_leader_election_there_is_no_lease(installation: Programs) -> None:
    program = installation.controller("--no-leader-election")
    await until(program.ready, "it is ready")
    assert "lease=None" in program.log.read_text()
    assert program.stop() == 0
