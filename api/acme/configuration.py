"""What an issuer says about its ACME door, read once for each issuer snapshot."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spork.api.acme.networks import Network
from spork.errors import Code, ConfigurationError, SporkError
from spork.policy.issuer import Issuer


@dataclass(frozen=True, slots=True)
class ACMEConfiguration:
    """`protocols.acme` of an issuer."""

    challenges: tuple[str, ...] | None
    """Types that are offered; None means all that there are."""
    networks: tuple[Network, ...]
    ports: Mapping[str, int]
    """Challenge type -> port that replaces the process's setting."""
    terms_of_service: str
    website: str
    caa_identities: tuple[str, ...]


def configuration_of(issuer: Issuer) -> ACMEConfiguration:
    """Raises SporkError: NOT_FOUND where the issuer has no ACME door, CONFIGURATION naming the key that is wrong."""
    found = issuer.protocols.get("acme")
    if found is None:
        raise SporkError(Code.NOT_FOUND, f"The issuer {issuer.label} does not serve ACME.")
    where = f"issuer {issuer.label}, protocols.acme"
    challenges = found.get("challenges")
    return ACMEConfiguration(
        challenges=None if challenges is None else _texts(challenges, f"{where}.challenges"),
        networks=_networks(_texts(found.get("networks", ()), f"{where}.networks"), f"{where}.networks"),
        ports=_ports(found.get("ports", {}), f"{where}.ports"),
        terms_of_service=str(found.get("terms_of_service") or ""),
        website=str(found.get("website") or ""),
        caa_identities=_texts(found.get("caa_identities", ()), f"{where}.caa_identities"),
    )


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise ConfigurationError(f"{where}: a list of texts is expected.")
    return tuple(value)


def _networks(texts: Sequence[str], where: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}.") from error


def _ports(value: Any, where: str) -> Mapping[str, int]:
    if not isinstance(value, Mapping) or not all(isinstance(port, int) and 0 < port < 65536 for port in value.values()):
        raise ConfigurationError(f"{where}: a table of challenge types and port numbers is expected.")
    return dict(value)
