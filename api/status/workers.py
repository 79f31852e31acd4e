"""The loops behind the status address: revocation lists that are due, responder certificates at half of their life, the outbox,
and holds whose grace has passed.

The outbox holds what must follow a revocation. Lists are also found to be due without it; a message only hurries.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from spork.api.crl import schedule
from spork.api.ocsp.signing import renew_responders
from spork.api.status.holds import make_holds_final
from spork.errors import SporkError
from spork.services import Services
from spork.store.outbox import Outbox

log = structlog.get_logger("spork.status")

_RENEWAL_TICK_S = 5.0
"""A new CA waits at most this long for its responder; `renew_responders` may be called at once where it is made."""
_FIRST_TICKS_S = 1.0
_OUTBOX_TICK_S = 1.0
_OUTBOX_LIMIT = 200
_HOLDS_TICK_S = 10.0
"""A grace is days; what waits for its end can wait ten seconds more."""


async def run(services: Services, stop: asyncio.Event) -> None:
    """Runs the loops until `stop` is set."""
    async with asyncio.TaskGroup() as group:
        group.create_task(schedule.run(services, stop))
        group.create_task(_renew(services, stop))
        group.create_task(_deliver(services, stop))
        group.create_task(_make_holds_final(services, stop))


async def _renew(services: Services, stop: asyncio.Event) -> None:
    wait = _FIRST_TICKS_S
    while not stop.is_set():
        try:
            renewed = await renew_responders(services)
            wait = _RENEWAL_TICK_S
            if renewed:
                log.info("OCSP responder certificates renewed", count=renewed)
        except SporkError as error:
            wait = min(2 * wait, _RENEWAL_TICK_S)
            log.warning("an OCSP responder could not be renewed", reason=error.detail)
        except Exception:
            # The next tick tries again; a certificate is renewed days before the old one ends.
            log.exception("an OCSP responder could not be renewed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await stop.wait()


async def _deliver(services: Services, stop: asyncio.Event) -> None:
    outbox = Outbox(services.database)
    while not stop.is_set():
        try:
            while await deliver(services, outbox):
                pass
        except SporkError as error:
            log.warning("the outbox could not be read", reason=error.detail)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OUTBOX_TICK_S):
                await stop.wait()


async def _make_holds_final(services: Services, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            while await make_holds_final(services):
                pass
        except SporkError as error:
            log.warning("holds whose grace has passed could not be read", reason=error.detail)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HOLDS_TICK_S):
                await stop.wait()


async def deliver(services: Services, outbox: Outbox) -> int:
    """Works through one batch of messages that are due; returns how many there were."""
    messages = await outbox.claim(_OUTBOX_LIMIT)
    lists = [message for message in messages if message.kind == "crl.publish"]
    for message in messages:
        if message.kind != "crl.publish":
            await outbox.failed(message, f"This version knows no messages of kind {message.kind}.")
    if not lists:
        return len(messages)
    try:
        # Many revocations of one CA make one list.
        for authority in {str(message.payload.get("authority")) for message in lists}:
            await schedule.handle_message(services, {"authority": authority})
    except Exception as error:
        log.exception("CRLs asked for by the outbox could not be made")
        for message in lists:
            await outbox.failed(message, type(error).__name__)
    else:
        await outbox.done(*lists)
    return len(messages)
