"""Accounts: registration, reading, changing, ending, and new keys. Source: RFC 8555 section 7.3."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from spork.api.acme.door import Call, reply
from spork.api.acme.resources import account_json
from spork.errors import Code, SporkError
from spork.issuance.ports import AuditEvent
from spork.policy.weakkeys import weakness_of
from spork.store import acme_account, acme_order, audit
from spork.store.acme_account import Account, KeyTaken
from spork.store.connection import CountedConnection
from spork.wire.jose import VerificationKey, parse_inner_jws, parse_jwk, strict_object
from spork.x509.names import NameKind, SubjectName
from spork.x509.namesyntax import name_fault

_MAX_CONTACTS = 10
_ORDERS_PER_PAGE = 100


async def new_account(call: Call) -> Response:
    """Registers a key, or finds its account: 201 only when it is new (RFC 8555 sections 7.3 and 7.3.1)."""
    key = call.own_key()
    payload = call.payload()
    now = call.door.services.clock.now()
    async with call.batch(durable=True) as (connection, sender):
        cursor = await acme_account.find_by_key(connection, call.issuer.id, key.thumbprint)
        account: Account | None = await cursor.fetchone()
        sender.require_fresh()
        created = account is None
        if account is None:
            contact, agreed = _terms_of_registration(call, payload, key)
            inserted = await acme_account.insert(
                connection,
                call.issuer.id,
                thumbprint=key.thumbprint,
                jwk=key.jwk,
                contact=contact,
                terms_agreed_at=now if agreed else None,
                now=now,
            )
            account = await inserted.fetchone()
            if account is not None:
                await _audit(connection, call, account, "acme.account.create", contact=list(contact))
            else:
                # Another request registered the same key in this instant, and a further statement sees its account.
                created = False
                cursor = await acme_account.find_by_key(connection, call.issuer.id, key.thumbprint)
                account = await cursor.fetchone()
    if account is None:
        raise SporkError(Code.CONFLICT, "The key is just changing hands; ask again.", retry_after_s=1)
    _require_valid(account)
    headers = {"Location": call.account_url(account)}
    return reply(account_json(call, account), 201 if created else 200, headers)


def _require_valid(account: Account) -> None:
    if account.status != "valid":
        raise SporkError(Code.UNAUTHENTICATED, f"The account of this key is {account.status}.")


def _terms_of_registration(call: Call, payload: dict[str, Any], key: VerificationKey) -> tuple[list[str], bool]:
    """What a new account needs, checked. Raises SporkError."""
    if _flag(payload, "onlyReturnExisting"):
        raise SporkError(Code.ACCOUNT_DOES_NOT_EXIST, "There is no account with this key here.")
    agreed = _flag(payload, "termsOfServiceAgreed")
    if call.configuration.terms_of_service and not agreed:
        raise SporkError(
            Code.USER_ACTION_REQUIRED,
            f"Agree to the terms of service at {call.configuration.terms_of_service} (termsOfServiceAgreed).",
        )
    _require_strong(key)
    return _contacts(payload.get("contact", [])), agreed and bool(call.configuration.terms_of_service)


def _require_strong(key: VerificationKey) -> None:
    if (reason := weakness_of(key.key)) is not None:
        raise SporkError(Code.BAD_PUBLIC_KEY, f"The account key is weak: it {reason}.")


def _flag(payload: dict[str, Any], name: str) -> bool:
    value = payload.get(name, False)
    if not isinstance(value, bool):
        raise SporkError(Code.MALFORMED, f"{name} must be true or false.")
    return value


def _contacts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SporkError(Code.MALFORMED, "contact must be a list of texts.")
    if len(value) > _MAX_CONTACTS:
        raise SporkError(Code.INVALID_CONTACT, f"At most {_MAX_CONTACTS} contacts are kept.")
    return [_contact(item) for item in value]


def _contact(url: str) -> str:
    """Source: RFC 8555 section 7.3: mailto with one address and no header fields."""
    scheme, colon, address = url.partition(":")
    if not colon or scheme.lower() != "mailto":
        raise SporkError(Code.UNSUPPORTED_CONTACT, "Only mailto: contacts are supported.")
    if "?" in address or "," in address or name_fault(SubjectName(NameKind.EMAIL, address)) is not None:
        raise SporkError(Code.INVALID_CONTACT, "A contact must be mailto: and one plain mail address.")
    return f"mailto:{address}"


async def account(call: Call, account_id: str) -> Response:
    """Reads, changes or deactivates an account (RFC 8555 sections 7.3.2 and 7.3.6)."""
    async with call.batch(durable=not call.reads) as (connection, sender):
        await sender.look_up(connection)
        found = await sender.account()
        _require_own(found, account_id)
        payload = {} if call.reads else call.payload()
        status = payload.get("status")
        if status == "deactivated":
            await acme_account.deactivate(connection, found.id)
            await _audit(connection, call, found, "acme.account.deactivate")
        elif status not in (None, found.status):
            raise SporkError(Code.MALFORMED, "The status of an account can only be changed to deactivated.")
        elif "contact" in payload or "termsOfServiceAgreed" in payload:
            await _update(connection, call, found, payload)
        changed = None if call.reads else await acme_account.find(connection, found.id, call.issuer.id)
    if changed is not None:
        found = await changed.fetchone() or found
    return reply(account_json(call, found), headers={"Location": call.account_url(found)})


async def _update(connection: CountedConnection, call: Call, found: Account, payload: dict[str, Any]) -> None:
    contact = _contacts(payload["contact"]) if "contact" in payload else None
    agreed = _flag(payload, "termsOfServiceAgreed") and bool(call.configuration.terms_of_service)
    now = call.door.services.clock.now()
    await acme_account.update(connection, found.id, contact=contact, terms_agreed_at=now if agreed else None)
    await _audit(connection, call, found, "acme.account.update", contact=contact)


async def orders(call: Call, account_id: str) -> Response:
    """The account's orders, a page at a time (RFC 8555 section 7.1.2.1)."""
    call.require_read()
    now = call.door.services.clock.now()
    after = call.query.get("after", "")
    async with call.batch(durable=False) as (connection, sender):
        await sender.look_up(connection)
        cursor = await acme_order.list_ids(connection, call.account_id(), after, _ORDERS_PER_PAGE + 1, now)
    found = await sender.account()
    _require_own(found, account_id)
    ids = [row[0] for row in await cursor.fetchall()]
    page = ids[:_ORDERS_PER_PAGE]
    headers = {}
    if len(ids) > len(page):
        headers["Link"] = f'<{call.account_url(found)}/orders?after={page[-1]}>;rel="next"'
    return reply({"orders": [call.url("order", one) for one in page]}, headers=headers)


async def key_change(call: Call) -> Response:
    """Gives the account another key (RFC 8555 section 7.3.5)."""
    try:
        found, holder = await _change_key(call)
    except KeyTaken:
        # The batch is rolled back, and the nonce is good for a second one, which sees who has the key now.
        found, holder = await _change_key(call)
    if holder is not None:
        problem = {
            "type": "urn:ietf:params:acme:error:malformed",
            "detail": "The new key belongs to an account already.",
            "status": 409,
        }
        response = reply(problem, 409, {"Location": call.account_url(holder)})
        response.headers["Content-Type"] = "application/problem+json"
        return response
    return reply(account_json(call, found), headers={"Location": call.account_url(found)})


async def _change_key(call: Call) -> tuple[Account, Account | None]:
    """The account, and who has the new key already: then nothing was changed. Raises SporkError, KeyTaken."""
    async with call.batch(durable=True) as (connection, sender):
        await sender.look_up(connection)
        found = await sender.account()
        key = _new_key(call, found)
        cursor = await acme_account.find_by_key(connection, call.issuer.id, key.thumbprint)
        holder: Account | None = await cursor.fetchone()
        if holder is None:
            await acme_account.replace_key(
                connection, found.id, former=found.thumbprint, thumbprint=key.thumbprint, jwk=key.jwk
            )
            await _audit(connection, call, found, "acme.account.key-change", thumbprint=key.thumbprint_text)
    return found, holder


def _new_key(call: Call, found: Account) -> VerificationKey:
    """The key of the inner message, which proves its possession. Raises SporkError."""
    inner = parse_inner_jws(call.payload())
    key = parse_jwk(inner.jwk or {})
    inner.verify(key)
    if inner.url != call.message.url:
        raise SporkError(Code.MALFORMED, "The url of the inner and of the outer message must be the same.")
    content = strict_object(inner.payload, "The payload of the inner message")
    if content.get("account") != call.message.kid:
        raise SporkError(Code.MALFORMED, "The inner message must name the account that the outer one is signed by.")
    old = content.get("oldKey")
    if not isinstance(old, dict) or parse_jwk(old).thumbprint != found.thumbprint:
        raise SporkError(Code.MALFORMED, "oldKey must be the account's current key.")
    _require_strong(key)
    return key


def _require_own(found: Account, account_id: str) -> None:
    if str(found.id) != account_id:
        raise SporkError(Code.FORBIDDEN, "This is another account's resource.")


async def _audit(connection: CountedConnection, call: Call, found: Account, action: str, **detail: Any) -> None:
    actor = f"acme-account:{found.id}"
    kept = {"issuer": call.issuer.label} | {name: value for name, value in detail.items() if value is not None}
    await audit.append(connection, AuditEvent(action, actor, actor, kept, call.address))
