"""Before an enrolment: how often the address has tried, a bearer token, a bounded body. No certificate is asked for here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from spork.api.admin.addresses import AddressLimit
from spork.api.admin.gate import with_bounded_body
from spork.api.admin.problems import http_problem, internal_problem, problem, validation_problem
from spork.api.admin.tokenreview import MAX_TOKEN_OCTETS
from spork.errors import Code, SporkError

CHALLENGE: Final = 'Bearer realm="SPORK enrolment"'
"""RFC 6750 section 3."""
# RFC 6750 section 2.1: the word, a blank, and a token68.
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")


log = structlog.get_logger("spork.api.admin")


def bearing(failures: AddressLimit, tries: AddressLimit) -> type[APIRoute]:
    """The route class of operations that a token opens. `failures` is paid back for whoever turns out to be entitled."""

    class BearerRoute(APIRoute):
        """A route on which every failure is a problem document."""

        def get_route_handler(self) -> Callable[[Request], Any]:
            answer = super().get_route_handler()

            async def handler(request: Request) -> Response:
                try:
                    response = await _admitted(request, answer)
                except SporkError as error:
                    log.info("enrolment refused", code=error.code.value, address=address_of(request))
                    response = problem(error)
                except RequestValidationError as error:
                    response = validation_problem(error)
                except HTTPException as error:
                    response = http_problem(error)
                except Exception as error:
                    response = internal_problem(error)
                if response.status_code == 401:
                    response.headers["WWW-Authenticate"] = CHALLENGE
                return response

            async def _admitted(request: Request, answer: Callable[[Request], Any]) -> Response:
                address = address_of(request)
                tries.take(address)
                failures.take(address)
                request.state.token = _token(request)
                request.state.entitled = lambda: failures.give_back(address)
                response: Response = await answer(await with_bounded_body(request))
                return response

            return handler

    return BearerRoute


def address_of(request: Request) -> str | None:
    """Of the TCP connection. What a proxy may write into a header is not believed."""
    return request.client.host if request.client is not None else None


def _token(request: Request) -> str:
    headers = request.headers.getlist("authorization")
    match = _BEARER.fullmatch(headers[0].strip()) if len(headers) == 1 else None
    if match is None or len(match[1]) > MAX_TOKEN_OCTETS:
        raise SporkError(
            Code.UNAUTHENTICATED,
            "Send one header `Authorization: Bearer` with a one-time token or a ServiceAccount's token.",
        )
    return match[1]
