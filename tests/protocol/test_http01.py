"""The http-01 validator against real servers on loopback: right answers, wrong ones, and ways to misuse it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
import structlog.testing
from acme_world import NoResolver
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from x509_world import a_root

from spork.api.acme import http01
from spork.api.acme.http01 import Reach
from spork.api.acme.resolver import DNSResolver
from spork.errors import Code, ConfigurationError, SporkError

pytestmark = pytest.mark.protocol

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
TOKEN, AUTHORIZATION = "a-token", "a-token.thumbprint"
Answer = bytes | Callable[[str], Awaitable[bytes] | bytes]


@dataclass
class Server:
    """Answers by path; what it was asked is in `requests`."""

    port: int = 0
    answers: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            self.tasks.append(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            answer = self.answers.get(head.split()[1], response(b"nothing", status=404))
            writer.write(answer if isinstance(answer, bytes) else await answer())
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    async def end(self, *listeners: asyncio.Server) -> None:
        """Leaves nothing of the listeners and their connections behind."""
        for listener in listeners:
            listener.close()
            await listener.wait_closed()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def response(body: bytes, *, status: int = 200, **headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str, status: int = 302) -> bytes:
    return response(b"", status=status, Location=location)


CHALLENGE = f"/.well-known/acme-challenge/{TOKEN}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listener = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listener.sockets[0].getsockname()[1]
    made.answers[CHALLENGE] = response(AUTHORIZATION.encode())
    yield made
    await made.end(listener)


@pytest.fixture
def resolver() -> NoResolver:
    made = NoResolver()
    made.known["www.example"] = [ipaddress.ip_address("127.0.0.1")]
    return made


async def check(server: Server, resolver: Any, name: str = "www.example", networks: Any = LOOPBACK) -> None:
    await http01.validate(name, TOKEN, AUTHORIZATION, resolver=resolver, reach=Reach(tuple(networks), server.port))


async def refused(server: Server, resolver: Any, *arguments: Any, **more: Any) -> SporkError:
    with pytest.raises(SporkError) as caught:
        await check(server, resolver, *arguments, **more)
    return caught.value


async def test_the_key_authorization_is_accepted_with_white_space_after_it(
    server: Server, resolver: NoResolver
) -> None:
    for body in (AUTHORIZATION, AUTHORIZATION + "\n", AUTHORIZATION + " \r\n\t"):
        server.answers[CHALLENGE] = response(body.encode())
        await check(server, resolver)


async def test_the_request_names_the_host_and_goes_to_the_resolved_address(
    server: Server, resolver: NoResolver
) -> None:
    await check(server, resolver)
    [request] = server.requests
    assert request.startswith(f"GET {CHALLENGE} HTTP/1.1\r\n")
    assert f"Host: www.example:{server.port}\r\n" in request
    assert resolver.asked == ["www.example"]


async def test_an_answer_without_a_length_ends_with_the_connection(server: Server, resolver: NoResolver) -> None:
    server.answers[CHALLENGE] = b"HTTP/1.0 200 OK\r\n\r\n" + AUTHORIZATION.encode()
    await check(server, resolver)


async def test_a_chunked_answer_is_read(server: Server, resolver: NoResolver) -> None:
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(AUTHORIZATION), AUTHORIZATION.encode())
    server.answers[CHALLENGE] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    await check(server, resolver)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(response(b"a-token.another"), id="another thumbprint"),
        pytest.param(response(b" a-token.thumbprint"), id="white space before it"),
        pytest.param(response(b""), id="nothing"),
        pytest.param(response(b"a-token.thumbprintx"), id="a letter more"),
        pytest.param(response(b"a-token.thumbprint", status=404), id="status 404"),
        pytest.param(response(b"a-token.thumbprint", status=500), id="status 500"),
        pytest.param(response(b"a-token.thumbprint", status=206), id="status 206"),
        pytest.param(response(b"", status=302), id="a redirect to nowhere"),
        pytest.param(response(b"a-token.thumbprint" + b" " * 2000), id="far too long"),
        pytest.param(response(b"\xff" * 100), id="not text"),
    ],
)
async def test_wrong_answers_are_final_and_never_quoted(server: Server, resolver: NoResolver, answer: bytes) -> None:
    server.answers[CHALLENGE] = answer
    error = await refused(server, resolver)
    assert (error.code, error.retry_after_s) == (Code.INCORRECT_RESPONSE, None)
    for secret in ("another", "404", "500"):
        assert secret not in error.detail


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", id="a body that ends early"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000, id="an endless header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(b"\x00" * 5000, id="zeros"),
    ],
)
async def test_broken_answers_may_be_tried_again_and_are_never_quoted(
    server: Server, resolver: NoResolver, answer: bytes
) -> None:
    server.answers[CHALLENGE] = answer
    error = await refused(server, resolver)
    assert error.code is Code.CONNECTION
    assert error.retry_after_s is not None
    assert "SSH" not in error.detail


async def test_a_closed_port_may_be_tried_again(server: Server, resolver: NoResolver) -> None:
    server.port = 1
    error = await refused(server, resolver)
    assert error.code is Code.CONNECTION
    assert error.retry_after_s is not None


async def test_a_server_that_never_ends_is_left(
    server: Server, resolver: NoResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http01, "TOTAL_S", 0.3)

    async def dripping() -> bytes:
        await asyncio.sleep(1.5)
        return b""

    server.answers[CHALLENGE] = dripping
    began = time.monotonic()
    error = await refused(server, resolver)
    assert error.code is Code.CONNECTION
    assert time.monotonic() - began < 1.4


async def test_an_endless_body_is_left(server: Server, resolver: NoResolver) -> None:
    server.answers[CHALLENGE] = b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 5_000_000
    assert (await refused(server, resolver)).code is Code.INCORRECT_RESPONSE


# Addresses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "0.0.0.0", "fe80::1"]
)
async def test_unlisted_addresses_are_never_connected_to(server: Server, resolver: NoResolver, address: str) -> None:
    resolver.known["www.example"] = [ipaddress.ip_address(address)]
    error = await refused(server, resolver, networks=())
    assert (error.code, error.retry_after_s) == (Code.CONNECTION, None)
    assert "SPORK_ACME_ALLOWED_NETWORKS" in error.detail
    assert server.requests == []


async def test_the_requester_learns_the_kind_of_an_unlisted_address_and_the_log_the_address(
    server: Server, resolver: NoResolver
) -> None:
    resolver.known["inside.example"] = [ipaddress.ip_address("10.20.30.40")]
    server.answers[CHALLENGE] = redirect("http://inside.example/")

    with structlog.testing.capture_logs() as logs:
        error = await refused(server, resolver)

    assert "10.20.30.40" not in error.detail
    assert "inside.example resolves to a private address" in error.detail
    assert [(line["host"], line["address"]) for line in logs] == [("inside.example", "10.20.30.40")]


async def test_of_several_addresses_the_permitted_one_is_used(server: Server, resolver: NoResolver) -> None:
    resolver.known["www.example"] = [ipaddress.ip_address(one) for one in ("::1", "10.0.0.1", "127.0.0.1")]
    await check(server, resolver, networks=LOOPBACK[:1])


async def test_after_ipv6_the_first_ipv4_address_is_tried(server: Server, resolver: NoResolver) -> None:
    resolver.known["www.example"] = [ipaddress.ip_address(one) for one in ("::1", "127.0.0.1")]
    await check(server, resolver)


async def test_a_name_that_changes_its_address_is_asked_for_once(server: Server, resolver: NoResolver) -> None:
    class Rebinding:
        calls = 0

        async def addresses(self, name: str) -> Any:
            self.calls += 1
            return [ipaddress.ip_address("127.0.0.1" if self.calls == 1 else "10.0.0.1")]

    rebinding = Rebinding()
    await check(server, rebinding)
    assert rebinding.calls == 1


async def test_an_ip_address_as_identifier_is_connected_to_without_dns(server: Server, resolver: NoResolver) -> None:
    await check(server, resolver, "127.0.0.1")
    assert resolver.asked == []
    assert f"Host: 127.0.0.1:{server.port}\r\n" in server.requests[0]


async def test_proxies_of_the_environment_are_not_used(
    server: Server, resolver: NoResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await check(server, resolver)


# Redirects ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(server: Server, resolver: NoResolver, status: int) -> None:
    server.answers[CHALLENGE] = redirect("/moved?x=1", status)
    server.answers["/moved?x=1"] = response(AUTHORIZATION.encode())
    await check(server, resolver)


async def test_a_redirect_to_another_host_is_resolved_anew(server: Server, resolver: NoResolver) -> None:
    resolver.known["other.example"] = [ipaddress.ip_address("127.0.0.1")]
    server.answers[CHALLENGE] = redirect(f"http://other.example:{server.port}/there")
    server.answers["/there"] = response(AUTHORIZATION.encode())
    await check(server, resolver)
    assert resolver.asked == ["www.example", "other.example"]
    assert f"Host: other.example:{server.port}\r\n" in server.requests[1]


@pytest.mark.parametrize(
    "location",
    [
        "http://inside.example:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://10.0.0.1/",
        "http://[fd00:ec2::254]/",
        "http://0.0.0.0:{port}/",
        "//169.254.169.254/",
    ],
)
async def test_a_redirect_into_an_unlisted_network_is_refused(
    server: Server, resolver: NoResolver, location: str
) -> None:
    resolver.known["inside.example"] = [ipaddress.ip_address("10.0.0.1")]
    server.answers[CHALLENGE] = redirect(location.format(port=server.port))
    error = await refused(server, resolver)
    assert (error.code, error.retry_after_s) == (Code.CONNECTION, None)
    assert "SPORK_ACME_ALLOWED_NETWORKS" in error.detail
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "location",
    [
        "ftp://www.example/x",
        "file:///etc/passwd",
        "gopher://www.example:70/",
        "http://www.example:22/",
        "https://www.example:8444/",
        "http://user:secret@www.example/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://[fe80::1%25eth0]/",
        "http://www.example:99999/",
        "http://www.example:{port}/" + "a" * 3000,
        "http://www.example:{port}/a b",
        "http://a_b.example/",
        "http://[::1/",
        "javascript:alert(1)",
    ],
)
async def test_a_redirect_to_somewhere_odd_is_refused(server: Server, resolver: NoResolver, location: str) -> None:
    server.answers[CHALLENGE] = redirect(location.format(port=server.port))
    error = await refused(server, resolver)
    assert error.code is Code.CONNECTION
    assert "secret" not in error.detail
    assert len(server.requests) == 1


async def test_redirects_in_a_circle_end(server: Server, resolver: NoResolver) -> None:
    server.answers[CHALLENGE] = redirect(CHALLENGE)
    assert (await refused(server, resolver)).code is Code.INCORRECT_RESPONSE
    assert len(server.requests) == 11


async def test_a_redirect_to_https_is_followed_whatever_its_certificate(resolver: NoResolver, tmp_path: Path) -> None:
    made = Server()
    ca = a_root()
    key = ca.signer._key
    (tmp_path / "both.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + ca.certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    plain = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = plain.sockets[0].getsockname()[1]
    made.answers[CHALLENGE] = redirect(f"https://secure.example:{made.port}/there")
    # One port for both, as a validator follows to 80, 443 and its own port only: the second address has the TLS server.
    secure = await asyncio.start_server(made.serve, "127.0.0.2", made.port, ssl=context)
    made.answers["/there"] = response(AUTHORIZATION.encode())
    resolver.known["secure.example"] = [ipaddress.ip_address("127.0.0.2")]
    await check(made, resolver)
    await made.end(plain, secure)


async def test_a_redirect_to_https_where_no_tls_is_spoken_is_a_tls_problem(
    server: Server, resolver: NoResolver
) -> None:
    async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"no TLS is spoken here\r\n")
        writer.close()
        await writer.wait_closed()

    listener = await asyncio.start_server(rude, "127.0.0.2", server.port)
    resolver.known["secure.example"] = [ipaddress.ip_address("127.0.0.2")]
    server.answers[CHALLENGE] = redirect(f"https://secure.example:{server.port}/there")
    error = await refused(server, resolver)
    assert (error.code, error.retry_after_s is not None) == (Code.TLS, True)
    listener.close()
    await listener.wait_closed()


# Names -------------------------------------------------------------------------------------------------------------------


class DNSServer(asyncio.DatagramProtocol):
    """Answers from a table of (name, type) -> addresses; None is NXDOMAIN, absent is silence."""

    def __init__(self, table: dict[tuple[str, str], list[str] | None]) -> None:
        self.table = table
        self.asked: list[tuple[str, str]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        key = (question.name.to_text(), dns.rdatatype.to_text(question.rdtype))
        self.asked.append(key)
        if key not in self.table:
            return
        answer = dns.message.make_response(query)
        found = self.table[key]
        if found is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif found:
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", key[1], *found))
        self.transport.sendto(answer.to_wire(), address)


@contextlib.asynccontextmanager
async def a_dns_server(table: dict[tuple[str, str], list[str] | None]) -> AsyncIterator[tuple[DNSServer, DNSResolver]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: DNSServer(table), local_addr=("127.0.0.1", 0))
    try:
        yield protocol, DNSResolver(f"127.0.0.1:{transport.get_extra_info('sockname')[1]}")
    finally:
        transport.close()


async def test_names_are_asked_for_with_the_configured_server_ipv6_first() -> None:
    table: dict[tuple[str, str], list[str] | None] = {
        ("www.example.", "A"): ["192.0.2.1"],
        ("www.example.", "AAAA"): ["2001:db8::1"],
    }
    async with a_dns_server(table) as (server, resolver):
        found = await resolver.addresses("www.example")
    assert [str(one) for one in found] == ["2001:db8::1", "192.0.2.1"]
    assert sorted(server.asked) == sorted(table)


async def test_a_name_with_addresses_of_one_kind_is_enough() -> None:
    async with a_dns_server({("a.example.", "A"): ["192.0.2.1"], ("a.example.", "AAAA"): []}) as (_, resolver):
        assert [str(one) for one in await resolver.addresses("a.example")] == ["192.0.2.1"]


@pytest.mark.parametrize(("found", "words"), [(None, "does not exist"), ([], "neither an A nor an AAAA record")])
async def test_names_without_addresses_are_dns_problems(found: list[str] | None, words: str) -> None:
    async with a_dns_server({("a.example.", "A"): found, ("a.example.", "AAAA"): found}) as (_, resolver):
        with pytest.raises(SporkError, match=words) as caught:
            await resolver.addresses("a.example")
    assert caught.value.code is Code.DNS


async def test_a_silent_dns_server_is_a_dns_problem_in_bounded_time() -> None:
    async with a_dns_server({}) as (_, resolver):
        resolver._resolver.lifetime = 0.3
        with pytest.raises(SporkError, match="did not answer in time") as caught:
            await resolver.addresses("a.example")
    assert caught.value.retry_after_s is not None


@pytest.mark.parametrize("name", ["localhost", "www.localhost", "a.b.localhost"])
async def test_localhost_is_loopback_and_is_never_asked_for(name: str) -> None:
    async with a_dns_server({}) as (server, resolver):
        assert [str(one) for one in await resolver.addresses(name)] == ["::1", "127.0.0.1"]
    assert server.asked == []


async def test_names_that_only_end_like_localhost_are_asked_for() -> None:
    async with a_dns_server({("notlocalhost.", "A"): None, ("notlocalhost.", "AAAA"): None}) as (server, resolver):
        with pytest.raises(SporkError):
            await resolver.addresses("notlocalhost")
    assert server.asked


@pytest.mark.parametrize("text", ["dns.example:53", "127.0.0.1:99999", ":53", "[::1"])
def test_a_resolver_setting_that_is_no_address_is_an_error_naming_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match="SPORK_ACME_RESOLVER"):
        DNSResolver(text)
