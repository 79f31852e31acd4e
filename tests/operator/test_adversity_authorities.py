"""CAs that are stopped below live Certificates, and clocks that jump: conditions stay true, and nothing is issued twice."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from adversity_world import ISSUER, Fleet, a_fleet, issuer_ready
from cryptography.hazmat.primitives.serialization import Encoding
from operator_running import RunningOperator, is_ready, until
from status_world import WEB

from spork.controller.conditions import condition_of
from spork.controller.issuer import reconcile as issuers
from spork.issuance.ports import AuditEvent
from spork.issuance.revoke import Reason
from spork.store.certificate_search import CertificateRecords

pytestmark = [pytest.mark.operator, pytest.mark.store]


async def disable(operator: RunningOperator) -> None:
    services = operator.world.services
    await services.authorities.disable_authority(WEB, AuditEvent("authority.disable", "host", "authority:web"))


async def revoke(operator: RunningOperator) -> None:
    der = (await operator.world.certificate(WEB)).public_bytes(Encoding.DER)
    row = await CertificateRecords(operator.database).by_sha256(hashlib.sha256(der).digest())
    assert row is not None
    await operator.world.services.revoker.revoke(
        row.id, Reason.cessationOfOperation, actor="test", subject="ca", authority=row.authority_id
    )


def reason(operator: RunningOperator, fleet: Fleet, name: str, kind: str) -> str | None:
    condition = condition_of(operator.cluster.get(fleet.ref(name)) or {}, kind)
    return f"{condition['status']} {condition['reason']}" if condition is not None else None


@pytest.mark.parametrize("stop", [disable, revoke], ids=["disabled", "revoked"])
async def test_a_ca_that_is_stopped_below_live_certificates(
    operator: RunningOperator, stop: Callable[[RunningOperator], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # No object of the cluster tells of a CA that is stopped by hand; issuers look by themselves, once a minute.
    monkeypatch.setattr(issuers, "_RECHECK_S", 0.5)
    fleet = await a_fleet(operator.user, operator.database, "adversity-stopped", 3)
    await issuer_ready(operator.user)
    await fleet.apply()
    await fleet.settled()
    before = {name: (await operator.user.get(fleet.secret_ref(name)))["data"] for name in fleet.names}
    await stop(operator)
    await until(lambda: not is_ready(operator.cluster.get(ISSUER)), "the issuer says that it is not ready")
    # One is asked to renew, and cannot; one has lost its Secret, and cannot be mended; one needs nothing.
    await operator.user.patch(fleet.ref("c0"), {"metadata": {"annotations": {"spork-ca.org/renew": "now"}}})
    await operator.user.delete(fleet.secret_ref("c1"))
    await until(lambda: reason(operator, fleet, "c0", "Issuing") == "False IssuerNotReady", "it cannot be renewed")
    await until(lambda: reason(operator, fleet, "c1", "Ready") == "False IssuerNotReady", "it cannot be issued anew")
    assert reason(operator, fleet, "c0", "Ready") == reason(operator, fleet, "c2", "Ready") == "True Issued"
    for name in ("c0", "c2"):
        assert (await operator.user.get(fleet.secret_ref(name)))["data"] == before[name]
    assert len(await fleet.rows()) == 3


class JumpingClock:
    """The time of the machine, and what it jumped by."""

    by = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


async def test_a_clock_that_jumps_far_and_back_makes_no_loop(operator: RunningOperator) -> None:
    fleet = await a_fleet(operator.user, operator.database, "adversity-clock", 3)
    await issuer_ready(operator.user)
    await fleet.apply()
    await fleet.settled()
    clock = JumpingClock()
    await operator.stop()
    # Only the operator's clock is wrong; the signer and the database know the time.
    operator.world.clock = clock
    for by in (-timedelta(days=365), -timedelta(minutes=10), timedelta(days=100), timedelta()):
        clock.by = by
        await operator.start()
        await operator.quiet()
        await operator.stop()
        issued = [row.revision for row in await fleet.rows() if row.live]
        assert sorted(issued) in ([1] * 3, [1] * 3 + [2] * 3), (by, issued)
        assert {row.state for row in await fleet.rows()} <= {"issued", "abandoned"}
    for name in fleet.names:
        status = (await operator.user.get(fleet.ref(name)))["status"]
        begun = datetime.fromisoformat(status["notBefore"]) <= clock.now() + timedelta(minutes=1)
        said = next(one["status"] for one in status["conditions"] if one["type"] == "Ready")
        assert said == ("True" if begun else "False"), status
