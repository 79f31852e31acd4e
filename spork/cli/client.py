"""The client of the administration API: TLS with an administrator's certificate, and every failure as one sentence."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import httpx

from spork import __version__
from spork.cli.context import Context, ContextOptions, resolve, resolve_server
from spork.errors import Code, ConfigurationError, SporkError

API: Final = "/api/v1"
TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
"""Seconds. An issuance with a slow algorithm under load may take a while; a connection may not."""


class AdminClient:
    """Calls operations. Make it with `connect`, which closes it."""

    def __init__(self, http: httpx.Client, server: str) -> None:
        self._http = http
        self._server = server

    def get(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The JSON of a GET below /api/v1; parameters that are None are left out. Raises SporkError."""
        return self._send("GET", path, params=_present(parameters or {})).json()

    def text(self, path: str, parameters: Mapping[str, Any] | None = None) -> str:
        """The text of a GET, for PEM. Raises SporkError."""
        return self._send("GET", path, params=_present(parameters or {})).text

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None) -> Any:
        """The JSON of a POST; members of the body that are None are left out.

        It is sent a second time only if it carries an idempotency key and the connection broke. Raises SporkError.
        """
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        # An empty body means that the operation takes none.
        arguments: dict[str, Any] = {"headers": headers}
        if body is not None:
            arguments["json"] = _present(body)
        try:
            return self._send("POST", path, **arguments).json()
        except _ConnectionLost:
            if not idempotency_key:
                raise
            return self._send("POST", path, **arguments).json()

    def pages(self, path: str, parameters: Mapping[str, Any], limit: int | None) -> Iterator[Any]:
        """The items of a list, page after page, at most `limit` of them. Raises SporkError."""
        after: str | None = None
        left = limit
        while left is None or left > 0:
            size = min(500, left) if left is not None else 500
            page = self.get(path, {**parameters, "limit": size, "after": after})
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            after = page.get("next")
            if after is None:
                return

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, f"{API}{path}", **arguments)
        except httpx.TimeoutException as error:
            raise _ConnectionLost(f"{self._server} did not answer in time; is the CA running and reachable?") from error
        except httpx.ConnectError as error:
            raise NotSent(_why_no_connection(self._server, error)) from error
        except httpx.TransportError as error:
            raise _ConnectionLost(_why_broken(self._server, error)) from error
        if answer.is_error:
            raise _refusal(answer)
        return answer


class NotSent(SporkError):
    """There was no connection, so the request was certainly not carried out."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.UNAVAILABLE, detail)


class _ConnectionLost(SporkError):
    """The request may or may not have been carried out."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.UNAVAILABLE, detail)


@contextmanager
def connect(options: ContextOptions) -> Iterator[AdminClient]:
    """A client for the CA that options and context file name. Raises SporkError, click.Abort."""
    context = resolve(options)
    # Proxies of the environment are for the web; a CA's administration port is reached directly or not at all.
    with httpx.Client(
        base_url=context.server,
        verify=tls_context(context),
        timeout=TIMEOUT,
        trust_env=False,
        headers={"User-Agent": f"spork/{__version__}", "Accept": "application/json"},
    ) as http:
        yield AdminClient(http, context.server)


@contextmanager
def connect_with_token(options: ContextOptions, token: str) -> Iterator[AdminClient]:
    """A client without a certificate, for enrolment alone; the token goes into each request. Raises SporkError."""
    server, ca_file = resolve_server(options)
    with httpx.Client(
        base_url=server,
        verify=_verification(ca_file),
        timeout=TIMEOUT,
        trust_env=False,
        headers={
            "User-Agent": f"spork/{__version__}",
            "Accept": "application/json",
            "Authorization": f"Bearer {token}",
        },
    ) as http:
        yield AdminClient(http, server)


def may_have_happened(error: SporkError) -> bool:
    """Whether what was asked for may have been done although it failed here: the connection or the database broke in between."""
    return error.code is Code.UNAVAILABLE and not isinstance(error, NotSent)


def fresh_idempotency_key() -> str:
    """For one invocation of a command: a retry after a broken connection gets the certificate of the first try."""
    return secrets.token_urlsafe(24)


def path_segment(text: str) -> str:
    """A value as one segment of a path."""
    from urllib.parse import quote

    return quote(text, safe="")


def tls_context(context: Context) -> ssl.SSLContext:
    """TLS 1.2 or later with the administrator's certificate. Asks on the terminal for the passphrase of an encrypted key.

    Raises ConfigurationError for files that are not what they should be.
    """
    tls = _verification(context.ca_file)
    try:
        tls.load_cert_chain(context.admin_cert, context.admin_key, password=lambda: _ask(context.admin_key))
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{context.admin_cert} and {context.admin_key} are not a certificate and its key in PEM, or the passphrase is wrong."
        ) from error
    except PermissionError as error:
        raise ConfigurationError(f"{error.filename or context.admin_key} cannot be read: {error.strerror}.") from error
    return tls


def _verification(ca_file: Path | None) -> ssl.SSLContext:
    tls = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    if ca_file is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            tls.load_verify_locations(cafile=str(ca_file))
        except ssl.SSLError as error:
            raise ConfigurationError(f"{ca_file} holds no certificates in PEM.") from error
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    return tls


def _ask(key: Path) -> str:
    return str(click.prompt(f"Passphrase of {key}", hide_input=True, err=True))


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _why_no_connection(server: str, error: httpx.ConnectError) -> str:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or "it is not trusted"
        return f"The certificate of {server} is not accepted: {reason}; --ca-file names the certificates to trust."
    if "SSL" in text or "TLS" in text:
        return f"No TLS connection to {server} could be made: {text}."
    return f"{server} cannot be reached; is the CA running (spork up, spork serve) and the URL right?"


def _why_broken(server: str, error: httpx.TransportError) -> str:
    # With TLS 1.3 the server judges the client's certificate after the client believes the handshake to be over. Then there is
    # an alert, or the connection just ends before any answer.
    if "alert" in str(error).lower() or isinstance(error, httpx.RemoteProtocolError):
        return (
            f"{server} closed the connection without an answer. Most likely it does not accept the administrator's certificate: "
            "it is of another CA, or has expired."
        )
    return f"The connection to {server} broke ({type(error).__name__}); it is not known whether the request was carried out."


def _refusal(answer: httpx.Response) -> SporkError:
    """The server's problem document as the error that it was there. Raises nothing."""
    try:
        document = answer.json()
        code = Code(document["code"])
        detail = str(document["detail"])
    except (ValueError, KeyError, TypeError):
        return SporkError(
            Code.INTERNAL, f"The server answered {answer.status_code} without saying why; is it a SPORK CA?"
        )
    for sub in document.get("subproblems") or ():
        # Where there is only one name to blame, the whole refusal and its part say the same.
        if str(sub.get("detail")) not in detail:
            detail += f" {sub.get('name')}: {sub.get('detail')}"
    return SporkError(code, detail)
