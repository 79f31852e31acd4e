"""Names as administrators write them."""

from __future__ import annotations

import pytest

from spork.errors import Code, SporkError
from spork.x509.nametext import name_from_plain_text, name_from_text, name_of_common_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("WWW.Example.com.", "dns:www.example.com"),
        ("*.example.com", "dns:*.example.com"),
        ("192.0.2.1", "ip:192.0.2.1"),
        ("2001:DB8::0:1", "ip:2001:db8::1"),
        ("ip:2001:db8::1", "ip:2001:db8::1"),
        ("Alice@EXAMPLE.com", "email:Alice@example.com"),
        ("https://example.com/x", "uri:https://example.com/x"),
        ("uri:urn:example:x", "uri:urn:example:x"),
        ("DNS:localhost", "dns:localhost"),
        ("dn:CN=a,O=b", "dn:CN=a,O=b"),
    ],
)
def test_plain_text_shows_its_kind(text: str, name: str) -> None:
    assert str(name_from_plain_text(text)) == name
    assert str(name_from_text(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "dns:",
        "dns:-a",
        "dns:a..b",
        "ip:1.2.3",
        "email:x",
        "uri:x",
        "dn:nonsense",
        "kind:x",
        "example.com",
        "dns:\u00fc.de",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(SporkError) as refused:
        name_from_text(text)
    assert refused.value.code is Code.UNSUPPORTED_IDENTIFIER


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a.example", "dns:a.example"),
        ("192.0.2.1", "ip:192.0.2.1"),
        ("Alice Smith", "None"),
        ("alice", "None"),
        ("a..b", "None"),
    ],
)
def test_a_common_name_may_spell_a_name(text: str, name: str) -> None:
    assert str(name_of_common_name(text)) == name
