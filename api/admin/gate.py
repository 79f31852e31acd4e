"""Before every operation: authenticate, check the level, bound the body. After it: every failure becomes a problem document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from spork.api.admin.authenticate import Administrator, Authenticator
from spork.api.admin.operations import OPERATIONS, check_allowed
from spork.api.admin.problems import http_problem, internal_problem, problem, validation_problem
from spork.errors import Code, SporkError

MAX_BODY_OCTETS: Final = 256 * 1024
"""A CSR of the largest accepted size in PEM is 90 KB; names and the rest add little."""

Handler = Callable[[Request], Awaitable[Response]]


def guarded(authenticator: Authenticator) -> type[APIRoute]:
    """The route class of the administration API. Nothing of a request is read before its sender is known and allowed."""

    class GuardedRoute(APIRoute):
        """A route that cannot exist without its line in the table of operations."""

        def get_route_handler(self) -> Callable[[Request], Any]:
            answer = super().get_route_handler()
            operation_id = self.operation_id
            if operation_id not in OPERATIONS:
                raise LookupError(f"{self.path}: the operation {operation_id!r} has no line in the table of operations")

            async def handler(request: Request) -> Response:
                try:
                    administrator = await authenticator.authenticate(request.scope)
                    check_allowed(administrator, operation_id)
                    request.state.administrator = administrator
                    return await answer(await with_bounded_body(request))
                except SporkError as error:
                    return problem(error)
                except RequestValidationError as error:
                    return validation_problem(error)
                except HTTPException as error:
                    return http_problem(error)
                except Exception as error:
                    return internal_problem(error)

            return handler

    return GuardedRoute


def administrator_of(request: Request) -> Administrator:
    """Dependency: the authenticated caller. The gate has run before, or the request would not be here."""
    administrator: Administrator = request.state.administrator
    return administrator


async def with_bounded_body(request: Request) -> Request:
    """The same request with its body read, at most MAX_BODY_OCTETS of it.

    Raises SporkError: TOO_LARGE; UNSUPPORTED_MEDIA_TYPE for a body that is not JSON.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_OCTETS:
            raise SporkError(Code.TOO_LARGE, f"The body is larger than the {MAX_BODY_OCTETS} octets that are accepted.")
    if body and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise SporkError(Code.UNSUPPORTED_MEDIA_TYPE, "Send the body as JSON, with Content-Type: application/json.")
    sent = False

    async def replay() -> dict[str, Any]:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return Request(request.scope, replay)
