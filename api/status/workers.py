"""The loops behind the status address: revocation lists that are due, and OCSP responder certificates at half of their life."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from spork.api.crl import schedule
from spork.api.ocsp.signing import renew_responders
from spork.errors import SporkError
from spork.services import Services

log = structlog.get_logger("spork.status")

_RENEWAL_TICK_S = 30.0
"""A new CA waits at most this long for its responder; `renew_responders` may be called at once where it is made."""
_FIRST_TICKS_S = 1.0


async def run(services: Services, stop: asyncio.Event) -> None:
    """Runs both loops until `stop` is set."""
    async with asyncio.TaskGroup() as group:
        group.create_task(schedule.run(services, stop))
        group.create_task(_renew(services, stop))


async def _renew(services: Services, stop: asyncio.Event) -> None:
    wait = _FIRST_TICKS_S
    while not stop.is_set():
        try:
            renewed = await renew_responders(services)
            wait = _RENEWAL_TICK_S
            if renewed:
                log.info("OCSP responder certificates renewed", count=renewed)
        except SporkError as error:
            wait = _FIRST_TICKS_S
            log.warning("an OCSP responder could not be renewed", reason=error.detail)
        except Exception:
            # The next tick tries again; a certificate is renewed days before the old one ends.
            log.exception("an OCSP responder could not be renewed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await stop.wait()
