"""Limits on DER from outside."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from x509_world import a_root

from spork.errors import Code, SporkError
from spork.x509.bounds import MAX_DEPTH, check_der, elements


def a_nest(depth: int) -> bytes:
    """`depth` SEQUENCEs, each holding the next; the innermost is empty."""
    value = b""
    for _ in range(depth):
        size = len(value)
        if size < 0x80:
            header = bytes([0x30, size])
        else:
            octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
            header = bytes([0x30, 0x80 | len(octets)]) + octets
        value = header + value
    return value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("0500", id="a null"),
        pytest.param("3000", id="an empty sequence"),
        pytest.param("30020500", id="a sequence of one"),
        pytest.param("300430020500", id="a nested sequence"),
        pytest.param("1f8201" + "00", id="a high tag number"),
        pytest.param("048180" + "00" * 128, id="a length in long form"),
    ],
)
def test_check_der_accepts(value: str) -> None:
    check_der(bytes.fromhex(value), max_octets=200)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="nothing"),
        pytest.param("30", id="a tag without a length"),
        pytest.param("3081", id="a long length without its octets"),
        pytest.param("3001", id="a length beyond the end"),
        pytest.param("30030401", id="an inner value beyond the outer one"),
        pytest.param("3002040100", id="an inner length beyond the outer one, with octets to spare"),
        pytest.param("050000", id="octets after the end"),
        pytest.param("30800000", id="an indefinite length"),
        pytest.param("04810100", id="a long form where the short one would do"),
        pytest.param("0482008000", id="a leading zero in a length"),
        pytest.param("3084ffffffff", id="four gigabytes"),
        pytest.param("308501010101", id="a length of five octets"),
        pytest.param("30ff", id="the reserved length octet"),
        pytest.param("1f", id="a high tag without its number"),
        pytest.param("1f808080808000", id="an endless tag number"),
        pytest.param("1f81", id="a tag number cut short"),
    ],
)
def test_check_der_refuses(value: str) -> None:
    with pytest.raises(SporkError) as caught:
        check_der(bytes.fromhex(value), max_octets=200)
    assert caught.value.code is Code.MALFORMED


def test_check_der_refuses_one_octet_too_many() -> None:
    check_der(b"\x04\x02ab", max_octets=4)
    with pytest.raises(SporkError) as caught:
        check_der(b"\x04\x02ab", max_octets=3)
    assert caught.value.code is Code.TOO_LARGE


def test_check_der_refuses_one_level_too_many() -> None:
    check_der(a_nest(MAX_DEPTH), max_octets=10_000)
    with pytest.raises(SporkError, match="nested"):
        check_der(a_nest(MAX_DEPTH + 1), max_octets=10_000)


def test_check_der_takes_a_depth_bomb_without_recursion() -> None:
    with pytest.raises(SporkError, match="nested"):
        check_der(a_nest(15_000), max_octets=100_000)
    check_der(a_nest(15_000), max_octets=100_000, max_depth=15_000)


def test_elements_are_whole_values_in_order() -> None:
    assert elements(bytes.fromhex("300705000203010203")) == [b"\x05\x00", b"\x02\x03\x01\x02\x03"]
    assert elements(b"\x30\x00") == []


def test_a_real_certificate_passes() -> None:
    check_der(a_root().certificate.public_bytes(Encoding.DER), max_octets=4096)


@given(st.binary(max_size=200))
def test_check_der_answers_any_octets_with_a_refusal_at_most(value: bytes) -> None:
    codes = []
    try:
        check_der(value, max_octets=150)
    except SporkError as error:
        codes.append(error.code)
    assert set(codes) <= {Code.MALFORMED, Code.TOO_LARGE}


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_what_was_put_together_comes_apart_again(contents: list[bytes]) -> None:
    parts = [bytes([0x04, len(content)]) + content for content in contents]
    body = b"".join(parts)
    whole = bytes([0x30, len(body)]) + body
    check_der(whole, max_octets=200)
    assert elements(whole) == parts
