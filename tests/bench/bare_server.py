"""The web server that SPORK stands on, with nothing behind it: one fixed body for every request.

`python tests/bench/bare_server.py PORT OCTETS`, in a process of its own; SIGTERM ends it. Its figure is the ceiling that OCSP's is
read against: same server, same protocol class, same size of the answer.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

from spork.api.listeners import Listener, bind, serve
from spork.settings import Address


async def main(port: int, octets: int) -> None:
    body = b"\x30" * octets
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"application/ocsp-response"), (b"content-length", b"%d" % octets)],
    }

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            while (await receive()).get("more_body", False):
                pass
        await send(start)
        await send({"type": "http.response.body", "body": body})

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    listener = Listener("bare", Address("127.0.0.1", port), application)
    await serve([listener], [bind(listener)], stop)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
