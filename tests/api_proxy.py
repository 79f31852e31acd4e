"""A proxy before the API server that throttles, fails, cuts off, and holds watches open without a word."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

Fault = Callable[[web.Request], str]
"""What happens to a request: `pass`, or one of the words of `Proxy._fail`."""
_GONE = {"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410}}
_HEADERS = ("Content-Type", "Accept", "User-Agent")


def no_fault(request: web.Request) -> str:
    return "pass"


@dataclass
class Proxy:
    """Forwards in the name of one identity. Made by `a_proxy`."""

    kubeconfig: Path
    """For the operator: it leads here."""
    fault: Fault = no_fault
    """Asked for each request that is no watch."""
    faults: Counter[str] = field(default_factory=Counter)
    """How often each one happened."""
    silent: bool = False
    """While it is set no watch hears anything."""
    withheld: list[tuple[str, str, str]] = field(default_factory=list)
    """What watches did not hear: type, kind and name."""
    watching: Counter[str] = field(default_factory=Counter)
    """How often each kind was watched anew."""
    _server: str = ""
    _session: aiohttp.ClientSession | None = None
    _ending: asyncio.Event = field(default_factory=asyncio.Event)
    _goodbye: bytes = b""

    def end_watches(self, *, gone: bool) -> None:
        """Ends all watches; with `gone` the server says that it no longer knows what happened meanwhile (410)."""
        self.silent = False
        self._goodbye = json.dumps(_GONE).encode() + b"\n" if gone else b""
        self._ending.set()
        self._ending = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") == "true":
            return await self._watch(request)
        what = self.fault(request)
        if what != "pass":
            self.faults[what] += 1
        return await self._fail(what, request)

    async def _fail(self, what: str, request: web.Request) -> web.StreamResponse:
        if what == "throttled":
            return web.json_response({"kind": "Status", "code": 429}, status=429, headers={"Retry-After": "1"})
        if what == "broken":
            return web.Response(status=500, text="a page that is no JSON")
        if what == "cut":
            return self._cut(request)
        if what == "late":
            await asyncio.sleep(random.uniform(0.05, 0.3))
        answer = await self._forward(request)
        # The worst of all: it is done, and nobody hears of it.
        return self._cut(request) if what == "answer lost" else answer

    def _cut(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def _forward(self, request: web.Request) -> web.Response:
        assert self._session is not None
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        async with self._session.request(
            request.method, self._server + str(request.rel_url), headers=headers, data=await request.read()
        ) as answer:
            kept = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        self.watching[request.path.rpartition("/")[2]] += 1
        ending, response = self._ending, web.StreamResponse(headers={"Content-Type": "application/json"})
        endless = aiohttp.ClientTimeout(total=None)
        async with self._session.get(self._server + str(request.rel_url), timeout=endless) as upstream:
            response.set_status(upstream.status)
            await response.prepare(request)
            reading = asyncio.create_task(self._pass_on(upstream, response))
            ended = asyncio.create_task(ending.wait())
            try:
                await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in (reading, ended):
                    one.cancel()
                await asyncio.gather(reading, ended, return_exceptions=True)
        if ending.is_set() and self._goodbye:
            await response.write(self._goodbye)
        return response

    async def _pass_on(self, upstream: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        rest = b""
        async for chunk in upstream.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if self.silent:
                    event = json.loads(line)
                    item = event["object"]
                    self.withheld.append((event["type"], item["kind"], item["metadata"].get("name", "")))
                else:
                    await response.write(line + b"\n")


@asynccontextmanager
async def a_proxy(kubeconfig: Path) -> AsyncIterator[Proxy]:
    """A proxy that acts with the certificate of that kubeconfig."""
    found = yaml.safe_load(kubeconfig.read_text())  # noqa: ASYNC240
    user = found["users"][0]["user"]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(user["client-certificate"], user["client-key"])
    own = kubeconfig.with_name(f"{kubeconfig.stem}.proxied")
    proxy = Proxy(own, _server=found["clusters"][0]["cluster"]["server"])
    application = web.Application(client_max_size=8 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    found["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
    found["users"][0]["user"] = {}
    own.write_text(yaml.safe_dump(found))
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0), auto_decompress=True
        ) as proxy._session:
            yield proxy
            proxy.end_watches(gone=False)
            await runner.cleanup()
    finally:
        await runner.cleanup()
