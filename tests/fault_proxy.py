"""A proxy in front of a real API server that can be told to misbehave: to refuse, to hang, to cut, to be away."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse | None]]


def status(code: int, reason: str = "", **headers: str) -> Answer:
    """Answers as an API server that refuses."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": "by the test"}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({**body, "code": code}, status=code, headers=names)

    return answer


async def cut(request: web.BaseRequest) -> None:
    """Closes the connection before the request reaches the API server."""
    assert request.transport is not None
    request.transport.abort()


@dataclass
class FaultProxy:
    """`fault` is asked for each request; what it gives answers in the server's stead. The answers to what is `lost` are lost."""

    port: int = 0
    fault: Callable[[web.BaseRequest], Answer | None] = lambda request: None
    lost: Callable[[web.BaseRequest], bool] = lambda request: False
    seen: list[str] = field(default_factory=list)
    """`METHOD path` of each request, `WATCH path` of each watch."""
    _open: dict[int, web.BaseRequest] = field(default_factory=dict)

    def cut_all(self) -> None:
        """Cuts all connections that are open, such as those of watches."""
        for request in list(self._open.values()):
            if request.transport is not None:
                request.transport.abort()

    def away(self, is_away: bool = True) -> None:
        """Every connection is cut, now and until it is back."""
        self.fault = (lambda _: cut) if is_away else (lambda _: None)
        self.cut_all()

    async def _handle(
        self, request: web.BaseRequest, session: aiohttp.ClientSession, server: str
    ) -> web.StreamResponse:
        self.seen.append(f"{'WATCH' if 'watch' in request.query else request.method} {request.path}")
        self._open[id(request)] = request
        try:
            if (answer := self.fault(request)) is not None and (response := await answer(request)) is not None:
                return response
            if request.transport is None or request.transport.is_closing():
                return web.Response()
            return await self._forward(request, session, server)
        finally:
            del self._open[id(request)]

    async def _forward(
        self, request: web.BaseRequest, session: aiohttp.ClientSession, server: str
    ) -> web.StreamResponse:
        headers = {name: request.headers[name] for name in ("Accept", "Content-Type") if name in request.headers}
        body = await request.read()
        async with session.request(
            request.method, f"{server}{request.raw_path}", data=body or None, headers=headers
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            if self.lost(request):
                await answer.read()
                await cut(request)
                return response
            await response.prepare(request)
            with suppress(ConnectionError, aiohttp.ClientError):
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            return response


@asynccontextmanager
async def fault_proxy(kubeconfig: Path, folder: Path) -> AsyncIterator[tuple[FaultProxy, Path]]:
    """A proxy that acts as the kubeconfig's user, and a kubeconfig of the proxy."""
    config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())  # noqa: ASYNC240
    server = config["clusters"][0]["cluster"]["server"]
    user = config["users"][0]["user"]
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.load_cert_chain(user["client-certificate"], user["client-key"])
    proxy = FaultProxy()
    connector = aiohttp.TCPConnector(ssl=tls, limit=0)
    # A cut client must not leave its watch open at the API server, so handlers are cancelled with their connection.
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await proxy._handle(request, session, server)

        runner = web.ServerRunner(web.Server(handle, handler_cancellation=True), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        proxy.port = runner.addresses[0][1]
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{proxy.port}"}
        config["users"][0]["user"] = {}
        file = folder / "proxy.kubeconfig"
        file.write_text(yaml.safe_dump(config))
        try:
            yield proxy, file
        finally:
            proxy.cut_all()
            await runner.cleanup()
            await asyncio.sleep(0)
