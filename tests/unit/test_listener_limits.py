"""What a client may send, and how long it may take: limits of the listeners, before any door sees a request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from spork.api import protocol
from spork.api.listeners import Listener, bind, serve
from spork.settings import Address

ENOUGH_S = 20.0
"""Far more than anything here takes; a connection that stays open fails the test by it."""


async def echo_length(scope: Any, receive: Any, send: Any) -> None:
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    body = str(length).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listener = Listener("status", Address("127.0.0.1", 0), echo_length)
    bound = bind(listener)
    stop = asyncio.Event()
    serving = asyncio.create_task(serve([listener], [bound], stop))
    await asyncio.sleep(0)
    yield bound.getsockname()[1]
    stop.set()
    await serving


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    for _ in range(100):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
    else:
        pytest.fail("nothing listens")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(ENOUGH_S):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def sent_until_closed(writer: asyncio.StreamWriter, chunk: bytes, most: int) -> int:
    """How many octets were taken before the peer closed, of `most` at most."""
    sent = 0
    async with asyncio.timeout(ENOUGH_S):
        try:
            while sent < most:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
                await asyncio.sleep(0)
        except ConnectionError:
            pass
    return sent


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(ENOUGH_S):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return await reader.readexactly(length)


MOST = 32 * 1024 * 1024


@pytest.mark.parametrize(
    "chunk", [b"a: " + b"b" * 8189 + b"\r\n", b"b" * 8192], ids=["headers without end", "one header without end"]
)
async def test_a_head_without_end_is_cut_off(port: int, chunk: bytes) -> None:
    async with connected(port) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nlong: ")
        assert await sent_until_closed(writer, chunk, MOST) < MOST


async def test_trailers_without_end_are_cut_off(port: int) -> None:
    async with connected(port) as (_, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        assert await sent_until_closed(writer, b"a: " + b"b" * 8189 + b"\r\n", MOST) < MOST


async def test_a_head_that_trickles_is_cut_off_also_on_a_connection_that_was_used(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await answer(reader) == b"0"
        monkeypatch.setattr(protocol, "REQUEST_TIMEOUT_S", 0.05)
        writer.write(b"GET / HTTP/1.1\r\nHost: ")
        assert await until_closed(reader) == b""


async def test_a_body_that_never_ends_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REQUEST_TIMEOUT_S", 0.05)
    async with connected(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        assert await until_closed(reader) == b""


async def test_blank_lines_do_not_hold_a_connection(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await answer(reader) == b"0"
        monkeypatch.setattr(protocol, "REQUEST_TIMEOUT_S", 0.05)
        writer.write(b"\r\n")
        assert await until_closed(reader) == b""


async def test_large_bodies_on_one_connection_are_counted_each_by_itself(port: int) -> None:
    body = b"x" * 1024 * 1024
    async with connected(port) as (reader, writer):
        for _ in range(6):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert await answer(reader) == str(len(body)).encode()


async def test_a_long_path_and_two_requests_in_one_packet_are_answered(port: int) -> None:
    one = b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    async with connected(port) as (reader, writer):
        writer.write(one + one)
        assert await answer(reader) == b"0"
        assert await answer(reader) == b"0"
