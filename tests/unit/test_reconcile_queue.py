"""The queue of all reconcilers: once at a time, back-off with jitter, and an end to it when something changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from spork.controller.cluster import Change, Conflict, Ref, Unreachable
from spork.controller.keyed import FIRST_PAUSE_S, LONGEST_PAUSE_S, Keyed
from spork.controller.queue import OUTCOMES, RETRIES, Queue


def keyed() -> Keyed[str]:
    return Keyed(jitter=lambda: 1.0)


# What is next


def test_keys_come_in_the_order_in_which_they_were_added() -> None:
    keys = keyed()
    for name in "abca":
        keys.add(name, 0)
    assert [keys.take(0) for _ in range(4)] == ["a", "b", "c", None]


def test_a_key_at_work_is_not_taken_twice_and_comes_again_if_it_was_added_meanwhile() -> None:
    keys = keyed()
    keys.add("a", 0)
    assert keys.take(0) == "a"
    keys.add("a", 1)
    keys.add("a", 2)
    assert keys.take(2) is None
    keys.done("a", 3)
    assert keys.take(3) == "a"
    keys.done("a", 4)
    assert keys.take(4) is None


def test_a_key_comes_again_after_the_time_it_asked_for() -> None:
    keys = keyed()
    keys.add("a", 0)
    keys.take(0)
    keys.done("a", 10, again_in_s=5)
    assert keys.next_due() == 15
    assert keys.take(14.9) is None
    assert keys.take(15) == "a"
    keys.done("a", 15)
    assert keys.next_due() is None


def test_an_earlier_look_replaces_the_time_that_was_asked_for() -> None:
    keys = keyed()
    keys.add("a", 0)
    keys.take(0)
    keys.done("a", 0, again_in_s=100)
    keys.add("a", 10)
    assert keys.take(10) == "a"
    keys.done("a", 10)
    assert keys.take(200) is None
    assert keys.next_due() is None


def test_each_failure_doubles_the_pause_up_to_five_minutes() -> None:
    keys, now, pauses = keyed(), 0.0, []
    keys.add("a", now)
    for _ in range(12):
        assert keys.take(now) == "a"
        pauses.append(keys.failed("a", now))
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert pauses[-1] == LONGEST_PAUSE_S


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_jitter_takes_away_up_to_half_and_never_goes_below_a_second(jitter: float) -> None:
    keys: Keyed[str] = Keyed(jitter=lambda: jitter)
    keys.add("a", 0)
    keys.take(0)
    assert keys.failed("a", 0) == FIRST_PAUSE_S
    keys.take(1)
    assert keys.failed("a", 1) == max(1.0, 2 * (0.5 + jitter / 2))


def test_what_an_error_asks_for_is_the_least() -> None:
    keys = keyed()
    keys.add("a", 0)
    keys.take(0)
    assert keys.failed("a", 0, least_s=60) == 60
    keys.add("a", 1)
    assert keys.take(59.9) is None
    assert keys.take(60) == "a"


def test_a_change_ends_the_pause_but_not_its_first_second() -> None:
    keys = keyed()
    keys.add("a", 0)
    for now in (0.0, 1.0, 3.0, 7.0):
        keys.take(now)
        keys.failed("a", now)
    keys.add("a", 7.1)
    assert keys.take(7.9) is None
    assert keys.take(8.0) == "a"


def test_success_forgets_the_failures() -> None:
    keys = keyed()
    keys.add("a", 0)
    for now in (0.0, 1.0):
        keys.take(now)
        keys.failed("a", now)
    assert keys.failures("a") == 2
    keys.take(3)
    keys.done("a", 3)
    assert keys.failures("a") == 0
    keys.add("a", 4)
    keys.take(4)
    assert keys.failed("a", 4) == 1


def test_what_is_added_afresh_forgets_the_failures() -> None:
    keys = keyed()
    keys.add("a", 0)
    for now in (0.0, 1.0, 3.0):
        keys.take(now)
        keys.failed("a", now)
    keys.add("a", 5, afresh=True)
    assert keys.take(5) == "a"
    assert keys.failed("a", 5) == 1


def test_nothing_is_remembered_of_keys_at_rest() -> None:
    keys = keyed()
    for number in range(1000):
        keys.add(str(number), 0)
        keys.take(0)
        keys.done(str(number), 0)
    assert not keys._states
    assert not keys._waiting


# The work


def ref(name: str, kind: str = "Certificate") -> Ref:
    return Ref(kind, "default", name)


def an_object(name: str, generation: int = 1) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1", "generation": generation}
    return {"apiVersion": "v1", "kind": "Certificate", "metadata": metadata}


class Recorder:
    """A reconciler that writes down what it is asked."""

    kind = "Certificate"
    watches = frozenset({"Certificate", "Secret"})

    def __init__(self, work: Callable[[Ref], Any] | None = None) -> None:
        self.asked: list[Ref] = []
        self.at_once = 0
        self.most_at_once = 0
        self._work = work

    def concerned(self, change: Change) -> Iterable[Ref]:
        return [ref(change.ref.name)]

    async def reconcile(self, ref: Ref) -> float | None:
        self.asked.append(ref)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            result: float | None = self._work(ref) if self._work is not None else None
            return result
        finally:
            self.at_once -= 1


class Time:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def settled() -> None:
    """Until every task of this loop has had many turns."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
async def run():
    """Runs a queue until the end of the test."""
    stop, tasks = asyncio.Event(), []

    def start(queue: Queue) -> None:
        tasks.append(asyncio.create_task(queue.run(stop)))

    yield start
    stop.set()
    await asyncio.gather(*tasks)


async def test_a_ref_is_reconciled_once_at_a_time_and_others_beside_it(run) -> None:
    recorder = Recorder()
    queue = Queue([recorder], workers=2)
    queue.add([ref("a"), ref("b"), ref("c"), ref("a")])
    run(queue)
    await settled()
    assert recorder.asked == [ref("a"), ref("b"), ref("c")]
    assert recorder.most_at_once == 2


async def test_each_reconciler_of_a_kind_has_its_own_turn(run) -> None:
    first, second, other = Recorder(), Recorder(), Recorder()
    other.kind = "Secret"
    queue = Queue([first, second, other])
    queue.add([ref("a")])
    run(queue)
    await settled()
    assert (first.asked, second.asked, other.asked) == ([ref("a")], [ref("a")], [])


async def test_a_change_wakes_whoever_watches_its_kind(run) -> None:
    recorder = Recorder()
    queue = Queue([recorder])
    run(queue)
    queue.changed(Change(ref("a", "Secret"), None, None))
    queue.changed(Change(ref("b", "ConfigMap"), None, None))
    await settled()
    assert recorder.asked == [ref("a")]


async def test_a_reconciler_that_cannot_say_whom_a_change_concerns_keeps_it_from_nobody_else(run) -> None:
    broken, recorder = Recorder(), Recorder()
    broken.concerned = lambda change: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    queue = Queue([broken, recorder])
    run(queue)
    queue.changed(Change(ref("a"), an_object("a"), None))
    await settled()
    assert (broken.asked, recorder.asked) == ([], [ref("a")])


async def test_a_failure_is_tried_again_after_its_pause(run) -> None:
    time, errors = Time(), [Unreachable("The API server rests.", 30), RuntimeError("nobody foresaw it"), None]

    def work(_: Ref) -> None:
        if (error := errors.pop(0)) is not None:
            raise error

    recorder = Recorder(work)
    before = RETRIES.labels("Certificate")._value.get()
    queue = Queue([recorder], now=time, jitter=lambda: 1.0)
    queue.add([ref("a")])
    run(queue)
    for now, times in ((0, 1), (29, 1), (30, 2), (31, 2), (32, 3), (500, 3)):
        time.now = now
        # Any change makes it look at the clock, as the end of the pause would.
        queue.add([])
        await settled()
        assert len(recorder.asked) == times, now
    assert RETRIES.labels("Certificate")._value.get() == before + 2


async def test_a_new_spec_ends_the_back_off_and_a_new_status_does_not(run) -> None:
    time = Time()

    def work(_: Ref) -> None:
        raise Conflict(ref("a"))

    recorder = Recorder(work)
    queue = Queue([recorder], now=time, jitter=lambda: 1.0)
    queue.add([ref("a")])
    run(queue)
    for now in (0, 1, 3, 7):
        time.now = now
        queue.add([])
        await settled()
    assert len(recorder.asked) == 4
    time.now = 8.5
    queue.changed(Change(ref("a"), an_object("a"), an_object("a")))
    await settled()
    assert queue._keyed.failures((0, ref("a"))) == 5  # type: ignore[arg-type]
    time.now = 10
    queue.changed(Change(ref("a"), an_object("a", 2), an_object("a")))
    await settled()
    assert queue._keyed.failures((0, ref("a"))) == 1  # type: ignore[arg-type]


async def test_unknown_errors_are_logged_with_a_reference_and_without_ending_the_queue(run, capsys) -> None:
    def work(of: Ref) -> None:
        if of.name == "a":
            raise ValueError("it went wrong")

    recorder = Recorder(work)
    queue = Queue([recorder], workers=1)
    queue.add([ref("a"), ref("b")])
    run(queue)
    await settled()
    assert recorder.asked == [ref("a"), ref("b")]
    said = capsys.readouterr().out
    assert "reference=" in said
    assert "Certificate default/a" in said


async def test_outcomes_are_counted_by_kind(run) -> None:
    counter = OUTCOMES.labels("Certificate", "done")
    before = counter._value.get()
    queue = Queue([Recorder()])
    queue.add([ref("a"), ref("b")])
    run(queue)
    await settled()
    assert counter._value.get() == before + 2


async def test_when_it_stops_what_is_under_way_may_end_and_nothing_else_begins() -> None:
    stop, release, ended = asyncio.Event(), asyncio.Event(), []

    class Slow(Recorder):
        async def reconcile(self, ref: Ref) -> float | None:
            self.asked.append(ref)
            await release.wait()
            ended.append(ref)
            return None

    recorder = Slow()
    queue = Queue([recorder], workers=1)
    queue.add([ref("a"), ref("b")])
    task = asyncio.create_task(queue.run(stop))
    await settled()
    stop.set()
    await settled()
    assert not task.done()
    release.set()
    await task
    assert (recorder.asked, ended) == ([ref("a")], [ref("a")])


async def test_what_does_not_end_within_the_grace_is_cancelled() -> None:
    stop, cancelled = asyncio.Event(), []

    class Stuck(Recorder):
        async def reconcile(self, ref: Ref) -> float | None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(ref)
                raise
            return None

    queue = Queue([Stuck()], grace_s=0)
    queue.add([ref("a")])
    task = asyncio.create_task(queue.run(stop))
    await settled()
    stop.set()
    await task
    assert cancelled == [ref("a")]


async def test_a_cancellation_is_not_lost_where_work_comes_at_the_same_moment() -> None:
    class Later(Recorder):
        async def reconcile(self, ref: Ref) -> float | None:
            return 3600.0

    queue, stop = Queue([Later()]), asyncio.Event()
    queue.add([ref("a")])
    task = asyncio.create_task(queue.run(stop))
    await settled()
    # It waits for its time now, and for more work.
    queue.add([ref("b")])
    # What it waits for is there, and it has not seen that yet.
    await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=10)
    stop.set()
    assert done == {task}
    assert task.cancelled()
