"""Names to addresses, for validation only: this CA asks a DNS server itself, never the host's files or caches.

Source: RFC 6761 section 6.3 (`localhost`), RFC 8555 section 11.2 (whom the answers must come from).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

from spork.api.acme.networks import Address
from spork.errors import Code, ConfigurationError, SporkError

LIFETIME_S = 5.0
"""How long one name may take, retries included."""

_LOOPBACK: tuple[Address, ...] = (ipaddress.IPv6Address("::1"), ipaddress.IPv4Address("127.0.0.1"))
_RETRY_S = 2


class Resolver(Protocol):
    """Finds the addresses of a name."""

    async def addresses(self, name: str) -> Sequence[Address]:
        """IPv6 addresses first. Raises SporkError(DNS), with `retry_after_s` where another attempt may help."""
        ...


class DNSResolver:
    """Asks the given server (`host:port`, port 53 by default), or those of the system's configuration."""

    def __init__(self, server: str = "") -> None:
        self._resolver = _configured(server)
        self._resolver.lifetime = LIFETIME_S
        # A name is asked for as it stands: the search list of the host is not part of anybody's identifier.
        self._resolver.search = []
        self._resolver.cache = None

    async def addresses(self, name: str) -> Sequence[Address]:
        """As `Resolver.addresses`. Names at and below `localhost` are loopback and are never asked for."""
        if name == "localhost" or name.endswith(".localhost"):
            return _LOOPBACK
        kinds = (dns.rdatatype.AAAA, dns.rdatatype.A)
        answers = await asyncio.gather(*(self._ask(name, kind) for kind in kinds), return_exceptions=True)
        found = [address for answer in answers if not isinstance(answer, BaseException) for address in answer]
        if found:
            return found
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        raise SporkError(Code.DNS, f"{name} has neither an A nor an AAAA record.", retry_after_s=_RETRY_S)

    async def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> list[Address]:
        try:
            answer = await self._resolver.resolve(f"{name}.", kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            raise SporkError(Code.DNS, f"{name} does not exist in the DNS.", retry_after_s=_RETRY_S) from None
        except dns.exception.Timeout:
            raise SporkError(Code.DNS, f"The DNS did not answer in time for {name}.", retry_after_s=_RETRY_S) from None
        except (dns.exception.DNSException, OSError):
            raise SporkError(Code.DNS, f"The DNS gave no usable answer for {name}.", retry_after_s=_RETRY_S) from None
        return [ipaddress.ip_address(record.address) for record in answer.rrset or ()]


def _configured(server: str) -> dns.asyncresolver.Resolver:
    if not server:
        try:
            return dns.asyncresolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            # A host without any DNS server can still validate names under localhost; all others fail when they are asked for.
            return dns.asyncresolver.Resolver(configure=False)
    resolver = dns.asyncresolver.Resolver(configure=False)
    try:
        parts = urlsplit(f"//{server}")
        resolver.nameservers = [str(ipaddress.ip_address(parts.hostname or ""))]
        resolver.port = parts.port or 53
    except ValueError as error:
        raise ConfigurationError(
            f"acme_resolver (SPORK_ACME_RESOLVER): {server!r} is not the address of a DNS server; write it as 192.0.2.1:53."
        ) from error
    return resolver
