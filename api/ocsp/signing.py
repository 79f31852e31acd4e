"""Responder keys: which one signs for a CA now, and how a new one comes to be.

Each key of an online CA has its own delegated responder: a key of purpose `ocsp`, stored wrapped like any other, and a
certificate of seven days from that CA with id-kp-OCSPSigning and ocsp-nocheck (RFC 6960 sections 4.2.2.2 and 4.2.2.2.1).
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from spork.errors import Code, SporkError
from spork.ids import AuthorityId, KeyId
from spork.issuance.ports import AuditEvent, IdempotencyKey
from spork.issuance.request import IssuanceRequest
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.services import Services
from spork.store.responder import KnownIssuer, Responders
from spork.x509.algorithms import BY_NAME, Algorithm
from spork.x509.authority import Authority
from spork.x509.der import KeyPurpose, Signer
from spork.x509.profiles import profile_named

_RELOAD_S = 60.0
"""How long a process signs with what it loaded before it looks whether another replica has a newer certificate."""
_ALGORITHMS = {"rsa": "rsa-2048", "ecdsa": "ecdsa-p256"}
"""By family of the CA's key: clients that verify the certificate verify the answer. The rest use the CA's own algorithm."""


@dataclass(frozen=True, slots=True)
class Responder:
    """Who signs answers for one key of a CA."""

    signer: Signer
    certificate_der: bytes
    not_after: datetime


class ResponderKeys:
    """Responders of one process, loaded from the database when they are needed."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = Responders(services.database)
        self._loaded: dict[tuple[AuthorityId, int], tuple[float, Responder]] = {}

    async def responder(self, authority_id: AuthorityId, generation: int) -> Responder:
        """Raises SporkError: KEY_UNAVAILABLE (no certificate yet, or the keys are not open), UNAVAILABLE."""
        now = self._services.clock.now()
        found = self._loaded.get((authority_id, generation))
        if found is not None and time.monotonic() - found[0] < _RELOAD_S and found[1].not_after > now:
            return found[1]
        try:
            loaded = await self._load(authority_id, generation, now)
        except SporkError:
            if found is not None and found[1].not_after > now:
                return found[1]
            raise
        self._loaded[authority_id, generation] = (time.monotonic(), loaded)
        return loaded

    async def _load(self, authority_id: AuthorityId, generation: int, now: datetime) -> Responder:
        row = await self._store.responder(authority_id, generation, now)
        if row is None:
            raise SporkError(
                Code.KEY_UNAVAILABLE, f"{authority_id} has no OCSP responder certificate yet.", retry_after_s=5
            )
        return Responder(await self._services.keys.signer(row.key_id), row.der, row.not_after)


async def renew_responders(services: Services) -> int:
    """Gives every key of an online CA a responder certificate that lives for more than half of its time. Returns how many.

    One CA's trouble does not keep the others from theirs: it is raised, a SporkError as a rule, when all had their turn.
    """
    store, now = Responders(services.database), services.clock.now()
    renewed, failure = 0, None
    for issuer in await store.issuers():
        if issuer.key_mode not in ("online", "pkcs11"):
            continue
        try:
            renewed += await _renew(services, store, issuer, now)
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return renewed


async def _renew(services: Services, store: Responders, issuer: KnownIssuer, now: datetime) -> bool:
    authority = await services.authorities.authority(issuer.authority_id, issuer.generation)
    if not await _is_due(store, issuer, authority, now):
        return False
    async with store.lock(issuer.authority_id, issuer.generation) as alone:
        # Another replica may have been at it while this one waited for its turn.
        if not alone or not await _is_due(store, issuer, authority, now):
            return False
        await _issue(services, store, authority)
    return True


async def _is_due(store: Responders, issuer: KnownIssuer, authority: Authority, now: datetime) -> bool:
    if authority.not_after is None or authority.not_after <= now:
        return False
    current = await store.responder(issuer.authority_id, issuer.generation, now)
    if current is None:
        return True
    # Half of its own life: a certificate cut short by the CA's end is not renewed in vain over and over.
    return now >= current.not_before + (current.not_after - current.not_before) / 2 and (
        current.not_after < authority.not_after
    )


async def _issue(services: Services, store: Responders, authority: Authority) -> None:
    if authority.key_id is not None:
        # A CA whose key does not open is tried again and again, and each time a new responder key would be left behind.
        await services.keys.signer(authority.key_id)
    spki = await _key(services, store, authority)
    digest = hashlib.sha256(spki).digest()
    profile = profile_named("ocsp-signing")
    request = IssuanceRequest(
        requester=Requester(Door.BOOTSTRAP, "host"),
        grant=Grant(),
        evidence=Evidence("local", "ocsp-responder"),
        idempotency=IdempotencyKey(
            f"authority:{authority.id}", Door.BOOTSTRAP, f"ocsp-responder:{digest.hex()}", digest
        ),
        authority=authority,
        issuer=None,
        profile=profile,
        spki=spki,
        subject=_subject(authority),
    )
    await services.pipeline.issue(request)


async def _key(services: Services, store: Responders, authority: Authority) -> bytes:
    """The SubjectPublicKeyInfo of a key that a killed or refused attempt left, or of a new one."""
    algorithm = _algorithm_for(authority.algorithm)
    left = await store.unused_key(authority.id, authority.generation, algorithm.name)
    # One that does not open any more would be certified in vain.
    if left is not None and await _opens(services, left[0]):
        return left[1]
    audit = AuditEvent("key.generate", "host", f"authority:{authority.id}", {"generation": authority.generation})
    _, spki = await services.keys.generate(algorithm, KeyPurpose.OCSP, "online", audit)
    return spki


async def _opens(services: Services, key_id: KeyId) -> bool:
    try:
        await services.keys.signer(key_id)
    except SporkError as error:
        if error.code is Code.CORRUPTED_KEY:
            return False
        raise
    return True


def _algorithm_for(algorithm: Algorithm) -> Algorithm:
    return BY_NAME[_ALGORITHMS.get(algorithm.family, algorithm.name)]


def _subject(authority: Authority) -> x509.Name:
    """Tells people whose responder it is; clients go by the key."""
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"OCSP {authority.id} {authority.generation}"[:64])])
