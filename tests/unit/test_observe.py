"""What stands around every application."""

from __future__ import annotations

from typing import Any

import pytest

from spork.api.observe import observed


async def call(app: Any, path: str, query: bytes = b"") -> tuple[int, bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app({"type": "http", "method": "GET", "path": path, "query_string": query}, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def found(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"found"})


async def broken(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("the passphrase is hunter2")


@pytest.mark.parametrize(("path", "query"), [("/a\x00b", b""), ("/", b"name=%00"), ("/", b"a=b&text=x%00y")])
async def test_the_character_nul_in_an_address_reaches_no_door(path: str, query: bytes) -> None:
    status, body = await call(observed("test", found), path, query)
    assert status == 400
    assert b"NUL" in body


@pytest.mark.parametrize(("path", "query"), [("/a", b""), ("/a b", b"name=%20&text=%2500"), ("/ocsp/M00=", b"")])
async def test_other_addresses_do(path: str, query: bytes) -> None:
    assert await call(observed("test", found), path, query) == (200, b"found")


async def test_the_text_of_an_unknown_error_is_withheld() -> None:
    status, body = await call(observed("test", broken), "/")
    assert status == 500
    assert b"hunter2" not in body
    assert b"reference" in body
