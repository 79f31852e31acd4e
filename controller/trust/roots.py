"""The roots that a bundle holds: every generation of every declared root that is valid now and not revoked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from spork.controller.cluster import Ref
from spork.errors import SporkError
from spork.services import Services
from spork.x509.authority import Authority, AuthorityKind

_LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Root:
    """One certificate of one generation of a root CA."""

    certificate: x509.Certificate
    hierarchy: str | None
    """The name of the Hierarchy that declares it; None for a tree of a file."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, 64 hexadecimal digits."""
        return fingerprint_of(self.certificate)


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256, 64 hexadecimal digits."""
    return certificate.fingerprint(SHA256()).hex()


def hierarchy_of(authority: Authority) -> str | None:
    """The name of the Hierarchy that declares the CA, or None."""
    kind, slash, name = authority.declared_by.partition("/")
    return name if kind == "Hierarchy" and slash else None


async def trusted_roots(services: Services) -> tuple[Root, ...]:
    """All of them, from the snapshot of the CAs; valid or not at this moment is for `valid` to say.

    A root whose tree is not declared any more is disabled and not among them, and the management CA is none at all. Raises
    DatabaseUnavailable.
    """
    found: list[Root] = []
    for current in await services.authorities.all():
        if current.kind is AuthorityKind.ROOT:
            found += [
                Root(one.certificate, hierarchy_of(one))
                for one in await services.authorities.generations(current.id)
                if one.certificate is not None and one.stopped is None
            ]
    return tuple(found)


async def changes_of_roots(services: Services, stop: asyncio.Event) -> AsyncIterator[None]:
    """Yields at the start and each time other roots are to be trusted, until `stop` is set.

    It asks the database for the version of its configuration, and the cluster for nothing. While the database is away it waits.
    """
    known: frozenset[tuple[str, str | None]] | None = None
    while not stop.is_set():
        with contextlib.suppress(SporkError):
            found = frozenset((root.fingerprint, root.hierarchy) for root in await trusted_roots(services))
            if found != known:
                known = found
                yield
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK_S)


def valid(roots: Iterable[Root], now: datetime) -> tuple[Root, ...]:
    """Those that have not ended. One that is still to begin is distributed already: that is what the time before is for."""
    return tuple(root for root in roots if root.certificate.not_valid_after_utc >= now)


def next_end_s(roots: Sequence[Root], now: datetime) -> float:
    """Seconds until the first of these valid roots ends, when the bundle changes by itself; a day at most."""
    ends = [(root.certificate.not_valid_after_utc - now).total_seconds() + 1 for root in roots]
    return min([*ends, 86400.0])


def of_hierarchy(roots: Iterable[Root], hierarchy: str) -> tuple[Root, ...]:
    """Those of one Hierarchy."""
    return tuple(root for root in roots if root.hierarchy == hierarchy)


def namespace_ref(name: str) -> Ref:
    return Ref("Namespace", "", name)
