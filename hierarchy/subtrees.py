"""Subtrees of name constraints compared with each other (RFC 5280 section 4.2.1.10)."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from cryptography import x509


def outside_of(subtree: x509.GeneralName, limits: x509.NameConstraints) -> bool:
    """Whether limits permit subtrees of this kind, and none of them holds this one."""
    same_kind = [permitted for permitted in limits.permitted_subtrees or () if type(permitted) is type(subtree)]
    return bool(same_kind) and not any(is_within(subtree, permitted) for permitted in same_kind)


def exclusion_around(subtree: x509.GeneralName, limits: x509.NameConstraints) -> x509.GeneralName | None:
    """The excluded subtree that swallows this one whole."""
    return next((excluded for excluded in limits.excluded_subtrees or () if is_within(subtree, excluded)), None)


def is_permitted_name(name: x509.Name, limits: x509.NameConstraints | None) -> bool:
    """Whether a CA's own distinguished name keeps to limits on directory names."""
    if limits is None:
        return True
    subtree = x509.DirectoryName(name)
    return not outside_of(subtree, limits) and exclusion_around(subtree, limits) is None


def is_within(inner: x509.GeneralName, outer: x509.GeneralName) -> bool:
    """Whether every name of the inner subtree is one of the outer."""
    match inner, outer:
        case x509.DNSName(), x509.DNSName():
            return inner.value == outer.value or inner.value.endswith(f".{outer.value}")
        case x509.IPAddress(), x509.IPAddress():
            return _network_within(inner, outer)
        case x509.RFC822Name(), x509.RFC822Name():
            return _mail_within(inner.value, outer.value)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            return _host_within(inner.value, outer.value)
        case x509.DirectoryName(), x509.DirectoryName():
            above = outer.value.rdns
            return inner.value.rdns[: len(above)] == above
        case _:
            return False


def _host_within(inner: str, outer: str) -> bool:
    """A leading dot means the hosts below a domain, and not the domain's own host."""
    return inner == outer or (outer.startswith(".") and inner.endswith(outer))


def _mail_within(inner: str, outer: str) -> bool:
    if "@" in outer:
        return inner == outer
    return _host_within(inner.rpartition("@")[2], outer)


def _network_within(inner: x509.IPAddress, outer: x509.IPAddress) -> bool:
    match inner.value, outer.value:
        case (IPv4Network() as small, IPv4Network() as large):
            return small.subnet_of(large)
        case (IPv6Network() as below, IPv6Network() as above):
            return below.subnet_of(above)
        case _:
            return False
