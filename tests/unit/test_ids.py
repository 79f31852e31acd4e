"""Serials, slugs, and their text forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spork.ids import is_slug, new_serial, serial_from_octets, serial_from_text, serial_octets, serial_text, slug


def test_serials_are_positive_and_have_sixteen_octets_and_no_bit_stands_still() -> None:
    serials = [new_serial() for _ in range(2000)]
    assert all(len(serial_octets(serial)) == 16 and serial.bit_length() <= 127 for serial in serials)
    ones = [sum(serial >> bit & 1 for serial in serials) for bit in range(120)]
    # Binomial with n = 2000: seven standard deviations around the middle; a stuck or biased bit falls far outside.
    assert all(843 < count < 1157 for count in ones)
    assert len(set(serials)) == len(serials)


@given(st.integers(1, (1 << 160) - 1))
def test_every_serial_survives_its_text_and_its_octets(serial: int) -> None:
    assert serial_from_text(serial_text(serial)) == serial
    assert serial_from_octets(serial_octets(serial)) == serial


def test_colons_and_a_prefix_are_read() -> None:
    assert serial_from_text("0x0a:FF") == serial_from_text("0AFF") == 0x0AFF


@pytest.mark.parametrize("text", ["", "0", "-5", "xyz", "F" * 41])
def test_what_is_no_serial_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"serial|literal"):
        serial_from_text(text)


def test_a_common_name_becomes_an_id() -> None:
    assert slug("SPORK TLS Web Server Issuing CA") == "spork-tls-web-server-issuing-ca"
    assert slug("  Ünïcode & Söhne ") == "n-code-s-hne"


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a.b", "a" * 64, "a_b"])
def test_what_cannot_stand_in_a_url_is_no_slug(text: str) -> None:
    assert not is_slug(text)
