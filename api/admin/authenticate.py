"""Who calls: an administrator certificate, checked anew on every request.

The TLS layer proves no more than that the client holds the key, and it may do so once for many requests, or show the
certificate of a resumed session. So each request checks: chain to the management CA, validity now, clientAuth, exactly one
level, and a live row of the certificate itself. Headers are never read: only the TLS layer's own report counts.
"""

from __future__ import annotations

import hashlib
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spork.clock import Clock
from spork.errors import Code, SporkError
from spork.ids import MANAGEMENT_AUTHORITY, CertificateId, Serial, serial_text
from spork.issuance.ports import Authorities
from spork.policy.levels import AdminLevel, level_of, level_oid
from spork.x509.chain import leaf_policies, verify_chain
from spork.x509.names import common_name
from spork.x509.profiles import CLIENT_AUTH

CACHE_SIZE: Final = 1024
"""Certificates whose unchanging part was found good. A real installation has a handful of administrators."""
ANY_POLICY: Final = "2.5.29.32.0"
_MAX_CERTIFICATE_OCTETS: Final = 32 * 1024
_WHAT_TO_DO: Final = (
    "Present the client certificate of an administrator: with spork by --admin-cert and --admin-key or a context file, "
    "with curl by --cert and --key."
)


@dataclass(frozen=True, slots=True)
class AdministratorRow:
    """What the database holds of an administrator's certificate, as of now."""

    certificate_id: CertificateId
    authority_id: str
    state: str
    """reserved, issued or abandoned."""
    der: bytes | None
    revoked: bool
    """Whether a revocation or a hold is in force."""
    attributes: Mapping[str, Any]


ReadRow = Callable[[bytes], Awaitable[AdministratorRow | None]]
"""Reads the row of a certificate by its SHA-256, in one statement and never from a cache."""


@dataclass(frozen=True, slots=True)
class Administrator:
    """An authenticated caller."""

    name: str
    """The certificate's commonName."""
    level: AdminLevel
    issuers: frozenset[str] | None
    """Labels of the issuers that the caller is limited to; None means all."""
    certificate_id: CertificateId
    serial: Serial
    not_after: datetime
    address: str | None

    @property
    def identity(self) -> str:
        """Stable and printable. The serial is in it because two certificates may bear the same name."""
        return f"admin:{self.name}#{serial_text(self.serial)}"


@dataclass(frozen=True, slots=True)
class _Static:
    """The part of a check that the octets of a certificate decide once and for all."""

    name: str
    level: AdminLevel
    serial: Serial
    not_before: datetime
    not_after: datetime
    """The intersection of the validity of every certificate in the chain."""


class Authenticator:
    """Checks administrators. One per process."""

    def __init__(self, authorities: Authorities, read_row: ReadRow, clock: Clock, oid_base: str) -> None:
        self._authorities = authorities
        self._read_row = read_row
        self._clock = clock
        self._oid_base = oid_base
        self._good: OrderedDict[bytes, _Static] = OrderedDict()

    async def authenticate(self, scope: Mapping[str, Any]) -> Administrator:
        """Who sent this request (an ASGI scope).

        Raises SporkError: UNAUTHENTICATED (no certificate, or one that is not to be believed), FORBIDDEN (no single level).
        """
        leaf = _presented(scope)
        if leaf is None:
            raise SporkError(Code.UNAUTHENTICATED, f"No client certificate was presented. {_WHAT_TO_DO}")
        static = await self._static(leaf)
        now = self._clock.now()
        if not static.not_before <= now <= static.not_after:
            raise SporkError(
                Code.UNAUTHENTICATED,
                f"The certificate of {static.name!r} is valid from {static.not_before:%Y-%m-%d %H:%M:%S} "
                f"to {static.not_after:%Y-%m-%d %H:%M:%S} UTC, not now; have a new one issued with spork admin issue.",
            )
        row = self._live(static, leaf, await self._read_row(_digest(leaf)))
        client = scope.get("client")
        return Administrator(
            name=static.name,
            level=static.level,
            issuers=limits_of(row.attributes),
            certificate_id=row.certificate_id,
            serial=static.serial,
            not_after=static.not_after,
            address=client[0] if client else None,
        )

    async def _static(self, leaf: bytes) -> _Static:
        anchors = await self._anchors()
        key = hashlib.sha256(b"".join(_digest(der) for der in (leaf, *anchors))).digest()
        if (known := self._good.get(key)) is not None:
            self._good.move_to_end(key)
            return known
        static = _checked(leaf, anchors, self._clock.now(), self._oid_base)
        # Only what was found good is remembered, so that nobody can fill the cache with refusals.
        self._good[key] = static
        if len(self._good) > CACHE_SIZE:
            self._good.popitem(last=False)
        return static

    async def _anchors(self) -> list[bytes]:
        """Certificates of the management CA, newest generation first. No other CA of this installation is ever an anchor."""
        newest = await self._authorities.authority(MANAGEMENT_AUTHORITY)
        older = [
            await self._authorities.authority(MANAGEMENT_AUTHORITY, n) for n in range(newest.generation - 1, 0, -1)
        ]
        return [a.certificate.public_bytes(Encoding.DER) for a in (newest, *older) if a.certificate is not None]

    def _live(self, static: _Static, der: bytes, row: AdministratorRow | None) -> AdministratorRow:
        if row is None or row.authority_id != MANAGEMENT_AUTHORITY or row.state != "issued" or row.der != der:
            raise SporkError(
                Code.UNAUTHENTICATED, f"This CA has no record of issuing the certificate of {static.name!r}."
            )
        if row.revoked:
            raise SporkError(Code.UNAUTHENTICATED, f"The certificate of {static.name!r} is revoked or on hold.")
        return row


def limits_of(attributes: Mapping[str, Any]) -> frozenset[str] | None:
    """The issuers that an administrator is limited to, None for no limit. What cannot be read grants nothing."""
    if "issuers" not in attributes or attributes["issuers"] is None:
        return None
    issuers = attributes["issuers"]
    if not isinstance(issuers, list) or not all(isinstance(label, str) for label in issuers):
        return frozenset()
    return frozenset(issuers)


def _digest(der: bytes) -> bytes:
    return hashlib.sha256(der).digest()


def _presented(scope: Mapping[str, Any]) -> bytes | None:
    """The client's own certificate as DER, from the TLS extension of ASGI. Raises SporkError(UNAUTHENTICATED)."""
    tls = (scope.get("extensions") or {}).get("tls") or {}
    chain = tls.get("client_cert_chain") or ()
    if not chain:
        return None
    try:
        der = ssl.PEM_cert_to_DER_cert(str(chain[0]))
    except ValueError as error:
        raise SporkError(Code.UNAUTHENTICATED, "The client certificate cannot be read.") from error
    if not 0 < len(der) <= _MAX_CERTIFICATE_OCTETS:
        raise SporkError(Code.UNAUTHENTICATED, "The client certificate is too large, or empty.")
    return der


def _checked(leaf_der: bytes, anchors: Sequence[bytes], now: datetime, oid_base: str) -> _Static:
    """Everything that does not change: the chain, what the leaf is for, and its level."""
    # The management CA has no CAs below it, so what a client sends along to build a path from is not looked at.
    path = verify_chain(leaf_der, (), anchors, now, purpose=CLIENT_AUTH)
    leaf = path[0]
    name = common_name(leaf.subject) or leaf.subject.rfc4514_string() or serial_text(leaf.serial_number)
    _check_end_entity(leaf, name)
    level = level_of(leaf, oid_base)
    if not {level_oid(level, oid_base), ANY_POLICY} & leaf_policies(path):
        raise SporkError(Code.FORBIDDEN, f"The management CA does not grant {name!r} the level {level.name.lower()}.")
    return _Static(
        name=name,
        level=level,
        serial=Serial(leaf.serial_number),
        not_before=max(certificate.not_valid_before_utc for certificate in path),
        not_after=min(certificate.not_valid_after_utc for certificate in path),
    )


def _check_end_entity(leaf: x509.Certificate, name: str) -> None:
    try:
        is_ca = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if is_ca:
        raise SporkError(Code.UNAUTHENTICATED, f"{name!r} is a CA, and no CA is an administrator.")
