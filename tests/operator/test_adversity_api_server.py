"""An API server that throttles, fails, answers nobody, is killed, and watches that are lost: what holds afterwards."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from adversity_world import ISSUER, Fleet, a_fleet, issuer_ready
from aiohttp import web
from api_proxy import Proxy, a_proxy, no_fault
from control_plane import control_plane, with_resources
from operator_running import RunningOperator, an_operator, is_ready, until
from operator_world import Cluster

from spork.controller.kubernetes import watch
from spork.controller.kubernetes.cluster import open_cluster
from spork.controller.kubernetes.lease import Lease
from spork.controller.kubernetes.reviews import AccessReviews
from spork.controller.operator import Operator
from spork.controller.reconciler import Context
from spork.services import Services, wire

pytestmark = [pytest.mark.operator, pytest.mark.store, pytest.mark.slow]


@asynccontextmanager
async def behind_a_proxy(
    kube: Cluster, database_url: str, folder: Path
) -> AsyncIterator[tuple[RunningOperator, Proxy]]:
    """The operator reaches the API server through the proxy; users do not need it."""
    async with an_operator(kube, database_url, folder, start=False) as operator, a_proxy(operator.kubeconfig) as proxy:
        operator.kubeconfig = proxy.kubeconfig
        await operator.start()
        try:
            yield operator, proxy
        finally:
            proxy.fault = no_fault
            await operator.stop()


async def a_ready_issuer(operator: RunningOperator, namespace: str, number: int) -> Fleet:
    fleet = await a_fleet(operator.user, operator.database, namespace, number)
    await issuer_ready(operator.user)
    return fleet


async def test_an_api_server_that_fails_in_every_way(kube: Cluster, database_url: str, tmp_path: Path) -> None:
    words = ("throttled", "broken", "cut", "answer lost", "late")
    # Every third request, each fault in its turn: a hundred requests and more are enough for five of each.
    faults = itertools.cycle(fault for word in words for fault in ("pass", "pass", word))

    def faulty(request: web.Request) -> str:
        return next(faults)

    async with behind_a_proxy(kube, database_url, tmp_path) as (operator, proxy):
        fleet = await a_ready_issuer(operator, "adversity-faults", 20)
        proxy.fault = faulty
        await fleet.apply()
        await until(lambda: min(proxy.faults[word] for word in words) >= 5, "every fault has happened", 120)
        proxy.fault = no_fault
        await fleet.settled()


async def test_answers_to_writes_that_are_lost(kube: Cluster, database_url: str, tmp_path: Path) -> None:
    seen: Counter[tuple[str, str]] = Counter()

    def lossy(request: web.Request) -> str:
        what = (request.method, request.path)
        seen[what] += 1
        # All objects are created at one path, so that there it is every other one.
        lost = seen[what] % 2 if request.method == "POST" else seen[what] == 1
        return "answer lost" if lost and request.method != "GET" and "/events" not in request.path else "pass"

    async with behind_a_proxy(kube, database_url, tmp_path) as (operator, proxy):
        fleet = await a_ready_issuer(operator, "adversity-lost-answers", 10)
        proxy.fault = lossy
        await fleet.apply()
        await fleet.settled()
        assert proxy.faults["answer lost"] >= 30


@pytest.mark.parametrize("how", ["the server has forgotten", "nothing is heard"])
async def test_what_happened_while_watches_were_lost_is_found(
    kube: Cluster, database_url: str, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = how == "the server has forgotten"
    if not gone:
        monkeypatch.setattr(watch, "_SILENCE_S", 4.0)
    async with behind_a_proxy(kube, database_url, tmp_path) as (operator, proxy):
        fleet = await a_ready_issuer(operator, "adversity-watches", 4)
        await fleet.apply("c0", "c1", "c2")
        await until(lambda: _all_ready(operator, fleet, "c0", "c1", "c2"), "three are Ready")
        before = proxy.watching.copy()
        proxy.silent = True
        await fleet.apply("c3")
        await operator.user.delete(fleet.secret_ref("c0"))
        await operator.user.delete(fleet.ref("c1"))
        await operator.user.delete(fleet.secret_ref("c1"))
        lost = {("ADDED", "Certificate", "c3"), ("DELETED", "Certificate", "c1"), ("DELETED", "Secret", "c0-tls")}
        await until(lambda: lost <= set(proxy.withheld), "the watches did not hear it")
        assert operator.cluster.get(fleet.ref("c3")) is None
        assert operator.cluster.get(fleet.ref("c1")) is not None
        if gone:
            proxy.end_watches(gone=True)
        else:
            await until(lambda: proxy.watching["certificates"] > before["certificates"], "it is watched anew")
            await until(lambda: proxy.watching["secrets"] > before["secrets"], "Secrets too")
            proxy.silent = False
            proxy.end_watches(gone=False)
        fleet.names, fleet.revisions = ["c0", "c2", "c3"], {"c0": 2}
        await fleet.settled()
        assert operator.cluster.get(fleet.ref("c1")) is None
        assert not [row for row in await fleet.rows() if row.name == "c1" and row.revision != 1]
        assert is_ready(operator.cluster.get(ISSUER))


def _all_ready(operator: RunningOperator, fleet: Fleet, *names: str) -> bool:
    return all(is_ready(operator.cluster.get(fleet.ref(name))) for name in names)


class ApiServer:
    """The kube-apiserver of a control plane, to be killed and started again over the same etcd."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid = next(int(one.name) for one in Path("/proc").glob("[0-9]*") if self._is_it(one))
        words = Path(f"/proc/{self._pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        self._words = words
        self._started: subprocess.Popen[bytes] | None = None

    def _is_it(self, process: Path) -> bool:
        with suppress(OSError):
            return process.joinpath("cwd").readlink() == self._folder and b"kube-apiserver\0" in (
                process.joinpath("cmdline").read_bytes()
            )
        return False

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        # Its port is free only when it has gone; its parent is a shell that takes note of that.
        end = time.monotonic() + 60
        while Path(f"/proc/{self._pid}").exists():
            assert time.monotonic() < end, "it does not go"
            time.sleep(0.02)

    def start(self) -> None:
        with (self._folder / "apiserver.log").open("ab") as log:
            self._started = subprocess.Popen(self._words, cwd=self._folder, stdout=log, stderr=log)
        self._pid = self._started.pid

    def end(self) -> None:
        """Before etcd ends: without it the API server would hang."""
        if self._started is not None:
            self._started.kill()
            self._started.wait(30)


async def test_an_api_server_that_is_killed_and_comes_back(
    kube_assets: Path, database_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "kube"
    folder.mkdir()
    with control_plane(kube_assets, folder) as own:
        with_resources(own)
        server = ApiServer(folder)
        try:
            async with an_operator(own, database_url, tmp_path) as operator:
                fleet = await a_ready_issuer(operator, "adversity-restart", 30)
                await fleet.apply()
                await until(lambda: len(operator.cluster.all("Secret")) >= 10, "the operator is in the middle of it")
                server.kill()
                server.start()
                await until(lambda: own.kubectl("get", "spork", "-A").returncode == 0, "it is back", 120)
                await fleet.settled()
        finally:
            server.end()


async def test_a_leader_that_is_killed_is_followed_by_another(kube: Cluster, database_url: str, tmp_path: Path) -> None:
    async with an_operator(kube, database_url, tmp_path, start=False) as first:
        services = await wire(first.world.services.settings, first.database, {}, clock=first.world.clock)
        await first.user.namespace("adversity-leaders")
        async with candidate(first, services) as one, candidate(first, services) as another:
            await until(lambda: one[0].leading or another[0].leading, "one of them leads")
            (_, leading), (other, standby) = (one, another) if one[0].leading else (another, one)
            fleet = await a_ready_issuer(first, "adversity-leaders", 20)
            await fleet.apply()
            await until(lambda: fleet_begun(fleet), "the leader is in the middle of it")
            assert not other.leading
            leading.cancel()
            await until(lambda: other.leading, "the other one takes over")
            await fleet.settled()
            assert not standby.done()


async def fleet_begun(fleet: Fleet) -> bool:
    return bool(await fleet.rows())


@asynccontextmanager
async def candidate(running: RunningOperator, services: Services) -> AsyncIterator[tuple[Operator, asyncio.Task[None]]]:
    """An operator that works while it has the lease, and the task that is cancelled to kill it."""
    stop = asyncio.Event()
    async with open_cluster(running.kubeconfig) as cluster:
        operator = Operator(Context(cluster, services, AccessReviews(cluster.connection)))
        lease = Lease(cluster.connection, "adversity-leaders", duration_s=3, renew_s=0.5, give_up_s=2)
        task = asyncio.create_task(operator.run(stop, lease))
        try:
            yield operator, task
        finally:
            stop.set()
            with suppress(asyncio.CancelledError):
                await task
