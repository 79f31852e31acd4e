"""What is decided upon: a whole certificate as it would be issued, together with who asks and what entitles them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509

from spork.policy.issuer import Issuer
from spork.x509.authority import Authority
from spork.x509.names import SubjectName
from spork.x509.profile import CAConstraints, Profile


class Door(StrEnum):
    """Where a request came in."""

    ACME = "acme"
    EST = "est"
    SCEP = "scep"
    CMP = "cmp"
    REST = "rest"
    KUBERNETES = "kubernetes"
    BOOTSTRAP = "bootstrap"
    """The host itself: the tree, listener and OCSP certificates, the first administrator."""


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks, as the door authenticated them."""

    door: Door
    identity: str
    """Stable and printable: `acme-account:17`, `admin:CN=alice`, `host`. Stored with the certificate and in the audit log."""
    address: str | None = None
    """Network address of the client, for the audit log."""
    namespace: str = ""
    """The Kubernetes namespace that it belongs to, as the door has established it; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the authentication entitles to. None means: no limit beyond the issuer's own policy."""

    profiles: frozenset[str] | None = None
    names: frozenset[SubjectName] | None = None
    """For ACME the order's identifiers: the certificate must carry exactly these."""
    max_validity: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why the grant is believed: kept with the certificate for auditors."""

    kind: str
    """order, client-certificate, challenge-password, approval or local."""
    reference: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A certificate that could be issued. Every field is final: rules judge exactly what the template will encode."""

    requester: Requester
    grant: Grant
    evidence: Evidence
    authority: Authority
    issuer: Issuer | None
    """None only for the host's own certificates (door `bootstrap`)."""
    profile: Profile
    subject: x509.Name
    names: tuple[SubjectName, ...]
    spki: bytes
    not_before: datetime
    not_after: datetime
    """Inclusive (RFC 5280 section 4.1.2.5)."""
    csr: x509.CertificateSigningRequest | None = None
    """The request that came in, its signature verified already; None where SPORK made the key."""
    constraints: CAConstraints | None = None
    """Only for CA certificates."""
    policies: tuple[str, ...] = ()
    """Further certificate policy OIDs, such as an administrator's level."""
    ca_spkis: frozenset[bytes] = frozenset()
    """SHA-256 of the SubjectPublicKeyInfo of every CA of this installation: a CSR must not carry one of those keys."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule's refusal: which rule, which name if one is to blame, and why, in one sentence for the requester."""

    rule: str
    reason: str
    name: SubjectName | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the policy trace."""

    rule: str
    passed: bool
    reason: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The whole trace. Issuance goes on only if `allowed`."""

    verdicts: tuple[Verdict, ...]
    violations: tuple[Violation, ...]

    @property
    def allowed(self) -> bool:
        return not self.violations
