"""From a request of another API to its certificate, by the one pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spork.controller.reconciler import Context
from spork.controller.requests.asked import Asked
from spork.controller.requests.usages import profile_for
from spork.errors import SporkError
from spork.ids import Serial
from spork.issuance.ports import IdempotencyKey, Recorded
from spork.issuance.request import IssuanceRequest
from spork.policy.issuer import Issuer
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.x509.authority import Authority
from spork.x509.names import SubjectName
from spork.x509.nametext import name_of_common_name
from spork.x509.profile import Profile, SubjectRule


@dataclass(frozen=True, slots=True)
class Issued:
    """An issued certificate as these APIs hand it out."""

    serial: Serial
    chain_pem: bytes
    """The certificate and those above it, without the root."""
    root_pem: bytes


async def issued(context: Context, asked: Asked, issuer: Issuer) -> Issued | None:
    """The certificate, made now or by an earlier attempt; None while its signature is still awaited.

    Raises SporkError as the pipeline does, and as `profile_for`.
    """
    recorded = await _recorded(context, asked, issuer)
    if recorded is None:
        return None
    signed_by = await context.services.authorities.authority(recorded.authority_id, recorded.generation)
    chain = _chain(x509.load_der_x509_certificate(recorded.der), signed_by)
    above = [one for one in chain[1:] if one.issuer != one.subject]
    return Issued(
        recorded.serial,
        b"".join(one.public_bytes(Encoding.PEM) for one in (chain[0], *above)),
        chain[-1].public_bytes(Encoding.PEM),
    )


async def _recorded(context: Context, asked: Asked, issuer: Issuer) -> Recorded | None:
    key = IdempotencyKey(f"issuer:{issuer.id}", Door.KUBERNETES, asked.key, asked.digest)
    try:
        profile = profile_for(issuer, asked.usages, asked.purposes, asked.csr.spki)
    except SporkError:
        # What was signed before the issuer changed is signed, and whoever asked gets it.
        if (earlier := await context.services.ledger.find(key)) is not None:
            return earlier
        raise
    authority = await context.services.authorities.authority(issuer.authority_id)
    return await context.services.issuing.issue(_request(context, asked, issuer, authority, profile, key))


def _request(
    context: Context, asked: Asked, issuer: Issuer, authority: Authority, profile: Profile, key: IdempotencyKey
) -> IssuanceRequest:
    where = f"{asked.namespace}/{asked.name}" if asked.namespace else asked.name
    return IssuanceRequest(
        requester=Requester(Door.KUBERNETES, asked.requester, namespace=asked.requester_namespace),
        grant=Grant(profiles=frozenset(issuer.profiles)),
        evidence=Evidence("approval", f"{asked.kind} {where}, approved by {asked.approval}"),
        idempotency=key,
        authority=authority,
        issuer=issuer,
        profile=profile,
        spki=asked.csr.spki,
        names=_names(asked, profile),
        csr=asked.csr.request,
        validity=_validity(context, asked, issuer, authority, profile),
        attributes={
            "kubernetes": {
                "kind": asked.kind,
                "namespace": asked.namespace,
                "name": asked.name,
                "uid": asked.uid,
                "user": dict(asked.user),
            }
        },
    )


def _names(asked: Asked, profile: Profile) -> tuple[SubjectName, ...]:
    if asked.csr.names or profile.subject is not SubjectRule.EMPTY_OR_CN or asked.csr.common_name is None:
        return asked.csr.names
    spelled = name_of_common_name(asked.csr.common_name)
    return () if spelled is None else (spelled,)


def _validity(
    context: Context, asked: Asked, issuer: Issuer, authority: Authority, profile: Profile
) -> timedelta | None:
    if asked.validity is None or not asked.shorten:
        return asked.validity
    limits = [asked.validity, profile.max_validity, issuer.max_validity]
    if authority.not_after is not None:
        limits.append(authority.not_after - context.clock.now())
    return min(limit for limit in limits if limit is not None)


def _chain(certificate: x509.Certificate, signed_by: Authority) -> list[x509.Certificate]:
    return [certificate, *([signed_by.certificate] if signed_by.certificate else []), *signed_by.chain]
