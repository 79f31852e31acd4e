"""Certificates: finalizing an order, downloading, revoking. Source: RFC 8555 sections 7.4, 7.4.2 and 7.6."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.responses import Response

from spork.api.acme.door import Call
from spork.api.acme.orders import found, order_reply
from spork.errors import Code, SporkError
from spork.ids import CertificateId, serial_from_octets, serial_text
from spork.issuance.ports import IdempotencyKey
from spork.issuance.request import IssuanceRequest
from spork.issuance.revoke import Reason
from spork.policy.proposal import Door as DoorName
from spork.policy.proposal import Evidence, Grant, Requester
from spork.store import acme_certificate, acme_order
from spork.store.acme_account import Account
from spork.store.acme_certificate import RevocableCertificate
from spork.store.acme_order import Order, OrderCertificate
from spork.wire.jose import b64url_decode
from spork.x509.csr import ParsedCSR, parse_csr
from spork.x509.names import NameKind, SubjectName, dns
from spork.x509.names import ip as ip_name
from spork.x509.profiles import profile_named

REASONS = (
    Reason.unspecified,
    Reason.keyCompromise,
    Reason.affiliationChanged,
    Reason.superseded,
    Reason.cessationOfOperation,
)
"""What a subscriber may give. CA and AA compromise are the CA's to find, hold and its release an administrator's."""

_MAX_CERTIFICATE_OCTETS = 64 * 1024


async def finalize(call: Call, order_id: str) -> Response:
    """Checks the CSR against the order and issues, once for each order whatever the number of requests."""
    now = call.door.services.clock.now()
    async with call.batch(durable=False) as (connection, sender):
        await sender.look_up(connection)
        cursor = await acme_order.find(connection, order_id, call.account_id(), now)
    account = await sender.account()
    order: Order = found(await cursor.fetchone(), "order")
    der = _octets(call.payload(), "csr", Code.BAD_CSR)
    digest = hashlib.sha256(der).digest()
    if order.status == "processing" or (order.status == "valid" and order.request_digest == digest):
        return order_reply(call, order)
    if order.status != "ready":
        raise SporkError(Code.ORDER_NOT_READY, f"The order is {order.status}; only a ready order can be finalized.")
    csr = parse_csr(der)
    _check_csr(call, account, order, csr)
    try:
        await call.door.services.pipeline.issue(await _request(call, account, order, csr, digest))
    except SporkError as error:
        if error.code is Code.IN_PROGRESS:
            return order_reply(call, replace(order, status="processing"))
        if error.code is Code.CONFLICT:
            # Another request with another CSR was faster: to this one the order is not ready any more.
            raise SporkError(Code.ORDER_NOT_READY, "The order was finalized with another CSR.") from error
        raise
    return order_reply(call, replace(order, status="valid"))


def _octets(payload: Mapping[str, Any], name: str, code: Code) -> bytes:
    text = payload.get(name)
    if not isinstance(text, str):
        raise SporkError(Code.MALFORMED, f"{name} is missing.")
    try:
        return b64url_decode(text)
    except ValueError as error:
        raise SporkError(code, f"{name} is {error}.") from error


def order_names(order: Order) -> tuple[SubjectName, ...]:
    """The order's identifiers as the certificate will carry them, in the order of the request."""
    return tuple(SubjectName(NameKind(one["type"]), one["value"]) for one in order.identifiers)


def _check_csr(call: Call, account: Account, order: Order, csr: ParsedCSR) -> None:
    """The CSR asks for exactly the order's names, with a key of its own (RFC 8555 sections 7.4 and 11.1)."""
    asked = {*csr.names, *_common_name(csr)}
    wanted = set(order_names(order))
    if missing := wanted - asked:
        raise SporkError(Code.BAD_CSR, f"The CSR lacks {_listed(missing)}, which the order has.")
    if extra := asked - wanted:
        raise SporkError(Code.BAD_CSR, f"The CSR asks for {_listed(extra)}, which the order does not have.")
    if csr.spki == call.door.key_of(account).spki():
        raise SporkError(Code.BAD_CSR, "The CSR carries the account's key; make another key for the certificate.")


def _common_name(csr: ParsedCSR) -> tuple[SubjectName, ...]:
    if csr.common_name is None:
        return ()
    try:
        return (ip_name(csr.common_name),)
    except ValueError:
        return (dns(csr.common_name),)


def _listed(names: set[SubjectName]) -> str:
    shown = sorted(str(name) for name in names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


async def _request(call: Call, account: Account, order: Order, csr: ParsedCSR, digest: bytes) -> IssuanceRequest:
    issuer, services = call.issuer, call.door.services
    names = order_names(order)
    profile = profile_named(issuer.profiles[0])
    return IssuanceRequest(
        requester=Requester(DoorName.ACME, requester_of(account), call.address),
        grant=Grant(profiles=frozenset({profile.name}), names=frozenset(names)),
        evidence=Evidence("order", order.id),
        idempotency=IdempotencyKey(f"issuer:{issuer.id}", DoorName.ACME, order.id, digest),
        authority=await services.authorities.authority(issuer.authority_id),
        issuer=issuer,
        profile=profile,
        spki=csr.spki,
        names=names,
        csr=csr.request,
        not_before=order.not_before,
        not_after=order.not_after,
    )


def requester_of(account: Account) -> str:
    """The account's name in certificates' rows and in the audit log."""
    return f"acme-account:{account.id}"


async def certificate(call: Call, order_id: str, number: str = "0") -> Response:
    """The certificate and a chain up to, but without, the root; `number` chooses among chains (RFC 8555 section 7.4.2)."""
    call.require_read()
    async with call.batch(durable=False) as (connection, sender):
        await sender.look_up(connection)
        cursor = await acme_order.certificate(connection, order_id, call.account_id())
    await sender.account()
    issued: OrderCertificate = found(await cursor.fetchone(), "certificate")
    chains = await call.door.chains.above(issued.authority_id, issued.generation)
    wanted = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else len(chains)
    chain = found(chains[wanted] if wanted < len(chains) else None, "chain")
    pem = b"".join(one.public_bytes(Encoding.PEM) for one in (x509.load_der_x509_certificate(issued.der), *chain))
    response = Response(pem, media_type="application/pem-certificate-chain")
    for other in range(len(chains)):
        if other != wanted:
            url = call.url("certificate", order_id, *([str(other)] if other else []))
            response.headers.append("Link", f'<{url}>;rel="alternate"')
    return response


async def revoke_certificate(call: Call) -> Response:
    """Revokes for the account that got it, for its own key, or for an account that controls all its names."""
    services = call.door.services
    key = call.own_key() if call.message.jwk is not None else None
    payload = call.payload()
    der = _octets(payload, "certificate", Code.MALFORMED)
    if len(der) > _MAX_CERTIFICATE_OCTETS:
        raise SporkError(Code.TOO_LARGE, "The certificate is too large.")
    account_id = None if key is not None else call.account_id()
    async with call.batch(durable=False) as (connection, sender):
        if key is None:
            await sender.look_up(connection)
        cursor = await acme_certificate.find(
            connection, hashlib.sha256(der).digest(), call.issuer.id, account_id, services.clock.now()
        )
    sender.require_fresh()
    account = await sender.account() if key is None else None
    target: RevocableCertificate | None = await cursor.fetchone()
    if target is None:
        raise SporkError(Code.NOT_FOUND, "This issuer has not issued such a certificate.")
    if account is not None:
        entitled = target.requester == requester_of(account) or target.names_authorized
        actor = requester_of(account)
    else:
        assert key is not None
        entitled = hashlib.sha256(key.spki()).digest() == target.spki_sha256
        actor = f"certificate-key:{key.thumbprint_text}"
    if not entitled:
        raise SporkError(Code.FORBIDDEN, "Neither this account nor this key is entitled to revoke the certificate.")
    serial = serial_text(serial_from_octets(target.serial))
    await services.revoker.revoke(
        CertificateId(target.id),
        _reason(payload),
        actor=actor,
        subject=f"certificate:{target.authority_id}/{serial}",
        authority=target.authority_id,
        address=call.address,
    )
    return Response(status_code=200)


def _reason(payload: Mapping[str, Any]) -> Reason:
    value = payload.get("reason", 0)
    if isinstance(value, int) and not isinstance(value, bool) and value in {reason.value for reason in REASONS}:
        return Reason(value)
    known = ", ".join(f"{reason.value} ({reason.name})" for reason in REASONS)
    raise SporkError(Code.BAD_REVOCATION_REASON, f"A subscriber may give one of these reasons: {known}.")
