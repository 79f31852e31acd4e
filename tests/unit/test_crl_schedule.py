"""When a list is due."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from spork.ids import AuthorityId
from spork.issuance.crl_schedule import CRLKind, CRLPolicy, CRLScope, PublishedList, ScopeState, due
from spork.x509.authority import KeyMode

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
POINTS = ("http://a.test/1.crl",)
POLICY = CRLPolicy.of({}, KeyMode.ONLINE)
WITH_DELTAS = CRLPolicy.of({"delta_interval_s": 3600}, KeyMode.ONLINE)


def a_list(age: timedelta, number: int = 1, base: int | None = None) -> PublishedList:
    return PublishedList(number, base, NOW - age, NOW - age + timedelta(days=7), 0, POINTS)


def a_state(**changes: object) -> ScopeState:
    state = ScopeState(
        scope=CRLScope(AuthorityId("ca"), 1, 0),
        key_mode=KeyMode.ONLINE,
        policy=POLICY,
        full=a_list(timedelta(hours=1)),
        delta=None,
    )
    return replace(state, **changes)  # type: ignore[arg-type]


def judged(state: ScopeState) -> CRLKind | None:
    return due(state, NOW, POINTS)


CHANGED = {"changed": True, "changed_since_full": True}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(a_state(full=None), CRLKind.FULL, id="there is none"),
        pytest.param(a_state(), None, id="nothing happened"),
        pytest.param(a_state(full=a_list(timedelta(hours=24))), CRLKind.FULL, id="the interval is over"),
        pytest.param(a_state(full=a_list(timedelta(hours=23, minutes=59))), None, id="the interval is almost over"),
        pytest.param(a_state(**CHANGED), CRLKind.FULL, id="a change, the list an hour old"),
        pytest.param(a_state(full=a_list(timedelta(seconds=20)), **CHANGED), None, id="a change just after a list"),
        pytest.param(a_state(full=a_list(timedelta(seconds=50)), **CHANGED), CRLKind.FULL, id="a change, 50 s later"),
        pytest.param(
            a_state(full=a_list(timedelta(seconds=6)), urgent=True, **CHANGED), CRLKind.FULL, id="a compromise"
        ),
        pytest.param(
            a_state(full=a_list(timedelta(seconds=4)), urgent=True, **CHANGED), None, id="a compromise within the gap"
        ),
        pytest.param(a_state(policy=WITH_DELTAS), CRLKind.DELTA, id="no delta yet"),
        pytest.param(
            a_state(policy=WITH_DELTAS, full=a_list(timedelta(seconds=3))), None, id="no delta in the base's own second"
        ),
        pytest.param(
            a_state(policy=WITH_DELTAS, delta=a_list(timedelta(minutes=30), 2, base=1)), None, id="a delta is there"
        ),
        pytest.param(
            a_state(policy=WITH_DELTAS, delta=a_list(timedelta(minutes=60), 2, base=1)),
            CRLKind.DELTA,
            id="the delta's interval is over",
        ),
        pytest.param(
            a_state(policy=WITH_DELTAS, delta=a_list(timedelta(minutes=5), 2, base=0)),
            CRLKind.DELTA,
            id="a delta on an older base",
        ),
        pytest.param(
            a_state(policy=WITH_DELTAS, delta=a_list(timedelta(minutes=5), 2, base=1), **CHANGED),
            CRLKind.DELTA,
            id="a change goes onto a delta",
        ),
        pytest.param(
            a_state(policy=WITH_DELTAS, delta=a_list(timedelta(minutes=5), 2, base=1), urgent=True, **CHANGED),
            CRLKind.FULL,
            id="a compromise goes onto the full list",
        ),
        pytest.param(
            a_state(policy=WITH_DELTAS, delta=a_list(timedelta(minutes=5), 2, base=1), changed_since_full=True),
            None,
            id="a change that the delta shows already",
        ),
    ],
)
def test_what_is_due(state: ScopeState, expected: CRLKind | None) -> None:
    assert judged(state) is expected


def test_a_list_is_due_when_the_distribution_point_changed() -> None:
    assert due(a_state(), NOW, ("http://b.test/1.crl",)) is CRLKind.FULL


@pytest.mark.parametrize(
    ("mode", "interval", "validity"),
    [
        (KeyMode.ONLINE, timedelta(hours=24), timedelta(days=7)),
        (KeyMode.SEALED, timedelta(days=91), timedelta(days=182)),
        (KeyMode.OFFLINE, timedelta(days=91), timedelta(days=182)),
    ],
)
def test_default_policies(mode: KeyMode, interval: timedelta, validity: timedelta) -> None:
    assert CRLPolicy.of({}, mode) == CRLPolicy(interval, validity)


def test_a_policy_follows_the_specification_and_always_overlaps() -> None:
    policy = CRLPolicy.of({"interval_s": 3600, "overlap_s": 0, "delta_interval_s": 600}, KeyMode.ONLINE)

    assert policy == CRLPolicy(timedelta(hours=1), timedelta(hours=1, minutes=1), timedelta(minutes=10))
    assert policy.next_update(NOW, CRLKind.DELTA) == NOW + timedelta(minutes=20)
