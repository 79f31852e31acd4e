"""Who leads: a lease that is renewed, lost, given back and taken over, on an API server in memory."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from spork.controller.cluster import AlreadyExists, Conflict, Ref, Refused, Unreachable
from spork.controller.kubernetes.lease import Lease
from spork.errors import Code


class Server:
    """Keeps one Lease, as an API server would: by resourceVersion."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.lose_answers = False

    async def request(
        self, method: str, path: str, ref: Ref, *, body: dict[str, Any] | None = None, **_: Any
    ) -> dict[str, Any]:
        self.asked.append(method)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if method == "GET":
            if self.lease is None:
                raise Refused(Code.NOT_FOUND, "not found")
            return copy.deepcopy(self.lease)
        assert body is not None
        self._write(method, body, ref)
        if self.lose_answers:
            raise Unreachable("cut")
        return copy.deepcopy(self.lease)  # type: ignore[return-value]

    def _write(self, method: str, body: dict[str, Any], ref: Ref) -> None:
        version = 0
        if method == "POST" and self.lease is not None:
            raise AlreadyExists(ref)
        if method == "PUT":
            if self.lease is None or body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
                raise Conflict(ref)
            version = int(self.lease["metadata"]["resourceVersion"])
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(version + 1)

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


class Candidate:
    """A lease whose term can be watched."""

    def __init__(self, server: Server, name: str, *, give_up_s: float = 60.0, duration_s: int = 60) -> None:
        self.terms = 0
        self.leads = asyncio.Event()
        self.stop = asyncio.Event()
        lease = Lease(
            server,  # type: ignore[arg-type]
            "spork-system",
            identity=name,
            renew_s=0.01,
            give_up_s=give_up_s,
            duration_s=duration_s,
        )
        self.task = asyncio.create_task(lease.hold(self._work, self.stop))

    async def _work(self, stop: asyncio.Event) -> None:
        self.terms += 1
        self.leads.set()
        await stop.wait()
        self.leads.clear()

    async def leading(self) -> None:
        await asyncio.wait_for(self.leads.wait(), 30)

    async def following(self) -> None:
        async with asyncio.timeout(30):
            while self.leads.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def end(self) -> None:
        self.stop.set()
        await self.task


async def turns(server: Server, requests: int = 10) -> None:
    """Until the candidates have asked some more."""
    before = len(server.asked)
    async with asyncio.timeout(30):
        while len(server.asked) < before + requests:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_the_first_one_leads_and_keeps_renewing_with_one_request_each() -> None:
    server = Server()
    one = Candidate(server, "one")
    await one.leading()
    assert server.asked == ["GET", "POST"]
    await turns(server)
    assert set(server.asked[2:]) == {"PUT"}
    assert (server.holder, one.terms) == ("one", 1)
    await one.end()


async def test_the_second_one_waits_and_takes_over_what_was_given_back() -> None:
    server = Server()
    one = Candidate(server, "one")
    await one.leading()
    two = Candidate(server, "two")
    await turns(server)
    assert not two.leads.is_set()
    await one.end()
    await two.leading()
    assert server.holder == "two"
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 1
    await two.end()
    assert server.holder == ""


async def test_a_lease_that_is_no_longer_renewed_is_taken_over_after_its_time() -> None:
    server = Server()
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 1, "renewTime": "2026-11-24T12:00:00.000000Z"}
    server.lease = {"metadata": {"name": "spork-controller", "resourceVersion": "7"}, "spec": spec}
    one = Candidate(server, "one")
    await turns(server, 3)
    # However old its time says that it is: only what was seen here counts.
    assert not one.leads.is_set()
    await one.leading()
    assert server.holder == "one"
    await one.end()


async def test_who_finds_somebody_else_in_the_lease_stops_at_once() -> None:
    server = Server()
    one = Candidate(server, "one")
    await one.leading()
    assert server.lease is not None
    server.lease["spec"]["holderIdentity"] = "another"
    server.lease["metadata"]["resourceVersion"] = "1000"
    await one.following()
    assert server.holder == "another"
    await one.end()
    assert server.holder == "another"


async def test_who_cannot_renew_for_long_stops_and_starts_over() -> None:
    server = Server()
    one = Candidate(server, "one", give_up_s=0.1)
    await one.leading()
    server.error = Unreachable("The API server rests.")
    await one.following()
    server.error = None
    await one.leading()
    assert one.terms == 2
    await one.end()


async def test_a_short_trouble_does_not_end_the_term() -> None:
    server = Server()
    one = Candidate(server, "one")
    await one.leading()
    server.error = Unreachable("The API server rests.")
    await turns(server, 5)
    server.error = None
    await turns(server, 5)
    assert one.terms == 1
    await one.end()


async def test_a_renewal_whose_answer_was_lost_does_not_end_the_term() -> None:
    server = Server()
    one = Candidate(server, "one")
    await one.leading()
    server.lose_answers = True
    await turns(server, 1)
    server.lose_answers = False
    await turns(server, 10)
    assert (server.holder, one.terms) == ("one", 1)
    await one.end()


async def test_two_that_begin_at_once_do_not_both_lead() -> None:
    server = Server()
    both = [Candidate(server, "one"), Candidate(server, "two")]
    await turns(server)
    assert sum(one.leads.is_set() for one in both) == 1
    for one in both:
        await one.end()


async def test_without_the_right_to_it_nobody_leads_and_it_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server()
    server.error = Refused(Code.FORBIDDEN, "Lease: the API server refuses: not allowed")
    one = Candidate(server, "one")
    await turns(server)
    assert not one.leads.is_set()
    assert capsys.readouterr().out.count("not allowed") == 1
    await one.end()


async def test_what_the_work_raises_ends_it() -> None:
    async def fails(_: asyncio.Event) -> None:
        raise RuntimeError("nobody foresaw it")

    lease = Lease(Server(), "spork-system", renew_s=0.01)  # type: ignore[arg-type]
    with pytest.raises(ExceptionGroup) as caught:
        await lease.hold(fails, asyncio.Event())
    assert caught.group_contains(RuntimeError)
