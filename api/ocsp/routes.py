"""OCSP over HTTP (RFC 6960 appendix A, RFC 5019 section 5), as plain ASGI: `/ocsp` and `/ocsp/{ca}`, by GET and POST."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote_to_bytes

from spork.api.ocsp.answers import OCSPAnswers, refusal
from spork.api.ocsp.cache import Answer
from spork.errors import Code
from spork.x509.ocsp import MAX_REQUEST_OCTETS

PREFIX = b"/ocsp"
# A DER SEQUENCE in base64 begins with an M, and an id of a CA has lower-case letters only, so the two cannot be mistaken.
_AUTHORITY = re.compile(rb"/([a-z0-9][a-z0-9-]{0,62})(?=/|$)")
_MAX_PATH_OCTETS = MAX_REQUEST_OCTETS * 2


class OCSPDoor:
    """Answers HTTP requests below `/ocsp`."""

    def __init__(self, answers: OCSPAnswers) -> None:
        self._answers = answers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One HTTP request. Its path is taken as it came over the wire: base64 has slashes that must not be folded."""
        path: bytes = scope["raw_path"][len(PREFIX) :]
        authority: str | None = None
        if named := _AUTHORITY.match(path):
            authority, path = named[1].decode(), path[named.end() :]
        match scope["method"]:
            case "POST":
                await self._post(scope, receive, send, authority)
            case "GET" | "HEAD" if len(path) > 1:
                await self._get(scope, send, path[1:], authority)
            case "GET" | "HEAD":
                await _say(send, 400, b"an OCSP request follows here in base64, or comes by POST\n")
            case _:
                await _say(send, 405, b"OCSP is asked by GET and POST\n", (b"allow", b"GET, HEAD, POST"))

    async def _get(self, scope: Any, send: Any, path: bytes, authority: str | None) -> None:
        data = decode_path(path)
        answer = await self._answer(data, authority) if data is not None else refusal(Code.MALFORMED)
        head = scope["method"] == "HEAD"
        if answer.etag is not None and _matches(scope["headers"], answer.etag):
            await _send(send, 304, answer.not_modified_headers or [], b"")
        else:
            await _send(send, 200, answer.get_headers, b"" if head else answer.body)

    async def _post(self, scope: Any, receive: Any, send: Any, authority: str | None) -> None:
        # RFC 6960 appendix A.1 names a media type that many clients do not send; what counts is the body.
        data = await _body(scope, receive)
        if data is None:
            answer = refusal(Code.TOO_LARGE)
            await _send(send, 413, [*answer.post_headers, (b"connection", b"close")], answer.body)
            return
        answer = await self._answer(data, authority)
        await _send(send, 200, answer.post_headers, answer.body)

    async def _answer(self, data: bytes, authority: str | None) -> Answer:
        return self._answers.known(data, authority) or await self._answers.answer(data, authority)


def decode_path(path: bytes) -> bytes | None:
    """The request in a GET path: base64, percent-encoded or not, its padding there or not. None if it is neither."""
    if len(path) > _MAX_PATH_OCTETS:
        return None
    text = unquote_to_bytes(path) if b"%" in path else path
    # Some clients write base64url, and some proxies turn a plus into a space.
    text = text.translate(_TO_STANDARD).rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None


_TO_STANDARD = bytes.maketrans(b"-_ ", b"+/+")


async def _body(scope: Any, receive: Any) -> bytes | None:
    """The request's body, or None as soon as it is known to be too long."""
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > MAX_REQUEST_OCTETS):
            return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MAX_REQUEST_OCTETS:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _matches(headers: Any, etag: bytes) -> bool:
    for name, value in headers:
        if name == b"if-none-match":
            return value.strip() == b"*" or etag in (part.strip().removeprefix(b"W/") for part in value.split(b","))
    return False


async def _say(send: Any, status: int, sentence: bytes, *headers: tuple[bytes, bytes]) -> None:
    content = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(sentence)).encode())]
    await _send(send, status, [*content, *headers], sentence)


async def _send(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
