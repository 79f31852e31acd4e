"""The http-01 validator: one bounded GET to an address that was resolved here, checked, and pinned.

The connection goes to the checked address itself, so that a second DNS answer cannot move it. Each redirect is resolved and
checked like the first request. The certificate of an https redirect is not verified: the redirect came over plain HTTP, and
the very purpose may be to get the first certificate; RFC 8555 section 8.3 rests the proof on the DNS and the network alone.
What a target answers never appears in the outcome.
Source: RFC 8555 section 8.3.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import h11
import structlog

from spork.api.acme.networks import Address, Network, plain, refusal
from spork.api.acme.resolver import Resolver
from spork.errors import Code, SporkError
from spork.x509.namesyntax import dns_fault

TOTAL_S = 10.0
"""For everything: names, connections, redirects."""
CONNECT_S = 3.0
MAX_REDIRECTS = 10
MAX_BODY_OCTETS = 1024
"""A key authorization has at most some 90 characters; the rest is room for trailing white space."""

_MAX_HEAD_OCTETS = 16 * 1024
_MAX_URL_CHARACTERS = 2048
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRY_S = 2
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a validator may go."""

    networks: tuple[Network, ...]
    """Beyond public addresses."""
    http_port: int
    """Of the first request; redirects may also use 80 and 443."""


@dataclass(frozen=True, slots=True)
class _Target:
    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


async def validate(name: str, token: str, key_authorization: str, *, resolver: Resolver, reach: Reach) -> None:
    """Returns if the name's server answers the challenge.

    Raises SporkError: DNS, CONNECTION, TLS, INCORRECT_RESPONSE; `retry_after_s` is set where another attempt may help.
    """
    try:
        async with asyncio.timeout(TOTAL_S):
            body = await _fetch(_first(name, token, reach), resolver, reach)
    except TimeoutError:
        raise _failed(Code.CONNECTION, f"{name} did not complete its answer within {TOTAL_S:.0f} seconds") from None
    if not hmac.compare_digest(body.rstrip(), key_authorization.encode("ascii")):
        raise SporkError(
            Code.INCORRECT_RESPONSE,
            f"What {name} answered at /.well-known/acme-challenge/{token} is not the key authorization of this account.",
        )


def _first(name: str, token: str, reach: Reach) -> _Target:
    return _Target("http", name, reach.http_port, f"/.well-known/acme-challenge/{token}")


async def _fetch(target: _Target, resolver: Resolver, reach: Reach) -> bytes:
    for _ in range(MAX_REDIRECTS + 1):
        status, location, body = await _get(target, await _permitted(target, resolver, reach))
        if status == 200:
            return body
        if status not in _REDIRECTS or not location:
            raise SporkError(Code.INCORRECT_RESPONSE, f"{target.host} did not answer the challenge with status 200.")
        target = _redirected(target, location, reach)
    raise SporkError(Code.INCORRECT_RESPONSE, f"There were more than {MAX_REDIRECTS} redirects.")


async def _permitted(target: _Target, resolver: Resolver, reach: Reach) -> Sequence[Address]:
    """The addresses to try: the first IPv6 and the first IPv4 one that a validator may reach."""
    found = await _addresses(target.host, resolver)
    reasons = {address: refusal(address, reach.networks) for address in found}
    usable = [plain(address) for address, reason in reasons.items() if reason is None]
    if not usable:
        address, reason = next(iter(reasons.items()))
        _log.info("acme.http01.unlisted", host=target.host, address=str(address), reason=reason)
        # The address itself is for the operator: a redirect could otherwise ask for any name of the DNS in here.
        raise SporkError(
            Code.CONNECTION,
            f"{target.host} resolves to {reason}, which validators may reach only if it is listed in "
            "SPORK_ACME_ALLOWED_NETWORKS or in the issuer's acme networks.",
        )
    first_of_version = {address.version: address for address in reversed(usable)}
    return [first_of_version[version] for version in (6, 4) if version in first_of_version]


async def _addresses(host: str, resolver: Resolver) -> Sequence[Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        return await resolver.addresses(host)


async def _get(target: _Target, addresses: Sequence[Address]) -> tuple[int, str, bytes]:
    for address in addresses[:-1]:
        try:
            return await _get_from(target, address)
        except SporkError as error:
            if error.code not in (Code.CONNECTION, Code.TLS):
                raise
    return await _get_from(target, addresses[-1])


async def _get_from(target: _Target, address: Address) -> tuple[int, str, bytes]:
    tls = _unverified_tls() if target.scheme == "https" else None
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                str(address), target.port, ssl=tls, server_hostname=target.host if tls else None
            )
    except TimeoutError:
        raise _failed(
            Code.CONNECTION, f"{target.host} (port {target.port}) could not be connected to in time"
        ) from None
    except ssl.SSLError:
        raise _failed(Code.TLS, f"{target.host} (port {target.port}) did not complete a TLS handshake") from None
    except (OSError, ValueError):
        raise _failed(Code.CONNECTION, f"{target.host} (port {target.port}) could not be connected to") from None
    try:
        return await _exchange(target, reader, writer)
    except (OSError, h11.RemoteProtocolError):
        raise _failed(Code.CONNECTION, f"{target.host} broke off, or did not answer in HTTP") from None
    finally:
        # Not waited for: a peer that does not close its side must not hold the validator.
        writer.transport.abort()


async def _exchange(
    target: _Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[int, str, bytes]:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_OCTETS)
    headers = [
        ("Host", target.authority),
        ("User-Agent", "spork-ca-http-01"),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ]
    request = h11.Request(method="GET", target=target.path, headers=headers)
    writer.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
    await writer.drain()
    status, location, body = 0, "", b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(4096))
        elif isinstance(event, h11.Response):
            status = event.status_code
            if status != 200:
                return status, _location(event), b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
            if len(body) > MAX_BODY_OCTETS:
                raise SporkError(
                    Code.INCORRECT_RESPONSE, f"{target.host} answered with far more than a key authorization."
                )
        elif isinstance(event, h11.EndOfMessage):
            return status, location, body
        elif not isinstance(event, h11.InformationalResponse):
            raise h11.RemoteProtocolError("the connection ended")


def _location(response: h11.Response) -> str:
    values = [value for name, value in response.headers if name == b"location"]
    return values[0].decode("latin-1") if values else ""


def _redirected(target: _Target, location: str, reach: Reach) -> _Target:
    """The next request. Raises SporkError(CONNECTION) for a place where validators do not go."""
    try:
        parts = urlsplit(urljoin(target.url, location))
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        raise _misled("to something that is not a URL") from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("http", "https"):
        raise _misled("to another scheme than http or https")
    if port not in (80, 443, reach.http_port):
        raise _misled("to another port than 80 or 443")
    if parts.username is not None or parts.password is not None:
        raise _misled("to a URL with a user name")
    if not _is_host(host):
        raise _misled("to something that is neither a DNS name nor an IP address")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if len(path) > _MAX_URL_CHARACTERS or not path.isascii() or any(c <= " " or c == "\x7f" for c in path):
        raise _misled("to a URL that is too long or not well formed")
    return _Target(parts.scheme, host, port, path)


def _is_host(host: str) -> bool:
    try:
        return not getattr(ipaddress.ip_address(host), "scope_id", None)
    except ValueError:
        return bool(host) and dns_fault(host, wildcard=False) is None


def _unverified_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _failed(code: Code, sentence: str) -> SporkError:
    return SporkError(code, f"{sentence}.", retry_after_s=_RETRY_S)


def _misled(where: str) -> SporkError:
    return SporkError(Code.CONNECTION, f"The server redirected {where}, which validators do not follow.")
