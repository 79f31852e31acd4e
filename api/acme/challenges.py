"""The challenge types that this CA offers: one row each. A new type is one validator and one row.

Source: RFC 8555 section 8 (http-01), RFC 8738 section 7 (http-01 for IP addresses).
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from spork.api.acme import http01
from spork.api.acme.configuration import ACMEConfiguration
from spork.api.acme.resolver import Resolver
from spork.settings import Settings
from spork.wire.jose import b64url_encode


@dataclass(frozen=True, slots=True)
class Claim:
    """What a client claims by answering a challenge."""

    identifier_type: str
    identifier_value: str
    token: str
    thumbprint: str
    """base64url of the account key's thumbprint."""

    @property
    def key_authorization(self) -> str:
        """Source: RFC 8555 section 8.1."""
        return f"{self.token}.{self.thumbprint}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What validators need of the process and of the issuer."""

    resolver: Resolver
    settings: Settings
    configuration: ACMEConfiguration


Validate = Callable[[Claim, Surroundings], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ChallengeType:
    """Where a challenge applies, and how it is checked."""

    identifier_types: frozenset[str]
    wildcards: bool
    validate: Validate
    """Returns if the claim is proven. Raises SporkError; with `retry_after_s` where another attempt may help."""


async def _http01(claim: Claim, surroundings: Surroundings) -> None:
    configuration, settings = surroundings.configuration, surroundings.settings
    await http01.validate(
        claim.identifier_value,
        claim.token,
        claim.key_authorization,
        resolver=surroundings.resolver,
        reach=http01.Reach(
            networks=configuration.networks + settings.acme_allowed_networks,
            http_port=configuration.ports.get("http-01", settings.acme_http01_port),
        ),
    )


CHALLENGES: Mapping[str, ChallengeType] = {
    "http-01": ChallengeType(frozenset({"dns", "ip"}), wildcards=False, validate=_http01),
}


def offered(identifier_type: str, wildcard: bool, configuration: ACMEConfiguration) -> tuple[str, ...]:
    """Types that can prove control over such a name under this issuer; empty where there is none."""
    return tuple(
        name
        for name, row in CHALLENGES.items()
        if identifier_type in row.identifier_types
        and (row.wildcards or not wildcard)
        and (configuration.challenges is None or name in configuration.challenges)
    )


def new_token() -> str:
    """256 random bits, base64url (RFC 8555 section 8.3 asks for at least 128)."""
    return b64url_encode(secrets.token_bytes(32))
