"""Which answers may be kept, and what drops them."""

import pytest

from spork.api.ocsp.answers import ordinary_cert_id
from spork.api.ocsp.cache import Answer, AnswerCache, CachedAnswer
from spork.api.ocsp.problems import STATUS_OF_CODE
from spork.api.ocsp.routes import decode_path
from spork.errors import Code
from spork.ids import AuthorityId

CA, OTHER = AuthorityId("ca"), AuthorityId("other")


def an_answer(serial: bytes = b"\x01", version: int = 0, authority: AuthorityId = CA, size: int = 10) -> CachedAnswer:
    return CachedAnswer(Answer(b"x" * size, [], []), authority, serial, version, 1e12, 1e12)


def test_nothing_is_kept_before_the_counter_is_known() -> None:
    cache = AnswerCache()

    assert not cache.put(b"id", an_answer())
    assert cache.get(b"id") is None


def test_an_answer_older_than_the_applied_counter_is_not_kept() -> None:
    cache = AnswerCache()
    cache.apply(CA, 7, [])

    assert not cache.put(b"id", an_answer(version=6))
    assert cache.put(b"id", an_answer(version=7))
    assert cache.put(b"id", an_answer(version=8))


def test_a_change_drops_every_form_of_its_certificate_and_nothing_else() -> None:
    cache = AnswerCache()
    cache.apply(CA, 1, None)
    cache.apply(OTHER, 1, None)
    cache.put(b"sha1", an_answer(b"\x01", 1))
    cache.put(b"sha256", an_answer(b"\x01", 1))
    cache.put(b"neighbour", an_answer(b"\x02", 1))
    cache.put(b"elsewhere", an_answer(b"\x01", 1, OTHER))

    cache.apply(CA, 2, [b"\x01"])

    assert cache.get(b"sha1") is None
    assert cache.get(b"sha256") is None
    assert cache.get(b"neighbour") is not None
    assert cache.get(b"elsewhere") is not None


def test_an_answer_that_was_read_after_the_change_stays() -> None:
    cache = AnswerCache()
    cache.apply(CA, 1, None)
    cache.put(b"id", an_answer(b"\x01", version=2))

    cache.apply(CA, 2, [b"\x01"])

    assert cache.get(b"id") is not None


def test_unknown_changes_drop_all_of_the_authority() -> None:
    cache = AnswerCache()
    cache.apply(CA, 1, None)
    cache.apply(OTHER, 1, None)
    cache.put(b"one", an_answer(b"\x01", 1))
    cache.put(b"two", an_answer(b"\x02", 1))
    cache.put(b"elsewhere", an_answer(b"\x01", 1, OTHER))

    cache.apply(CA, 5, None)

    assert [cache.get(key) is None for key in (b"one", b"two", b"elsewhere")] == [True, True, False]


def test_the_cache_is_bounded_and_forgets_what_was_not_asked_for_longest() -> None:
    cache = AnswerCache(max_octets=30)
    cache.apply(CA, 1, None)
    for key in (b"a", b"b", b"c"):
        cache.put(key, an_answer(key, 1))
    cache.get(b"a")

    cache.put(b"d", an_answer(b"d", 1))

    assert [cache.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert len(cache) == 3


def test_clearing_keeps_the_counters() -> None:
    cache = AnswerCache()
    cache.apply(CA, 3, None)
    cache.put(b"id", an_answer(version=3))
    cache.clear()

    assert len(cache) == 0
    assert not cache.put(b"id", an_answer(version=2))


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
