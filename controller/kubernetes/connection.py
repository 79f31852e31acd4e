"""The connection to one API server: where it is, who we are there, and requests as plain JSON.

Configuration, credentials and transport are those of `kubernetes.aio`; its models are left alone, because building them costs
more than everything else that a request does here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import structlog
import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from prometheus_client import Counter

from spork import __version__
from spork.controller.cluster import Ref, Unreachable
from spork.controller.kubernetes.answers import error_of
from spork.errors import ConfigurationError

log = structlog.get_logger("spork.controller")

REQUESTS = Counter(
    "spork_kubernetes_requests_total",
    "Requests to the API server by method, kind and status.",
    ["method", "kind", "status"],
)
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_CONNECTIONS = 40
"""As many requests at once as there are workers, and some for events and the lease."""
_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_REFRESH_S = 10.0
"""Credentials are read anew at most this often."""
_DEFAULT_KUBECONFIG = "~/.kube/config"


class Connection:
    """Requests to one API server. Made by `connect`, closed by `close`."""

    def __init__(self, configure: Callable[[], Awaitable[Configuration]], configuration: Configuration) -> None:
        self._configure = configure
        self._refreshing = asyncio.Lock()
        self._refreshed_at = asyncio.get_running_loop().time()
        self._use(configuration)

    def _use(self, configuration: Configuration) -> None:
        self._configuration = configuration
        # Two pools: a watch holds its connection for minutes and must never keep a request waiting.
        configuration.connection_pool_maxsize = _CONNECTIONS
        self._requests = RESTClientObject(configuration)
        configuration.connection_pool_maxsize = 0
        self._watches = RESTClientObject(configuration)

    @property
    def host(self) -> str:
        """URL of the API server."""
        return str(self._configuration.host)

    async def request(
        self,
        method: str,
        path: str,
        ref: Ref,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """One request, and its answer as JSON. `ref` is what the request is about, for errors and metrics.

        Raises the errors of the port: Conflict, AlreadyExists, Refused, Unreachable.
        """
        status, answer, retry_after = await self._answered(method, path, ref, query, body, content_type)
        if status == 401 and await self._refresh():
            status, answer, retry_after = await self._answered(method, path, ref, query, body, content_type)
        if status >= 300:
            raise error_of(status, answer, ref, retry_after)
        return answer

    async def _answered(
        self,
        method: str,
        path: str,
        ref: Ref,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        content_type: str,
    ) -> tuple[int, dict[str, Any], str | None]:
        headers = await self._headers()
        if body is not None:
            headers["Content-Type"] = content_type
        status = 0
        try:
            sent = await self._requests.request(  # type: ignore[no-untyped-call]
                method, self._url(path, query), headers=headers, body=body, _request_timeout=_TIMEOUT
            )
            async with sent.response as response:
                status = response.status
                raw = await response.read()
                retry_after: str | None = response.headers.get("Retry-After")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            await self._refresh_after(error)
            raise _unreachable(error) from error
        finally:
            REQUESTS.labels(method, ref.kind, str(status) if status else "none").inc()
        return status, _parsed(raw), retry_after

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, ref: Ref, query: Mapping[str, str], *, silence_s: float
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The JSON values of a watch, one a line, until the server ends it. Nothing for `silence_s` counts as lost.

        Raises the errors of the port.
        """
        headers = await self._headers()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=silence_s)
        try:
            sent = await self._watches.request(  # type: ignore[no-untyped-call]
                "GET", self._url(path, query), headers=headers, _request_timeout=timeout
            )
            async with sent.response as response:
                REQUESTS.labels("WATCH", ref.kind, str(response.status)).inc()
                if response.status == 401:
                    await self._refresh()
                if response.status != 200:
                    raw = await response.read()
                    raise error_of(response.status, _parsed(raw), ref, response.headers.get("Retry-After"))
                yield _values(response)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            await self._refresh_after(error)
            raise _unreachable(error) from error

    def _url(self, path: str, query: Mapping[str, str] | None) -> str:
        return f"{self._configuration.host}{path}?{urlencode(query)}" if query else f"{self._configuration.host}{path}"

    async def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": f"spork-controller/{__version__}"}
        # In a cluster this reads the token's file again when it is a minute old.
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        return headers

    async def _refresh_after(self, error: Exception) -> None:
        """A changed CA or client certificate shows as a failed handshake."""
        if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
            await self._refresh()

    async def _refresh(self) -> bool:
        """Reads configuration and credentials again. False if that was done a moment ago, or cannot be done."""
        async with self._refreshing:
            now = asyncio.get_running_loop().time()
            if now - self._refreshed_at < _REFRESH_S:
                return False
            self._refreshed_at = now
            try:
                configuration = await self._configure()
            except ConfigurationError as error:
                log.warning("the credentials of the API server cannot be read again", detail=error.detail)
                return False
            old = self._requests, self._watches
            self._use(configuration)
            # Watches that are open there end, and are taken up again with the new credentials.
            for one in old:
                await one.close()
            log.info("read the credentials of the API server again")
            return True

    async def close(self) -> None:
        """Closes all connections."""
        await self._requests.close()
        await self._watches.close()


async def _values(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    # Lines are put together here: the stream's own reader of lines refuses those above its buffer.
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(raw) if raw else {}
    except ValueError:
        # Such as "404 page not found" for a group that nobody serves, or the page of a proxy.
        return {}
    return answer if isinstance(answer, dict) else {}


def _unreachable(error: Exception) -> Unreachable:
    what = (
        "does not answer in time" if isinstance(error, TimeoutError) else f"cannot be reached ({type(error).__name__})"
    )
    return Unreachable(f"The API server {what}.")


async def connect(kubeconfig: Path | None = None, context: str | None = None) -> Connection:
    """Connects as that kubeconfig says; without one as `$KUBECONFIG` says, or the pod's service account, or ~/.kube/config.

    Nothing is requested yet. Raises ConfigurationError.
    """

    async def configure() -> Configuration:
        configuration = Configuration()
        try:
            if kubeconfig is None and context is None and _in_cluster():
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                await load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=_file(kubeconfig),
                    context=context,
                    client_configuration=configuration,
                    persist_config=False,
                )
            # Certificates and keys are read here, so that a file that is missing or no key is found now.
            RESTClientObject(configuration)
        except (ConfigException, yaml.YAMLError, OSError, ValueError, KeyError, TypeError) as error:
            # An OSError of a file names it; the parser's own words may quote what stands in the file.
            said = str(error) if isinstance(error, (ConfigException, OSError)) else f"({type(error).__name__})"
            raise ConfigurationError(f"The connection to the API server is not configured: {said}") from error
        return configuration

    return Connection(configure, await configure())


def _in_cluster() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG")


def _file(kubeconfig: Path | None) -> str:
    return str(kubeconfig or os.environ.get("KUBECONFIG") or Path(_DEFAULT_KUBECONFIG).expanduser())
