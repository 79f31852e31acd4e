"""Watches that are lost, API servers that throttle, hang and restart, roles that are missing: the copy ends up true each time."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fault_proxy import FaultProxy, cut, fault_proxy, status
from operator_running import User, an_identity, until
from operator_world import Cluster, a_resource

from spork.controller.cluster import LABEL_MANAGED, Change, Conflict, Ref, Refused, Unreachable, ref_of
from spork.controller.kubernetes import watch
from spork.controller.kubernetes.cluster import KubernetesCluster, open_cluster

pytestmark = pytest.mark.operator

_numbers = itertools.count(1)


@dataclass
class World:
    """An adapter behind the proxy, and a user before it."""

    proxy: FaultProxy
    cluster: KubernetesCluster
    user: User
    namespace: str
    changes: list[Change]

    def certificate(self, name: str = "one", **changes: Any) -> dict[str, Any]:
        item = a_resource("Certificate", changes, name=name)
        item["metadata"]["namespace"] = self.namespace
        return item

    def names(self) -> list[str]:
        return sorted(one["metadata"]["name"] for one in self.cluster.all("Certificate", self.namespace))

    async def declare(self, *names: str) -> None:
        await self.user.apply(*(self.certificate(name) for name in names))

    async def knows(self, *names: str) -> None:
        await until(lambda: self.names() == sorted(names), f"the copy holds {names}, not {self.names()}")

    async def delete(self, *names: str) -> None:
        for name in names:
            await self.user.delete(Ref("Certificate", self.namespace, name))

    def lists(self) -> int:
        return sum(one.startswith("GET") and one.endswith("v1alpha1/certificates") for one in self.proxy.seen)


@asynccontextmanager
async def a_world(kube: Cluster, folder: Path) -> AsyncIterator[World]:
    async with (
        fault_proxy(kube.kubeconfig, folder) as (proxy, kubeconfig),
        open_cluster(kubeconfig) as cluster,
        open_cluster(kube.kubeconfig) as other,
    ):
        user, changes, stop = User(other), [], asyncio.Event()
        await user.clean()
        namespace = await user.namespace(f"watch-{os.getpid()}-{next(_numbers)}")
        cluster.subscribe(changes.append)
        task = asyncio.create_task(cluster.run(stop))
        await asyncio.wait_for(cluster.synced(), 60)
        try:
            yield World(proxy, cluster, user, namespace, changes)
        finally:
            stop.set()
            await task
            await user.clean()


@pytest.fixture
async def world(kube: Cluster, tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(kube, tmp_path) as made:
        yield made


def on(method: str, part: str) -> Callable[[web.BaseRequest], bool]:
    """Whether a request is meant: by method, or `WATCH`, and a part of its path."""
    return lambda request: part in request.path and method == ("WATCH" if "watch" in request.query else request.method)


def once(meant: Callable[[web.BaseRequest], bool], answer: Any, times: int = 1) -> Callable[[web.BaseRequest], Any]:
    """A fault of the first requests that are meant."""
    left = [times]

    def fault(request: web.BaseRequest) -> Any:
        if left[0] and meant(request):
            left[0] -= 1
            return answer
        return None

    return fault


# Watches


async def test_a_cut_watch_is_taken_up_where_it_was(world: World) -> None:
    await world.declare("a", "b")
    await world.knows("a", "b")
    world.proxy.away()
    await world.declare("c")
    await world.delete("a")
    world.proxy.away(False)
    await world.knows("b", "c")
    assert world.lists() == 1
    assert [(one.ref.name, one.new is None) for one in world.changes if one.ref.kind == "Certificate"] == [
        ("a", False),
        ("b", False),
        ("c", False),
        ("a", True),
    ]


async def test_what_vanished_during_a_gap_is_found_and_told(world: World) -> None:
    await world.declare("a", "b", "c")
    await world.knows("a", "b", "c")
    before = {name: world.cluster.get(Ref("Certificate", world.namespace, name)) for name in "abc"}
    # The server says that it no longer knows the version that the watch goes on from, as after an hour's gap.
    world.proxy.fault = once(on("WATCH", "v1alpha1/certificates"), status(410, "Expired"))
    world.proxy.cut_all()
    await world.delete("a", "b")
    await world.declare("b")
    await until(lambda: world.lists() == 2, "it is listed again")
    await world.knows("b", "c")
    told = [one for one in world.changes if one.ref.kind == "Certificate"][3:]
    assert ("a", None, before["a"]) in [(one.ref.name, one.new, one.old) for one in told]
    new = world.cluster.get(Ref("Certificate", world.namespace, "b"))
    assert new is not None
    assert new["metadata"]["uid"] != before["b"]["metadata"]["uid"]  # type: ignore[index]
    assert not [one for one in told if one.ref.name == "c"]


async def test_the_last_object_that_vanished_during_a_gap_is_found_too(world: World) -> None:
    await world.declare("a")
    await world.knows("a")
    world.proxy.away()
    await world.delete("a")
    world.proxy.fault = once(on("WATCH", "v1alpha1/certificates"), status(410, "Expired"))
    await world.knows()


async def test_a_watch_that_ends_with_an_error_goes_on(world: World) -> None:
    world.proxy.fault = once(on("WATCH", "v1alpha1/certificates"), status(500), times=2)
    world.proxy.cut_all()
    await world.declare("a")
    await world.knows("a")
    assert world.lists() == 1


async def test_a_server_that_throttles_is_given_the_time_it_asks_for(world: World) -> None:
    asked: list[float] = []

    async def throttled(request: web.BaseRequest) -> web.StreamResponse | None:
        asked.append(asyncio.get_running_loop().time())
        return await status(429, "TooManyRequests", Retry_After="2")(request)

    world.proxy.fault = once(on("WATCH", "v1alpha1/certificates"), throttled, times=2)
    world.proxy.cut_all()
    await world.declare("a")
    await world.knows("a")
    assert asked[1] - asked[0] >= 2


async def test_a_kind_in_trouble_leaves_the_others_alone(world: World) -> None:
    world.proxy.fault = lambda request: status(500) if "/secrets" in request.path else None
    world.proxy.cut_all()
    await world.declare("a")
    await world.knows("a")


async def test_a_large_list_comes_in_pages_and_starts_over_when_it_expires(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_PAGE", 2)
    names = [f"c{number}" for number in range(5)]
    await world.declare(*names)
    await world.knows(*names)
    faults = [
        once(on("WATCH", "v1alpha1/certificates"), status(410, "Expired")),
        once(lambda request: "continue" in request.query, status(410, "Expired")),
    ]
    world.proxy.fault = lambda request: next((answer for one in faults if (answer := one(request))), None)
    world.proxy.cut_all()
    # Three pages the first time, of which the second expired; then three.
    await until(lambda: world.lists() == 1 + 2 + 3, "the list was made twice")
    await world.declare("more")
    await world.knows("more", *names)
    assert not [one for one in world.changes if one.new is None]


# Writes


async def test_writes_say_whether_trying_again_helps(world: World) -> None:
    await world.declare("a")
    await world.knows("a")
    item = world.cluster.get(Ref("Certificate", world.namespace, "a"))
    assert item is not None
    for answer, seconds in ((status(429, Retry_After="7"), 7), (status(503), 1), (status(504), 1), (cut, 1)):
        world.proxy.fault = once(on("PATCH", "/certificates"), answer)
        with pytest.raises(Unreachable) as caught:
            await world.cluster.annotate(item, {"example.com/a": "1"})
        assert caught.value.retry_after_s == seconds
    world.proxy.fault = once(on("PATCH", "/certificates"), status(403, "Forbidden"))
    with pytest.raises(Refused, match="by the test"):
        await world.cluster.annotate(item, {"example.com/a": "1"})


async def test_a_server_that_never_answers_is_given_up_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import aiohttp

    from spork.controller.kubernetes import connection

    monkeypatch.setattr(connection, "_TIMEOUT", aiohttp.ClientTimeout(total=0.3))

    async def hang(_: web.BaseRequest) -> web.StreamResponse | None:
        await asyncio.sleep(60)
        return None

    world.proxy.fault = once(on("GET", "/certificates/"), hang)
    with pytest.raises(Unreachable, match="does not answer in time"):
        await world.cluster.read(Ref("Certificate", world.namespace, "a"))


async def test_a_write_whose_answer_was_lost_is_seen_by_the_next_look(world: World) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "a", "namespace": world.namespace, "labels": {LABEL_MANAGED: "true"}},
        "data": {"value": "b25l"},
    }
    world.proxy.lost = on("POST", "/secrets")
    with pytest.raises(Unreachable):
        await world.cluster.create(secret)
    world.proxy.lost = lambda _: False
    await until(lambda: world.cluster.get(ref_of(secret)), "the watch tells of it")
    with pytest.raises(Conflict):
        await world.cluster.replace({**secret, "metadata": {**secret["metadata"], "resourceVersion": "1"}})


async def test_nothing_is_made_in_a_namespace_that_is_not_there(world: World) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one", "namespace": "missing"}}
    for write in (world.cluster.create, world.cluster.apply):
        with pytest.raises(Refused, match="Secret missing/one"):
            await write(secret)


async def test_own_writes_do_not_wait_for_the_watch(world: World) -> None:
    await world.declare("a")
    await world.knows("a")
    world.proxy.fault = lambda request: cut if "watch" in request.query else None
    world.proxy.cut_all()
    item = world.cluster.get(Ref("Certificate", world.namespace, "a"))
    assert item is not None
    for revision in range(1, 4):
        item = await world.cluster.set_status(item, {"revision": revision})
        assert world.cluster.get(ref_of(item)) == item
    world.proxy.away(False)
    await world.declare("b")
    await world.knows("a", "b")
    told = [one.new for one in world.changes if one.ref == ref_of(item)]
    assert [(one or {}).get("status") for one in told] == [None, *({"revision": number} for number in range(1, 4))]


async def test_reports_that_cannot_be_sent_stop_nothing(world: World) -> None:
    await world.declare("a")
    await world.knows("a")
    item = world.cluster.get(Ref("Certificate", world.namespace, "a"))
    assert item is not None
    world.proxy.fault = once(on("POST", "/events"), status(500))
    await world.cluster.report(item, "First", "It is lost.")
    await world.cluster.report(item, "Second", "It arrives.")
    await world.cluster.report(item, "Second", "It arrives.")
    await until(lambda: sum("/events" in one for one in world.proxy.seen) == 2, "two were sent")
    answer = await world.user._connection.request(
        "GET", f"/apis/events.k8s.io/v1/namespaces/{world.namespace}/events", Ref("Event", "", "")
    )
    events = [(one["reason"], one["note"], one["regarding"]["name"]) for one in answer["items"]]
    assert events == [("Second", "It arrives.", "a")]


# Kinds and roles


async def test_an_optional_kind_may_come_later_and_go_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # The kind is there on this server or not; the proxy is what decides here.
    monkeypatch.setattr(watch, "_ABSENT_S", 0.1)
    absent = {"is": True}
    world.proxy.fault = lambda request: (
        status(404, "NotFound") if absent["is"] and "/ingresses" in request.path else None
    )
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "a", "namespace": world.namespace},
        "spec": {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}},
    }
    await world.user.apply(ingress)
    world.proxy.cut_all()
    await until(lambda: not world.cluster.has("Ingress"), "it is absent")
    assert world.cluster.all("Ingress") == []
    absent["is"] = False
    await until(lambda: world.cluster.has("Ingress") and world.cluster.get(ref_of(ingress)), "it came")
    absent["is"] = True
    world.proxy.cut_all()
    await until(lambda: world.cluster.all("Ingress") == [], "it went")
    assert not world.cluster.has("Ingress")
    assert world.changes[-1].ref == ref_of(ingress)


async def test_a_kind_may_have_an_older_version(kube: Cluster, tmp_path: Path) -> None:
    older = "certificates.k8s.io/v1beta1"
    bundle = {
        "apiVersion": older,
        "kind": "ClusterTrustBundle",
        "metadata": {"name": "x", "uid": "u", "resourceVersion": "5", "labels": {LABEL_MANAGED: "true"}},
    }

    async def listed(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"metadata": {"resourceVersion": "5"}, "items": [bundle]})

    async with fault_proxy(kube.kubeconfig, tmp_path) as (proxy, kubeconfig):
        proxy.fault = lambda request: listed if on("GET", f"{older}/clustertrustbundles")(request) else None
        async with open_cluster(kubeconfig) as cluster:
            stop = asyncio.Event()
            task = asyncio.create_task(cluster.run(stop))
            await asyncio.wait_for(cluster.synced(), 60)
            found = cluster.get(Ref("ClusterTrustBundle", "", "x"))
            assert found is not None
            assert found["apiVersion"] == "certificates.k8s.io/v1"
            await until(lambda: f"WATCH /apis/{older}/clustertrustbundles" in proxy.seen, "it is watched")
            stop.set()
            await task


async def test_nothing_is_complete_before_every_kind_may_be_listed(kube: Cluster, tmp_path: Path) -> None:
    async with fault_proxy(kube.kubeconfig, tmp_path) as (proxy, kubeconfig):
        proxy.fault = lambda request: status(403, "Forbidden") if "/configmaps" in request.path else None
        async with open_cluster(kubeconfig) as cluster:
            stop = asyncio.Event()
            task = asyncio.create_task(cluster.run(stop))
            synced = asyncio.create_task(cluster.synced())
            await until(lambda: cluster.lagging() == ["ConfigMap"], "all others are watched")
            assert not synced.done()
            proxy.fault = lambda _: None
            await asyncio.wait_for(synced, 60)
            stop.set()
            await task


async def test_a_user_without_roles_is_told_what_is_missing(kube: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    kubeconfig = an_identity(kube.kubeconfig.parent, "nobody-special", "visitors")
    async with open_cluster(kubeconfig) as cluster:
        with pytest.raises(Refused, match='User "nobody-special" cannot get resource "certificates"'):
            await cluster.read(Ref("Certificate", "default", "one"))
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "default"}}
        with pytest.raises(Refused, match='cannot create resource "secrets"'):
            await cluster.create({**secret, "stringData": {"a": "hunter2"}})
        stop = asyncio.Event()
        task = asyncio.create_task(cluster.run(stop))
        await until(lambda: "cannot list resource" in capsys.readouterr().out, "it is logged")
        stop.set()
        await task


async def test_only_the_given_namespaces_are_watched(kube: Cluster) -> None:
    async with open_cluster(kube.kubeconfig) as other:
        user = User(other)
        for name in ("shop", "bank"):
            await user.namespace(f"only-{name}")
            item = a_resource("Certificate")
            item["metadata"]["namespace"] = f"only-{name}"
            await user.apply(item)
        async with open_cluster(kube.kubeconfig, namespaces=["only-shop"]) as cluster:
            stop = asyncio.Event()
            task = asyncio.create_task(cluster.run(stop))
            await asyncio.wait_for(cluster.synced(), 60)
            assert {one["metadata"]["namespace"] for one in cluster.all("Certificate")} == {"only-shop"}
            assert cluster.get(Ref("Namespace", "", "only-bank")) is not None
            stop.set()
            await task
        await user.clean()


async def test_credentials_that_were_replaced_are_read_again(kube: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spork.controller.kubernetes.connection._REFRESH_S", 0.0)
    folder = kube.kubeconfig.parent
    good = an_identity(folder, "rotated-good")
    # A certificate that nobody vouches for is answered with 401, as one that has ended is.
    kubeconfig = an_identity(folder, "rotated-stranger", known=False)
    async with open_cluster(kubeconfig) as cluster:
        with pytest.raises(Unreachable, match="credentials"):
            await cluster.read(Ref("Namespace", "", "default"))
        kubeconfig.write_text(good.read_text())
        assert await cluster.read(Ref("Namespace", "", "default")) is not None
