"""The HTTP protocol class of all listeners: shows the client's certificate to the application, and bounds slow clients.

The dictionary in `scope["extensions"]["tls"]` has the keys of the ASGI TLS extension, so that a server which offers that
extension by itself can take this one's place.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_TIMEOUT_S = 20.0
"""A client must have sent its first request's headers by then; afterwards uvicorn's keep-alive timeout holds."""
FAREWELL_S = 0.05
"""Between the farewell to an idle client at the server's end and cutting it off."""


class ListenerProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol with the TLS extension and a time limit for the first request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        tls_object = transport.get_extra_info("ssl_object")
        if tls_object is not None:
            self.app = _with_tls(self.app, _describe(tls_object))
        super().connection_made(transport)
        self._header_timer = self.loop.call_later(HEADER_TIMEOUT_S, transport.abort)

    def on_headers_complete(self) -> None:
        self._header_timer.cancel()
        super().on_headers_complete()

    def shutdown(self) -> None:
        """The server ends: an idle connection ends with it, also where the client never answers the farewell of TLS."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(FAREWELL_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_timer.cancel()
        super().connection_lost(exc)


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
