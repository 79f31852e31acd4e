"""The routes of the ACME door, one line each. Source: RFC 8555 section 7.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from spork.api.acme import accounts, certificates, orders
from spork.api.acme.configuration import configuration_of
from spork.api.acme.door import Door, Handler, reply
from spork.errors import Code, SporkError

if TYPE_CHECKING:
    from spork.services import Services


def router(services: Services) -> APIRouter:
    """All routes below `/acme`, over one process's services."""
    door = Door(services)
    routes = APIRouter()
    directory, nonce = door.plain(_directory(door)), door.plain(_new_nonce, nonce=True)
    routes.add_route("/acme/directory", directory, methods=["GET"])
    routes.add_route("/acme/{issuer}/directory", directory, methods=["GET"])
    # HEAD comes with GET.
    routes.add_route("/acme/{issuer}/new-nonce", nonce, methods=["GET"])
    handlers: dict[str, Handler] = {
        "new-account": accounts.new_account,
        "account/{account_id}": accounts.account,
        "account/{account_id}/orders": accounts.orders,
        "key-change": accounts.key_change,
        "new-order": orders.new_order,
        "order/{order_id}": orders.order,
        "order/{order_id}/finalize": certificates.finalize,
        "authorization/{authorization_id}": orders.authorization,
        "challenge/{challenge_id}": orders.challenge,
        "certificate/{order_id}": certificates.certificate,
        "certificate/{order_id}/{number}": certificates.certificate,
        "revoke-cert": certificates.revoke_certificate,
    }
    for path, handler in handlers.items():
        routes.add_route(f"/acme/{{issuer}}/{path}", door.endpoint(handler), methods=["POST"])
        routes.add_route(f"/acme/{{issuer}}/{path}", door.plain(_post_only), methods=_OTHER_METHODS)
    routes.add_route("/acme/{rest:path}", door.plain(_unknown), methods=["POST", *_OTHER_METHODS])
    return routes


_OTHER_METHODS = ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"]


def _directory(door: Door) -> Any:
    async def directory(request: Request) -> Response:
        """The URLs of an issuer's door (RFC 8555 section 7.1.1); without an issuer in the path, the default one's."""
        issuer = await door.issuer(request)
        configuration = configuration_of(issuer)
        meta = {
            "termsOfService": configuration.terms_of_service,
            "website": configuration.website,
            "caaIdentities": list(configuration.caa_identities),
        }
        value: dict[str, Any] = {
            "newNonce": door.url(issuer, "new-nonce"),
            "newAccount": door.url(issuer, "new-account"),
            "newOrder": door.url(issuer, "new-order"),
            "revokeCert": door.url(issuer, "revoke-cert"),
            "keyChange": door.url(issuer, "key-change"),
        }
        if shown := {name: entry for name, entry in meta.items() if entry}:
            value["meta"] = shown
        return reply(value)

    return directory


async def _new_nonce(request: Request) -> Response:
    """A nonce: 200 to HEAD, 204 to GET (RFC 8555 section 7.2)."""
    return Response(status_code=200 if request.method == "HEAD" else 204)


async def _post_only(request: Request) -> Response:
    """Everything but directory and nonce is POST or POST-as-GET (RFC 8555 section 6.3)."""
    raise SporkError(Code.METHOD_NOT_ALLOWED, "Send a signed POST; to read, one with an empty payload (POST-as-GET).")


async def _unknown(request: Request) -> Response:
    raise SporkError(Code.NOT_FOUND, "There is nothing here; the directory names what there is.")
