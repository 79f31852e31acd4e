"""`/crl/{ca}/{generation}[/{shard}][/delta].crl` and `/ca/{ca}/{generation}.cer|.pem`, as plain ASGI.

Source: RFC 5280 section 4.2.1.13 and RFC 2585 section 3 (lists and certificates over HTTP are DER, with these media types).
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from spork.api.crl.lists import HeldList, PublishedLists
from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.ids import AuthorityId
from spork.issuance.crl_schedule import CRLScope
from spork.services import Services

_CRL = re.compile(r"/crl/([a-z0-9-]{1,63})/([1-9][0-9]{0,6})(?:/([1-9][0-9]{0,3}))?(/delta)?\.crl")
_CA = re.compile(r"/ca/([a-z0-9-]{1,63})/([1-9][0-9]{0,6})\.(cer|pem)")
MAX_AGE_S = 300
"""How long HTTP caches may keep a list; a compromise is published at once and must not wait behind them for a day."""
_CERTIFICATE_MAX_AGE_S = 3600
_MEDIA_TYPES = {"cer": b"application/pkix-cert", "pem": b"application/x-pem-file"}

Headers = list[tuple[bytes, bytes]]


class CRLDoor:
    """Answers HTTP requests below `/crl` and `/ca`."""

    def __init__(self, services: Services, lists: PublishedLists) -> None:
        self._clock = services.clock
        self._authorities = services.authorities
        self._lists = lists

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        """One HTTP request."""
        if scope["method"] not in ("GET", "HEAD"):
            await say(scope, send, 405, "only GET and HEAD are answered here", (b"allow", b"GET, HEAD"))
            return
        try:
            if (match := _CRL.fullmatch(scope["path"])) is not None:
                await self._crl(scope, send, match)
            elif (match := _CA.fullmatch(scope["path"])) is not None:
                await self._certificate(scope, send, match)
            else:
                await say(scope, send, 404, "there is no such list or certificate")
        except DatabaseUnavailable:
            await say(scope, send, 503, "the database cannot be reached; try again shortly", (b"retry-after", b"5"))

    async def _crl(self, scope: Any, send: Any, match: re.Match[str]) -> None:
        wanted = CRLScope(AuthorityId(match[1]), int(match[2]), int(match[3] or 0))
        held = await self._lists.current(wanted, delta=match[4] is not None)
        if held is None:
            await say(scope, send, 404, "there is no such list")
            return
        stored = held.stored
        remaining = int((stored.next_update - self._clock.now()).total_seconds())
        max_age = min(MAX_AGE_S, remaining)
        validators = [
            (b"etag", held.etag),
            (b"last-modified", _http_date(stored.this_update)),
            (b"expires", _http_date(stored.next_update)),
            # A list that has ended is still the last word there is, but nobody should keep it.
            (b"cache-control", f"public, max-age={max_age}, no-transform".encode() if max_age > 0 else b"no-cache"),
        ]
        if _not_modified(scope["headers"], held):
            await _send(send, 304, validators, b"")
            return
        await _deliver(scope, send, b"application/pkix-crl", validators, stored.der)

    async def _certificate(self, scope: Any, send: Any, match: re.Match[str]) -> None:
        try:
            authority = await self._authorities.authority(AuthorityId(match[1]), int(match[2]))
        except SporkError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            authority = None
        if authority is None or authority.certificate is None:
            await say(scope, send, 404, "there is no such CA certificate")
            return
        body = authority.certificate.public_bytes(Encoding.PEM if match[3] == "pem" else Encoding.DER)
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'.encode()
        validators = [(b"etag", etag), (b"cache-control", f"public, max-age={_CERTIFICATE_MAX_AGE_S}".encode())]
        if _etag_matches(scope["headers"], etag):
            await _send(send, 304, validators, b"")
            return
        await _deliver(scope, send, _MEDIA_TYPES[match[3]], validators, body)


def _http_date(instant: datetime) -> bytes:
    return format_datetime(instant, usegmt=True).encode()


def _not_modified(headers: Headers, held: HeldList) -> bool:
    names = {name for name, _ in headers}
    # If-None-Match goes before If-Modified-Since (RFC 9110 section 13.1.3).
    if b"if-none-match" in names:
        return _etag_matches(headers, held.etag)
    for name, value in headers:
        if name == b"if-modified-since":
            try:
                return parsedate_to_datetime(value.decode("latin-1")) >= held.stored.this_update
            except (ValueError, TypeError):
                return False
    return False


def _etag_matches(headers: Headers, etag: bytes) -> bool:
    for name, value in headers:
        if name == b"if-none-match":
            return value.strip() == b"*" or etag in (part.strip().removeprefix(b"W/") for part in value.split(b","))
    return False


async def _deliver(scope: Any, send: Any, media_type: bytes, validators: Headers, body: bytes) -> None:
    headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode()), *validators]
    await _send(send, 200, headers, b"" if scope["method"] == "HEAD" else body)


async def say(scope: Any, send: Any, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
    """A plain sentence for a person."""
    body = f"{sentence}\n".encode()
    content = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await _send(send, status, [*content, *headers], b"" if scope["method"] == "HEAD" else body)


async def _send(send: Any, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
