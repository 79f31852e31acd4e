"""When certificates are renewed, and how attempts are spread."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from x509_world import NOW

from spork.controller.certificate.marks import pending_name
from spork.controller.certificate.renewal import next_attempt, renewal_time

DAY = timedelta(days=1)


def share_left(life: timedelta, before: timedelta | None = None, uid: str = "u", revision: int = 1) -> float:
    end = NOW + life - timedelta(seconds=1)
    return (end - renewal_time(NOW, end, before, uid, revision)) / life


def test_by_default_a_third_of_the_life_is_left_or_a_little_more() -> None:
    assert all(1 / 3 - 0.001 <= share_left(90 * DAY, uid=str(number)) <= 1.1 / 3 + 0.001 for number in range(200))


def test_renew_before_is_kept_or_a_little_more() -> None:
    for number in range(200):
        assert 10 / 90 - 0.001 <= share_left(90 * DAY, 10 * DAY, uid=str(number)) <= 11 / 90 + 0.001


def test_those_of_one_minute_are_spread_over_days() -> None:
    end = NOW + 90 * DAY
    times = sorted(renewal_time(NOW, end, None, f"uid-{number}", 1) for number in range(2000))
    assert times[-1] - times[0] > 2.9 * DAY
    busiest = max(sum(1 for one in times if start <= one < start + timedelta(minutes=1)) for start in times)
    assert busiest <= 8


def test_the_same_certificate_always_has_the_same_instant_and_the_next_revision_another() -> None:
    def at(revision: int) -> datetime:
        return renewal_time(NOW, NOW + 90 * DAY, None, "u", revision)

    assert at(1) == at(1)
    assert at(1) != at(2)
    assert at(1).microsecond == 0


@pytest.mark.parametrize("life", [timedelta(hours=1), timedelta(minutes=2), 30 * DAY, 4000 * DAY])
@pytest.mark.parametrize("before", [None, timedelta(minutes=5), timedelta(hours=1), 20 * DAY, 8000 * DAY])
def test_whatever_is_asked_for_it_is_neither_at_once_nor_too_late(life: timedelta, before: timedelta | None) -> None:
    for number in range(20):
        assert 0.049 <= share_left(life, before, uid=str(number)) <= 0.91


def test_a_life_shorter_than_renew_before_is_renewed_by_default() -> None:
    assert share_left(10 * DAY, 20 * DAY) == share_left(10 * DAY)


def test_attempts_are_doubled_apart_up_to_an_hour() -> None:
    waits = [
        int((next_attempt(number, NOW) - NOW) / timedelta(minutes=1)) for number in (0, 1, 2, 3, 4, 5, 6, 7, 10**6)
    ]
    assert waits == [1, 1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("name", ["a", "a" * 253, "x." * 126 + "x", "a-b.c"])
def test_names_of_pending_keys_are_names_of_secrets_and_differ_by_uid_and_revision(name: str) -> None:
    made = {pending_name(name, uid, revision) for uid in ("u", "v") for revision in (1, 2, 12)}
    assert len(made) == 6
    assert all(len(one) <= 253 and re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", one) for one in made)
    assert not any("-." in one or ".-" in one for one in made)
