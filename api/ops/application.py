"""/healthz, /readyz and /metrics of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from spork.errors import SporkError
from spork.services import Services

READY_TIMEOUT_S = 2.0


Readiness = Callable[[], Awaitable[str | None]]


def application(services: Services, readiness: Readiness | None = None) -> Callable[..., Awaitable[None]]:
    """The ASGI application of the ops address. `readiness` says why the process is not ready, if it is not; see `not_ready`."""
    ready = readiness or partial(not_ready, services)

    async def ops(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status, content_type, body = await _answer(ready, scope["method"], scope["path"])
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return ops


async def _answer(ready: Readiness, method: str, path: str) -> tuple[int, str, bytes]:
    text = "text/plain; charset=utf-8"
    if method not in ("GET", "HEAD"):
        return 405, text, b"only GET and HEAD are answered here\n"
    match path:
        case "/healthz":
            return 200, text, b"ok\n"
        case "/readyz":
            missing = await ready()
            return (503, text, f"{missing}\n".encode()) if missing else (200, text, b"ready\n")
        case "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest()
        case _:
            return 404, text, b"known paths: /healthz /readyz /metrics\n"


async def not_ready(services: Services) -> str | None:
    """Why this process cannot issue now, or None. A stale CRL is a metric and a condition, never a reason here."""
    if "online" not in services.keys.kinds:
        return "the online keys are not open"
    return await database_missing(services)


async def database_missing(services: Services) -> str | None:
    """A sentence if the database does not answer, or None."""
    try:
        async with asyncio.timeout(READY_TIMEOUT_S), services.database.connection() as connection:
            await connection.execute("SELECT 1")
    except (SporkError, TimeoutError):
        return "the database cannot be reached"
    return None
