"""The API server dies and comes back, with changes that no watch has told of."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from control_plane import control_plane, with_resources
from operator_running import User, until
from operator_world import Cluster, a_resource

from spork.controller.cluster import ClusterError, Ref, Unreachable
from spork.controller.kubernetes.cluster import open_cluster

pytestmark = [pytest.mark.operator, pytest.mark.slow]


def api_server(folder: Path) -> tuple[int, list[str]]:
    """The process of the API server that runs from this folder, and its command."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "cwd").resolve() != folder:
                continue
            words = (entry / "cmdline").read_bytes().split(b"\0")[:-1]
        except OSError:
            continue
        if words and words[0].endswith(b"kube-apiserver"):
            return int(entry.name), [word.decode() for word in words]
    raise AssertionError("there is no API server")


@contextmanager
def started(command: list[str], folder: Path) -> Iterator[None]:
    with (folder / "apiserver-again.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            # Its own shutdown waits for whoever still watches.
            process.kill()
            process.wait(10)


@pytest.fixture
def own_kube(kube_assets: Path, tmp_path: Path) -> Iterator[Cluster]:
    """A control plane of this test's own."""
    with control_plane(kube_assets, tmp_path) as cluster:
        with_resources(cluster)
        yield cluster


async def patiently(user: User, *items: dict[str, object]) -> None:
    """Applies as soon as the server lets it."""

    async def applied() -> bool:
        try:
            await user.apply(*items)  # type: ignore[arg-type]
        except ClusterError:
            return False
        return True

    await until(applied, "it is applied")


async def test_the_copy_is_true_again_after_the_api_server_was_killed(own_kube: Cluster, tmp_path: Path) -> None:
    names = ("a", "b", "c")

    def ref(name: str) -> Ref:
        return Ref("Certificate", "default", name)

    async with open_cluster(own_kube.kubeconfig) as cluster, open_cluster(own_kube.kubeconfig) as other:
        user, stop, told = User(other), asyncio.Event(), []
        await user.apply(*(a_resource("Certificate", name=name) for name in names))
        cluster.subscribe(told.append)
        task = asyncio.create_task(cluster.run(stop))
        await asyncio.wait_for(cluster.synced(), 60)
        pid, command = api_server(tmp_path)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Unreachable):
            await cluster.read(ref("a"))
        await until(lambda: "Certificate" not in running_kinds(cluster), "the watch is known to be lost")
        assert {one["metadata"]["name"] for one in cluster.all("Certificate")} == set(names)
        with started(command, tmp_path):
            await patiently(user, a_resource("Certificate", name="d"))
            await user.delete(ref("a"))
            await until(lambda: cluster.get(ref("d")) is not None and cluster.get(ref("a")) is None, "it is true again")
            assert {one["metadata"]["name"] for one in cluster.all("Certificate")} == {"b", "c", "d"}
            await until(lambda: cluster.lagging() == [], "all kinds are watched again")
            assert [one.ref.name for one in told if one.ref.kind == "Certificate" and one.new is None] == ["a"]
            stop.set()
            await task


def running_kinds(cluster: object) -> set[str]:
    return {one.kind.name for one in cluster._watches if one.running}  # type: ignore[attr-defined]
