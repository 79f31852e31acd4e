"""From stored values to the JSON models."""

from __future__ import annotations

import hashlib
import ssl
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spork.api.admin import models
from spork.api.admin.backend import title
from spork.ids import serial_text
from spork.issuance.crl_schedule import ScopeState
from spork.issuance.ports import Recorded
from spork.issuance.revoke import Reason
from spork.policy.issuer import Issuer
from spork.store.certificate_search import CertificateDetail, CertificateSummary
from spork.x509.authority import Authority


def pem(der: bytes) -> str:
    return ssl.DER_cert_to_PEM_cert(der)


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def chain_pem(authority: Authority, *, root: bool = False) -> str:
    """The CA's own certificate and those above it; the root only if asked for, since who needs it must have it already."""
    path = [c for c in (authority.certificate, *authority.chain) if c is not None]
    kept = path if root else [c for c in path if c.subject != c.issuer]
    return "".join(pem_of(c) for c in kept)


def issued(recorded: Recorded, authority: Authority | None) -> models.IssuedCertificate:
    """What was issued, with the chain of that CA, or without one."""
    return models.IssuedCertificate(
        authority=recorded.authority_id,
        generation=recorded.generation,
        serial=serial_text(recorded.serial),
        not_before=recorded.not_before,
        not_after=recorded.not_after,
        pem=pem(recorded.der),
        chain=chain_pem(authority) if authority is not None else "",
    )


def location(recorded: Recorded) -> str:
    """The path at which administrators read the certificate."""
    return f"/api/v1/certificates/{recorded.authority_id}/{serial_text(recorded.serial)}"


def state_of(row: CertificateSummary, now: datetime) -> str:
    """reserved, issued, abandoned, revoked, held or expired. Revocation outlives expiry."""
    if row.reason is not None and row.state == "issued":
        return "held" if row.reason == Reason.certificateHold else "revoked"
    return "expired" if row.state == "issued" and row.not_after < now else row.state


def summary(row: CertificateSummary, label: str | None, now: datetime) -> models.CertificateSummary:
    return models.CertificateSummary.model_validate(_summary_fields(row, label, now))


def certificate(row: CertificateDetail, label: str | None, now: datetime) -> models.Certificate:
    return models.Certificate.model_validate(
        {
            **_summary_fields(row, label, now),
            "pem": pem(row.der) if row.der is not None else None,
            "sha256": row.sha256.hex() if row.sha256 is not None else None,
            "created_at": row.created_at,
            "issued_at": row.issued_at,
            "evidence": dict(row.evidence),
            "attributes": dict(row.attributes),
            "trace": [dict(verdict) for verdict in row.trace],
        }
    )


def _summary_fields(row: CertificateSummary, label: str | None, now: datetime) -> dict[str, Any]:
    return {
        "authority": row.authority_id,
        "generation": row.generation,
        "serial": serial_text(row.serial),
        "state": state_of(row, now),
        "profile": row.profile,
        "issuer": label,
        "subject": row.subject,
        "names": row.names,
        "not_before": row.not_before,
        "not_after": row.not_after,
        "requester": row.requester,
        "revocation": _revocation(row),
    }


def _revocation(row: CertificateSummary) -> dict[str, Any] | None:
    if row.reason is None:
        return None
    return {
        "reason": Reason(row.reason).name,
        "revoked_at": row.revoked_at,
        "invalidity_date": row.invalidity_date,
    }


def authority_model(authority: Authority) -> models.Authority:
    certificate = authority.certificate
    return models.Authority(
        id=authority.id,
        name=title(authority),
        kind=authority.kind.value,
        subject=authority.subject.rfc4514_string(),
        parent=authority.parent_id,
        generation=authority.generation,
        key_mode=authority.key_mode.value,
        algorithm=authority.algorithm.name,
        not_after=authority.not_after,
        sha256=hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest() if certificate else None,
        pem=pem_of(certificate) if certificate else None,
        chain="".join(pem_of(c) for c in authority.chain),
        crl_urls=list(authority.urls.crl),
        ocsp_urls=list(authority.urls.ocsp),
        ca_issuers_urls=list(authority.urls.ca_issuers),
    )


def issuer_model(issuer: Issuer) -> models.Issuer:
    return models.Issuer(
        label=issuer.label,
        authority=issuer.authority_id,
        profiles=list(issuer.profiles),
        permit={kind: list(patterns) for kind, patterns in issuer.names.permit.items()},
        deny={kind: list(patterns) for kind, patterns in issuer.names.deny.items()},
        wildcards=issuer.names.wildcards,
        algorithms=list(issuer.keys.algorithms),
        max_validity_s=int(issuer.max_validity.total_seconds()) if issuer.max_validity is not None else None,
        protocols=sorted(issuer.protocols),
        origin=issuer.origin,
        default=issuer.default,
    )


def crl_models(state: ScopeState, now: datetime) -> list[models.CRL]:
    """The full list of a scope, and the delta beside it, as far as they are published."""
    return [
        models.CRL(
            authority=state.scope.authority_id,
            generation=state.scope.generation,
            shard=state.scope.shard,
            number=published.number,
            base_number=published.base_number,
            this_update=published.this_update,
            next_update=published.next_update,
            entries=published.entries,
            stale=published.next_update < now,
            changed=state.changed,
        )
        for published in (state.full, state.delta)
        if published is not None
    ]
