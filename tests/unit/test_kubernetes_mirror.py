"""The copy of what is watched: newest wins, whoever tells of it, and each step is told once."""

from __future__ import annotations

from typing import Any

import pytest

from spork.controller.cluster import KINDS, LABEL_MANAGED, Change, Ref
from spork.controller.kubernetes.mirror import Mirror, taken_in


def a_secret(version: int, uid: str = "u1", name: str = "one", **metadata: Any) -> dict[str, Any]:
    labels = {LABEL_MANAGED: "true"}
    known = {"name": name, "namespace": "default", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": known | metadata}


def ref(name: str = "one") -> Ref:
    return Ref("Secret", "default", name)


class Told(Mirror):
    """A mirror with what it told, as versions: (new, old)."""

    def __init__(self, *namespaces: str) -> None:
        super().__init__(frozenset(namespaces))
        self.told: list[tuple[int | None, int | None]] = []
        self.subscribe(self._note)

    def _note(self, change: Change) -> None:
        new, old = (
            None if one is None else int(one["metadata"]["resourceVersion"]) for one in (change.new, change.old)
        )
        self.told.append((new, old))

    def version(self, name: str = "one") -> int | None:
        found = self.get(ref(name))
        return None if found is None else int(found["metadata"]["resourceVersion"])


def test_a_late_event_never_overwrites_a_newer_write() -> None:
    mirror = Told()
    for version in (5, 9, 7, 9):
        mirror.put(a_secret(version))
    assert mirror.version() == 9
    assert mirror.told == [(5, None), (9, 5)]


def test_versions_are_compared_as_numbers() -> None:
    mirror = Told()
    mirror.put(a_secret(99))
    mirror.put(a_secret(100))
    assert mirror.version() == 100


def test_a_deletion_that_is_told_late_leaves_the_next_object_of_that_name() -> None:
    mirror = Told()
    mirror.put(a_secret(5))
    mirror.put(a_secret(9, "u2"))
    mirror.remove(ref(), "u1", 7)
    assert mirror.version() == 9


def test_a_deletion_that_was_never_told_is_covered_by_that_of_the_next_object() -> None:
    mirror = Told()
    mirror.put(a_secret(5))
    mirror.remove(ref(), "u2", 9)
    assert mirror.told[-1] == (None, 5)


@pytest.mark.parametrize("version", [6, None], ids=["told by the watch", "deleted by ourselves"])
def test_a_late_answer_does_not_bring_back_what_was_deleted(version: int | None) -> None:
    mirror = Told()
    mirror.put(a_secret(5))
    if version is None:
        mirror.remove(ref(), "u1")
    else:
        mirror.remove(ref(), "u1", version)
    mirror.put(a_secret(5))
    assert mirror.version() is None
    mirror.put(a_secret(8, "u2"))
    assert mirror.version() == 8


def test_what_loses_its_label_goes_and_what_gets_it_back_comes() -> None:
    mirror = Told()
    mirror.put(a_secret(5))
    mirror.put(a_secret(6, labels={}))
    assert mirror.version() is None
    # The watch tells of it as a deletion, too.
    mirror.remove(ref(), "u1", 6)
    mirror.put(a_secret(7))
    assert mirror.told == [(5, None), (None, 5), (7, None)]


def test_what_has_no_label_is_never_held() -> None:
    mirror = Told()
    mirror.put(a_secret(5, labels={"other": "true"}))
    assert mirror.told == []


@pytest.mark.parametrize("version", [5, 6], ids=["as servers answer, with the version before", "with a new version"])
def test_the_write_that_takes_the_last_finalizer_away_is_the_end(version: int) -> None:
    mirror = Told()
    mirror.put(a_secret(5, finalizers=["a"], deletionTimestamp="2026-11-24T12:00:00Z"))
    mirror.put(a_secret(version, deletionTimestamp="2026-11-24T12:00:00Z"))
    assert mirror.told == [(5, None), (None, 5)]


def test_an_old_answer_about_an_end_leaves_the_next_object_of_that_name() -> None:
    mirror = Told()
    mirror.put(a_secret(9, "u2"))
    mirror.put(a_secret(5, deletionTimestamp="2026-11-24T12:00:00Z"))
    assert mirror.version() == 9


def test_a_namespace_that_is_terminating_is_there_until_it_is_deleted() -> None:
    mirror = Mirror()
    metadata = {"name": "a", "uid": "u", "resourceVersion": "5", "deletionTimestamp": "2026-11-24T12:00:00Z"}
    mirror.put({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    assert mirror.get(Ref("Namespace", "", "a")) is not None


def test_a_list_tells_what_vanished() -> None:
    mirror = Told()
    for number, name in enumerate("abc"):
        mirror.put(a_secret(number + 1, name, name))
    mirror.replace_all("Secret", None, [a_secret(2, "b", "b"), a_secret(7, "c2", "c")], 10)
    assert [mirror.version(name) for name in "abc"] == [None, 2, 7]
    assert mirror.told[3:] == [(None, 1), (None, 3), (7, None)]


def test_a_list_does_not_undo_what_was_written_after_it() -> None:
    mirror = Told()
    mirror.put(a_secret(5))
    mirror.put(a_secret(12, "new", "new"))
    mirror.replace_all("Secret", None, [a_secret(4)], 10)
    assert (mirror.version(), mirror.version("new")) == (5, 12)


def test_a_list_of_one_namespace_leaves_the_others() -> None:
    mirror = Told()
    mirror.put(a_secret(5))
    mirror.replace_all("Secret", "elsewhere", [], 10)
    assert mirror.version() == 5


def test_what_a_list_no_longer_selects_may_come_back_with_its_label() -> None:
    mirror = Told()
    mirror.put(a_secret(5))
    mirror.replace_all("Secret", None, [], 10)
    mirror.put(a_secret(11))
    assert mirror.version() == 11


def test_a_server_restored_from_a_backup_is_believed() -> None:
    mirror = Told()
    mirror.put(a_secret(50))
    mirror.put(a_secret(60, "b", "b"))
    mirror.put(a_secret(70, "c", "c"))
    mirror.remove(ref("c"), "c", 71)
    mirror.replace_all("Secret", None, [a_secret(5), a_secret(7, "c", "c")], None)
    assert [mirror.version(name) for name in ("one", "b", "c")] == [5, None, 7]


def test_a_kind_that_was_out_of_sight_comes_back_as_it_was() -> None:
    mirror = Told()
    mirror.put(a_secret(5))
    mirror.drop_all("Secret", None)
    mirror.replace_all("Secret", None, [a_secret(5)], 10)
    assert mirror.told == [(5, None), (None, 5), (5, None)]


def test_other_namespaces_are_not_held_where_some_are_given() -> None:
    mirror = Told("shop")
    mirror.put(a_secret(5))
    mirror.put(a_secret(6, "u2", namespace="shop"))
    assert [one["metadata"]["namespace"] for one in mirror.all("Secret")] == ["shop"]


def test_what_is_taken_in_is_named_in_full_and_without_ballast() -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    wire = {"metadata": {"name": "a", "managedFields": [{}], "annotations": annotations}}
    taken = taken_in(KINDS["ClusterTrustBundle"], wire)
    assert taken == {
        "kind": "ClusterTrustBundle",
        "apiVersion": "certificates.k8s.io/v1",
        "metadata": {"name": "a"},
    }


def test_it_does_not_remember_the_dead_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spork.controller.kubernetes.mirror._REMEMBERED", 10)
    mirror = Mirror()
    for number in range(100):
        mirror.remove(ref(), str(number), number)
    assert len(mirror._gone) == 10
