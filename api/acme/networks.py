"""Which addresses a validator may connect to: public ones always, all others only where an operator listed them.

A name that its owner points at 127.0.0.1 or 169.254.169.254 would otherwise make this CA send requests into the networks
behind its own firewall. The tables hold what the IANA special-purpose registries call not globally reachable, and one public
address that a cloud answers on inside of its virtual machines.
Sources: RFC 6890 and its registries, RFC 6598, RFC 4193, RFC 3056 (6to4), RFC 6052 (NAT64), RFC 4291 section 2.5.5.2.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NOT_PUBLIC: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "an unspecified address"),
    ("10.0.0.0/8", "a private address"),
    ("100.64.0.0/10", "an address behind a carrier's NAT"),
    ("127.0.0.0/8", "a loopback address"),
    # Cloud metadata services answer here.
    ("169.254.0.0/16", "a link-local address"),
    ("172.16.0.0/12", "a private address"),
    ("192.0.0.0/24", "an address for protocol assignments"),
    ("192.0.2.0/24", "an address for documentation"),
    ("192.88.99.0/24", "a 6to4 relay address"),
    ("192.168.0.0/16", "a private address"),
    ("198.18.0.0/15", "an address for benchmarks"),
    ("198.51.100.0/24", "an address for documentation"),
    ("203.0.113.0/24", "an address for documentation"),
    ("224.0.0.0/4", "a multicast address"),
    ("240.0.0.0/4", "a reserved address"),
    # Azure's own services, reachable from within each of its machines only.
    ("168.63.129.16/32", "a cloud's internal address"),
    ("::/128", "an unspecified address"),
    ("::1/128", "a loopback address"),
    ("fc00::/7", "a unique local address"),
    ("fe80::/10", "a link-local address"),
    ("ff00::/8", "a multicast address"),
    ("2001::/23", "an address for protocol assignments"),
    ("2001:db8::/32", "an address for documentation"),
    ("3fff::/20", "an address for documentation"),
)
_REFUSED = tuple((ipaddress.ip_network(network), what) for network, what in _NOT_PUBLIC)
# All global unicast addresses of IPv6 so far; whatever IANA has not given out is not somewhere to connect to.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def plain(address: Address) -> Address:
    """An IPv4-mapped IPv6 address as the IPv4 address that a connection would go to; any other as it is."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def refusal(address: Address, allowed: Iterable[Network]) -> str | None:
    """Why a validator must not connect there (`a loopback address`), or None if it may.

    An address that embeds an IPv4 address and reaches it (mapped, 6to4, NAT64) is judged by what it embeds.
    """
    address = plain(address)
    networks = tuple(allowed)
    if any(address.version == network.version and address in network for network in networks):
        return None
    if (embedded := _embedded(address)) is not None:
        return refusal(embedded, networks)
    for network, what in _REFUSED:
        if address.version == network.version and address in network:
            return what
    if address.version == _GLOBAL_UNICAST.version and address not in _GLOBAL_UNICAST:
        return "an address outside of the global unicast space"
    return None


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _SIX_TO_FOUR:
        return ipaddress.IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
