"""The chains that a certificate can be sent with: the usual one, and one for each cross-certificate above it.

Source: RFC 8555 section 7.4.2 (`alternate`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Protocol

from cryptography import x509

from spork.ids import AuthorityId
from spork.x509.authority import Authority

Chain = tuple[x509.Certificate, ...]

_KEPT_S = 60.0


class Authorities(Protocol):
    """What is needed of the store's authorities."""

    async def authority(self, authority_id: AuthorityId, generation: int | None = None) -> Authority: ...

    async def all(self) -> Sequence[Authority]: ...

    async def cross_certificates(self, authority_id: AuthorityId, generation: int) -> Sequence[x509.Certificate]: ...


class Chains:
    """Chains by issuing CA, without root, kept for a minute: a new cross-certificate may show that much later."""

    def __init__(self, authorities: Authorities) -> None:
        self._authorities = authorities
        self._known: dict[tuple[str, int], tuple[float, tuple[Chain, ...]]] = {}

    async def above(self, authority_id: str, generation: int) -> tuple[Chain, ...]:
        """All chains from the issuing CA upwards, the usual one first. Raises SporkError(NOT_FOUND)."""
        now = asyncio.get_running_loop().time()
        at, chains = self._known.get((authority_id, generation), (now - _KEPT_S, ()))
        if now - at >= _KEPT_S:
            chains = await self._built(await self._authorities.authority(AuthorityId(authority_id), generation))
            self._known[authority_id, generation] = (now, chains)
        return chains

    async def _built(self, issuing: Authority) -> tuple[Chain, ...]:
        usual = _path(issuing)
        every = await self._authorities.all()
        found = [_without_root(usual)]
        for number, certificate in enumerate(usual):
            holder = issuing if number == 0 else _holder(certificate, every)
            if holder is None:
                continue
            for cross in await self._authorities.cross_certificates(holder.id, holder.generation):
                above = next((_path(one) for one in _signers(cross, every)), ())
                found.append(_without_root((*usual[:number], cross, *above)))
        return tuple(dict.fromkeys(found))


def _path(authority: Authority) -> Chain:
    return () if authority.certificate is None else (authority.certificate, *authority.chain)


def _without_root(path: Chain) -> Chain:
    return tuple(one for one in path if one.issuer != one.subject)


def _holder(certificate: x509.Certificate, every: Sequence[Authority]) -> Authority | None:
    return next((one for one in every if one.certificate == certificate), None)


def _signers(certificate: x509.Certificate, every: Sequence[Authority]) -> Iterator[Authority]:
    """CAs whose name and key identifier the certificate names. Whether the signature is right was checked when it was made."""
    try:
        wanted = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        wanted = None
    for one in every:
        if one.subject == certificate.issuer and wanted in (None, one.subject_key_identifier):
            yield one
