"""What `spork up` and `spork serve` share: the listeners, the workers, and an end on SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import structlog
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding

from spork.api import applications
from spork.api.acme import validation
from spork.api.listeners import Listener, bind, serve, tls_context
from spork.api.status import workers as status_workers
from spork.api.status.application import StatusApplication
from spork.cli import building, signing_worker
from spork.cli.replicas import keep_replicas
from spork.errors import ConfigurationError, SporkError
from spork.ids import MANAGEMENT_AUTHORITY
from spork.listener import ListenerCertificate
from spork.services import Services, keep_database_running
from spork.settings import Settings
from spork.x509.authority import Authority

log = structlog.get_logger("spork")

Worker = Callable[[Services, asyncio.Event], Awaitable[None]]
_RESTART_S = 1.0
_ABANDON_S = 15.0


async def run(
    services: Services,
    stop: asyncio.Event,
    ready: Callable[[], Awaitable[None]],
    *,
    replica: bool = False,
    sealed: bool = False,
    more: Sequence[tuple[str, Worker]] = (),
) -> None:
    """Serves all addresses and runs the workers until `stop` is set. `ready` is called once the addresses are bound.

    With `settings.workers` above 1 this process starts that many replicas less one; a `replica` leaves ops to its parent.
    `sealed` allows it to open the sealed keys while a plan that needs them is carried out; `more` are further workers.
    Raises ConfigurationError for an address that cannot be bound, SporkError if no listener certificate can be had.
    """
    settings = services.settings
    management = await _management(services)
    assert management.certificate is not None
    enrol_tls = tls_context()
    admin_tls = tls_context(management.certificate.public_bytes(Encoding.PEM).decode())
    certificate = ListenerCertificate(services, [enrol_tls, admin_tls])
    status = StatusApplication(services)
    listeners = [
        Listener("status", settings.status_listen, applications.status(status)),
        Listener("enrol", settings.enrol_listen, applications.enrol(services), enrol_tls),
        Listener("admin", settings.admin_listen, applications.admin(services), admin_tls),
    ]
    if not replica:
        listeners.append(Listener("ops", settings.ops_listen, applications.ops(services)))
    shared = replica or settings.workers > 1
    sockets = [bind(listener, shared=shared) for listener in listeners]
    await certificate.ensure()
    async with asyncio.TaskGroup() as group:
        for name, worker in (*_workers(settings, certificate, sealed=sealed), *more):
            group.create_task(_kept_running(name, worker, services, stop), name=name)
        # It follows the counters from the start: an answer given before it does is never cached.
        status.start()
        await ready()
        await serve(listeners, sockets, stop)
        stop.set()
        await status.aclose()


def _workers(settings: Settings, certificate: ListenerCertificate, *, sealed: bool) -> list[tuple[str, Worker]]:
    """What runs beside the doors, by name."""
    workers: list[tuple[str, Worker]] = [
        ("database", keep_database_running),
        ("listener", lambda _, stop: certificate.run(stop)),
    ]
    if settings.background:
        workers += [
            ("abandon", abandon_expired),
            ("validation", validation.run),
            ("status", status_workers.run),
            ("signing", signing_worker.run),
            ("building", lambda services, stop: building.run(services, stop, sealed=sealed)),
        ]
    if settings.workers > 1:
        workers.append(("replicas", lambda services, stop: keep_replicas(services.settings, stop)))
    return workers


async def _management(services: Services) -> Authority:
    """The management CA, which is made before anything listens. Raises ConfigurationError."""
    for authority in await services.authorities.all():
        if authority.id == MANAGEMENT_AUTHORITY and authority.certificate is not None:
            return authority
    raise ConfigurationError("There is no management CA in this database yet; `spork migrate --init` makes it, once.")


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Runs on uvloop, whose loop costs about half of asyncio's own per request."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT or SIGTERM sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


async def abandon_expired(services: Services, stop: asyncio.Event) -> None:
    """Closes reservations whose lease has run out; where a signature may exist, their serials are shown as revoked."""
    while not stop.is_set():
        if count := await services.ledger.abandon_expired():
            log.warning("reservations were never recorded and are now closed", count=count)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _ABANDON_S)


async def _kept_running(name: str, worker: Worker, services: Services, stop: asyncio.Event) -> None:
    """A worker that fails, because the database went away for example, starts again; the doors stay open."""
    while not stop.is_set():
        try:
            await worker(services, stop)
        except SporkError as error:
            log.warning("a worker starts again", worker=name, code=error.code.value, detail=error.detail)
        except Exception:
            log.exception("a worker failed and starts again", worker=name)
        if not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _RESTART_S)
