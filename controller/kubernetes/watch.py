"""One watch: lists the objects of a kind, then follows their changes, and lists again whenever it may have missed one."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import structlog
from prometheus_client import Counter

from spork.controller.cluster import ClusterError, Kind, Object, Ref, Refused, Unreachable, ref_of
from spork.controller.kubernetes.answers import EXPIRED
from spork.controller.kubernetes.connection import Connection
from spork.controller.kubernetes.mirror import Mirror, taken_in
from spork.controller.kubernetes.paths import collection
from spork.errors import Code

log = structlog.get_logger("spork.controller")

LISTS = Counter("spork_kubernetes_lists_total", "How often all objects of a kind were listed.", ["kind"])
_PAGE = 500
_SILENCE_S = 150.0
"""API servers send a bookmark about every minute; when two are missing the connection is dead."""
_ABSENT_S = 30.0
"""How often it is asked whether an optional kind is there by now."""
_LONGEST_PAUSE_S = 30.0
_SHORT_S = 1.0


class Gone(Exception):
    """The server no longer knows what happened since that version: 410."""


class Watch:
    """Keeps one kind of a mirror true, in one namespace or in all."""

    def __init__(self, connection: Connection, kind: Kind, namespace: str | None, mirror: Mirror) -> None:
        self.kind = kind
        self.name = f"{kind.name} in {namespace}" if namespace else kind.name
        self.listed = asyncio.Event()
        """Set once the first list is in the mirror, or an optional kind is known to be absent."""
        self.present = False
        """Whether the server has the kind, as far as is known."""
        self.api_version = kind.api_version
        """The version under which the server has it."""
        self.running = False
        """Whether the server is being listened to at this moment."""
        self.heard_at = float("-inf")
        """When that was so last, on the loop's clock."""
        self._connection = connection
        self._namespace = namespace
        self._mirror = mirror
        self._ref = Ref(kind.name, namespace or "", "")
        self._version: int | None = None
        self._must_list = True
        self._failures = 0
        self._said = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                await self._once()
            except Gone:
                self._must_list = True
            except ClusterError as error:
                await self._after(error)
            finally:
                if self.running:
                    self.running, self.heard_at = False, clock()
            # Whoever ends every watch at once, such as a proxy, must not be asked again at once.
            if clock() - began < _SHORT_S:
                await asyncio.sleep(random.uniform(0.1, _SHORT_S))  # noqa: S311

    async def _once(self) -> None:
        if self._must_list:
            await self._list()
            self._must_list = False
        self.listed.set()
        try:
            await self._follow()
        except Refused as error:
            if error.code is EXPIRED:
                raise Gone from error
            raise

    async def _list(self) -> None:
        """All objects at one version. A list that was cut into pages and outlived its version starts over, by `Gone`."""
        LISTS.labels(self.kind.name).inc()
        items: list[Object] = []
        query = {"limit": str(_PAGE)} | self._selection()
        while True:
            page = await self._page(query)
            items += (taken_in(self.kind, item) for item in page.get("items") or ())
            following = page["metadata"].get("continue")
            if not following:
                break
            query["continue"] = following
        self.present = True
        version = int(page["metadata"]["resourceVersion"])
        went_back = self._version is not None and version < self._version
        if went_back:
            log.warning("the API server's data is older than before", kind=self.kind.name)
        self._mirror.replace_all(self.kind.name, self._namespace, items, None if went_back else version)
        self._version = version

    async def _page(self, query: dict[str, str]) -> dict[str, Any]:
        """One page of the list, in the newest version of the kind that the server has."""
        versions = [self.api_version, *(v for v in (self.kind.api_version, *self.kind.older) if v != self.api_version)]
        for number, version in enumerate(versions, 1):
            try:
                page = await self._connection.request(
                    "GET", collection(self.kind, self._namespace, version), self._ref, query=query
                )
            except Refused as error:
                if error.code is EXPIRED:
                    raise Gone from error
                if error.code is not Code.NOT_FOUND or number == len(versions):
                    raise
            else:
                self.api_version = version
                return page
        raise AssertionError("the last version either answers or raises")

    def _selection(self) -> dict[str, str]:
        return {"labelSelector": self.kind.selector} if self.kind.selector else {}

    async def _follow(self) -> None:
        """Takes over what changes until the server ends the watch, which it does after some minutes; then it is taken up again."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(self._version),
            # Not all watches at once: the server has work with each that begins.
            "timeoutSeconds": str(random.randint(300, 600)),  # noqa: S311
        }
        path = collection(self.kind, self._namespace, self.api_version)
        query |= self._selection()
        async with self._connection.stream(path, self._ref, query, silence_s=_SILENCE_S) as events:
            self.running = True
            async for event in events:
                self._take(event["type"], event["object"])
                self._failures, self._said = 0, ""

    def _take(self, what: str, item: dict[str, Any]) -> None:
        if what == "ERROR":
            if item.get("code") == 410:
                raise Gone
            raise Unreachable(f"The watch of {self.kind.plural} ended: {item.get('message') or item.get('code')}")
        version = int(item["metadata"]["resourceVersion"])
        if what in ("ADDED", "MODIFIED"):
            self._mirror.put(taken_in(self.kind, item))
        elif what == "DELETED":
            self._mirror.remove(ref_of(taken_in(self.kind, item)), item["metadata"]["uid"], version)
        # A bookmark has nothing but the version up to which all is known.
        self._version = version

    async def _after(self, error: ClusterError) -> None:
        """Waits before the next try, and says once what is wrong."""
        self._failures += 1
        least: float = error.retry_after_s or 0
        if isinstance(error, Refused):
            # What cannot be watched any more has to be compared with a new list when it can.
            self._must_list = True
            least = _ABSENT_S if self.kind.optional else 5.0
            if self.kind.optional:
                self._is_absent(error)
        if error.detail != self._said and not (self.kind.optional and error.code is Code.NOT_FOUND):
            self._said = error.detail
            log.warning("a watch is interrupted", kind=self.name, detail=error.detail)
        pause = min(_LONGEST_PAUSE_S, 0.25 * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1)  # noqa: S311
        await asyncio.sleep(max(pause, least))

    def _is_absent(self, error: Refused) -> None:
        """An optional kind that the server does not have, or does not show to this operator, has no objects."""
        if error.code in (Code.NOT_FOUND, Code.FORBIDDEN):
            self.present = False
            # Without a version the next list is not compared with this state: the kind may come back in an empty store.
            self._version = None
            self._mirror.drop_all(self.kind.name, self._namespace)
            self.listed.set()
