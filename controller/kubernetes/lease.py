"""Which of several operators works: the one whose name stands in a Lease that it keeps renewing.

The library's own election keeps its record in an annotation and ends the process on some errors, so this one is written out. It
only saves work. Two operators at once do no harm: what must happen once is decided by the database and by resourceVersions.
Source: Kubernetes coordination.k8s.io/v1 Lease; the rules are those of client-go's leaderelection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from prometheus_client import Gauge

from spork.controller.cluster import ClusterError, Ref, Refused
from spork.controller.kubernetes.connection import Connection
from spork.errors import Code

log = structlog.get_logger("spork.controller")

LEADER = Gauge("spork_operator_leader", "1 while this process is the operator that works.")
NAME = "spork-controller"
_PATH = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
_DURATION_S = 15
_RENEW_S = 5.0
_GIVE_UP_S = 10.0
"""Without a renewal for so long the work stops: well before anybody else may begin, even with slow clocks."""


class Lease:
    """One candidate. `hold` is what it is for."""

    def __init__(
        self,
        connection: Connection,
        namespace: str,
        *,
        name: str = NAME,
        identity: str = "",
        duration_s: int = _DURATION_S,
        renew_s: float = _RENEW_S,
        give_up_s: float = _GIVE_UP_S,
    ) -> None:
        self.identity = identity or f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"
        self._connection = connection
        self._ref = Ref("Lease", namespace, name)
        self._duration_s = duration_s
        self._renew_s = renew_s
        self._give_up_s = give_up_s
        self._held: dict[str, Any] = {}
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = 0.0
        self._said = ""

    async def hold(self, work: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
        """Calls `work` whenever this candidate has the lease, with an event that is set when it has it no longer, or `stop` is.

        Ends when `stop` is set, and then gives the lease back. Raises what `work` raises.
        """
        while not stop.is_set():
            if not await self._take():
                await _either(stop, self._renew_s)
                continue
            log.info("this operator is the leader now", identity=self.identity)
            await self._term(work, stop)
        await self._give_back()

    async def _term(self, work: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
        lost = asyncio.Event()
        LEADER.set(1)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep(lost, stop), name="lease")
                try:
                    await work(lost)
                finally:
                    lost.set()
        finally:
            LEADER.set(0)
            if not stop.is_set():
                log.warning("this operator is the leader no longer", identity=self.identity)

    async def _keep(self, lost: asyncio.Event, stop: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while not (lost.is_set() or stop.is_set()):
            await _either(stop, self._renew_s, lost)
            began = clock()
            left_s = max(0.1, self._give_up_s - (began - renewed))
            # After a conflict it is read: the write of ours whose answer was lost is no reason to start over.
            if await self._take(left_s) or (not self._held and await self._take(left_s)):
                # From when it was asked for: the answer may have been long on its way.
                renewed = began
            elif not self._held or clock() - renewed >= self._give_up_s:
                break
        lost.set()

    async def _take(self, within_s: float | None = None) -> bool:
        """Takes or renews the lease, if it is free or ours."""
        try:
            async with asyncio.timeout(within_s):
                return await self._try()
        except TimeoutError:
            return False
        except ClusterError as error:
            if error.detail != self._said:
                self._said = error.detail
                log.warning("the lease cannot be had", lease=str(self._ref), detail=error.detail)
            if error.code is Code.CONFLICT:
                # Somebody else wrote it; whether it is theirs now shows when it is read.
                self._held = {}
            return False

    async def _try(self) -> bool:
        lease = self._held or await self._read()
        if lease is None:
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {}, "spec": self._spec({})}
            body["metadata"] = {"name": self._ref.name, "namespace": self._ref.namespace}
            self._held = await self._request("POST", "", body)
            return True
        if not self._is_free(lease):
            return False
        # The version in the metadata makes this fail if anybody was faster.
        self._held = await self._request("PUT", f"/{self._ref.name}", {**lease, "spec": self._spec(lease["spec"])})
        return True

    def _is_free(self, lease: dict[str, Any]) -> bool:
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self.identity):
            return True
        # The time since *we* saw it renewed counts, so that clocks that disagree do not matter.
        now, seen = asyncio.get_running_loop().time(), (holder, str(spec.get("renewTime")))
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return now - self._seen_at > (spec.get("leaseDurationSeconds") or self._duration_s)

    def _spec(self, before: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = before.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._duration_s,
            "acquireTime": before.get("acquireTime") if ours else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if ours or not before else 1),
        }

    async def _give_back(self) -> None:
        """An empty holder lets the next one begin at once."""
        if not self._held:
            return
        body = {**self._held, "spec": {**self._held["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}}
        with contextlib.suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(2):
                await self._request("PUT", f"/{self._ref.name}", body)

    async def _read(self) -> dict[str, Any] | None:
        try:
            return await self._request("GET", f"/{self._ref.name}")
        except Refused as error:
            if error.code is Code.NOT_FOUND:
                return None
            raise

    async def _request(self, method: str, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        path = _PATH.format(self._ref.namespace) + name
        return await self._connection.request(method, path, self._ref, body=body)


async def _either(stop: asyncio.Event, pause_s: float, other: asyncio.Event | None = None) -> None:
    """Until one of the events is set, or the pause is over."""
    waiting = {asyncio.create_task(one.wait()) for one in (stop, other) if one is not None}
    try:
        await asyncio.wait(waiting, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
