"""The TLS certificate of the listeners: issued by the tree, kept with its key in the database, renewed by itself.

All replicas share it. Where no issuing CA of the tree can sign it, the management CA does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import ssl
from datetime import datetime
from urllib.parse import urlsplit

import structlog
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spork.errors import Code, SporkError
from spork.ids import MANAGEMENT_AUTHORITY, AuthorityId, KeyId
from spork.issuance.ports import AuditEvent, IdempotencyKey
from spork.issuance.request import IssuanceRequest
from spork.keys.memfd import load_cert_chain
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.services import Services
from spork.store.held import HeldCertificate, held_certificates
from spork.x509.algorithms import algorithm_of, load_public_key
from spork.x509.authority import Authority, AuthorityKind, KeyMode
from spork.x509.der import KeyPurpose
from spork.x509.names import SubjectName, dns, ip
from spork.x509.profiles import profile_named

log = structlog.get_logger("spork.listener")

PROFILE = "listener"
ALGORITHM = "ecdsa-p256"
_CHECK_S = 60.0
_HOST = Requester(Door.BOOTSTRAP, "host")


class ListenerCertificate:
    """Keeps the certificate of a set of TLS contexts valid."""

    def __init__(self, services: Services, contexts: list[ssl.SSLContext]) -> None:
        self._services = services
        self._contexts = contexts
        self._loaded: bytes | None = None
        self._refused: frozenset[str] = frozenset()
        """CAs of the tree that could not sign it the last time, while the management CA could."""

    async def ensure(self) -> None:
        """Loads a valid certificate into the contexts, issuing a new one if none is there or it is two thirds through its life.

        Raises SporkError when no CA can sign one.
        """
        names = listener_names(self._services)
        held = await self._current(names)
        if held is None or _is_due(held, self._services.clock.now()) or await self._is_stopgap(held):
            held = await self._renewed(names, held)
        if held.der == self._loaded:
            return
        authority = await self._services.authorities.authority(AuthorityId(held.authority_id), held.generation)
        signer = await self._services.keys.signer(KeyId(held.key_id))
        for context in self._contexts:
            load_cert_chain(context, signer, [held.der, *_intermediates(authority)])
        self._loaded = held.der

    async def run(self, stop: asyncio.Event) -> None:
        """Renews in time, until `stop` is set. A failure is logged and tried again; the old certificate serves on meanwhile."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _CHECK_S)
                return
            try:
                await self.ensure()
            except SporkError as error:
                log.warning("the listener certificate cannot be renewed", code=error.code.value, detail=error.detail)

    async def _current(self, names: tuple[SubjectName, ...]) -> HeldCertificate | None:
        wanted, able = {str(name) for name in names}, {a.id for a in await self._signing_authorities()}
        held = await held_certificates(self._services.database, PROFILE, self._services.clock.now())
        fitting = [c for c in held if wanted == set(c.names) and c.authority_id in able]
        # A stopgap may last longer than what the tree has signed since.
        return min(fitting, key=lambda c: c.authority_id == MANAGEMENT_AUTHORITY, default=None)

    async def _is_stopgap(self, held: HeldCertificate) -> bool:
        """Whether the management CA signed it before there was a tree, so that clients who trust the tree's root refuse it."""
        if held.authority_id != MANAGEMENT_AUTHORITY:
            return False
        return bool({a.id for a in await self._signing_authorities()} - {MANAGEMENT_AUTHORITY} - self._refused)

    async def _renewed(self, names: tuple[SubjectName, ...], old: HeldCertificate | None) -> HeldCertificate:
        failure: SporkError | None = None
        for authority in await self._signing_authorities():
            try:
                await self._issue(authority, names)
            except SporkError as error:
                # The tree may not be allowed to certify this host's names; the management CA has no such limits.
                failure = error
                self._refused |= {authority.id}
                continue
            held = await self._current(names)
            if held is not None:
                return held
        if old is not None:
            return old
        raise failure or SporkError(Code.KEY_UNAVAILABLE, "No CA can sign the certificate of the listeners.")

    async def _signing_authorities(self) -> list[Authority]:
        """The default issuer's CA first, then the others on which issuers offer `tls-server`, the management CA last.

        A CA for devices or code has no business here, and TLS libraries refuse to load a chain with post-quantum signatures.
        """
        every = [
            a
            for a in await self._services.authorities.all()
            if a.certificate is not None and a.key_mode is KeyMode.ONLINE
        ]
        for_servers = {i.authority_id for i in await self._services.issuers.all() if "tls-server" in i.profiles}
        issuing = [
            a for a in every if a.kind is AuthorityKind.ISSUING and a.id in for_servers and not _is_post_quantum(a)
        ]
        with contextlib.suppress(SporkError):
            default = (await self._services.issuers.issuer(None)).authority_id
            issuing.sort(key=lambda a: a.id != default)
        return issuing + [a for a in every if a.id == MANAGEMENT_AUTHORITY]

    async def _issue(self, authority: Authority, names: tuple[SubjectName, ...]) -> None:
        services = self._services
        audit = AuditEvent("key.generate", _HOST.identity, f"listener:{authority.id}")
        _, spki = await services.keys.generate(ALGORITHM, KeyPurpose.LISTENER, "online", audit)
        digest = hashlib.sha256(spki).digest()
        recorded = await services.pipeline.issue(
            IssuanceRequest(
                requester=_HOST,
                grant=Grant(profiles=frozenset({PROFILE})),
                evidence=Evidence("local", "listener"),
                idempotency=IdempotencyKey(
                    f"authority:{authority.id}", Door.BOOTSTRAP, f"{PROFILE}:{digest.hex()}", digest
                ),
                authority=authority,
                issuer=None,
                profile=profile_named(PROFILE),
                spki=spki,
                names=names,
            )
        )
        log.info("issued the listener certificate", authority=authority.id, not_after=recorded.not_after.isoformat())


def listener_names(services: Services) -> tuple[SubjectName, ...]:
    """The hosts of the external URLs; a listener on loopback is also known by every name that loopback has."""
    settings = services.settings
    names = {_name(urlsplit(url).hostname or "") for url in (settings.url_of_enrol(), settings.url_of_admin())}
    for address in (settings.enrol_listen, settings.admin_listen):
        if address.host == "localhost" or _is_loopback(address.host):
            names |= {dns("localhost"), ip("127.0.0.1"), ip("::1")}
    return tuple(sorted(names))


def _name(host: str) -> SubjectName:
    try:
        return ip(host)
    except ValueError:
        return dns(host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_post_quantum(authority: Authority) -> bool:
    """Whether anything from this CA's key up to the root signs with an algorithm that today's TLS does not know."""
    keys = [
        authority.spki,
        *(c.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for c in authority.chain),
    ]
    algorithms = (algorithm_of(load_public_key(spki)) for spki in keys)
    return any(algorithm is not None and algorithm.post_quantum for algorithm in algorithms)


def _is_due(held: HeldCertificate, now: datetime) -> bool:
    return now >= held.not_before + (held.not_after - held.not_before) * 2 / 3


def _intermediates(authority: Authority) -> list[bytes]:
    """What a server sends after its own certificate: every CA up to, but without, the root."""
    own = [authority.certificate] if authority.certificate is not None else []
    return [c.public_bytes(Encoding.DER) for c in (*own, *authority.chain) if c.subject != c.issuer]
