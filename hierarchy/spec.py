"""The file model: what may stand in a hierarchy file and of which type. What it means is checked in `load.py`.

Every key has its line in docs/hierarchy.md.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Table(BaseModel):
    # Strict: the text "25" is not a number, and true is not 1. A misspelt key is an error and not silence.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NamesSpec(_Table):
    """Patterns or subtrees by kind of name."""

    dns: list[str] = []
    ip: list[str] = []
    email: list[str] = []
    uri: list[str] = []
    dn: list[str] = []


class NameConstraintsSpec(_Table):
    permitted: NamesSpec = NamesSpec()
    excluded: NamesSpec = NamesSpec()


class CRLSpec(_Table):
    """Durations such as `24h`, `7d` or `30m`."""

    interval: str | None = None
    overlap: str | None = None
    delta_interval: str | None = None


class SubjectSpec(_Table):
    """A distinguished name: its fields, or `subject` as RFC 4514 text."""

    common_name: str | None = None
    organization: str | None = None
    organizational_unit: str | None = None
    country: str | None = None
    state: str | None = None
    locality: str | None = None
    subject: str | None = None


class LimitsSpec(_Table):
    """What a CA certificate says, whether the CA's own or a cross-certificate."""

    validity_years: int | None = None
    validity_days: int | None = None
    path_length: int | None = None
    name_constraints: NameConstraintsSpec | None = None
    policies: list[str] | None = None
    extended_key_usage: list[str] = []


class AuthoritySpec(SubjectSpec, LimitsSpec):
    id: str | None = None
    algorithm: str | None = None
    key_mode: str | None = None
    crl_urls: list[str] | None = None
    delta_crl_urls: list[str] | None = None
    ocsp_urls: list[str] | None = None
    ca_issuer_urls: list[str] | None = None
    crl_shards: int = 1
    crl: CRLSpec = CRLSpec()
    profiles: list[str] = []


class IssuingSpec(AuthoritySpec):
    parent: str | None = None


class PolicySpec(AuthoritySpec):
    parent: str | None = None
    issuing_cas: list[IssuingSpec] = []


class CrossSpec(LimitsSpec):
    id: str | None = None
    issuer: str
    subject: str | None = None
    subject_csr: str | None = None
    subject_certificate: str | None = None


class NamePolicySpec(_Table):
    permit: NamesSpec = NamesSpec()
    deny: NamesSpec = NamesSpec()
    wildcards: bool = True


class KeysSpec(_Table):
    algorithms: list[str] = []


class ExpressionSpec(_Table):
    rule: str
    message: str = ""


class ACMESpec(_Table):
    challenges: list[str] = ["http-01"]
    networks: list[str] = []
    ports: dict[str, int] = {}
    terms_of_service: str | None = None
    website: str | None = None
    caa_identities: list[str] = []


class TokenSpec(_Table):
    audiences: list[str] = ["spork-ca.org"]
    subjects: list[str] = []
    names: list[str] = []


class ProtocolsSpec(_Table):
    acme: ACMESpec | None = None
    token: TokenSpec | None = None


class IssuerSpec(_Table):
    name: str
    ca: str
    profiles: list[str]
    default: bool = False
    names: NamePolicySpec = NamePolicySpec()
    # `keys` and not `key_policy`, so that a file reads `keys.algorithms = [...]`.
    keys: KeysSpec = KeysSpec()
    max_validity_days: int | None = None
    protocols: ProtocolsSpec = ProtocolsSpec()
    expressions: list[ExpressionSpec] = []


class HierarchySpec(_Table):
    version: int = 1
    root: AuthoritySpec
    policy_cas: list[PolicySpec] = []
    issuing_cas: list[IssuingSpec] = []
    cross_certificates: list[CrossSpec] = []
    issuers: list[IssuerSpec] = Field(default=[])
