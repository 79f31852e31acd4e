"""The JSON of the administration API: what is accepted (strictly) and what is answered. Instants are RFC 3339 in UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

MAX_NAMES = 256
"""Names of one certificate that a request may ask for; policy may allow fewer."""
MAX_VALIDITY_S = 100 * 366 * 86400
MAX_TOKEN_TTL_S = 90 * 86400
"""A token that nobody used for so long lies about somewhere."""

Label = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
CSRText = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
NameText = Annotated[
    str, StringConstraints(min_length=3, max_length=2048, pattern=r"^(dns|ip|uri|email|dn):[^\x00-\x1f\x7f]+$")
]
LevelName = Literal["viewer", "operator", "admin", "superadmin"]
ReasonName = Literal[
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "certificateHold",
    "privilegeWithdrawn",
    "aACompromise",
]


class _In(BaseModel):
    """A body: unknown members are errors, and nothing is converted from another type."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, validate_by_name=False
    )


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True)


class KeyBearing(_In):
    """What proves or states the subject's public key: exactly one of the two."""

    csr: CSRText | None = Field(None, description="PKCS #10 request, PEM. Its signature proves possession of the key.")
    public_key: CSRText | None = Field(
        None, description="SubjectPublicKeyInfo, PEM, for keys whose possession the administrator vouches for."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> KeyBearing:
        if (self.csr is None) == (self.public_key is None):
            raise ValueError("exactly one of csr and publicKey is needed")
        return self


class IssueCertificate(KeyBearing):
    """Asks for a certificate. What is left out follows from the CSR, the profile and the issuer."""

    issuer: Label | None = Field(
        None, description="Label of the issuer; the default issuer if neither it nor authority is given."
    )
    authority: ShortText | None = Field(
        None, description="Instead of issuer: id or common name of the CA, if one issuer of it offers the profile."
    )
    profile: Label | None = Field(None, description="One of the issuer's profiles; its first by default.")
    names: list[NameText] | None = Field(
        None, max_length=MAX_NAMES, description="Subject alternative names as kind:value, instead of those of the CSR."
    )
    common_name: ShortText | None = Field(None, description="Shorthand for a subject of one commonName.")
    subject: ShortText | None = Field(None, description="Subject as RFC 4514 text.")
    validity_s: int | None = Field(None, ge=1, le=MAX_VALIDITY_S, description="Validity in seconds.")

    @model_validator(mode="after")
    def _one_place_and_subject(self) -> IssueCertificate:
        if self.issuer is not None and self.authority is not None:
            raise ValueError("issuer and authority exclude each other")
        if self.common_name is not None and self.subject is not None:
            raise ValueError("commonName and subject exclude each other")
        return self


class RenewCertificate(KeyBearing):
    """Asks for a successor with the same issuer, profile, subject and names, and with the key given here."""

    validity_s: int | None = Field(
        None, ge=1, le=MAX_VALIDITY_S, description="Validity in seconds; the profile's by default."
    )


class RevokeCertificate(_In):
    """Why, and optionally since when, a certificate is not to be trusted."""

    reason: ReasonName = Field(
        "unspecified",
        description="CRLReason as RFC 5280 section 5.3.1 spells it; certificateHold may be released again.",
    )
    # Strict models take no text for a datetime, yet JSON has no other form of it.
    invalidity_date: Annotated[AwareDatetime, Field(strict=False)] | None = Field(
        None, description="Since when the key is known or suspected to be lost (RFC 5280 section 5.3.2)."
    )


class IssueAdministrator(_In):
    """Asks for an administrator's certificate."""

    csr: CSRText = Field(description="PKCS #10 request, PEM.")
    name: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f#]+$")] = Field(
        description="The administrator's name; becomes the commonName and appears in the audit log."
    )
    level: LevelName
    issuers: list[Label] | None = Field(
        None, max_length=256, description="Labels of the issuers that the administrator is limited to; all if left out."
    )
    validity_s: int | None = Field(None, ge=1, le=MAX_VALIDITY_S)


class Enrol(_In):
    """Asks for a certificate with a token in the Authorization header."""

    csr: CSRText = Field(
        description="PKCS #10 request, PEM. Without names in it the certificate gets all that the token stands for."
    )
    issuer: Label = Field(description="Label of the issuer.")
    profile: Label | None = Field(
        None, description="One of the issuer's profiles; the token's, or its first by default."
    )
    validity_s: int | None = Field(None, ge=1, le=MAX_VALIDITY_S, description="Validity in seconds.")


class CreateEnrolmentToken(_In):
    """Asks for a token that one certificate can be had with."""

    issuer: Label = Field(description="Label of the issuer, whose door for tokens must be open.")
    profile: Label | None = Field(None, description="One of the issuer's profiles; its first by default.")
    names: list[NameText] = Field(
        min_length=1, max_length=MAX_NAMES, description="The names of the certificate as kind:value, exactly these."
    )
    ttl_s: int = Field(3600, ge=60, le=MAX_TOKEN_TTL_S, description="How long the token can be used, in seconds.")
    validity_s: int | None = Field(
        None,
        ge=1,
        le=MAX_VALIDITY_S,
        description="Longest validity of the certificate in seconds; default: the issuer's.",
    )
    note: ShortText | None = Field(None, max_length=256, description="For people: what the token is for. No secrets.")


class Revocation(_Out):
    reason: str
    revoked_at: datetime
    invalidity_date: datetime | None = None


class CertificateSummary(_Out):
    """A line of a list."""

    authority: str
    generation: int
    serial: str = Field(description="Upper-case hexadecimal.")
    state: str = Field(description="reserved, issued, abandoned, revoked, held or expired.")
    profile: str
    issuer: str | None = Field(
        description="Label of the issuer; null for the certificates of the CA itself and administrators."
    )
    subject: str
    names: list[str]
    not_before: datetime
    not_after: datetime
    requester: str
    revocation: Revocation | None = None


class Certificate(CertificateSummary):
    """All that is known of a certificate."""

    pem: str | None = Field(description="Null until it is issued.")
    sha256: str | None = Field(description="SHA-256 of the DER, hexadecimal.")
    created_at: datetime
    issued_at: datetime | None
    evidence: dict[str, Any] = Field(description="Why the requester was entitled.")
    attributes: dict[str, Any]
    trace: list[dict[str, Any]] = Field(description="The verdict of each policy rule.")


class IssuedCertificate(_Out):
    """A fresh certificate, or the one that the same Idempotency-Key brought forth before."""

    authority: str
    generation: int
    serial: str
    not_before: datetime
    not_after: datetime
    pem: str = Field(description="The certificate.")
    chain: str = Field(description="The certificates of the CAs above it, PEM, without the root.")


class Page(_Out):
    next: str | None = Field(None, description="Pass it as `after` to get the next page; null on the last one.")


class CertificatePage(Page):
    items: list[CertificateSummary]


class StatusChange(_Out):
    authority: str
    serial: str
    state: str
    status_version: int = Field(description="The authority's status counter after the change.")


class Authority(_Out):
    id: str
    name: str
    kind: str
    subject: str
    parent: str | None
    generation: int
    key_mode: str
    algorithm: str
    not_after: datetime | None
    sha256: str | None = Field(description="SHA-256 of the certificate's DER, hexadecimal.")
    pem: str | None
    chain: str = Field(description="Certificates above it up to and with the root, PEM.")
    crl_urls: list[str]
    ocsp_urls: list[str]
    ca_issuers_urls: list[str]


class AuthorityList(_Out):
    items: list[Authority]


class CRL(_Out):
    authority: str
    generation: int
    shard: int = Field(description="0 for the complete CRL.")
    number: int
    base_number: int | None = Field(description="Of a delta: the number of the CRL it changes.")
    this_update: datetime
    next_update: datetime
    entries: int
    stale: bool = Field(description="Whether nextUpdate has passed.")
    changed: bool = Field(description="Whether a status changed that no published list shows yet.")


class CRLList(_Out):
    items: list[CRL]


class PublishedCRLs(_Out):
    authority: str
    numbers: list[int]


class Issuer(_Out):
    label: str
    authority: str
    profiles: list[str]
    permit: dict[str, list[str]]
    deny: dict[str, list[str]]
    wildcards: bool
    algorithms: list[str] = Field(description="Accepted key algorithms; empty for all of the table.")
    max_validity_s: int | None
    protocols: list[str]
    origin: str
    default: bool


class IssuerList(_Out):
    items: list[Issuer]


class AdministratorSummary(_Out):
    name: str
    serial: str
    level: LevelName
    issuers: list[str] | None
    state: str
    not_before: datetime
    not_after: datetime
    requester: str


class AdministratorPage(Page):
    items: list[AdministratorSummary]


class WhoAmI(_Out):
    name: str
    identity: str = Field(description="As it stands in the audit log.")
    level: LevelName
    issuers: list[str] | None
    serial: str
    not_after: datetime
    may: list[str] = Field(description="Operations that this administrator may call.")


class AuditEvent(_Out):
    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    address: str | None


class AuditPage(Page):
    items: list[AuditEvent]


class Verdict(_Out):
    rule: str
    passed: bool
    reason: str = ""
    name: str = ""


class PolicyTrace(_Out):
    """What policy would say. Nothing is stored and nothing is signed."""

    allowed: bool
    issuer: str
    authority: str
    profile: str
    subject: str
    names: list[str]
    not_before: datetime
    not_after: datetime
    verdicts: list[Verdict]


class EnrolmentToken(_Out):
    """A one-time token, without the token itself."""

    id: str
    state: str = Field(description="open, used, expired or revoked.")
    issuer: str | None = Field(description="Null if the issuer is no more.")
    profile: str
    names: list[str]
    validity_s: int | None
    note: str
    made_by: str
    made_at: datetime
    expires_at: datetime
    used_at: datetime | None
    used_from: str | None = Field(description="Address that it was used from.")
    revoked_at: datetime | None


class NewEnrolmentToken(EnrolmentToken):
    token: str = Field(description="The token. It is shown this once.")


class EnrolmentTokenPage(Page):
    items: list[EnrolmentToken]


class Problem(_Out):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[dict[str, Any]] | None = None
    subproblems: list[dict[str, Any]] | None = None
    reference: str | None = None
