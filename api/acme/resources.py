"""The JSON of accounts, orders, authorizations and challenges. Members without a value are left out.

Source: RFC 8555 sections 7.1.2 to 7.1.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from spork.api.acme.door import Call
from spork.store.acme_account import Account
from spork.store.acme_authorization import Authorization
from spork.store.acme_order import Order


def instant(value: datetime) -> str:
    """RFC 3339, UTC, whole seconds."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def account_json(call: Call, account: Account) -> dict[str, Any]:
    """An account object."""
    value: dict[str, Any] = {"status": account.status, "orders": f"{call.account_url(account)}/orders"}
    if account.contact:
        value["contact"] = list(account.contact)
    if account.terms_agreed_at is not None:
        value["termsOfServiceAgreed"] = True
    return value


def order_json(call: Call, order: Order) -> dict[str, Any]:
    """An order object."""
    value: dict[str, Any] = {
        "status": order.status,
        "expires": instant(order.expires_at),
        "identifiers": [dict(identifier) for identifier in order.identifiers],
        "authorizations": [call.url("authorization", one) for one in order.authorizations],
        "finalize": call.url("order", order.id, "finalize"),
    }
    if order.not_before is not None:
        value["notBefore"] = instant(order.not_before)
    if order.not_after is not None:
        value["notAfter"] = instant(order.not_after)
    if order.status == "valid":
        value["certificate"] = call.url("certificate", order.id)
    return value


def authorization_json(call: Call, authorization: Authorization) -> dict[str, Any]:
    """An authorization object. Once it is decided, only the challenges that were answered are shown."""
    value: dict[str, Any] = {
        "identifier": {"type": authorization.identifier_type, "value": authorization.identifier_value},
        "status": authorization.status,
        "expires": instant(authorization.expires_at),
        "challenges": [
            challenge_json(call, challenge)
            for challenge in authorization.challenges
            if authorization.status == "pending" or challenge["status"] != "pending"
        ],
    }
    if authorization.wildcard:
        value["wildcard"] = True
    return value


def challenge_json(call: Call, challenge: Mapping[str, Any]) -> dict[str, Any]:
    """A challenge object."""
    value: dict[str, Any] = {
        "type": challenge["type"],
        "url": call.url("challenge", challenge["id"]),
        "status": challenge["status"],
        "token": challenge["token"],
    }
    if challenge.get("error"):
        value["error"] = challenge["error"]
    if challenge.get("validated_at"):
        at = challenge["validated_at"]
        value["validated"] = instant(at if isinstance(at, datetime) else datetime.fromisoformat(at))
    return value
