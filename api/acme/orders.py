"""Orders and authorizations: placing, reading, answering challenges. Source: RFC 8555 sections 7.4 and 7.5."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from spork.api.acme.challenges import new_token, offered
from spork.api.acme.door import Call, reply
from spork.api.acme.identifiers import Identifier, check_identifiers, parse_identifiers
from spork.api.acme.resources import authorization_json, challenge_json, order_json
from spork.api.acme.wake import wake_of
from spork.errors import Code, SporkError
from spork.store import acme_authorization, acme_challenge, acme_order
from spork.store.acme_account import Account
from spork.store.acme_authorization import Authorization, NewAuthorization, NewChallenge, Reusable
from spork.store.acme_challenge import Challenge
from spork.store.acme_order import Order
from spork.wire.jose import b64url_encode

ORDER_LIFETIME = timedelta(days=7)
"""How long an order waits to be finalized, and a pending authorization for its answer."""
REUSE_MARGIN = timedelta(hours=1)
"""A valid authorization is used for another order only if it lasts this much longer."""
ORDERS_PER_HOUR = 1000
"""Of one account, where rate limits are on: far above what a busy fleet behind one account needs."""

_RETRY_AFTER = {"Retry-After": "1"}


def order_reply(call: Call, order: Order, status: int = 200) -> Response:
    """An order with its Location, which clients need on every reply, and Retry-After while a certificate is being made."""
    headers = {"Location": call.url("order", order.id)} | (_RETRY_AFTER if order.status == "processing" else {})
    return reply(order_json(call, order), status, headers)


async def new_order(call: Call) -> Response:
    """Places an order. Valid authorizations of the account are used again; for the other names new ones are made."""
    now = call.door.services.clock.now()
    payload = call.payload()
    identifiers = parse_identifiers(payload.get("identifiers"))
    not_before, not_after = _requested_validity(payload, now)
    wanted = [(one.type, one.bare, one.wildcard) for one in identifiers]
    async with call.batch(durable=True) as (connection, sender):
        await sender.look_up(connection)
        account_id = call.account_id()
        found = await acme_authorization.reusable(connection, account_id, wanted, now + REUSE_MARGIN)
        since = now - timedelta(hours=1)
        limited = call.door.services.settings.acme_rate_limits
        recent = await acme_order.count_since(connection, account_id, since, ORDERS_PER_HOUR) if limited else None
        account = await sender.account()
        _require_default_profile(payload)
        check_identifiers(identifiers, call.issuer, call.configuration)
        if recent is not None:
            _require_moderation((await recent.fetchone() or [0])[0])
        reusable: list[Reusable] = await found.fetchall()
        new, ids = _authorizations(call, identifiers, reusable)
        order = Order(
            id=_new_id(),
            account_id=account.id,
            issuer_id=call.issuer.id,
            identifiers=[one.json() for one in identifiers],
            not_before=not_before,
            not_after=not_after,
            expires_at=now + ORDER_LIFETIME,
            created_at=now,
            authorizations=ids,
            request_digest=None,
            status="pending" if new else "ready",
        )
        if new:
            await acme_authorization.insert(connection, account.id, new, expires_at=order.expires_at, now=now)
        await acme_order.insert(connection, order)
    return order_reply(call, order, 201)


def _authorizations(
    call: Call, identifiers: Sequence[Identifier], reusable: Sequence[Reusable]
) -> tuple[list[NewAuthorization], list[str]]:
    """New authorizations for the names that need one, and the ids of all in the order of the names."""
    known = {(one.identifier_type, one.identifier_value, one.wildcard): one.id for one in reusable}
    new: list[NewAuthorization] = []
    ids = []
    for one in identifiers:
        existing = known.get((one.type, one.bare, one.wildcard))
        if existing is None:
            # One token for all challenges of a name: whichever is answered, it proves the same.
            token = new_token()
            types = offered(one.type, one.wildcard, call.configuration)
            challenges = [NewChallenge(_new_id(), kind, token) for kind in types]
            new.append(NewAuthorization(_new_id(), one.type, one.bare, one.wildcard, challenges))
            existing = new[-1].id
        ids.append(existing)
    return new, ids


def _new_id() -> str:
    return b64url_encode(secrets.token_bytes(16))


def _require_default_profile(payload: Mapping[str, Any]) -> None:
    if payload.get("profile") is not None:
        raise SporkError(Code.MALFORMED, "This CA offers no choice of profiles; leave profile out.")


def _require_moderation(recent: int) -> None:
    if recent >= ORDERS_PER_HOUR:
        raise SporkError(
            Code.RATE_LIMITED, f"The account placed {ORDERS_PER_HOUR} orders within an hour.", retry_after_s=600
        )


def _requested_validity(payload: Mapping[str, Any], now: datetime) -> tuple[datetime | None, datetime | None]:
    not_before, not_after = _instant(payload, "notBefore"), _instant(payload, "notAfter")
    if not_after is not None and not_after <= max(now, not_before or now):
        raise SporkError(Code.MALFORMED, "notAfter must lie in the future, and after notBefore.")
    return not_before, not_after


def _instant(payload: Mapping[str, Any], name: str) -> datetime | None:
    text = payload.get(name)
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text).astimezone(UTC).replace(microsecond=0)
        if "T" not in text.upper() or datetime.fromisoformat(text).tzinfo is None:
            raise ValueError("no zone")
    except (TypeError, ValueError, OverflowError):
        raise SporkError(Code.MALFORMED, f"{name} must be a time as RFC 3339 has it, with its zone.") from None
    return value


async def order(call: Call, order_id: str) -> Response:
    """Reads an order."""
    call.require_read()
    now = call.door.services.clock.now()
    async with call.batch(durable=False) as (connection, sender):
        await sender.look_up(connection)
        cursor = await acme_order.find(connection, order_id, call.account_id(), now)
    await sender.account()
    return order_reply(call, found(await cursor.fetchone(), "order"))


async def authorization(call: Call, authorization_id: str) -> Response:
    """Reads or deactivates an authorization (RFC 8555 sections 7.5 and 7.5.2)."""
    now = call.door.services.clock.now()
    async with call.batch(durable=not call.reads) as (connection, sender):
        await sender.look_up(connection)
        cursor = await acme_authorization.find(connection, authorization_id, call.account_id(), now)
        if not call.reads:
            account = await sender.account()
            found(await cursor.fetchone(), "authorization")
            if call.payload() != {"status": "deactivated"}:
                raise SporkError(Code.MALFORMED, "An authorization can only be read, or changed to status deactivated.")
            await acme_authorization.deactivate(connection, authorization_id, account.id)
            cursor = await acme_authorization.find(connection, authorization_id, account.id, now)
    if call.reads:
        await sender.account()
    value: Authorization = found(await cursor.fetchone(), "authorization")
    return reply(authorization_json(call, value))


async def challenge(call: Call, challenge_id: str) -> Response:
    """Reads a challenge, or takes the client's word that it is ready to be checked (RFC 8555 section 7.5.1)."""
    now = call.door.services.clock.now()
    async with call.batch(durable=not call.reads) as (connection, sender):
        await sender.look_up(connection)
        cursor = await acme_challenge.find(connection, challenge_id, call.account_id(), now)
        account = await sender.account()
        value: Challenge = found(await cursor.fetchone(), "challenge")
        started = not call.reads and _is_answered_now(call, value)
        if started:
            await acme_challenge.start(connection, value.id, _job(call, account, value))
    if started:
        wake_of(call.door.services.database).set()
    shown = asdict(value) | ({"status": "processing"} if started else {})
    return reply(
        challenge_json(call, shown),
        headers={"Link": f'<{call.url("authorization", value.authorization_id)}>;rel="up"'},
    )


def _is_answered_now(call: Call, value: Challenge) -> bool:
    """Whether the answer starts a validation. A repeated answer to one that was started is only a read."""
    # The payload is {}; older clients put their key authorization in, which the server knows anyway.
    call.payload()
    if value.status != "pending":
        return False
    if value.authorization_status != "pending":
        raise SporkError(Code.MALFORMED, f"The authorization is {value.authorization_status}; place another order.")
    return True


def _job(call: Call, account: Account, value: Challenge) -> dict[str, Any]:
    """All that a validation needs: the evidence is bound to this key, token, name and method."""
    return {
        "issuer": call.issuer.label,
        "account": account.id,
        "address": call.address,
        "type": value.type,
        "token": value.token,
        "thumbprint": b64url_encode(account.thumbprint),
        "identifier_type": value.identifier_type,
        "identifier_value": value.identifier_value,
    }


def found(row: Any, what: str) -> Any:
    """The row. Raises SporkError(NOT_FOUND), also for what belongs to another account."""
    if row is None:
        raise SporkError(Code.NOT_FOUND, f"This account has no such {what}.")
    return row
