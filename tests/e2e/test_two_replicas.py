"""Several processes on one database: they race for one order, and what one does the others know."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography.x509 import ocsp

from tests.e2e.acme_client import Account, ACMEClient, Order, Problem, http01
from tests.e2e.auditing import Books, ocsp_status
from tests.e2e.processes import eventually, tree
from tests.e2e.running import SPORK, RunningCA
from tests.postgres import PostgresServer

pytestmark = pytest.mark.e2e

_RACERS = 8
# A race may be won by luck; so many races are not.
_ROUNDS = 6


@dataclass
class Cluster:
    """One installation; each route leads to one of its replicas, or to whichever the kernel chooses."""

    replicas: list[RunningCA]
    account: Account
    books: Books

    def client(self, replica: int = 0) -> ACMEClient:
        front, target = self.replicas[0], self.replicas[replica % len(self.replicas)]
        client = ACMEClient(front.directory_url, front.tls(), self.account, self._route(front, target))
        client.register()
        return client

    @staticmethod
    def _route(front: RunningCA, target: RunningCA) -> Callable[[str], str]:
        # As behind a load balancer: URLs name the address in front, requests arrive at a replica's own.
        return lambda url: url.replace(f"localhost:{front.ports['enrol']}", f"localhost:{target.ports['enrol']}")


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """`spork up` with SPORK_WORKERS=2: two processes that share all ports."""
    ca = RunningCA(tmp_path_factory.mktemp("workers") / "home", extra={"SPORK_WORKERS": "2"})
    account = Account()
    try:
        with http01(ca.ports["http01"], account):
            ca.start()
            assert ca.process is not None
            pid = ca.process.pid
            eventually(lambda: _servers(pid) >= 2, "the start of the second process")
            yield Cluster([ca], account, Books(ca))
            members = tree(pid)
            assert ca.stop() == 0
            eventually(lambda: not any(process.alive for process in members), "the end of every process")
    finally:
        ca.discard()


def _servers(pid: int) -> int:
    return sum(b"spork" in _command(process.pid).split(b"\0") for process in tree(pid))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def independent(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[Cluster]:
    """Two `spork serve` on one SPORK_DATABASE_URL, on ports of their own; the tree was made by `spork up`."""
    url = postgres_server.create("spork_replicas")
    folder = tmp_path_factory.mktemp("independent")
    maker = RunningCA(folder / "home", extra={"SPORK_DATABASE_URL": url})
    try:
        maker.start()
        assert maker.stop() == 0
    except BaseException:
        maker.discard()
        raise
    replicas = [maker, RunningCA(folder / "home", extra=dict(maker.extra))]
    external = f"https://localhost:{maker.ports['enrol']}"
    for number, replica in enumerate(replicas):
        replica.command, replica.arguments = [*SPORK, "serve"], []
        replica.ports["http01"] = maker.ports["http01"]
        replica.log_name = f"replica-{number}"
        replica.extra |= {"SPORK_ENROL_URL": external, "SPORK_STATUS_URL": maker.status_url}
    account = Account()
    try:
        with http01(maker.ports["http01"], account):
            for replica in replicas:
                replica.start()
            yield Cluster(replicas, account, Books(maker, url))
            assert [replica.stop() for replica in replicas] == [0, 0]
    finally:
        for replica in replicas:
            replica.discard()
        postgres_server.drop("spork_replicas")


@pytest.fixture(params=["workers", "independent"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = request.getfixturevalue(request.param)
    return found


def _ready_order(client: ACMEClient, name: str) -> Order:
    order = Order([name])
    for url in client.state(order)["authorizations"]:
        client.answer(url)
    eventually(lambda: client.state(order)["status"] == "ready", "the validation")
    return order


@pytest.mark.slow
def test_replicas_that_race_one_finalize_give_one_certificate(cluster: Cluster) -> None:
    clients = [cluster.client(number) for number in range(_RACERS)]
    for number in range(_ROUNDS):
        order = _ready_order(clients[0], f"race{number}.localhost")
        start = threading.Barrier(_RACERS)
        copies = [Order(order.names, order.key, order.url, _csr=order.csr) for _ in clients]
        failures: list[BaseException] = []

        def race(client: ACMEClient, copy: Order, start=start, failures=failures) -> None:
            state = client.state(copy)
            start.wait(20)
            try:
                client.finalize(copy, state)
                client.obtain(copy)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=race, args=pair) for pair in zip(clients, copies, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len({copy.leaf for copy in copies}) == 1
        cluster.books.check([copies[0].leaf])
    for client in clients:
        client.close()


@pytest.mark.slow
def test_of_two_different_requests_for_one_order_one_wins_and_the_other_is_told(cluster: Cluster) -> None:
    first, second = cluster.client(0), cluster.client(1)
    order = _ready_order(first, "one.localhost")
    rival = Order(order.names, url=order.url)
    start = threading.Barrier(2)
    outcomes: dict[str, str] = {}

    def finalize(name: str, client: ACMEClient, wanted: Order) -> None:
        state = client.state(wanted)
        start.wait(20)
        try:
            client.finalize(wanted, state)
            outcomes[name] = "accepted"
        except Problem as problem:
            outcomes[name] = problem.kind

    threads = [threading.Thread(target=finalize, args=args) for args in (("a", first, order), ("b", second, rival))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    leaf = first.obtain(order)
    winner = order if leaf.public_key() == order.key.public_key() else rival
    assert leaf.public_key() == winner.key.public_key()
    assert set(outcomes.values()) <= {"accepted", "orderNotReady"} and "accepted" in outcomes.values()
    cluster.books.check([leaf])
    first.close()
    second.close()


def test_a_revocation_made_at_one_replica_is_seen_at_every_other(independent: Cluster) -> None:
    client = independent.client(0)
    order = Order(["gone.localhost"])
    client.obtain(order)
    # Both have the answer in their caches now, so that the revocation must reach the caches.
    for replica in independent.replicas:
        assert ocsp_status(replica, order.chain[1], order.leaf.serial_number) is ocsp.OCSPCertStatus.GOOD
    client.revoke(order.leaf, 1)
    for replica in independent.replicas:
        eventually(
            lambda replica=replica: (
                ocsp_status(replica, order.chain[1], order.leaf.serial_number) is ocsp.OCSPCertStatus.REVOKED
            ),
            "the news of the revocation",
            5,
        )
    # Once seen it is never unseen, by any replica.
    for replica in independent.replicas * 5:
        assert ocsp_status(replica, order.chain[1], order.leaf.serial_number) is ocsp.OCSPCertStatus.REVOKED
    client.close()


def test_workers_that_share_a_port_all_learn_of_a_revocation(workers: Cluster) -> None:
    client = workers.client()
    order = Order(["gone.localhost"])
    client.obtain(order)
    ca = workers.replicas[0]
    for _ in range(16):  # Each is a connection of its own, so that both processes answer some.
        assert ocsp_status(ca, order.chain[1], order.leaf.serial_number) is ocsp.OCSPCertStatus.GOOD
    client.revoke(order.leaf, 1)

    def all_know() -> bool:
        seen = {ocsp_status(ca, order.chain[1], order.leaf.serial_number) for _ in range(16)}
        return seen == {ocsp.OCSPCertStatus.REVOKED}

    eventually(all_know, "the news of the revocation in every process", 5)
    client.close()


def test_a_nonce_of_one_replica_is_taken_by_another_and_only_once(independent: Cluster) -> None:
    first, second = independent.client(0), independent.client(1)
    header = {"alg": "ES256", "nonce": first.nonce(), "url": first.account.kid, "kid": first.account.kid}
    assert first.account.kid is not None
    body = independent.account.sign(header, b"")
    outcomes = []
    for client in (second, first, second):
        answer = client.send(first.account.kid, body)
        outcomes.append((answer.status_code, answer.json().get("type", "").rpartition(":")[2]))
    assert outcomes == [(200, ""), (400, "badNonce"), (400, "badNonce")]
    first.close()
    second.close()


def test_a_replica_that_is_killed_is_started_again_and_its_work_goes_on(workers: Cluster) -> None:
    ca = workers.replicas[0]
    assert ca.process is not None
    pid = ca.process.pid
    replica = next(
        process for process in tree(pid) if process.pid != pid and b"--replica" in _command(process.pid).split(b"\0")
    )
    os.kill(replica.pid, signal.SIGKILL)
    eventually(lambda: not replica.alive, "the end of the replica")
    client, order = workers.client(), Order(["on.localhost"])

    def obtained() -> bool:
        # In the instant of the death, the kernel may still hand a connection to the dying process, and then reset it.
        with suppress(httpx.TransportError):
            client.obtain(order)
        return bool(order.chain)

    eventually(obtained, "the certificate from the process that lives")
    eventually(lambda: _servers(pid) >= 2, "the start of another second process")
    workers.books.check([order.leaf])
    client.close()
