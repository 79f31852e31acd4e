"""The applications of the four addresses, each with everything around it that all of them need."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from spork import __version__
from spork.api.acme.routes import router as acme_router
from spork.api.admin.application import application as admin_application
from spork.api.observe import observed
from spork.api.ops.application import application as ops_application
from spork.api.status.application import StatusApplication
from spork.services import Services


def enrol(services: Services) -> Any:
    """The doors of enrolment over TLS: ACME."""
    app = FastAPI(title="SPORK CA enrolment", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = services
    app.include_router(acme_router(services))
    return observed("enrol", app)


def admin(services: Services) -> Any:
    """The administration API; client certificates are required by route."""
    return observed("admin", admin_application(services))


def status(application: StatusApplication) -> Any:
    """OCSP, CRLs and CA certificates: plain ASGI, ahead of any framework."""
    return observed("status", application)


def ops(services: Services) -> Any:
    """Health, readiness and metrics."""
    return ops_application(services)
