"""From a request to an answer: which CA is meant, what the status is, and whether an answer is known already."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime

from prometheus_client import Counter

from spork.api.ocsp.cache import Answer, CachedAnswer, CachedStatus, FactCache, Headers
from spork.api.ocsp.problems import STATUS_OF_CODE
from spork.api.ocsp.signing import Responder, ResponderKeys
from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.ids import AuthorityId, Serial, serial_octets
from spork.services import Services
from spork.store.feed import StatusFeed
from spork.store.responder import KnownIssuer, Responders
from spork.store.revocation import Statuses
from spork.x509.der import OCSPResponseTBS
from spork.x509.ocsp import HASHES, CertID, OCSPRequest, issuer_hashes, parse_request
from spork.x509.ocspresponse import CertStatus, SingleStatus, build_response_data, error_response, wrap_response

LIFETIME = timedelta(hours=1)
"""From thisUpdate to nextUpdate."""
MAX_AGE_S = 600
"""How long HTTP caches in between may repeat an answer: the time until a revocation is seen behind such a cache. A cached answer
is replaced at half of its lifetime, so this always ends before nextUpdate (RFC 5019 section 6.2)."""
BYPASS_AFTER_S = 1.0
"""With the counters unread for this long, cached answers may be wrong and the database is asked."""
OUTAGE_S = 60.0
"""With the database away, cached answers still go out for this long; then it is tryLater."""
_LOOKUP_TIMEOUT_S = 2.0
_MAX_SERIAL_BITS = 160
CONTENT_TYPE = b"application/ocsp-response"

ANSWERS = Counter("spork_ocsp_answers_total", "OCSP answers by where they came from or why there was none.", ["kind"])
_HIT, _MISS, _LIVE, _OUTAGE = (ANSWERS.labels(kind) for kind in ("hit", "miss", "live", "outage"))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request whose CertIDs are all of one CA."""

    request: OCSPRequest
    issuer: KnownIssuer


class OCSPAnswers:
    """Answers of one process."""

    def __init__(self, services: Services, feed: StatusFeed) -> None:
        self._clock = services.clock
        self._statuses = services.revocations
        self._store = Responders(services.database)
        self._keys = ResponderKeys(services)
        self._feed = feed
        self._cache: FactCache[CachedAnswer] = FactCache()
        self._known: FactCache[CachedStatus] = FactCache()
        self._issuers: dict[tuple[str | None, bytes, bytes], KnownIssuer] | None = None
        self._changes = 0
        feed.subscribe(self)

    # What the feed tells ------------------------------------------------------------------------------------------------

    def statuses_changed(self, authority_id: AuthorityId, version: int, serials: Sequence[bytes] | None) -> None:
        """See `store.feed.FeedListener`."""
        self._cache.apply(authority_id, version, serials)
        self._known.apply(authority_id, version, serials)

    def configuration_changed(self) -> None:
        """See `store.feed.FeedListener`."""
        self._issuers = None
        self._changes += 1

    def crl_published(self, scope: str) -> None:
        """See `store.feed.FeedListener`; of no concern here."""

    # What requests ask --------------------------------------------------------------------------------------------------

    def known(self, data: bytes, authority_id: str | None) -> Answer | None:
        """The cached answer to an ordinary request, if it is certainly still true. No I/O, no parsing, microseconds."""
        if self._feed.unchecked_s > BYPASS_AFTER_S:
            return None
        cached = self._cache.get(ordinary_cert_id(data))
        if cached is None or self._clock.now().timestamp() >= cached.fresh_until:
            return None
        if authority_id is not None and cached.authority_id != authority_id:
            return None
        _HIT.inc()
        return cached.answer

    async def answer(self, data: bytes, authority_id: str | None) -> Answer:
        """The answer to any request; refusals are answers too."""
        try:
            return await self._answer(parse_request(data), authority_id)
        except SporkError as error:
            return refusal(error.code)

    async def _answer(self, request: OCSPRequest, authority_id: str | None) -> Answer:
        alone = len(request.certificates) == 1 and request.nonce is None
        if self._feed.away and alone and (kept := self._kept(request.certificates[0], authority_id)) is not None:
            return kept
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT_S):
                asked = _Asked(request, await self._issuer_of(request.certificates, authority_id))
                responder = await self._keys.responder(asked.issuer.authority_id, asked.issuer.generation)
                # Last, so that a status which needs no look-up is used at once.
                statuses = self._known_status(asked) or await self._lookup(asked)
        except (DatabaseUnavailable, TimeoutError):
            kept = self._kept(request.certificates[0], authority_id) if alone else None
            if kept is None:
                raise DatabaseUnavailable from None
            return kept
        return await self._signed(asked, statuses, responder)

    def _kept(self, cert_id: CertID, authority_id: str | None) -> Answer | None:
        """During an outage: what was true a moment ago."""
        cached = self._cache.get(cert_id.der)
        if cached is None or self._feed.unchecked_s > OUTAGE_S:
            return None
        if self._clock.now().timestamp() >= cached.next_update or authority_id not in (None, cached.authority_id):
            return None
        _OUTAGE.inc()
        return cached.answer

    async def _issuer_of(self, cert_ids: Sequence[CertID], authority_id: str | None) -> KnownIssuer:
        """The one CA that all of these name. Raises SporkError(FORBIDDEN) for others and for several."""
        known = self._issuers
        if known is None:
            changes = self._changes
            known = _indexed(await self._store.issuers())
            # What was read before a change that was heard of meanwhile serves this request and is forgotten.
            self._issuers = known if changes == self._changes else None
        found = {
            known.get((cert_id.hash_name, cert_id.issuer_name_hash, cert_id.issuer_key_hash)) for cert_id in cert_ids
        }
        issuer = found.pop()
        if issuer is None or found or authority_id not in (None, issuer.authority_id):
            raise SporkError(Code.FORBIDDEN, "This responder does not answer for that issuer.")
        if issuer.key_mode not in ("online", "pkcs11"):
            raise SporkError(Code.FORBIDDEN, f"{issuer.authority_id} has no OCSP responder; it publishes CRLs.")
        return issuer

    def _known_status(self, asked: _Asked) -> Statuses | None:
        """The status of a single certificate that is certainly still true. By the same rules as `known`, and without I/O."""
        if len(asked.request.certificates) != 1 or self._feed.unchecked_s > BYPASS_AFTER_S:
            return None
        cert_id = asked.request.certificates[0]
        kept = self._known.get(cert_id.der)
        if kept is None or self._clock.now().timestamp() >= kept.fresh_until:
            return None
        return Statuses(self._known.version_of(kept), {Serial(cert_id.serial): kept.status})

    async def _lookup(self, asked: _Asked) -> Statuses:
        serials = {c.serial for c in asked.request.certificates if 0 < c.serial < 1 << _MAX_SERIAL_BITS}
        statuses = await self._statuses.statuses(asked.issuer.authority_id, [Serial(serial) for serial in serials])
        if len(asked.request.certificates) == 1:
            self._keep(asked.request.certificates[0], asked.issuer, statuses)
        return statuses

    def _keep(self, cert_id: CertID, issuer: KnownIssuer, statuses: Statuses) -> None:
        now = self._clock.now()
        # As for answers: a certificate that is unknown now may be issued in a moment, without any counter moving.
        if _single(cert_id, issuer, statuses, now).status is CertStatus.unknown:
            return
        status = CachedStatus(
            status=statuses.by_serial[Serial(cert_id.serial)],
            authority_id=issuer.authority_id,
            serial=serial_octets(cert_id.serial),
            version=statuses.version,
            fresh_until=(now + LIFETIME / 2).timestamp(),
        )
        self._known.put(cert_id.der, status)

    async def _signed(self, asked: _Asked, statuses: Statuses, responder: Responder) -> Answer:
        now, request = self._clock.now(), asked.request
        next_update = min(now + LIFETIME, responder.not_after)
        if next_update <= now:
            raise SporkError(Code.KEY_UNAVAILABLE, "The responder's certificate has expired.")
        singles = [_single(cert_id, asked.issuer, statuses, now) for cert_id in request.certificates]
        tbs = build_response_data(
            responder.signer.spki,
            singles,
            produced_at=now,
            this_update=now,
            next_update=next_update,
            nonce=request.nonce,
        )
        body = await _sign(tbs, responder)
        if request.nonce is not None or len(singles) != 1:
            _LIVE.inc()
            return uncached(body)
        _MISS.inc()
        answer = _cacheable(body, now, next_update)
        # A certificate that is unknown now may be issued in a moment, without any counter moving.
        if singles[0].status is not CertStatus.unknown:
            self._cache.put(
                request.certificates[0].der, _kept_answer(answer, asked, statuses.version, now, next_update)
            )
        else:
            answer = uncached(body)
        return answer


def ordinary_cert_id(data: bytes) -> bytes:
    """The octets of the CertID of a request about one certificate without any extension; of others, something that is no key.

    Such a request is four headers of two octets around the CertID, each length two less than the one before. Only a CertID that
    was parsed is ever a key of the cache, so whatever else these octets may be, it is not found.
    """
    length = len(data) - 2
    if data[:8] == bytes(
        (0x30, length & 0xFF, 0x30, length - 2 & 0xFF, 0x30, length - 4 & 0xFF, 0x30, length - 6 & 0xFF)
    ):
        return data[8:]
    return b""


def refusal(code: Code) -> Answer:
    """The unsigned response for an error."""
    status = STATUS_OF_CODE[code]
    ANSWERS.labels(status.name).inc()
    return uncached(error_response(status))


def uncached(body: bytes) -> Answer:
    """A response that nobody may keep."""
    headers = [*_headers(body), (b"cache-control", b"no-store")]
    return Answer(body, headers, headers)


def _headers(body: bytes) -> Headers:
    return [(b"content-type", CONTENT_TYPE), (b"content-length", str(len(body)).encode())]


def _cacheable(body: bytes, now: datetime, next_update: datetime) -> Answer:
    """With the headers of RFC 5019 section 6.2 for GET."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'.encode()
    remaining = int((next_update - now).total_seconds())
    # Half of the lifetime may have gone by when this goes out for the last time.
    max_age = max(0, min(MAX_AGE_S, remaining // 2 - 1))
    caching = [
        (b"etag", etag),
        (b"last-modified", format_datetime(now, usegmt=True).encode()),
        (b"expires", format_datetime(next_update, usegmt=True).encode()),
        (b"cache-control", f"max-age={max_age}, public, no-transform, must-revalidate".encode()),
    ]
    return Answer(body, _headers(body) + caching, _headers(body), etag, caching)


def _kept_answer(answer: Answer, asked: _Asked, version: int, now: datetime, next_update: datetime) -> CachedAnswer:
    return CachedAnswer(
        answer=answer,
        authority_id=asked.issuer.authority_id,
        serial=serial_octets(asked.request.certificates[0].serial),
        version=version,
        fresh_until=(now + (next_update - now) / 2).timestamp(),
        next_update=next_update.timestamp(),
    )


def _single(cert_id: CertID, issuer: KnownIssuer, statuses: Statuses, now: datetime) -> SingleStatus:
    row = statuses.by_serial.get(Serial(cert_id.serial))
    if row is None or row.generation != issuer.generation:
        return SingleStatus(cert_id.der, CertStatus.unknown)
    cutoff = issuer.created_at if row.not_after < now else None
    if row.reason is not None:
        return SingleStatus(cert_id.der, CertStatus.revoked, row.revoked_at, row.reason, cutoff)
    # A reserved serial is planned but perhaps never signed; when its lease ends it is issued or abandoned (revoked).
    good = row.state == "issued"
    return SingleStatus(cert_id.der, CertStatus.good if good else CertStatus.unknown, archive_cutoff=cutoff)


async def _sign(tbs: OCSPResponseTBS, responder: Responder) -> bytes:
    signer = responder.signer
    signature = await asyncio.to_thread(signer.sign, tbs) if signer.algorithm.slow else signer.sign(tbs)
    return wrap_response(tbs, signer.algorithm, signature, responder.certificate_der)


def _indexed(issuers: Sequence[KnownIssuer]) -> dict[tuple[str | None, bytes, bytes], KnownIssuer]:
    return {
        (name, *issuer_hashes(issuer.subject_der, issuer.spki, name)): issuer
        for issuer in issuers
        for name in HASHES.values()
    }
