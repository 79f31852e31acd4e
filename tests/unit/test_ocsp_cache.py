"""Which answers may be kept, and what drops them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from spork.api.ocsp.answers import ordinary_cert_id
from spork.api.ocsp.cache import Answer, CachedAnswer, CachedStatus, FactCache
from spork.api.ocsp.problems import STATUS_OF_CODE
from spork.api.ocsp.routes import decode_path
from spork.errors import Code
from spork.ids import AuthorityId
from spork.store.revocation import CertificateStatus

CA, OTHER = AuthorityId("ca"), AuthorityId("other")


def an_answer(serial: bytes = b"\x01", version: int = 0, authority: AuthorityId = CA) -> CachedAnswer:
    return CachedAnswer(Answer(b"x" * 512, [], []), authority, serial, version, 1e12, 1e12)


def a_status(serial: bytes = b"\x01", version: int = 0, authority: AuthorityId = CA) -> CachedStatus:
    status = CertificateStatus("issued", 1, datetime(2030, 1, 1, tzinfo=UTC), None, None, None)
    return CachedStatus(status, authority, serial, version, 1e12)


a_fact_of_each_kind = pytest.mark.parametrize("a_fact", [an_answer, a_status])


@a_fact_of_each_kind
def test_nothing_is_kept_before_the_counter_is_known(a_fact: Any) -> None:
    cache: FactCache[Any] = FactCache()

    assert not cache.put(b"id", a_fact())
    assert cache.get(b"id") is None


@a_fact_of_each_kind
def test_an_answer_older_than_the_applied_counter_is_not_kept(a_fact: Any) -> None:
    cache: FactCache[Any] = FactCache()
    cache.apply(CA, 7, [])

    assert not cache.put(b"id", a_fact(version=6))
    assert cache.put(b"id", a_fact(version=7))
    assert cache.put(b"id", a_fact(version=8))


@a_fact_of_each_kind
def test_a_change_drops_every_form_of_its_certificate_and_nothing_else(a_fact: Any) -> None:
    cache: FactCache[Any] = FactCache()
    cache.apply(CA, 1, None)
    cache.apply(OTHER, 1, None)
    cache.put(b"sha1", a_fact(b"\x01", 1))
    cache.put(b"sha256", a_fact(b"\x01", 1))
    cache.put(b"neighbour", a_fact(b"\x02", 1))
    cache.put(b"elsewhere", a_fact(b"\x01", 1, OTHER))

    cache.apply(CA, 2, [b"\x01"])

    assert cache.get(b"sha1") is None
    assert cache.get(b"sha256") is None
    assert cache.get(b"neighbour") is not None
    assert cache.get(b"elsewhere") is not None


@a_fact_of_each_kind
def test_an_answer_that_was_read_after_the_change_stays(a_fact: Any) -> None:
    cache: FactCache[Any] = FactCache()
    cache.apply(CA, 1, None)
    cache.put(b"id", a_fact(b"\x01", version=2))

    cache.apply(CA, 2, [b"\x01"])

    assert cache.get(b"id") is not None


@a_fact_of_each_kind
def test_unknown_changes_drop_all_of_the_authority(a_fact: Any) -> None:
    cache: FactCache[Any] = FactCache()
    cache.apply(CA, 1, None)
    cache.apply(OTHER, 1, None)
    cache.put(b"one", a_fact(b"\x01", 1))
    cache.put(b"two", a_fact(b"\x02", 1))
    cache.put(b"elsewhere", a_fact(b"\x01", 1, OTHER))

    cache.apply(CA, 5, None)

    assert [cache.get(key) is None for key in (b"one", b"two", b"elsewhere")] == [True, True, False]


@a_fact_of_each_kind
def test_a_counter_that_went_back_drops_all_of_the_authority(a_fact: Any) -> None:
    cache: FactCache[Any] = FactCache()
    cache.apply(CA, 7, None)
    cache.apply(OTHER, 7, None)
    cache.put(b"one", a_fact(b"\x01", 7))
    cache.put(b"elsewhere", a_fact(b"\x01", 7, OTHER))

    cache.apply(CA, 3, None)

    assert [cache.get(key) is None for key in (b"one", b"elsewhere")] == [True, False]
    assert cache.put(b"one", a_fact(b"\x01", 3))


@a_fact_of_each_kind
def test_a_kept_fact_is_true_of_the_counter_that_was_applied_last(a_fact: Any) -> None:
    cache: FactCache[Any] = FactCache()
    cache.apply(CA, 1, None)
    early, late = a_fact(b"\x01", 1), a_fact(b"\x02", 9)
    cache.put(b"early", early)
    cache.put(b"late", late)

    cache.apply(CA, 5, [])

    assert [cache.version_of(fact) for fact in (early, late)] == [5, 9]


@a_fact_of_each_kind
def test_the_cache_is_bounded_and_forgets_what_was_not_asked_for_longest(a_fact: Any) -> None:
    cache: FactCache[Any] = FactCache(max_octets=3 * 512)
    cache.apply(CA, 1, None)
    for key in (b"a", b"b", b"c"):
        cache.put(key, a_fact(key, 1))
    cache.get(b"a")

    cache.put(b"d", a_fact(b"d", 1))

    assert [cache.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert len(cache) == 3


@a_fact_of_each_kind
def test_clearing_keeps_the_counters(a_fact: Any) -> None:
    cache: FactCache[Any] = FactCache()
    cache.apply(CA, 3, None)
    cache.put(b"id", a_fact(version=3))
    cache.clear()

    assert len(cache) == 0
    assert not cache.put(b"id", a_fact(version=2))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(bytes.fromhex("300a3008300630043002aabb"), bytes.fromhex("3002aabb"), id="an ordinary request"),
        pytest.param(bytes.fromhex("300a3008300630053002aabb"), b"", id="lengths that do not fit"),
        pytest.param(bytes.fromhex("300a3008a10630043002aabb"), b"", id="another field first"),
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"\x30", b"", id="one octet"),
        pytest.param(b"\x30\x82" + b"\x00" * 300, b"", id="long form"),
    ],
)
def test_only_ordinary_requests_give_a_key(data: bytes, expected: bytes) -> None:
    assert ordinary_cert_id(data) == expected


@pytest.mark.parametrize(
    "path",
    [b"/+8=", b"%2F%2B8%3D", b"/%2b8", b"_-8", b"/ 8=", b"/+8"],
    ids=["plain", "percent-encoded", "partly encoded", "base64url", "plus turned to space", "without padding"],
)
def test_every_way_to_write_base64_in_a_path_is_read(path: bytes) -> None:
    assert decode_path(path) == b"\xff\xef"


@pytest.mark.parametrize("path", [b"!!!!", b"%zz", b"A", b"M" * 200_000])
def test_a_path_that_is_no_base64_is_refused(path: bytes) -> None:
    assert decode_path(path) is None


def test_every_error_has_its_response_state() -> None:
    assert set(STATUS_OF_CODE) == set(Code)
    assert STATUS_OF_CODE[Code.INTERNAL].name == "internalError"
