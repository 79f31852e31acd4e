"""The HTTP protocol class of all listeners: shows the client's certificate to the application, and bounds slow clients.

The dictionary in `scope["extensions"]["tls"]` has the keys of the ASGI TLS extension, so that a server which offers that
extension by itself can take this one's place.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_TIMEOUT_S = 20.0
"""From a connection's start, or from the first octet of a later request, to the last octet of the request."""
MAX_OVERHEAD_OCTETS = 64 * 1024
"""What a request may have besides its body before it is whole: request line, header fields, chunk sizes, trailers."""
FAREWELL_S = 0.05
"""Between the farewell to an idle client at the server's end and cutting it off."""


class ListenerProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol with the TLS extension, and with limits of time and size for what it would wait for for ever.

    A request that arrives whole in one piece, as nearly all do, costs no timer.
    """

    _is_open = False
    _has_ended = False
    _overhead = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        tls_object = transport.get_extra_info("ssl_object")
        if tls_object is not None:
            self.app = _with_tls(self.app, _describe(tls_object))
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        self._has_ended = False
        super().data_received(data)
        if not self._is_open:
            if self._has_ended:
                self._stop_timer()
            elif self._timer is None and (self.cycle is None or self.cycle.response_complete):  # type: ignore[redundant-expr]  # As below.
                # Blank lines before a request begin nothing, and yet they end uvicorn's wait for the next request.
                self._start_timer()
            return
        self._overhead += len(data)
        if self._overhead > MAX_OVERHEAD_OCTETS:
            self._refuse()
        elif self._timer is None:
            self._start_timer()

    def on_message_begin(self) -> None:
        self._is_open, self._overhead = True, 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        # The application bounds bodies, each in its own words.
        self._overhead -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_open, self._has_ended = False, True
        super().on_message_complete()

    def shutdown(self) -> None:
        """The server ends: an idle connection ends with it, also where the client never answers the farewell of TLS."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(FAREWELL_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self) -> None:
        if self.transport.is_closing():
            return
        # Within or before the answer to something else there is no place for words.
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr]  # It is None at first.
            self.transport.abort()
            return
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        self.transport.close()
        # Over TLS an unfriendly client could go on sending after the farewell.
        self.loop.call_soon(self.transport.abort)


def _describe(tls_object: ssl.SSLObject) -> dict[str, Any]:
    """The ASGI TLS extension's dictionary. Python before 3.13 shows only the leaf; verification happens in the application."""
    certificate = tls_object.getpeercert(binary_form=True)
    cipher = tls_object.cipher()
    return {
        "server_cert": None,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(certificate)] if certificate else [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": tls_object.version(),
        "cipher_suite": cipher[0] if cipher else None,
    }


def _with_tls(app: Any, description: dict[str, Any]) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("extensions", {})["tls"] = description
        await app(scope, receive, send)

    return application
