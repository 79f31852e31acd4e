"""The request for an administrator's certificate, the same from REST, from the host and for the first administrator."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from cryptography import x509

from spork.issuance.ports import IdempotencyKey
from spork.issuance.request import IssuanceRequest
from spork.policy.levels import PROFILE_PREFIX, AdminLevel, level_oid
from spork.policy.proposal import Evidence, Grant, Requester
from spork.x509.authority import Authority
from spork.x509.names import SubjectName
from spork.x509.profiles import profile_named


def administrator_request(
    *,
    requester: Requester,
    evidence: Evidence,
    idempotency: IdempotencyKey,
    authority: Authority,
    name: str,
    level: AdminLevel,
    issuers: Sequence[str] | None,
    oid_base: str,
    spki: bytes,
    csr: x509.CertificateSigningRequest | None = None,
    names: tuple[SubjectName, ...] = (),
    validity: timedelta | None = None,
) -> IssuanceRequest:
    """`authority` is the management CA. The name becomes the subject, whatever a CSR says.

    `issuers` are the labels that the administrator is limited to; None means all. They are stored with the certificate's row,
    and read on every request that comes with it.
    """
    profile = profile_named(f"{PROFILE_PREFIX}{level.name.lower()}")
    return IssuanceRequest(
        requester=requester,
        grant=Grant(profiles=frozenset({profile.name})),
        evidence=evidence,
        idempotency=idempotency,
        authority=authority,
        issuer=None,
        profile=profile,
        spki=spki,
        subject=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]),
        names=names,
        csr=csr,
        validity=validity,
        policies=(level_oid(level, oid_base),),
        attributes=administrator_attributes(name, level, issuers),
    )


def administrator_attributes(name: str, level: AdminLevel, issuers: Sequence[str] | None) -> dict[str, Any]:
    """What is stored with the certificate."""
    limits = {} if issuers is None else {"issuers": sorted(set(issuers))}
    return {"administrator": name, "level": level.name.lower(), **limits}
