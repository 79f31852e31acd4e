"""What a door hands to the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from spork.issuance.ports import IdempotencyKey
from spork.policy.issuer import Issuer
from spork.policy.proposal import Evidence, Grant, Requester
from spork.x509.authority import Authority
from spork.x509.names import SubjectName
from spork.x509.profile import CAConstraints, Profile


@dataclass(frozen=True, slots=True)
class IssuanceRequest:
    """A request for one certificate, authenticated and translated, but not yet judged."""

    requester: Requester
    grant: Grant
    evidence: Evidence
    idempotency: IdempotencyKey
    authority: Authority
    issuer: Issuer | None
    profile: Profile
    spki: bytes
    subject: x509.Name | None = None
    """None: by the profile's rule."""
    names: tuple[SubjectName, ...] = ()
    csr: x509.CertificateSigningRequest | None = None
    validity: timedelta | None = None
    """None: the profile's default. Shortened silently to the issuer's limits only where it is None; otherwise refused."""
    not_before: datetime | None = None
    not_after: datetime | None = None
    constraints: CAConstraints | None = None
    policies: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Stored with the certificate; see `Reservation.attributes`."""
