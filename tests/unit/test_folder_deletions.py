"""When a missing file means that its object is deleted."""

from __future__ import annotations

from spork.controller.cluster import Ref
from spork.controller.folder.deletions import Deletions, Judgement, hash_of

ALL = {Ref("Certificate", "default", f"c{n}"): f"c{n}.yaml:1" for n in range(20)}
REFS = sorted(ALL)


def _judge(deletions: Deletions, now: float, *missing: Ref, clean: bool = True, empty: bool = False) -> Judgement:
    return deletions.judge(ALL, set(ALL) - set(missing), clean=clean, empty=empty, now=now)


def test_what_is_missing_twice_half_a_minute_apart_is_deleted() -> None:
    deletions = Deletions()
    assert _judge(deletions, 0, REFS[0]) == Judgement(missing=frozenset(REFS[:1]))
    assert _judge(deletions, 29, REFS[0]).due == frozenset()
    assert _judge(deletions, 30, REFS[0]) == Judgement(due=frozenset(REFS[:1]))


def test_what_came_back_in_between_begins_anew() -> None:
    deletions = Deletions()
    _judge(deletions, 0, REFS[0])
    _judge(deletions, 20)
    assert not _judge(deletions, 40, REFS[0]).due
    assert _judge(deletions, 70, REFS[0]).due


def test_an_error_freezes_and_begins_anew() -> None:
    deletions = Deletions()
    _judge(deletions, 0, REFS[0])
    assert _judge(deletions, 40, REFS[0], clean=False).frozen.startswith("Some files cannot be used")
    assert not _judge(deletions, 41, REFS[0]).due
    assert _judge(deletions, 71, REFS[0]).due


def test_an_error_without_anything_missing_freezes_nothing() -> None:
    assert _judge(Deletions(), 0, clean=False) == Judgement()


def test_a_tenth_may_go_at_once_and_more_may_not() -> None:
    deletions = Deletions()
    _judge(deletions, 0, *REFS[:2])
    assert _judge(deletions, 30, *REFS[:2]).due == frozenset(REFS[:2])
    deletions = Deletions()
    for now in (0, 30, 3000):
        judged = _judge(deletions, now, *REFS[:3])
        assert judged.frozen == "3 of 20 objects have vanished at once." and not judged.due


def test_one_of_a_few_may_go_although_it_is_more_than_a_tenth() -> None:
    deletions, known = Deletions(), dict.fromkeys(REFS[:3], "f")
    for now in (0.0, 30.0):
        judged = deletions.judge(known, REFS[:2], clean=True, empty=False, now=now)
    assert judged.due == {REFS[2]}


def test_an_empty_folder_looks_like_a_lost_mount_even_with_one_object() -> None:
    judged = Deletions().judge({REFS[0]: "f"}, [], clean=True, empty=True, now=99)
    assert judged.frozen == "The folder is empty, and 1 object was declared in it." and not judged.due


def test_a_confirmation_is_for_exactly_what_is_missing() -> None:
    deletions = Deletions()
    gone = REFS[:5]
    deletions.confirmed = hash_of(gone)
    assert not _judge(deletions, 0, *REFS[:6]).due
    # It is used up: what goes missing later is another matter.
    assert not _judge(deletions, 1, *gone).due
    deletions.confirmed = hash_of(gone)
    assert _judge(deletions, 2, *gone) == Judgement(due=frozenset(gone))


def test_no_confirmation_outweighs_an_error() -> None:
    deletions = Deletions()
    deletions.confirmed = hash_of(REFS[:5])
    assert not _judge(deletions, 0, *REFS[:5], clean=False).due
