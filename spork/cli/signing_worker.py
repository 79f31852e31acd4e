"""The worker that signs what processes without keys have reserved."""

from __future__ import annotations

import asyncio
import contextlib
import random

from spork.services import Services

_BUSY_S = 0.05
_IDLE_S = 0.25


async def run(services: Services, stop: asyncio.Event) -> None:
    """Takes batch after batch while there is work, and looks for some four times a second while there is none.

    Does nothing in a process that has no online keys. Raises DatabaseUnavailable.
    """
    if "online" not in services.keys.kinds:
        return
    signer = services.signer()
    pause = _IDLE_S
    while not stop.is_set():
        if await signer.work():
            pause = _BUSY_S
            continue
        # Replicas drift apart, so that together they look more often than each of them.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause * random.uniform(0.8, 1.2))  # noqa: S311
        pause = min(_IDLE_S, pause * 1.25)
