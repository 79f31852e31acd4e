"""SIGKILL between every two steps of the pipeline and between transactions; then the books are audited.

The places are made deadly by kill_launcher.py. Several share one CA: it dies, starts again on what is left, goes on with the
interrupted order, and is audited, place after place; at the end the plain program takes over the same state.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.x509 import ocsp

from spork.ids import serial_text
from tests.e2e.acme_client import Account, ACMEClient, Order, Problem, http01
from tests.e2e.auditing import Books, are_revoked, ocsp_status
from tests.e2e.processes import eventually, postmaster, tree
from tests.e2e.running import SPORK, RunningCA

pytestmark = pytest.mark.e2e


def _around(*functions: str) -> list[str]:
    return [f"{when}:{function}" for function in functions for when in ("before", "after")]


_PIPELINE = _around(
    *(f"spork.issuance.pipeline:Pipeline.{step}" for step in ("_propose", "_prepare", "_reserve", "_sign", "_record"))
)
_LEDGER = _around(
    "spork.store.certificate:CertificateLedger.reserve", "spork.store.certificate:CertificateLedger.record"
)
_ACME = [
    *_around("spork.api.acme.orders:new_order", "spork.api.acme.orders:challenge", "spork.api.acme.certificates:finalize"),
    # Inside of a transaction: the statements went out, the commit did not.
    "after:spork.store.acme_authorization:insert",
    "after:spork.store.acme_order:insert",
    "after:spork.store.acme_challenge:start",
    "after:spork.api.acme.validation:Validator.claim",
    *_around("spork.store.acme_challenge:finish"),
]  # fmt: skip
_SIGNATURE_MAY_EXIST = {
    "after:spork.issuance.pipeline:Pipeline._reserve",
    *_around("spork.issuance.pipeline:Pipeline._sign"),
    "before:spork.issuance.pipeline:Pipeline._record",
    "after:spork.store.certificate:CertificateLedger.reserve",
    "before:spork.store.certificate:CertificateLedger.record",
}
"""Where a reservation stands and nothing is recorded yet: its serial must end as revoked."""
_REVOKE = _around("spork.store.revocation:RevocationLedger.revoke")


@dataclass
class Victim:
    """A CA that dies where it is told to, and a client that does not give up."""

    ca: RunningCA
    client: ACMEClient
    armed: Path
    obtained: list[Order] = field(default_factory=list)

    @property
    def books(self) -> Books:
        return Books(self.ca)

    def obtain(self, name: str) -> Order:
        order = Order([name])
        self.finish(order)
        return order

    def finish(self, order: Order) -> None:
        self.client.obtain(order)
        self.obtained.append(order)

    def dies_at(self, place: str, work: Callable[[], object]) -> None:
        """Arms the place and works until the CA is dead."""
        self.armed.write_text(place)
        with pytest.raises(httpx.TransportError):
            work()
        assert self.ca.process is not None
        assert self.ca.process.wait(10) == -signal.SIGKILL
        self.armed.unlink()

    def audit(self) -> None:
        self.books.check(order.leaf for order in self.obtained)


@pytest.fixture
def victim(own_ca: RunningCA, request: pytest.FixtureRequest) -> Iterator[Victim]:
    """Started with the places of the test's parameter deadly but not armed."""
    armed = own_ca.home.parent / "armed"
    launcher = Path(__file__).with_name("kill_launcher.py")
    places: list[str] = request.param
    own_ca.command = [sys.executable, str(launcher), ",".join(places), str(armed), "up"]
    own_ca.extra["SPORK_TEST_LEASE_S"] = "2"
    account = Account()
    with http01(own_ca.ports["http01"], account):
        own_ca.start()
        client = ACMEClient(own_ca.directory_url, own_ca.tls(), account)
        yield Victim(own_ca, client, armed)
        client.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", [_PIPELINE, [*_LEDGER, *_ACME]], ids=["pipeline", "transactions"], indirect=True)
def test_a_kill_leaves_each_certificate_recorded_or_its_serial_revoked(
    victim: Victim, request: pytest.FixtureRequest
) -> None:
    victim.obtain("first.localhost")
    for number, place in enumerate(request.node.callspec.params["victim"]):
        abandoned = victim.books.abandoned()
        order = Order([f"n{number}.localhost"])
        victim.dies_at(place, lambda order=order: victim.client.obtain(order))
        victim.ca.start()
        victim.finish(order)
        victim.audit()
        new = victim.books.abandoned() - abandoned
        assert bool(new) == (place in _SIGNATURE_MAY_EXIST), f"{place} left {len(new)} abandoned serials"
        are_revoked(victim.ca, order.chain, new, in_crl=False)
    are_revoked(victim.ca, victim.obtained[0].chain, victim.books.abandoned())
    _goes_on_with_the_plain_program(victim)


def _goes_on_with_the_plain_program(victim: Victim) -> None:
    assert victim.ca.stop() == 0
    victim.ca.command = [*SPORK, "up"]
    victim.ca.start()
    victim.obtain("last.localhost")
    victim.audit()
    live = victim.obtained[-1]
    assert ocsp_status(victim.ca, live.chain[1], live.leaf.serial_number) is ocsp.OCSPCertStatus.GOOD
    assert victim.ca.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("victim", [_REVOKE], ids=["revocation"], indirect=True)
def test_a_kill_around_a_revocation_leaves_it_whole_or_undone(victim: Victim) -> None:
    for place, done in zip(_REVOKE, (False, True), strict=True):
        order = victim.obtain("gone.localhost")
        victim.dies_at(place, lambda order=order: victim.client.revoke(order.leaf, 4))
        victim.ca.start()
        assert _revocations(victim.books, order.leaf) == (int(done), int(done))
        if done:
            with pytest.raises(Problem, match="alreadyRevoked"):
                victim.client.revoke(order.leaf, 4)
        else:
            victim.client.revoke(order.leaf, 4)
        are_revoked(victim.ca, order.chain, [order.leaf.serial_number], in_crl=done)
        assert _revocations(victim.books, order.leaf) == (1, 1)
        victim.audit()
    _goes_on_with_the_plain_program(victim)


def _revocations(books: Books, leaf: x509.Certificate) -> tuple[int, int]:
    """Rows and audit events of its revocation."""
    serial = serial_text(leaf.serial_number)
    rows = "SELECT count(*) FROM revocation WHERE upper(encode(serial, 'hex')) = %s"
    events = "SELECT count(*) FROM audit_event WHERE action = 'certificate.revoke' AND subject LIKE %s"
    return books.count(rows, serial), books.count(events, f"%/{serial}")


@pytest.fixture
def serving(own_ca: RunningCA) -> Iterator[tuple[RunningCA, ACMEClient]]:
    """A CA of this test's own, with a client that has an account."""
    account = Account()
    with http01(own_ca.ports["http01"], account):
        own_ca.start()
        client = ACMEClient(own_ca.directory_url, own_ca.tls(), account)
        client.register()
        yield own_ca, client
        client.close()


def _until_served(client: ACMEClient, order: Order) -> None:
    """Goes on through an outage, in which the only refusal may be a 503 with its Retry-After."""

    def obtained() -> bool:
        try:
            # A validation whose job was taken a moment before the kill comes again when its lease ends, after half a minute.
            client.obtain(order, wait_s=90)
        except httpx.TransportError:
            return False
        except Problem as problem:
            if problem.status != 503:
                raise
            return False
        return True

    eventually(obtained, f"the certificate of {order.names[0]}", 150)


def test_the_database_killed_under_a_serving_ca_comes_back_by_itself(serving: tuple[RunningCA, ACMEClient]) -> None:
    ca, client = serving
    assert ca.process is not None
    first = Order(["before.localhost"])
    client.obtain(first)
    killed = postmaster(ca.process.pid)
    os.kill(killed, signal.SIGKILL)
    second = Order(["after.localhost"])
    _until_served(client, second)
    assert ca.process.poll() is None
    assert postmaster(ca.process.pid) != killed
    eventually(ca.ready, "being ready again")
    Books(ca).check([first.leaf, second.leaf])


def test_many_orders_survive_a_database_that_is_killed_under_them(serving: tuple[RunningCA, ACMEClient]) -> None:
    ca, client = serving
    assert ca.process is not None
    orders = [Order([f"c{number}.localhost"]) for number in range(8)]
    failures: list[BaseException] = []

    def work(order: Order) -> None:
        own = ACMEClient(ca.directory_url, ca.tls(), client.account)
        try:
            _until_served(own, order)
        except BaseException as error:
            failures.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=work, args=[order]) for order in orders]
    for thread in threads:
        thread.start()
    os.kill(postmaster(ca.process.pid), signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert failures == []
    Books(ca).check(order.leaf for order in orders)


def test_a_kill_of_all_processes_at_once_is_harmless(serving: tuple[RunningCA, ACMEClient]) -> None:
    ca, client = serving
    assert ca.process is not None
    first, second = Order(["before.localhost"]), Order(["after.localhost"])
    client.obtain(first)
    client.state(second)
    members = tree(ca.process.pid)
    for process in members:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    assert ca.process.wait(10) == -signal.SIGKILL
    ca.start()
    client.obtain(second)
    Books(ca).check([first.leaf, second.leaf])
    assert ca.stop() == 0


def test_a_kill_of_the_process_group_takes_the_database_with_it_and_the_next_start_goes_on(
    serving: tuple[RunningCA, ACMEClient],
) -> None:
    ca, client = serving
    assert ca.process is not None
    members = tree(ca.process.pid)
    os.killpg(ca.process.pid, signal.SIGKILL)
    assert ca.process.wait(10) == -signal.SIGKILL
    eventually(lambda: not any(process.alive for process in members), "the end of every process")
    ca.start()
    order = Order(["after.localhost"])
    client.obtain(order)
    Books(ca).check([order.leaf])
    assert ca.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_end_asked_for_leaves_no_process_behind(
    serving: tuple[RunningCA, ACMEClient], number: signal.Signals
) -> None:
    ca, client = serving
    assert ca.process is not None
    client.obtain(Order(["some.localhost"]))
    members = tree(ca.process.pid)
    assert ca.stop(number) == 0
    eventually(lambda: not any(process.alive for process in members), "the end of every process", 5)
    # The client's connection is still open and idle. That is no reason to wait.
    assert "timeout graceful shutdown exceeded" not in ca.output


def test_a_second_start_on_the_same_state_is_refused_with_a_sentence(serving: tuple[RunningCA, ACMEClient]) -> None:
    ca, client = serving
    assert ca.process is not None
    done = ca.refused()
    assert done.returncode == 5, done.stderr
    assert f"{ca.home} is in use by process {ca.process.pid}." in done.stderr
    assert "SPORK_HOME" in done.stderr and "Traceback" not in done.stderr
    client.obtain(Order(["still.localhost"]))
