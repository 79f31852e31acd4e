"""What all resources of the ACME door share: reading a signed request, knowing who signed it, and replying.

A request is one batch: the nonce's redemption, the account, and what the resource reads go out together (one trip), then come
the signature's check and, if something changes, the writes with the commit (a second trip). A refusal commits the redemption
alone. Source: RFC 8555 sections 6.2 to 6.7.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from spork.api.acme.chains import Chains
from spork.api.acme.configuration import ACMEConfiguration, configuration_of
from spork.api.acme.problems import internal_response, problem_response
from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.policy.issuer import Issuer
from spork.store import acme_account
from spork.store.acme_account import Account
from spork.store.connection import CountedConnection, CountedCursor
from spork.store.nonce import Nonces, OpenedNonce, redeem
from spork.wire.jose import MAX_JWS_OCTETS, SignedMessage, VerificationKey, parse_jwk, parse_jws, strict_object

if TYPE_CHECKING:
    from spork.services import Services

_KEYS_CACHED = 4096


class Door:
    """The ACME door of one process."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.nonces = Nonces(services.database, services.clock)
        self.chains = Chains(services.authorities)
        self._base = services.settings.url_of_enrol()
        self._keys: OrderedDict[bytes, VerificationKey] = OrderedDict()

    def url(self, issuer: Issuer, *parts: str) -> str:
        """External URL of something below the issuer's door."""
        return "/".join((f"{self._base}/acme/{issuer.label}", *parts))

    def key_of(self, account: Account) -> VerificationKey:
        """The account's key, parsed once a process."""
        key = self._keys.get(account.thumbprint)
        if key is None:
            key = parse_jwk(account.jwk)
            self._keys[account.thumbprint] = key
            if len(self._keys) > _KEYS_CACHED:
                self._keys.popitem(last=False)
        return key

    async def issuer(self, request: Request) -> Issuer:
        """The issuer that the path names. Raises SporkError(NOT_FOUND), also where it has no ACME door."""
        issuer: Issuer = await self.services.issuers.issuer(request.path_params.get("issuer"))
        configuration_of(issuer)
        return issuer

    async def receive(self, request: Request) -> Call:
        """Reads the request up to, but without, the signature's check. Raises SporkError."""
        issuer = await self.issuer(request)
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/jose+json":
            raise SporkError(Code.UNSUPPORTED_MEDIA_TYPE, "The content type must be application/jose+json.")
        message = parse_jws(await _body(request))
        nonce = await self.nonces.open(message.nonce)
        query = f"?{request.url.query}" if request.url.query else ""
        if message.url != f"{self._base}{request.url.path}{query}":
            raise SporkError(
                Code.FORBIDDEN,
                f"The url in the protected header is not the one that was asked; this CA is at {self._base}.",
            )
        return Call(
            self, issuer, message, nonce, request.client.host if request.client else None, dict(request.query_params)
        )

    def endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """A handler as a route: refusals become problem documents, and every reply has its nonce and its link."""

        async def answer(request: Request) -> Response:
            parameters = {name: value for name, value in request.path_params.items() if name != "issuer"}
            return await self._guarded(request, lambda call: handler(call, **parameters))

        return answer

    def plain(self, handler: Callable[[Request], Awaitable[Response]], *, nonce: bool = False) -> Any:
        """The same for requests that nobody signs."""

        async def answer(request: Request) -> Response:
            try:
                response = await handler(request)
            except SporkError as error:
                response = problem_response(error)
            return await self._finished(request, response, nonce=nonce or request.method == "POST")

        return answer

    async def _guarded(self, request: Request, handle: Callable[[Call], Awaitable[Response]]) -> Response:
        try:
            response = await handle(await self.receive(request))
        except SporkError as error:
            response = problem_response(error)
        except ClientDisconnect:
            raise
        except Exception as error:
            response = internal_response(error)
        return await self._finished(request, response, nonce=True)

    async def _finished(self, request: Request, response: Response, *, nonce: bool) -> Response:
        label = request.path_params.get("issuer")
        if label is not None:
            # The label is what the path says, decoded, and need not be one that exists.
            response.headers.append("Link", f'<{self._base}/acme/{quote(label, safe="")}/directory>;rel="index"')
        if nonce:
            response.headers["Cache-Control"] = "no-store"
            try:
                await self.nonces.ready()
                response.headers["Replay-Nonce"] = self.nonces.mint()
            except SporkError as error:
                # The reply to a POST stands: it is a 503 already, or what it tells is done. A nonce alone is all of newNonce.
                if request.method != "POST":
                    return problem_response(error)
        return response


@dataclass
class Call:
    """A signed request. `sender` or `signed_by` must be asked before anything in it is believed."""

    door: Door
    issuer: Issuer
    message: SignedMessage
    nonce: OpenedNonce
    address: str | None
    query: Mapping[str, str]

    @cached_property
    def configuration(self) -> ACMEConfiguration:
        """The issuer's own settings for this door."""
        return configuration_of(self.issuer)

    @property
    def reads(self) -> bool:
        """POST-as-GET: the payload is empty, which is not JSON (RFC 8555 section 6.3)."""
        return not self.message.payload

    def payload(self) -> dict[str, Any]:
        """The payload as an object. Raises SporkError(MALFORMED)."""
        return strict_object(self.message.payload, "The payload")

    def require_read(self) -> None:
        """Raises SporkError(MALFORMED) unless this is a POST-as-GET."""
        if not self.reads:
            raise SporkError(Code.MALFORMED, "The payload must be empty: this resource can only be read.")

    def url(self, *parts: str) -> str:
        """External URL below the issuer's door."""
        return self.door.url(self.issuer, *parts)

    def account_url(self, account: Account) -> str:
        """The account's URL, which is its kid."""
        return self.url("account", str(account.id))

    @asynccontextmanager
    async def batch(self, *, durable: bool) -> AsyncIterator[tuple[CountedConnection, Sender]]:
        """A transaction that redeems the nonce first. A SporkError raised inside commits what was done so far.

        So all refusing comes before all writing.
        """
        refusal: SporkError | None = None
        async with self.door.services.database.batch(durable=durable) as connection:
            redemption = await redeem(connection, self.nonce)
            try:
                yield connection, Sender(self, redemption)
            except DatabaseUnavailable:
                raise
            except SporkError as error:
                refusal = error
        if refusal is not None:
            raise refusal

    def account_id(self) -> int:
        """The number in the kid. Raises SporkError: MALFORMED (no kid), ACCOUNT_DOES_NOT_EXIST."""
        if self.message.kid is None:
            raise SporkError(Code.MALFORMED, "This resource needs the account's URL as kid, not a jwk.")
        number = self.message.kid.removeprefix(self.url("account", ""))
        if not (number.isascii() and number.isdigit() and len(number) < 19) or number == self.message.kid:
            raise SporkError(Code.ACCOUNT_DOES_NOT_EXIST, "The kid is not the URL of an account of this issuer.")
        return int(number)

    def own_key(self) -> VerificationKey:
        """The jwk of the header, after its signature verified. Raises SporkError."""
        if self.message.jwk is None:
            raise SporkError(Code.MALFORMED, "This resource needs a jwk, not a kid.")
        key = parse_jwk(self.message.jwk)
        self.message.verify(key)
        return key


class Sender:
    """Who sent the request, as far as the batch knows."""

    def __init__(self, call: Call, redemption: CountedCursor) -> None:
        self._call = call
        self._redemption = redemption
        self._account: CountedCursor | None = None

    async def look_up(self, connection: CountedConnection) -> None:
        """Adds the account of the kid to the batch. Raises SporkError for a kid that cannot be one."""
        self._account = await acme_account.find(connection, self._call.account_id(), self._call.issuer.id)

    def require_fresh(self) -> None:
        """Raises SporkError(BAD_NONCE). Only after some answer of the batch was fetched."""
        if self._redemption.rowcount == 0:
            raise self._call.door.nonces.refused()

    async def account(self) -> Account:
        """The account, after nonce, state and signature were found good. Waits for the batch's answers once.

        Raises SporkError: BAD_NONCE, ACCOUNT_DOES_NOT_EXIST, UNAUTHENTICATED (deactivated), BAD_SIGNATURE.
        """
        assert self._account is not None
        account: Account | None = await self._account.fetchone()
        self.require_fresh()
        if account is None:
            raise SporkError(Code.ACCOUNT_DOES_NOT_EXIST, "There is no such account here; register the key first.")
        self._call.message.verify(self._call.door.key_of(account))
        if account.status != "valid":
            raise SporkError(Code.UNAUTHENTICATED, f"The account is {account.status}.")
        return account


Handler = Callable[..., Awaitable[Response]]


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON reply."""
    return Response(json.dumps(value), status, headers, media_type="application/json")


async def _body(request: Request) -> bytes:
    """The body, given up as soon as it is too large, announced or not. Raises SporkError(TOO_LARGE)."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or int(announced[:12]) > MAX_JWS_OCTETS:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JWS_OCTETS:
            raise _too_large()
    return bytes(body)


def _too_large() -> SporkError:
    return SporkError(Code.TOO_LARGE, f"The message may have at most {MAX_JWS_OCTETS} octets.")
