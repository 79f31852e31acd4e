"""How names of each kind must be written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spork.x509.names import NameKind, SubjectName
from spork.x509.namesyntax import dns_fault, name_fault


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("dns", "example"),
        ("dns", "www.example.com"),
        ("dns", "*.example.com"),
        ("dns", "xn--bcher-kva.example"),
        ("dns", "1.example"),
        ("dns", f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}"),
        ("ip", "192.0.2.1"),
        ("ip", "2001:db8::1"),
        ("email", "alice@example.com"),
        ("email", "first.last+tag@mail.example"),
        ("uri", "https://example.com/path?q=1#f"),
        ("uri", "https://user@example.com:8443/"),
        ("uri", "https://[2001:db8::1]:443/"),
        ("uri", "spiffe://trust.example/workload"),
        ("uri", "urn:uuid:7d444840-9dc0-11d1-b245-5ffdce74fad2"),
        ("dn", "CN=alice,O=Example"),
        ("dn", r"CN=last\, first"),
    ],
)
def test_a_well_formed_name_has_no_fault(kind: str, value: str) -> None:
    assert name_fault(SubjectName(NameKind(kind), value)) is None


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("dns", "", "is empty"),
        ("dns", "a..b", "empty label"),
        ("dns", ".example.com", "empty label"),
        ("dns", "example.com.", "empty label"),
        ("dns", "a" * 64, "63"),
        ("dns", ".".join(["a" * 50] * 6), "253"),
        ("dns", "-a.example", "hyphens"),
        ("dns", "a-.example", "hyphens"),
        ("dns", "under_score.example", "hyphens"),
        ("dns", "sp ace.example", "hyphens"),
        ("dns", "bücher.example", "outside ASCII"),
        ("dns", "evil.example\0.good.example", "control character"),
        ("dns", "*", "wildcard"),
        ("dns", "www.*.example", "wildcard"),
        ("dns", "w*.example", "wildcard"),
        ("dns", "*.*.example", "wildcard"),
        ("dns", "192.0.2.1", "number"),
        ("ip", "192.0.2.256", "not an IP"),
        ("ip", "10.0.0.0/8", "not an IP"),
        ("ip", "fe80::1%eth0", "zone"),
        ("email", "alice", "no @"),
        ("email", "@example.com", "local part"),
        ("email", "a..b@example.com", "local part"),
        ("email", "two words@example.com", "local part"),
        ("email", f"{'a' * 65}@example.com", "local part"),
        ("email", "alice@*.example.com", "wildcard"),
        ("email", "alice@exa_mple.com", "hyphens"),
        ("email", "alice@example.com\r\nBcc: x", "control character"),
        ("uri", "/relative", "absolute"),
        ("uri", "nothing:", "absolute"),
        ("uri", "https://exa mple/", "absolute"),
        ("uri", "https://example.com/<x>", "percent"),
        ("uri", "https:///path", "host"),
        ("uri", "https://example.com:port/", "port"),
        ("uri", "https://[::1/", "bracketed"),
        ("uri", "https://[::g]/", "bracketed"),
        ("uri", "https://a_b.example/", "host"),
        ("uri", f"https://example.com/{'a' * 3000}", "longer"),
        ("dn", "no equals sign", "RFC 4514"),
        ("dn", "XYZ=unknown", "RFC 4514"),
        ("dn", "cn=alice", "RFC 4514"),
    ],
)
def test_a_malformed_name_has_its_fault_named(kind: str, value: str, reason: str) -> None:
    fault = name_fault(SubjectName(NameKind(kind), value))
    assert fault is not None
    assert reason in fault


def test_a_wildcard_is_a_fault_where_none_is_wanted() -> None:
    assert dns_fault("*.example.com", wildcard=False) is not None


@given(st.sampled_from(NameKind), st.text(max_size=80))
def test_any_text_is_judged_without_an_exception(kind: NameKind, value: str) -> None:
    fault = name_fault(SubjectName(kind, value))
    assert fault is None or fault
