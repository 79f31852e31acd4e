"""A closed-loop ACME load client: N clients each repeat whole orders, from newOrder to the downloaded chain.

It runs in a process of its own (`python tests/bench/acme_load.py --directory URL ...`), answers http-01 itself on loopback, and
prints one line of JSON at the end. To cost little beside the server that it measures, it speaks HTTP/1.1 over kept TLS
connections by hand and signs ES256 by hand; every order has fresh names and a fresh key. Source: RFC 8555.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import os
import resource
import ssl
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

_ES256 = ec.ECDSA(SHA256())
# Waiting times for a validation, in seconds, while the server works. A real client waits longer; a shorter wait would only make
# the server answer more polls.
_POLLS_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
_MAX_POLLS = 60


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Refused(Exception):
    """A reply other than what the flow needs."""


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One kept connection. It is opened again where the server closed it."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        self._place = host, port
        self._tls = tls
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._place, ssl=self._tls, server_hostname=self._place[0])
        reader, writer = self._streams
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {self._place[0]}:{self._place[1]}\r\n"
            f"Content-Type: application/jose+json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
        reply = Reply(int(head[0].split(" ", 2)[1]), headers, await reader.readexactly(length))
        if headers.get("connection") == "close":
            self.close()
        return reply

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class Account:
    """A key, and its URL once it is registered. Several clients may share one."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        self.jwk = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
        self.thumbprint = b64(hashlib.sha256(self.jwk.encode()).digest())
        self.kid = ""

    def jws(self, url: str, nonce: str, payload: bytes) -> bytes:
        who = f'"kid":"{self.kid}"' if self.kid else f'"jwk":{self.jwk}'
        protected = b64(f'{{"alg":"ES256","nonce":"{nonce}","url":"{url}",{who}}}'.encode())
        body = b64(payload)
        r, s = decode_dss_signature(self._key.sign(f"{protected}.{body}".encode(), _ES256))
        signature = b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        return f'{{"protected":"{protected}","payload":"{body}","signature":"{signature}"}}'.encode()


class Responder:
    """Answers http-01 for all accounts, and tells who waits that a challenge was asked for."""

    def __init__(self) -> None:
        self.thumbprints: dict[str, str] = {}
        self.asked: dict[str, asyncio.Event] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            token = head.split(b" ", 2)[1].rpartition(b"/")[2].decode()
            body = f"{token}.{self.thumbprints.get(token, '')}".encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            if token in self.asked:
                self.asked[token].set()
            await writer.drain()
        writer.close()


@dataclass
class Tally:
    """What all clients did."""

    seconds: list[float] = field(default_factory=list)
    requests: int = 0
    errors: list[str] = field(default_factory=list)


class Client:
    """One client: a connection of its own, an account that may be another's too."""

    def __init__(
        self, directory: dict[str, str], connection: Connection, account: Account, responder: Responder, tally: Tally
    ) -> None:
        self._directory = directory
        self._connection = connection
        self._account = account
        self._responder = responder
        self._tally = tally
        self._nonce = ""

    async def register(self) -> None:
        if not self._account.kid:
            reply = await self._post(self._directory["newAccount"], b'{"termsOfServiceAgreed":true}', 201)
            self._account.kid = reply.headers["location"]

    async def order(self, name: str) -> None:
        """One whole order. Raises Refused."""
        wanted = json.dumps({"identifiers": [{"type": "dns", "value": name}]}).encode()
        placed = await self._post(self._directory["newOrder"], wanted, 201)
        order = placed.json()
        for url in order["authorizations"]:
            await self._authorize(url)
        reply = await self._post(order["finalize"], json.dumps({"csr": _csr(name)}).encode(), 200)
        order = reply.json()
        for _ in range(_MAX_POLLS):
            if order["status"] == "valid":
                break
            await asyncio.sleep(_POLLS_S[-1])
            order = (await self._post(placed.headers["location"], b"", 200)).json()
        chain = await self._post(order["certificate"], b"", 200)
        if chain.body.count(b"BEGIN CERTIFICATE") < 2:
            raise Refused("the chain is not whole")

    async def _authorize(self, url: str) -> None:
        authorization = (await self._post(url, b"", 200)).json()
        if authorization["status"] == "valid":
            return
        challenge = next(one for one in authorization["challenges"] if one["type"] == "http-01")
        token = challenge["token"]
        self._responder.thumbprints[token] = self._account.thumbprint
        asked = self._responder.asked[token] = asyncio.Event()
        await self._post(challenge["url"], b"{}", 200)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), 2)
        for number in range(_MAX_POLLS):
            await asyncio.sleep(_POLLS_S[min(number, len(_POLLS_S) - 1)])
            status = (await self._post(url, b"", 200)).json()["status"]
            if status != "pending":
                break
        del self._responder.thumbprints[token], self._responder.asked[token]
        if status != "valid":
            raise Refused(f"the authorization is {status}")

    async def _post(self, url: str, payload: bytes, expected: int) -> Reply:
        path = urlsplit(url).path
        if not self._nonce:
            fresh = await self._connection.ask("HEAD", urlsplit(self._directory["newNonce"]).path)
            self._nonce = fresh.headers["replay-nonce"]
        reply = await self._connection.ask("POST", path, self._account.jws(url, self._nonce, payload))
        self._tally.requests += 1
        self._nonce = reply.headers.get("replay-nonce", "")
        if reply.status != expected:
            raise Refused(f"{path.split('/')[3]}: {reply.status} {reply.body[:200].decode('utf-8', 'replace')}")
        return reply


def _csr(name: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    san = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(san, False)
    return b64(builder.sign(key, SHA256()).public_bytes(Encoding.DER))


async def run(options: argparse.Namespace) -> dict[str, Any]:
    tls = ssl.create_default_context(cafile=options.ca)
    where = urlsplit(options.directory)
    assert where.hostname is not None and where.port is not None
    tally, responder = Tally(), Responder()
    connections = [Connection(where.hostname, where.port, tls) for _ in range(options.clients)]
    directory = (await connections[0].ask("GET", where.path)).json()
    accounts = [Account()] * options.clients if options.one_account else [Account() for _ in connections]
    clients = [Client(directory, c, a, responder, tally) for c, a in zip(connections, accounts, strict=True)]
    server = await asyncio.start_server(responder.serve, "127.0.0.1", options.http01_port)
    for client in clients:
        await client.register()
        await client.order(_name())  # Warm: connections, prepared statements, caches.
    tally.requests = 0
    used, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    print("started", flush=True)
    numbers = itertools.count(1)
    await asyncio.gather(*(_repeat(client, tally, numbers, options, started) for client in clients))
    elapsed = time.monotonic() - started
    spent = resource.getrusage(resource.RUSAGE_SELF)
    server.close()
    for connection in connections:
        connection.close()
    return {
        "orders": len(tally.seconds),
        "seconds": elapsed,
        "latencies": tally.seconds,
        "requests": tally.requests,
        "errors": tally.errors,
        "client_cpu_s": spent.ru_utime + spent.ru_stime - used.ru_utime - used.ru_stime,
    }


async def _repeat(client: Client, tally: Tally, numbers: Any, options: argparse.Namespace, started: float) -> None:
    while time.monotonic() - started < options.seconds and next(numbers) <= options.orders:
        begun = time.monotonic()
        try:
            await client.order(_name())
        except (Refused, OSError, asyncio.IncompleteReadError) as error:
            tally.errors.append(f"{type(error).__name__}: {error}")
            return
        tally.seconds.append(time.monotonic() - begun)


def _name() -> str:
    return f"w{os.urandom(8).hex()}.localhost"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--ca", required=True, help="PEM file of the trusted root")
    parser.add_argument("--http01-port", type=int, required=True)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--one-account", action="store_true", help="all clients use one account")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--orders", type=int, default=100_000, help="stop after so many, whatever the time")
    print(json.dumps(uvloop.run(run(parser.parse_args()))))
