"""Around every application: count and time requests, log what failed, and keep unknown errors' texts to ourselves."""

from __future__ import annotations

import time
import uuid
from typing import Any

import structlog
from prometheus_client import Counter, Histogram

log = structlog.get_logger("spork.http")

REQUESTS = Counter(
    "spork_http_requests_total", "HTTP requests by listener, method and status.", ["listener", "method", "status"]
)
SECONDS = Histogram(
    "spork_http_request_seconds",
    "Time from the request's headers to the last byte of the answer.",
    ["listener"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def observed(name: str, app: Any) -> Any:
    """Wraps an ASGI application. An exception that reaches this layer becomes a bare 500 with a reference id, logged here."""
    seconds = SECONDS.labels(name)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if _has_nul(scope):
                await _plain(watched, 400, b"the address holds the character NUL\n")
            else:
                await app(scope, receive, watched)
        except Exception:
            reference = uuid.uuid4().hex[:12]
            log.exception("unhandled error", listener=name, path=scope["path"], reference=reference)
            if status == 0:
                status = 500
                await _internal_error(send, reference)
        finally:
            # An unknown method must not make a new time series each.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            REQUESTS.labels(name, method, str(status)).inc()
            seconds.observe(time.perf_counter() - started)

    return application


def _has_nul(scope: Any) -> bool:
    """No name of anything holds it, and no text in the database can. Sent by hand, in percent form, it means mischief."""
    query: bytes = scope.get("query_string", b"")
    return "\x00" in scope["path"] or b"%00" in query


async def _internal_error(send: Any, reference: str) -> None:
    await _plain(send, 500, f"internal error; reference {reference}\n".encode())


async def _plain(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
