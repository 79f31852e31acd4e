"""Listeners: sockets bound early with a clear error, TLS contexts, and uvicorn servers that share one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import uvicorn

from spork.api.protocol import ListenerProtocol
from spork.errors import ConfigurationError
from spork.settings import Address

GRACE_S = 5
"""How long open requests may go on after a stop was asked for."""


@dataclass(frozen=True)
class Listener:
    """One address with its application."""

    name: str
    """status, enrol, admin or ops."""
    address: Address
    app: Any
    tls: ssl.SSLContext | None = None


def tls_context(client_anchors_pem: str | None = None) -> ssl.SSLContext:
    """TLS 1.2 and 1.3, forward-secret AEAD suites. With anchors, client certificates are asked for but not demanded.

    Python's ssl aborts the handshake on a client certificate of another CA, so only listeners that need them ask for them.
    There are no session tickets: a resumed session would show a client certificate without its being sent again.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM")
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    if client_anchors_pem is not None:
        context.load_verify_locations(cadata=client_anchors_pem)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def bind(listener: Listener, *, shared: bool = False) -> socket.socket:
    """A bound socket. `shared` lets several processes listen at one address (SO_REUSEPORT).

    Raises ConfigurationError naming the setting when the address is taken or not this machine's.
    """
    address = listener.address
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # The protocol is named, because asyncio turns Nagle's algorithm off only where it is; without that each reply that is written
    # in two parts waits 40 ms for the client's acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((address.host, address.port))
    except OSError as error:
        bound.close()
        setting = f"SPORK_{listener.name.upper()}_LISTEN"
        reason = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise ConfigurationError(
            f"Cannot listen on {address}: {reason}. Choose another address with {setting}."
        ) from error
    return bound


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs several of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _server(listener: Listener) -> _Server:
    config = uvicorn.Config(
        listener.app,
        http=ListenerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
        backlog=1024,
        ssl_context_factory=(lambda _config, _default: listener.tls) if listener.tls is not None else None,  # type: ignore[arg-type,return-value]
    )
    return _Server(config)


async def serve(listeners: Sequence[Listener], sockets: Sequence[socket.socket], stop: asyncio.Event) -> None:
    """Serves until `stop` is set, then lets open requests end. Raises what a server raised."""
    servers = [_server(listener) for listener in listeners]
    tasks = [asyncio.create_task(s.serve([bound])) for s, bound in zip(servers, sockets, strict=True)]
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
