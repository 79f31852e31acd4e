"""Events about objects, for people: sent one by one in the background, and not twice within some minutes."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from prometheus_client import Counter

from spork.controller.cluster import FIELD_MANAGER, ClusterError, Object, Ref, ref_of
from spork.controller.kubernetes.connection import Connection

log = structlog.get_logger("spork.controller")

DROPPED = Counter("spork_kubernetes_events_dropped_total", "Events that could not be sent.")
_PATH = "/apis/events.k8s.io/v1/namespaces/{}/events"
_SAME_S = 600.0
"""For so long the same words about the same object are not sent again."""
_WAITING = 1000
_KNOWN = 10_000
_NOTE = 1024
"""Octets of a note (events.k8s.io/v1, Event.note: at most 1 kB)."""


class Events:
    """A bounded queue of events. What does not fit or cannot be sent is logged, and nobody waits for it."""

    def __init__(self, connection: Connection, now: Callable[[], float] | None = None) -> None:
        self._connection = connection
        self._now = now or asyncio.get_running_loop().time
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_WAITING)
        self._sent_at: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._instance = f"{FIELD_MANAGER}-{socket.gethostname()}"[:128]

    def add(self, item: Object, reason: str, message: str, warning: bool) -> None:
        """Queues an event, unless the same was sent lately."""
        log.log(30 if warning else 20, message, object=str(ref_of(item)), reason=reason)
        if self._is_known((item["metadata"]["uid"], reason, message)):
            return
        try:
            self._waiting.put_nowait(self._event(item, reason, message, warning))
        except asyncio.QueueFull:
            DROPPED.inc()

    def _is_known(self, key: tuple[str, str, str]) -> bool:
        now = self._now()
        while self._sent_at and (len(self._sent_at) > _KNOWN or next(iter(self._sent_at.values())) < now - _SAME_S):
            self._sent_at.popitem(last=False)
        if key in self._sent_at:
            return True
        self._sent_at[key] = now
        return False

    def _event(self, item: Object, reason: str, message: str, warning: bool) -> dict[str, Any]:
        metadata = item["metadata"]
        regarding = {
            "apiVersion": item["apiVersion"],
            "kind": item["kind"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        }
        if metadata.get("namespace"):
            regarding["namespace"] = metadata["namespace"]
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            # Events about what is cluster-wide are kept in the namespace default.
            "metadata": {
                "name": f"{metadata['name'][:230]}.{secrets.token_hex(8)}",
                "namespace": metadata.get("namespace") or "default",
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": FIELD_MANAGER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "reason": reason,
            "regarding": regarding,
            "note": message.encode()[:_NOTE].decode(errors="ignore"),
            "type": "Warning" if warning else "Normal",
        }

    async def run(self) -> None:
        """Sends what is queued, until it is cancelled."""
        while True:
            await self._send(await self._waiting.get())

    async def flush(self) -> None:
        """Sends what is queued still."""
        while not self._waiting.empty():
            await self._send(self._waiting.get_nowait())

    async def _send(self, event: dict[str, Any]) -> None:
        namespace = event["metadata"]["namespace"]
        try:
            await self._connection.request(
                "POST", _PATH.format(namespace), Ref("Event", namespace, event["metadata"]["name"]), body=event
            )
        except ClusterError as error:
            DROPPED.inc()
            log.warning("an event could not be sent", reason=event["reason"], detail=error.detail)
