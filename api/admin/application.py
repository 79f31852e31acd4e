"""The administration API as an application of its own: the routes, and problem documents for every other path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from spork import __version__
from spork.api.admin.problems import http_problem
from spork.api.admin.routes import router

if TYPE_CHECKING:
    from spork.services import Services


def application(services: Services) -> FastAPI:
    """The administration API alone, with problem documents for unknown paths and methods as well."""
    app = application_over(router(services))
    app.state.services = services
    return app


def application_over(api: APIRouter) -> FastAPI:
    """An application that holds this router and nothing else. Its description is a guarded operation."""
    app = FastAPI(title="SPORK CA administration", version=__version__, openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(api)
    app.add_exception_handler(HTTPException, _framework_refusal)
    return app


async def _framework_refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return http_problem(error)
