"""Name constraints: what is within a subtree, kind by kind."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509

from spork.x509.nameconstraints import constrained_names, constraint_fault


def a_general_name(text: str, *, subtree: bool = False) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    match kind:
        case "dns":
            return x509.DNSName(value)
        case "ip":
            return x509.IPAddress(ipaddress.ip_network(value) if subtree else ipaddress.ip_address(value))
        case "email":
            return x509.RFC822Name(value)
        case "uri":
            return x509.UniformResourceIdentifier(value)
        case "dn":
            # RFC 4514 writes the last attribute first; a subtree is a common beginning.
            return x509.DirectoryName(x509.Name.from_rfc4514_string(value))
        case "id":
            return x509.RegisteredID(x509.ObjectIdentifier(value))
    raise AssertionError(kind)


def permits(tree: str, name: str) -> bool:
    limits = x509.NameConstraints([a_general_name(tree, subtree=True)], None)
    return constraint_fault(limits, [a_general_name(name)]) is None


def excludes(tree: str, name: str) -> bool:
    limits = x509.NameConstraints(None, [a_general_name(tree, subtree=True)])
    return constraint_fault(limits, [a_general_name(name)]) is not None


WITHIN = [
    ("dns:example.com", "dns:example.com"),
    ("dns:example.com", "dns:www.example.com"),
    ("dns:example.com", "dns:a.b.example.com"),
    ("dns:EXAMPLE.com", "dns:www.Example.COM"),
    ("dns:.example.com", "dns:www.example.com"),
    ("dns:", "dns:anything.at.all"),
    ("dns:example.com", "dns:*.example.com"),
    ("dns:example.com", "dns:*.www.example.com"),
    ("dns:com", "dns:*.example.com"),
    ("ip:10.0.0.0/8", "ip:10.1.2.3"),
    ("ip:0.0.0.0/0", "ip:192.0.2.1"),
    ("ip:2001:db8::/32", "ip:2001:db8::1"),
    ("ip:192.0.2.1/32", "ip:192.0.2.1"),
    ("email:example.com", "email:alice@example.com"),
    ("email:example.com", "email:alice@EXAMPLE.com"),
    ("email:.example.com", "email:alice@mail.example.com"),
    ("email:alice@example.com", "email:alice@example.com"),
    ("uri:example.com", "uri:https://example.com/a"),
    ("uri:example.com", "uri:https://user:word@EXAMPLE.com:8443?q#f"),
    ("uri:.example.com", "uri:spiffe://td.example.com/x"),
    ("dn:O=Example", "dn:O=Example"),
    ("dn:O=Example", "dn:CN=alice,O=Example"),
    ("dn:O=Ex Ample", "dn:CN=alice,O=ex  ample"),
    ("dn:OU=a,O=Example", "dn:CN=x,OU=A,O=EXAMPLE"),
]
OUTSIDE = [
    ("dns:example.com", "dns:example.org"),
    ("dns:example.com", "dns:notexample.com"),
    ("dns:example.com", "dns:com"),
    ("dns:.example.com", "dns:example.com"),
    ("dns:www.example.com", "dns:example.com"),
    ("ip:10.0.0.0/8", "ip:11.0.0.1"),
    ("ip:10.0.0.0/8", "ip:2001:db8::1"),
    ("ip:2001:db8::/32", "ip:10.0.0.1"),
    ("email:example.com", "email:alice@mail.example.com"),
    ("email:.example.com", "email:alice@example.com"),
    ("email:alice@example.com", "email:bob@example.com"),
    ("email:alice@example.com", "email:Alice@example.com"),
    ("uri:example.com", "uri:https://www.example.com/"),
    ("uri:.example.com", "uri:https://example.com/"),
    ("uri:example.com", "uri:https://evil.org/example.com"),
    ("uri:example.com", "uri:https://example.com@evil.org/"),
    ("uri:example.com", "uri:https://evil.org?@example.com"),
    ("dn:O=Example", "dn:O=Other"),
    ("dn:O=Example", "dn:O=Example,CN=alice"),
    ("dn:OU=a,O=Example", "dn:O=Example"),
    ("dn:O=Example", "dn:OU=Example"),
]


@pytest.mark.parametrize(("tree", "name"), WITHIN)
def test_a_name_within_the_subtree(tree: str, name: str) -> None:
    assert permits(tree, name)
    assert excludes(tree, name)


@pytest.mark.parametrize(("tree", "name"), OUTSIDE)
def test_a_name_outside_of_the_subtree(tree: str, name: str) -> None:
    assert not permits(tree, name)
    assert not excludes(tree, name)


# What could be inside is not permitted and is excluded.
DOUBTFUL = [
    ("dns:www.example.com", "dns:*.example.com"),
    ("dns:x.example.com", "dns:*.example.com"),
    ("email:example.com", "email:no-at-sign"),
    ("email:example.com", "email:@example.com"),
    ("uri:example.com", "uri:urn:example:1"),
    ("uri:example.com", "uri:https://192.0.2.1/"),
    ("uri:example.com", "uri:https://[2001:db8::1]/"),
    ("uri:example.com", "uri:https:///nothing"),
    ("uri:example.com", "uri:no-scheme"),
    ("id:1.2.3", "id:1.2.3"),
    ("id:1.2.3", "id:1.2.4"),
]


@pytest.mark.parametrize(("tree", "name"), DOUBTFUL)
def test_what_cannot_be_told_is_held_against_the_name(tree: str, name: str) -> None:
    assert not permits(tree, name)
    assert excludes(tree, name)


@pytest.mark.parametrize("name", ["ip:192.0.2.1", "email:a@b.example", "uri:https://x.example/", "dn:CN=x", "id:1.2.3"])
def test_a_kind_without_constraints_is_free(name: str) -> None:
    assert permits("dns:example.com", name)
    assert not excludes("dns:example.com", name)


def test_excluded_wins_over_permitted() -> None:
    limits = x509.NameConstraints([x509.DNSName("example.com")], [x509.DNSName("secret.example.com")])
    assert constraint_fault(limits, [x509.DNSName("www.example.com")]) is None
    fault = constraint_fault(limits, [x509.DNSName("www.example.com"), x509.DNSName("a.secret.example.com")])
    assert fault is not None
    assert "excluded" in fault
    assert "a.secret.example.com" in fault


def test_one_of_several_permitted_subtrees_is_enough() -> None:
    limits = x509.NameConstraints([x509.DNSName("one.example"), x509.DNSName("two.example")], None)
    assert constraint_fault(limits, [x509.DNSName("a.one.example"), x509.DNSName("a.two.example")]) is None
    assert constraint_fault(limits, [x509.DNSName("a.one.example"), x509.DNSName("three.example")]) is not None


def test_too_many_comparisons_are_refused_instead_of_made() -> None:
    limits = x509.NameConstraints([x509.DNSName(f"{number}.example") for number in range(1000)], None)
    assert constraint_fault(limits, [x509.DNSName("a.example")] * 1000) == (
        "There are too many names and name constraints to compare."
    )


def test_an_empty_subject_is_no_name() -> None:
    assert constrained_names(x509.Name([]), []) == []


def test_the_mailbox_of_a_subject_counts_only_without_one_among_the_names() -> None:
    address = x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, "alice@example.com")
    subject = x509.Name([address])
    assert x509.RFC822Name("alice@example.com") in constrained_names(subject, [])
    other = x509.RFC822Name("bob@example.org")
    assert constrained_names(subject, [other]) == [other, x509.DirectoryName(subject)]


@pytest.mark.parametrize("value", ["nobody", "bücher@example.com"])
def test_a_mailbox_that_is_none_is_held_against_the_subject(value: str) -> None:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, value)])
    names = constrained_names(subject, [])
    assert constraint_fault(x509.NameConstraints([x509.RFC822Name("example.com")], None), names) is not None
