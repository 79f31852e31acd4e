"""Name patterns: what each kind matches, what only looks as if it did, and what is no pattern."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spork.errors import ConfigurationError
from spork.policy.issuer import NamePolicy
from spork.policy.patterns import check_pattern, compiled
from spork.x509.names import NameKind, SubjectName


def permitted(kind: str, pattern: str, value: str) -> bool:
    policy = NamePolicy(permit={kind: (pattern,)})
    return compiled(policy).objection(SubjectName(NameKind(kind), value)) is None


def denied(kind: str, pattern: str, value: str) -> bool:
    every = {"dns": "**.com", "ip": "0.0.0.0/0", "email": "@example.com", "uri": "https://example.com", "dn": "*"}
    policy = NamePolicy(
        permit={kind: (every[kind], "::/0") if kind == "ip" else (every[kind],)}, deny={kind: (pattern,)}
    )
    return compiled(policy).objection(SubjectName(NameKind(kind), value)) is not None


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("example.com", "example.com", True),
        ("EXAMPLE.com", "example.com", True),
        ("example.com", "www.example.com", False),
        ("example.com", "*.example.com", False),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "*.b.example.com", False),
        ("*.example.com", "wwwexample.com", False),
        ("**.example.com", "a.example.com", True),
        ("**.example.com", "a.b.c.example.com", True),
        ("**.example.com", "*.example.com", True),
        ("**.example.com", "*.a.example.com", True),
        ("**.example.com", "example.com", False),
        ("**.example.com", "evilexample.com", False),
        ("**.example.com", "example.com.evil.org", False),
        (".example.com", "a.b.example.com", True),
        (".example.com", "example.com", False),
        ("**.localhost", "a.localhost", True),
        ("localhost", "localhost", True),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", True),
    ],
)
def test_dns_patterns_permit(pattern: str, value: str, expected: bool) -> None:
    assert permitted("dns", pattern, value) is expected


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("secret.example.com", "secret.example.com", True),
        ("secret.example.com", "*.example.com", True),
        ("secret.example.com", "*.secret.example.com", False),
        ("secret.example.com", "open.example.com", False),
        ("a.secret.example.com", "*.example.com", False),
        ("*.secret.example.com", "a.secret.example.com", True),
        ("**.secret.example.com", "*.b.secret.example.com", True),
        ("**.secret.example.com", "secret.example.com", False),
    ],
)
def test_dns_patterns_deny_what_a_wildcard_covers_too(pattern: str, value: str, expected: bool) -> None:
    assert denied("dns", pattern, value) is expected


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8::/32", "2001:db8:1::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("192.0.2.0/24", "::ffff:192.0.2.1", False),
    ],
)
def test_ip_patterns_permit(pattern: str, value: str, expected: bool) -> None:
    assert permitted("ip", pattern, value) is expected


def test_a_denied_ipv4_network_is_denied_when_written_as_ipv6() -> None:
    assert denied("ip", "10.0.0.0/8", "10.1.2.3")
    assert denied("ip", "10.0.0.0/8", "::ffff:a01:203")
    assert not denied("ip", "10.0.0.0/8", "::ffff:b01:203")


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("alice@example.com", "alice@example.com", True),
        ("alice@EXAMPLE.com", "alice@example.com", True),
        ("alice@example.com", "Alice@example.com", False),
        ("alice@example.com", "bob@example.com", False),
        ("@example.com", "anyone@example.com", True),
        ("@example.com", "anyone@sub.example.com", False),
        ("@example.com", "anyone@evil-example.com", False),
        ("@.example.com", "anyone@sub.example.com", True),
        ("@.example.com", "anyone@a.b.example.com", True),
        ("@.example.com", "anyone@example.com", False),
        ("@.example.com", "anyone@notexample.com", False),
        ("@example.com", "evil@evil.org", False),
    ],
)
def test_email_patterns_permit(pattern: str, value: str, expected: bool) -> None:
    assert permitted("email", pattern, value) is expected


def test_a_denied_mailbox_is_denied_in_every_case() -> None:
    assert denied("email", "root@example.com", "rOOt@example.com")
    assert not denied("email", "root@example.com", "toor@example.com")


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("https://example.com", "https://example.com", True),
        ("https://example.com", "https://example.com/", True),
        ("https://example.com/", "https://example.com/any/thing", True),
        ("https://example.com", "HTTPS://EXAMPLE.COM/x", True),
        ("https://example.com", "https://example.com:443/x", True),
        ("https://example.com:8443", "https://example.com:8443/x", True),
        ("https://example.com/app", "https://example.com/app", True),
        ("https://example.com/app", "https://example.com/app/", True),
        ("https://example.com/app", "https://example.com/app/one", True),
        ("https://example.com/app/", "https://example.com/app/one", True),
        ("https://example.com/app", "https://example.com/%61pp/one", True),
        ("https://example.com/app", "https://example.com/app?query=1", True),
        ("spiffe://example.com/ns", "spiffe://example.com/ns/default", True),
        ("https://example.com/app", "https://example.com/application", False),
        ("https://example.com/app", "https://example.com/", False),
        ("https://example.com/app", "https://example.com/APP", False),
        ("https://example.com/app", "https://example.com/app/../admin", False),
        ("https://example.com/app", "https://example.com/app/%2e%2e/admin", False),
        ("https://example.com/app", "https://example.com/app/%2E./admin", False),
        ("https://example.com/app", "https://example.com/app%2f..%2fadmin", False),
        ("https://example.com/app", "https://example.com//app", False),
        ("https://example.com/app", "https://example.com/app//x", False),
        ("https://example.com", "http://example.com/", False),
        ("https://example.com", "https://example.com:8443/", False),
        ("https://example.com", "https://example.com.evil.org/", False),
        ("https://example.com", "https://example.com@evil.org/", False),
        ("https://example.com", "https://user@example.com/", False),
        ("https://example.com", "https://evil.org/?https://example.com", False),
        ("https://example.com", "https://evil.org#https://example.com", False),
        ("https://example.com", "https://evil.org\\@example.com/", False),
        ("https://example.com", "https://example.com\\.evil.org/", False),
        ("https://example.com", "https:example.com", False),
        ("https://example.com", "urn:example.com", False),
        ("https://example.com", "https://example.com:port/", False),
        ("https://example.com", "https://exa%6Dple.com/", False),
        ("https://example.com", "https://example.com/%zz", False),
    ],
)
def test_uri_patterns_permit(pattern: str, value: str, expected: bool) -> None:
    assert permitted("uri", pattern, value) is expected


@pytest.mark.parametrize(
    "value",
    [
        "https://example.com/admin",
        "https://example.com/admin/x",
        "https://example.com/%61dmin",
        "https://example.com/x/../admin",
        "https://example.com:8443/admin",
    ],
)
def test_a_denied_uri_is_denied_in_every_spelling(value: str) -> None:
    assert denied("uri", "https://example.com/admin", value)


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("O=Example,C=DE", "CN=alice,O=Example,C=DE", True),
        ("O=Example,C=DE", "CN=alice,OU=IT,O=Example,C=DE", True),
        ("O=Example,C=DE", "O=Example,C=DE", True),
        ("O=Example,C=DE", "CN=alice,O=EXAMPLE,C=de", True),
        ("O=Example Inc", "CN=alice,O=Example  Inc", True),
        ("O=Example,C=DE", "CN=alice,C=DE,O=Example", False),
        ("O=Example,C=DE", "C=DE,O=Example,CN=alice", False),
        ("O=Example,C=DE", "CN=O\\=Example\\,C\\=DE", False),
        ("O=Example", "CN=x\\,O=Example", False),
        ("O=Example", "O=NotExample", False),
        ("O=Example", "CN=alice+O=Example", False),
        ("O=Example", "CN=alice", False),
        ("*", "CN=anyone", True),
    ],
)
def test_dn_patterns_compare_rdn_by_rdn(pattern: str, value: str, expected: bool) -> None:
    assert permitted("dn", pattern, value) is expected


@pytest.mark.parametrize(
    ("kind", "pattern", "word"),
    [
        ("dns", "", "empty"),
        ("dns", " example.com", "blanks"),
        ("dns", "*", "wildcard"),
        ("dns", "**", "wildcard"),
        ("dns", "*.", "empty label"),
        ("dns", "a.*.example.com", "wildcard"),
        ("dns", "*.*.example.com", "wildcard"),
        ("dns", "w*.example.com", "wildcard"),
        ("dns", "..example.com", "empty label"),
        ("dns", "example..com", "empty label"),
        ("dns", "bücher.example", "xn--bcher-kva.example"),
        ("dns", "exa mple.com", "letters"),
        ("dns", "192.0.2.1", "number"),
        ("dns", "-a.example", "letters"),
        ("ip", "192.0.2.1/24", "192.0.2.0/24"),
        ("ip", "192.0.2.0/33", "network"),
        ("ip", "example.com", "network"),
        ("email", "example.com", "@"),
        ("email", "@", "empty"),
        ("email", "a b@example.com", "local part"),
        ("email", "@exa_mple.com", "label"),
        ("uri", "example.com", "scheme"),
        ("uri", "https://", "scheme"),
        ("uri", "https://user@example.com", "user"),
        ("uri", "https://example.com/?q", "query"),
        ("uri", "https://example.com/a/../b", "dot"),
        ("uri", "https://example.com:x", "port"),
        ("dn", "Example", "RFC 4514"),
        ("dn", "O=", "value"),
        ("dns ", "example.com", "known are"),
        ("DNS", "example.com", "known are"),
        ("otherName", "x", "known are"),
    ],
)
def test_bad_patterns_are_configuration_errors_with_a_sentence(kind: str, pattern: str, word: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_pattern(kind, pattern)
    assert word in caught.value.detail
    with pytest.raises(ConfigurationError):
        compiled(NamePolicy(deny={kind: (pattern,)}))


def test_deny_beats_permit_and_the_pattern_is_named() -> None:
    policy = NamePolicy(permit={"dns": ("**.example.com",)}, deny={"dns": ("**.internal.example.com",)})
    matcher = compiled(policy)
    assert matcher.objection(SubjectName(NameKind.DNS, "a.example.com")) is None
    assert "'**.internal.example.com'" in str(matcher.objection(SubjectName(NameKind.DNS, "a.internal.example.com")))


def test_an_absent_kind_permits_nothing() -> None:
    matcher = compiled(NamePolicy(permit={"dns": ("**.example.com",)}))
    for kind, value in (
        ("ip", "192.0.2.1"),
        ("email", "a@example.com"),
        ("uri", "https://a.example.com"),
        ("dn", "CN=a"),
    ):
        assert f"permits no {kind} names" in str(matcher.objection(SubjectName(NameKind(kind), value)))
    assert compiled(NamePolicy()).objection(SubjectName(NameKind.DNS, "example.com"))


def test_a_policy_is_compiled_once_and_another_one_by_itself() -> None:
    one, other = NamePolicy(permit={"dns": ("a.example",)}), NamePolicy(permit={"dns": ("b.example",)})
    assert compiled(one) is compiled(one)
    assert compiled(one) is not compiled(other)
    for number in range(3000):
        name = SubjectName(NameKind.DNS, f"n{number}.example")
        assert compiled(NamePolicy(permit={"dns": (name.value,)})).objection(name) is None


@given(st.text(max_size=40))
def test_any_text_is_a_pattern_or_a_configuration_error(text: str) -> None:
    for kind in NameKind:
        try:
            check_pattern(kind, text)
        except ConfigurationError:
            continue


@given(st.text(max_size=60))
def test_no_uri_makes_the_matcher_fail(text: str) -> None:
    permitted("uri", "https://example.com/app", f"https://example.com/{text}")
    permitted("uri", "https://example.com/app", text)
