"""Certificate: a key and a certificate in a Secret, renewed in time. The fields are those that cert-manager's users know."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from spork.controller.models.names import (
    URI,
    AlgorithmName,
    CommonName,
    Country,
    DNSName,
    EmailAddress,
    GoDuration,
    IPAddress,
    NameText,
    ObjectName,
    ProfileName,
    seconds,
)
from spork.controller.models.schema import Column, Names, Resource, Rule, Table, Text, keyed, listing, word_of
from spork.controller.models.status import AGE, Status, Time, ready_columns

USAGES = (
    "signing",
    "digital signature",
    "key encipherment",
    "key agreement",
    "server auth",
    "client auth",
    "code signing",
    "email protection",
    "s/mime",
    "timestamping",
)
"""The words of Kubernetes for what the issuable profiles assert."""
Usage = Annotated[str, word_of("usage", USAGES)]
_MINIMUM_SECONDS = 3600
_MAXIMUM_SECONDS = 11 * 365 * 86400
_NAME_LISTS = ("dns_names", "ip_addresses", "uris", "email_addresses")
_NAME_LIST_KEYS = ("dnsNames", "ipAddresses", "uris", "emailAddresses")


class IssuerReference(Table):
    name: ObjectName = Field(description="The name of the issuer.")
    kind: Literal["Issuer", "ClusterIssuer"] = Field(
        default="Issuer", description="Issuer, of the same namespace, or ClusterIssuer."
    )
    group: Literal["spork-ca.org"] = Field(default="spork-ca.org", description="The API group of the issuer.")


class PrivateKey(Table):
    algorithm: AlgorithmName = Field(default="ecdsa-p256", description="The algorithm and size of the key.")
    rotation_policy: Literal["Always", "Never"] = Field(
        default="Always", description="Whether each renewal makes a new key, or keeps the one in the Secret."
    )


class Subject(Table):
    """Parts of the distinguished name beside commonName. The profile decides whether they are taken over."""

    organizations: list[CommonName] = listing("Organizations.", max_items=8, kind="atomic")
    organizational_units: list[CommonName] = listing("Units of the organization.", max_items=8, kind="atomic")
    countries: list[Country] = listing("Countries as codes of two letters.", max_items=4, kind="atomic")
    provinces: list[NameText] = listing("States or provinces.", max_items=4, kind="atomic")
    localities: list[NameText] = listing("Towns or places.", max_items=4, kind="atomic")
    street_addresses: list[NameText] = listing("Streets.", max_items=4, kind="atomic")
    postal_codes: list[Annotated[str, Text(40)]] = listing("Postal codes.", max_items=4, kind="atomic")
    serial_number: CommonName | None = Field(
        default=None, description="A serial number of the subject; not that of the certificate."
    )


class SecretKeyReference(Table):
    name: ObjectName = Field(description="The name of a Secret of the same namespace.")
    key: Annotated[str, Text(253, "[A-Za-z0-9._-]+", "A key of a Secret has letters, digits, dots, - and _.")] = Field(
        default="password", description="The key of the Secret that holds the value."
    )


class PKCS12(Table):
    create: bool = Field(description="Whether keystore.p12 is written to the Secret.")
    trust_store: bool = Field(
        default=False, description="Whether truststore.p12 with the roots is written as well, as Java reads it."
    )
    password_secret_ref: SecretKeyReference = Field(description="Where the password of the stores is.")
    profile: Literal["Modern2023", "LegacyDES"] = Field(
        default="Modern2023",
        description="How the stores are encrypted: with AES-256, or with triple DES for old readers.",
    )


class Keystores(Table):
    pkcs12: PKCS12 | None = Field(default=None, description="A keystore as PKCS #12 has it (RFC 7292).")


class SecretTemplate(Table):
    annotations: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        default={}, max_length=32, description="Annotations that the Secret gets."
    )
    labels: dict[str, Annotated[str, Field(max_length=63)]] = Field(
        default={}, max_length=32, description="Labels that the Secret gets."
    )


def _tls_server_is_named(spec: Any) -> bool:
    return spec.profile != "tls-server" or bool(spec.dns_names or spec.ip_addresses)


def _tls_common_name_is_a_name(spec: Any) -> bool:
    return spec.profile != "tls-server" or spec.common_name in (None, *spec.dns_names, *spec.ip_addresses)


class CertificateSpec(Table):
    rules = (
        Rule(
            "has(self.commonName) || "
            + " || ".join(f"(has(self.{k}) && self.{k}.size() > 0)" for k in _NAME_LIST_KEYS),
            "A certificate needs at least one name: commonName, dnsNames, ipAddresses, uris or emailAddresses.",
            lambda spec: spec.common_name is not None or any(getattr(spec, name) for name in _NAME_LISTS),
        ),
        Rule(
            "!has(self.profile) || self.profile != 'tls-server' || (has(self.dnsNames) && self.dnsNames.size() > 0) || "
            "(has(self.ipAddresses) && self.ipAddresses.size() > 0)",
            "The profile tls-server needs dnsNames or ipAddresses; clients ignore a commonName.",
            _tls_server_is_named,
        ),
        Rule(
            "!has(self.profile) || self.profile != 'tls-server' || !has(self.commonName) || (has(self.dnsNames) && "
            "self.commonName in self.dnsNames) || (has(self.ipAddresses) && self.commonName in self.ipAddresses)",
            "The commonName of profile tls-server repeats one of dnsNames or ipAddresses, or is left out.",
            _tls_common_name_is_a_name,
        ),
        Rule(
            f"!has(self.duration) || (duration(self.duration) >= duration('{_MINIMUM_SECONDS}s') && "
            f"duration(self.duration) <= duration('{_MAXIMUM_SECONDS}s'))",
            "duration is at least 1h and at most 96360h (11 years).",
            lambda spec: spec.duration is None or _MINIMUM_SECONDS <= seconds(spec.duration) <= _MAXIMUM_SECONDS,
        ),
        Rule(
            "!has(self.renewBefore) || duration(self.renewBefore) >= duration('5m')",
            "renewBefore is at least 5m.",
            lambda spec: spec.renew_before is None or seconds(spec.renew_before) >= 300,
        ),
        Rule(
            "!has(self.renewBefore) || !has(self.duration) || duration(self.renewBefore) < duration(self.duration)",
            "renewBefore must be shorter than duration.",
            lambda spec: (
                None in (spec.renew_before, spec.duration) or seconds(spec.renew_before) < seconds(spec.duration)
            ),
        ),
    )
    secret_name: ObjectName = Field(
        description="The Secret of type kubernetes.io/tls that gets the key, the chain and ca.crt."
    )
    common_name: CommonName | None = Field(default=None, description="The commonName of the subject.")
    dns_names: list[DNSName] = listing("DNS names.", max_items=100)
    ip_addresses: list[IPAddress] = listing("IP addresses.", max_items=100)
    uris: list[URI] = listing("URIs, such as SPIFFE IDs.", max_items=100)
    email_addresses: list[EmailAddress] = listing("Mailboxes.", max_items=100)
    subject: Subject | None = Field(default=None, description="Further parts of the distinguished name.")
    duration: GoDuration | None = Field(
        default=None, description="The life that is asked for, such as 2160h; default: the profile's."
    )
    renew_before: GoDuration | None = Field(
        default=None, description="How long before its end the certificate is renewed; default: a third of its life."
    )
    private_key: PrivateKey = Field(default=PrivateKey(), description="The key in the Secret.")
    usages: list[Usage] = listing(
        "What the certificate must be good for. Checked against the profile, which decides.", max_items=len(USAGES)
    )
    issuer_ref: IssuerReference = Field(description="Who issues it.")
    profile: ProfileName | None = Field(
        default=None, description="The kind of certificate; default: the first profile of the issuer."
    )
    keystores: Keystores | None = Field(default=None, description="Further forms of key and chain in the same Secret.")
    secret_template: SecretTemplate | None = Field(default=None, description="Labels and annotations of the Secret.")
    revision_history_limit: int = Field(
        default=10, ge=1, le=100, description="How many past revisions are listed in the status."
    )
    deletion_policy: Literal["Retain", "Hold", "Revoke"] = Field(
        default="Retain",
        description="What happens to the certificate when this object is deleted. Retain: nothing; Hold: it is revoked "
        "with certificateHold for a grace, undone if the object returns; Revoke: it is revoked.",
    )


class PolicyStep(Table):
    rule: Annotated[str, Text(128)] = Field(description="The name of the rule.")
    verdict: Literal["pass", "refuse", "skip"] = Field(description="What the rule said.")
    message: Annotated[str, Field(max_length=2048)] = Field(default="", description="Why, as a sentence.")


class Revision(Table):
    revision: int = Field(ge=1, description="The number of the revision.")
    serial: Annotated[str, Text(40)] = Field(description="The serial number in hexadecimal.")
    not_after: Time = Field(description="The last second of that certificate.")


class CertificateStatus(Status):
    serial: Annotated[str, Text(40)] | None = Field(
        default=None, description="The serial number of the certificate in the Secret, in hexadecimal."
    )
    not_before: Time | None = Field(default=None, description="The first second of the certificate.")
    not_after: Time | None = Field(default=None, description="The last second of the certificate, inclusive.")
    renewal_time: Time | None = Field(default=None, description="When it will be renewed.")
    revision: int | None = Field(default=None, ge=1, description="How many times it has been issued.")
    revisions: list[Revision] = keyed(
        "The revisions before, as many as revisionHistoryLimit says.", "revision", max_items=100
    )
    next_private_key_secret_name: Annotated[str, Text(253)] | None = Field(
        default=None, description="The Secret that holds the next key while it is being certified."
    )
    failed_attempts: int | None = Field(default=None, ge=0, description="How many attempts have failed in a row.")
    last_failure_time: Time | None = Field(default=None, description="When the last attempt failed.")
    next_attempt_time: Time | None = Field(
        default=None, description="When the next attempt is made, unless the spec or the issuer changes before."
    )
    failed_request: Annotated[str, Text(64)] | None = Field(
        default=None, description="A digest of the spec and the issuer that the failures are about."
    )
    policy_trace: list[PolicyStep] = Field(
        default=[],
        max_length=64,
        description="What each rule of the policy said to the last request that was refused.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class Certificate(Resource):
    """A certificate and its key in a Secret, issued by an Issuer or ClusterIssuer and renewed in time."""

    names = Names(
        "certificates",
        "certificate",
        ("spc",),
        "Namespaced",
        (
            ready_columns()[0],
            Column("Secret", ".spec.secretName", "The Secret that holds it."),
            Column("Issuer", ".spec.issuerRef.name", "Who issues it."),
            Column("Until", ".status.notAfter", "The last second of the certificate."),
            *ready_columns()[1:],
            Column("Renewal", ".status.renewalTime", "When it will be renewed.", priority=1),
            Column("Serial", ".status.serial", "Its serial number.", priority=1),
            AGE,
        ),
    )
    kind: Literal["Certificate"] = Field(description="Certificate.")
    spec: CertificateSpec = Field(description="The certificate as it should be.")
    status: CertificateStatus | None = Field(default=None, description="The certificate as it is.")
