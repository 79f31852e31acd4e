"""Asks one HTTP address the same few things over kept connections, as fast as it answers: N connections in a closed loop.

`python tests/bench/http_load.py HOST PORT CONNECTIONS SECONDS FILE`, in a process of its own. FILE holds whole requests, each
after a line with its length; the connections walk through them. Prints one line of JSON at the end.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import uvloop


def read_requests(file: Path) -> list[bytes]:
    """What `write_requests` wrote."""
    data, found = file.read_bytes(), []
    while data:
        length, _, data = data.partition(b"\n")
        found.append(data[: int(length)])
        data = data[int(length) :]
    return found


def write_requests(file: Path, requests: list[bytes]) -> None:
    file.write_bytes(b"".join(b"%d\n%s" % (len(request), request) for request in requests))


class Asker(asyncio.Protocol):
    """One connection: it sends the next request when the last answer is whole."""

    def __init__(self, requests: list[bytes], first: int) -> None:
        self._requests = requests
        self._next = first
        self._buffer = b""
        self.transport: Any = None
        self.answers = 0
        self.octets = 0
        self.errors: list[str] = []
        self.stopped = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        if not head.startswith(b"http/1.1 200") or at < 0:
            self.errors.append(self._buffer[:200].decode("latin-1"))
            self.transport.close()
            return
        length = int(head[at + 15 :].split(b"\r", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer = b""
        self.answers += 1
        self.octets = length
        if not self.stopped:
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.stopped and not self.errors:
            self.errors.append(f"the server closed the connection: {error}")


async def run(host: str, port: int, connections: int, seconds: float, requests: list[bytes]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    used, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    askers = [
        (await loop.create_connection(lambda number=number: Asker(requests, number * 7), host, port))[1]
        for number in range(connections)
    ]
    await asyncio.sleep(seconds)
    for asker in askers:
        asker.stopped = True
    elapsed = time.monotonic() - started
    spent = resource.getrusage(resource.RUSAGE_SELF)
    for asker in askers:
        asker.transport.abort()
    return {
        "answers": sum(asker.answers for asker in askers),
        "octets": max(asker.octets for asker in askers),
        "seconds": elapsed,
        "errors": [error for asker in askers for error in asker.errors],
        "client_cpu_s": spent.ru_utime + spent.ru_stime - used.ru_utime - used.ru_stime,
    }


if __name__ == "__main__":
    host, port, connections, seconds, file = sys.argv[1:]
    print(json.dumps(uvloop.run(run(host, int(port), int(connections), float(seconds), read_requests(Path(file))))))
