"""The ASGI application of the status address, ahead of any framework: a cached OCSP answer costs microseconds."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from spork.api.crl.lists import PublishedLists
from spork.api.crl.routes import CRLDoor, say
from spork.api.ocsp.answers import OCSPAnswers
from spork.api.ocsp.routes import OCSPDoor
from spork.services import Services
from spork.store.crl import CRLStore
from spork.store.feed import StatusFeed


class StatusApplication:
    """Answers `/ocsp`, `/crl` and `/ca`. One per process and event loop.

    The feed starts with the first request (or with the lifespan, where the server tells of one) and ends with `aclose`.
    """

    def __init__(self, services: Services) -> None:
        self.feed = StatusFeed(services.database)
        lists = PublishedLists(CRLStore(services.database))
        self._ocsp = OCSPDoor(OCSPAnswers(services, self.feed))
        self._crl = CRLDoor(services, lists)
        self.feed.subscribe(lists)
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        if self._task is None:
            self.start()
        path: str = scope["path"]
        if path.startswith("/ocsp") and path[5:6] in ("", "/"):
            await self._ocsp(scope, receive, send)
        elif path.startswith(("/crl/", "/ca/")):
            await self._crl(scope, receive, send)
        else:
            await say(scope, send, 404, "known here: /ocsp, /crl/{ca}/{generation}.crl, /ca/{ca}/{generation}.cer")

    def start(self) -> None:
        """Begins to follow what other replicas commit."""
        if self._task is None:
            self._task = asyncio.create_task(self.feed.run(), name="spork-status-feed")

    async def aclose(self) -> None:
        """Ends the feed."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _lifespan(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return


def application(services: Services) -> StatusApplication:
    """The application of the status address."""
    return StatusApplication(services)
