"""What is to be done next: keys that wait, keys at work, keys that wait for a time. Pure; time is a number that is handed in."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0


@dataclass(slots=True)
class _State:
    """What is known of a key that is not simply at rest."""

    queued: bool = False
    active: bool = False
    again: bool = False
    """It was added while it was at work, so that the work may have begun too early."""
    due: float | None = None
    """When to look again, seconds on the caller's clock."""
    not_before: float = 0.0
    failures: int = 0

    @property
    def at_rest(self) -> bool:
        return not (self.queued or self.active or self.again or self.failures) and self.due is None


class Keyed(Generic[Key]):
    """Each key is at work once at a time, and waits at most once.

    After a failure a key pauses: twice as long each time, from one second to five minutes, with jitter. If it is added during the
    pause it comes sooner, but never within the first second, nor before what `least_s` asked for.
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._states: dict[Key, _State] = {}
        self._waiting: deque[Key] = deque()
        self._timers: list[tuple[float, int, Key]] = []
        self._count = 0
        self._jitter = jitter

    def add(self, key: Key, now: float, *, afresh: bool = False) -> None:
        """The key is to be looked at. `afresh`: what failed before says nothing about what comes now."""
        state = self._states.setdefault(key, _State())
        if afresh:
            state.failures = 0
        if state.active:
            state.again = True
        elif state.queued:
            return
        elif state.not_before > now:
            self._at(key, state, state.not_before)
        else:
            self._queue(key, state)

    def take(self, now: float) -> Key | None:
        """The next key, which counts as being at work until `done` or `failed`."""
        self._wake(now)
        if not self._waiting:
            return None
        key = self._waiting.popleft()
        state = self._states[key]
        state.queued, state.active, state.due = False, True, None
        return key

    def done(self, key: Key, now: float, again_in_s: float | None = None) -> None:
        """The work came to its end. It is looked at again after a time, or only when it is added."""
        state = self._states[key]
        state.failures, state.not_before = 0, 0.0
        self._ended(key, state, None if again_in_s is None else now + max(again_in_s, 0.0), now)

    def failed(self, key: Key, now: float, least_s: float = 0.0) -> float:
        """The work failed. Returns the seconds of the pause."""
        state = self._states[key]
        pause = max(self._pause(state.failures), least_s)
        state.failures += 1
        state.not_before = now + max(least_s, min(pause, FIRST_PAUSE_S))
        self._ended(key, state, now + pause, now)
        return pause

    def _pause(self, failures: int) -> float:
        # Half to all of it, so that what failed together does not come back together.
        full = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures, 16))
        return max(FIRST_PAUSE_S, full * (0.5 + self._jitter() / 2))

    def _ended(self, key: Key, state: _State, due: float | None, now: float) -> None:
        state.active = False
        if due is not None:
            self._at(key, state, due)
        if state.again:
            state.again = False
            self.add(key, now)
        if state.at_rest:
            del self._states[key]

    def _queue(self, key: Key, state: _State) -> None:
        state.queued = True
        self._waiting.append(key)

    def _at(self, key: Key, state: _State, due: float) -> None:
        if state.due is None or due < state.due:
            state.due = due
            self._count += 1
            heapq.heappush(self._timers, (due, self._count, key))

    def _wake(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            due, _, key = heapq.heappop(self._timers)
            state = self._states.get(key)
            # An entry whose time is no longer the key's own was overtaken; there is no removing from a heap.
            if state is not None and state.due == due and not (state.active or state.queued):
                state.due = None
                self._queue(key, state)

    def next_due(self) -> float | None:
        """When `take` gives a key that it would not give now."""
        while self._timers:
            due, _, key = self._timers[0]
            state = self._states.get(key)
            if state is not None and state.due == due:
                return due
            heapq.heappop(self._timers)
        return None

    @property
    def depth(self) -> int:
        """How many wait to be taken now."""
        return len(self._waiting)

    def failures(self, key: Key) -> int:
        """How often it failed since it was last done or added afresh."""
        state = self._states.get(key)
        return state.failures if state is not None else 0
