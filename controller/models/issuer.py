"""Issuer and ClusterIssuer: one CA bound to profiles, name and key policy, limits and doors."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from spork.controller.models.names import (
    HTTPURL,
    SLUG_PATTERN,
    AlgorithmName,
    AuthorityName,
    Challenge,
    DNSPattern,
    EmailPattern,
    NamespaceName,
    Network,
    ProfileName,
    Sentence,
    URIPattern,
)
from spork.controller.models.schema import Column, Names, Resource, Rule, Table, Text, listing
from spork.controller.models.status import AGE, Status, Time, ready_columns
from spork.hierarchy.issuers import CHALLENGES, RESERVED_NAMES
from spork.hierarchy.values import MAX_VALIDITY_DAYS
from spork.policy.expressions import MAX_EXPRESSIONS, MAX_LENGTH
from spork.policy.tokendoor import (
    AUDIENCE_PATTERN,
    DEFAULT_AUDIENCE,
    SUBJECT_PATTERN,
    SUBJECT_RULE,
    TEMPLATE_PATTERN,
    TEMPLATE_RULE,
)

Audience = Annotated[str, Text(256, AUDIENCE_PATTERN, "An audience is one word without blanks.")]
TokenSubject = Annotated[str, Text(320, SUBJECT_PATTERN, SUBJECT_RULE)]
NameTemplate = Annotated[str, Text(512, TEMPLATE_PATTERN, TEMPLATE_RULE)]


class NamePatterns(Table):
    dns: list[DNSPattern] = listing(
        "DNS names: example.com, *.example.com for one label below it, **.example.com for any depth below it.",
        max_items=32,
    )
    ip: list[Network] = listing("Networks of IP addresses, such as 10.0.0.0/8.", max_items=32)
    email: list[EmailPattern] = listing(
        "Mailboxes: user@example.com, @example.com, or @.example.com for the hosts below it.", max_items=32
    )
    uri: list[URIPattern] = listing("URIs by scheme, host and start of the path.", max_items=32)
    dn: list[Annotated[str, Text(512)]] = listing(
        "The end of distinguished names as RFC 4514 text, such as O=Example,C=DE, or * for all.", max_items=32
    )


class NamePolicy(Table):
    permit: NamePatterns = Field(
        default=NamePatterns(), description="What may be certified. A kind without patterns is not issued at all."
    )
    deny: NamePatterns = Field(
        default=NamePatterns(), description="What is refused even where a permit pattern matches."
    )
    wildcards: bool = Field(default=True, description="Whether wildcard names may be issued.")


class KeyPolicy(Table):
    algorithms: list[AlgorithmName] = listing("Accepted algorithms of subject keys; none named: all.", max_items=16)


class Expression(Table):
    rule: Annotated[str, Text(MAX_LENGTH)] = Field(
        description="A CEL expression over request, which has namespace, requester, door, evidence, issuer, profile, algorithm, "
        "subject, commonName, dnsNames, ipAddresses, emailAddresses, uris and seconds."
    )
    message: Annotated[str, Field(max_length=256)] = Field(
        default="", description="What the requester is told where it does not hold."
    )


class ACMESettings(Table):
    rules = (
        Rule(
            f"!has(self.ports) || self.ports.all(name, name in [{', '.join(repr(name) for name in CHALLENGES)}])",
            f"ports are given by challenge: {', '.join(CHALLENGES)}.",
            lambda acme: set(acme.ports) <= set(CHALLENGES),
        ),
    )
    challenges: list[Challenge] = Field(
        default=["http-01"],
        description="The challenges that clients may choose from.",
        min_length=1,
        max_length=len(CHALLENGES),
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    networks: list[Network] = listing("Networks that validation may reach beyond public addresses.", max_items=64)
    ports: dict[str, Annotated[int, Field(ge=1, le=65535)]] = Field(
        default={},
        max_length=8,
        description="Ports that validation connects to, by challenge, where not the standard ones.",
    )
    terms_of_service: HTTPURL | None = Field(default=None, description="URL of the terms that accounts agree to.")
    website: HTTPURL | None = Field(default=None, description="URL of a page about this CA.")
    caa_identities: list[DNSPattern] = listing("Domain names by which CAA records name this CA.", max_items=16)


class TokenSettings(Table):
    rules = (
        Rule(
            "(has(self.subjects) && self.subjects.size() > 0) == (has(self.names) && self.names.size() > 0)",
            "subjects say which ServiceAccounts may come, names what they get; one needs the other.",
            lambda token: bool(token.subjects) == bool(token.names),
        ),
    )
    audiences: list[Audience] = Field(
        default=[DEFAULT_AUDIENCE],
        description="A ServiceAccount's token must be made for one of these.",
        min_length=1,
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    subjects: list[TokenSubject] = listing(
        "The ServiceAccounts that may enrol, as namespace:serviceaccount; * stands for any characters. None: nobody.",
        max_items=64,
    )
    names: list[NameTemplate] = listing(
        "The names that a ServiceAccount may ask for, with {namespace} and {serviceaccount} for its own. The name policy "
        "has to permit them, too.",
        max_items=16,
    )


class Protocols(Table):
    acme: ACMESettings | None = Field(
        default=None, description="Opens the ACME door; it needs a CA with an online key. Left out: the door is shut."
    )
    token: TokenSettings | None = Field(
        default=None,
        description="Opens the door for ServiceAccount tokens and one-time tokens; it needs a CA with an online key.",
    )


class IssuerSettings(Table):
    """What an issuer is, wherever it is declared: the keys of `[[issuers]]` in a hierarchy file."""

    ca: AuthorityName = Field(description="The id of the issuing CA that signs.")
    profiles: list[ProfileName] = Field(
        description="What it offers. The first is what a certificate gets that names no profile.",
        min_length=1,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    names: NamePolicy = Field(
        default=NamePolicy(), description="Which names may be certified; nothing unless permitted."
    )
    keys: KeyPolicy = Field(default=KeyPolicy(), description="Which subject keys are accepted.")
    max_validity_days: int | None = Field(
        default=None,
        ge=1,
        le=MAX_VALIDITY_DAYS,
        description="Longest life of a certificate in days; default: the profile's.",
    )
    protocols: Protocols = Field(default=Protocols(), description="The doors that serve it.")
    expressions: list[Expression] = listing(
        "Conditions in CEL over the request, each of which must be true, such as request.dnsNames.size() <= 3.",
        max_items=MAX_EXPRESSIONS,
        kind="atomic",
    )


class AllowedNamespaces(Table):
    """Which namespaces may use something. Either of the two is enough."""

    rules = (
        Rule(
            "(has(self.names) && self.names.size() > 0) || (has(self.matchLabels) && self.matchLabels.size() > 0)",
            "allowedNamespaces needs names or matchLabels; leave it out to allow no namespace.",
            lambda allowed: bool(allowed.names or allowed.match_labels),
        ),
        Rule(
            "!has(self.names) || !('*' in self.names) || self.names.size() == 1",
            "allowedNamespaces.names has * for every namespace; other names beside it mean nothing.",
            lambda allowed: "*" not in allowed.names or len(allowed.names) == 1,
        ),
    )
    names: list[NamespaceName] = listing("Namespaces by name; * alone stands for every namespace.", max_items=64)
    match_labels: dict[str, Annotated[str, Field(max_length=63)]] = Field(
        default={}, max_length=16, description="Namespaces that carry all of these labels."
    )


class Door(Table):
    protocol: Annotated[str, Text(16)] = Field(description="The protocol, such as acme.")
    url: Sentence = Field(description="Where clients start.")


class IssuerStatus(Status):
    doors: list[Door] = Field(
        default=[],
        max_length=16,
        description="The URLs that clients use.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["protocol"]},
    )
    not_after: Time | None = Field(default=None, description="The last second of the CA's certificate.")
    live_certificates: int | None = Field(
        default=None,
        ge=0,
        description="How many certificates that it issued are alive. Above 0, its deletion has to be confirmed with this number.",
    )


def _is_issuer_name(resource: Resource) -> bool:
    return re.fullmatch(SLUG_PATTERN, resource.metadata.name) is not None


def _reaches_as_anybody(acme: ACMESettings | None) -> bool:
    """The owner of a namespace must not send the validators, which stand beside the database, to addresses of his choice."""
    return acme is None or not (acme.networks or acme.ports)


_COLUMNS = (
    *ready_columns()[:1],
    Column("CA", ".spec.ca", "The CA that signs."),
    Column("Until", ".status.notAfter", "When the CA's certificate ends."),
    *ready_columns()[1:],
    AGE,
)
_NAME = Rule(
    f'self.metadata.name.matches(r"^{SLUG_PATTERN}$")',
    "The name of an issuer stands in URLs: lower-case letters, digits and hyphens, at most 63, and no dots.",
    _is_issuer_name,
)
_NOT_THE_NETWORK = Rule(
    "!has(self.spec.protocols) || !has(self.spec.protocols.acme) || "
    "((!has(self.spec.protocols.acme.networks) || self.spec.protocols.acme.networks.size() == 0) && "
    "(!has(self.spec.protocols.acme.ports) || self.spec.protocols.acme.ports.size() == 0))",
    "acme.networks and acme.ports open the CA's own network to whoever orders; only a ClusterIssuer has them.",
    lambda issuer: _reaches_as_anybody(issuer.spec.protocols.acme),
)
_RESERVED = Rule(
    f"!(self.metadata.name in [{', '.join(repr(name) for name in sorted(RESERVED_NAMES))}])",
    "The name is reserved: it is a word of the URLs in which an issuer's name stands.",
    lambda issuer: issuer.metadata.name not in RESERVED_NAMES,
)


class Issuer(Resource):
    """Issues certificates from one CA to the Certificates of its own namespace, within its policy and limits."""

    names = Names("issuers", "issuer", ("spi",), "Namespaced", _COLUMNS)
    rules = (_NAME, _NOT_THE_NETWORK)
    kind: Literal["Issuer"] = Field(description="Issuer.")
    spec: IssuerSettings = Field(description="From which CA it issues, what, and to whom.")
    status: IssuerStatus | None = Field(default=None, description="What the operator has seen and done.")


class ClusterIssuerSpec(IssuerSettings):
    rules = ()
    default: bool = Field(default=False, description="Whether /acme/directory answers for it.")
    allowed_namespaces: AllowedNamespaces | None = Field(
        default=None, description="The namespaces whose Certificates may refer to it. Left out: none."
    )


class ClusterIssuer(Resource):
    """Issues certificates from one CA to the namespaces that it allows, and through its doors, within its policy."""

    names = Names("clusterissuers", "clusterissuer", ("spci",), "Cluster", _COLUMNS)
    rules = (_NAME, _RESERVED)
    kind: Literal["ClusterIssuer"] = Field(description="ClusterIssuer.")
    spec: ClusterIssuerSpec = Field(description="From which CA it issues, what, and to whom.")
    status: IssuerStatus | None = Field(default=None, description="What the operator has seen and done.")
