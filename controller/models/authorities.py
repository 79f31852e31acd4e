"""The CAs of a Hierarchy: the file model of `spork.hierarchy.spec` with bounds, rules and descriptions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from spork.controller.models.issuer import AllowedNamespaces
from spork.controller.models.names import (
    SLUG_PATTERN,
    AlgorithmName,
    AuthorityName,
    CommonName,
    Country,
    FileDuration,
    NameText,
    ObjectName,
    PlainURL,
    ProfileName,
    Subtree,
)
from spork.controller.models.schema import ChangeRule, Rule, Table, Text, keyed, listing
from spork.hierarchy.values import MAX_VALIDITY_DAYS

KeyModeName = Literal["sealed", "online", "offline"]
"""Where keys may be. A mode `pkcs11` is known to the program and refused here until it works."""
OID = Annotated[str, Text(256, r"[0-2](\.(0|[1-9][0-9]*))+", "An object identifier is numbers joined by dots.")]
KeyUsageName = Annotated[
    str,
    Text(
        128,
        r"serverAuth|clientAuth|codeSigning|emailProtection|timeStamping|OCSPSigning|anyExtendedKeyUsage"
        r"|[0-2](\.(0|[1-9][0-9]*))+",
        "An extended key usage is serverAuth, clientAuth, codeSigning, emailProtection, timeStamping, OCSPSigning or an OID.",
    ),
]
PEM = Annotated[
    str,
    Text(
        65536,
        cel="self.startsWith('-----BEGIN ')",
        check=lambda text: text.startswith("-----BEGIN "),
        message="This must be the PEM text itself; a resource cannot name a file.",
    ),
]
_NAME_FIELDS = ("common_name", "organization", "organizational_unit", "country", "state", "locality")
_NAME_KEYS = ("commonName", "organization", "organizationalUnit", "country", "state", "locality")
_ALL_NAME_KEYS = (*_NAME_KEYS, "subject")


def _full_name(authority: Authority) -> tuple[str | None, ...]:
    return (*(getattr(authority, name) for name in _NAME_FIELDS), authority.subject)


class Subtrees(Table):
    dns: list[Subtree] = listing("Domains; each covers itself and all names below it.", max_items=64)
    ip: list[Subtree] = listing("Networks, such as 10.0.0.0/8.", max_items=64)
    email: list[Subtree] = listing("Mailboxes, hosts, or .host for the hosts below it.", max_items=64)
    uri: list[Subtree] = listing("Hosts, or .host for the hosts below it.", max_items=64)
    dn: list[Subtree] = listing("The end of distinguished names as RFC 4514 text.", max_items=64)


class NameConstraints(Table):
    rules = (
        Rule(
            "has(self.permitted) || has(self.excluded)",
            "nameConstraints need permitted or excluded; leave them out for no limit.",
            lambda limits: bool({"permitted", "excluded"} & limits.model_fields_set),
        ),
    )
    permitted: Subtrees = Field(default=Subtrees(), description="Names below the CA must lie inside these.")
    excluded: Subtrees = Field(default=Subtrees(), description="Names below the CA must lie outside of these.")


class CRLSchedule(Table):
    interval: FileDuration | None = Field(default=None, description="How often a list is made, such as 24h or 7d.")
    overlap: FileDuration | None = Field(default=None, description="How long a list lasts beyond the next one.")
    delta_interval: FileDuration | None = Field(
        default=None, description="How often a delta list is made; left out: none are. Needs an online key."
    )


_ONE_VALIDITY = Rule(
    "has(self.validityYears) != has(self.validityDays)",
    "Give validityYears or validityDays, one of the two.",
    lambda limits: (limits.validity_years is None) != (limits.validity_days is None),
)


class Limits(Table):
    """What a CA certificate says, whether the CA's own or a cross-certificate."""

    validity_years: int | None = Field(
        default=None, ge=1, le=MAX_VALIDITY_DAYS // 365, description="Life of the certificate in calendar years."
    )
    validity_days: int | None = Field(
        default=None, ge=1, le=MAX_VALIDITY_DAYS, description="Life of the certificate in days, instead of years."
    )
    path_length: int | None = Field(
        default=None, ge=0, le=10, description="How many CAs may follow below; default by the CA's place in the tree."
    )
    name_constraints: NameConstraints | None = Field(
        default=None, description="Limits of the names below it; they must lie inside its parents' own."
    )
    policies: list[OID] | None = Field(
        default=None,
        max_length=16,
        description="Certificate policies as OIDs; default: any policy.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    extended_key_usage: list[KeyUsageName] = listing(
        "What may be certified below it, as names such as serverAuth or as OIDs; none named: anything.", max_items=16
    )


class HandedIn(Table):
    """Where something lies that was made elsewhere."""

    kind: Literal["ConfigMap", "Secret"] = Field(default="ConfigMap", description="What kind of object holds it.")
    namespace: Annotated[str, Text(63, SLUG_PATTERN, "The namespace is one by its name.")] = Field(
        description="The namespace of that object."
    )
    name: ObjectName = Field(description="The name of that object.")
    key: Annotated[str, Text(253, r"[-._a-zA-Z0-9]+", "A key has letters, digits, hyphens, dots and underscores.")] = (
        Field(default="tls.crt", description="The key in its data, under which the PEM text stands.")
    )


class Authority(Limits):
    """One CA. Its name under an id never changes: another name is another CA."""

    rules = (
        _ONE_VALIDITY,
        Rule(
            "has(self.commonName) != has(self.subject)",
            "Give commonName with the other parts of the name, or subject as RFC 4514 text.",
            lambda ca: (ca.common_name is None) != (ca.subject is None),
        ),
        Rule(
            "!has(self.subject) || !(" + " || ".join(f"has(self.{key})" for key in _NAME_KEYS[1:]) + ")",
            "subject is the whole name; leave the other parts of the name out.",
            lambda ca: ca.subject is None or not any(getattr(ca, name) for name in _NAME_FIELDS[1:]),
        ),
        Rule(
            "self.id != 'management' && !self.id.endsWith('-chain')",
            "The id is reserved: management is the CA of administrators, and exported chains end in -chain.",
            lambda ca: ca.id != "management" and not ca.id.endswith("-chain"),
        ),
        Rule(
            "!has(self.crl) || !has(self.crl.deltaInterval) || self.keyMode == 'online'",
            "Delta lists need an online key: set keyMode to online or leave crl.deltaInterval out.",
            lambda ca: ca.crl.delta_interval is None or ca.key_mode == "online",
        ),
        Rule(
            "!has(self.requestRef) || self.keyMode == 'offline'",
            "requestRef hands in the request of a CA whose key is elsewhere: set keyMode to offline or leave requestRef out.",
            lambda ca: ca.request_ref is None or ca.key_mode == "offline",
        ),
    )
    change_rules: ClassVar[tuple[ChangeRule, ...]] = (
        ChangeRule(
            " && ".join(
                f"has(self.{key}) == has(oldSelf.{key}) && (!has(self.{key}) || self.{key} == oldSelf.{key})"
                for key in _ALL_NAME_KEYS
            ),
            "The name of a CA never changes under its id: declare a CA with another id.",
            lambda new, old: _full_name(new) == _full_name(old),
        ),
    )
    id: AuthorityName = Field(description="The CA's name in URLs and references. It never changes.")
    common_name: CommonName | None = Field(default=None, description="The name that people know the CA by.")
    organization: CommonName | None = Field(default=None, description="The organization in the CA's name.")
    organizational_unit: CommonName | None = Field(default=None, description="The unit of the organization.")
    country: Country | None = Field(default=None, description="The country as a code of two letters.")
    state: NameText | None = Field(default=None, description="The state or province.")
    locality: NameText | None = Field(default=None, description="The town or place.")
    subject: Annotated[str, Text(512)] | None = Field(
        default=None, description="The whole name as RFC 4514 text instead, such as CN=Root,O=Example,C=DE."
    )
    algorithm: AlgorithmName = Field(description="The CA's key and what it signs with.")
    key_mode: KeyModeName = Field(
        default="sealed",
        description="Where the key is. sealed: opened only to build, for lists and in ceremonies; online: opened by the "
        "server; offline: elsewhere. Keys in hardware modules are not supported yet.",
    )
    crl_urls: list[PlainURL] | None = Field(
        default=None,
        max_length=8,
        description="URLs of revocation lists in what it signs; [] for none; default: derived.",
    )
    delta_crl_urls: list[PlainURL] | None = Field(
        default=None, max_length=8, description="URLs of delta lists in what it signs; [] for none; default: derived."
    )
    ocsp_urls: list[PlainURL] | None = Field(
        default=None,
        max_length=8,
        description="URLs of OCSP responders in what it signs; [] for none; default: derived.",
    )
    ca_issuer_urls: list[PlainURL] | None = Field(
        default=None,
        max_length=8,
        description="URLs of its own certificate in what it signs; [] for none; default: derived.",
    )
    crl_shards: int = Field(
        default=1, ge=1, le=1024, description="Over how many revocation lists its certificates are spread."
    )
    crl: CRLSchedule = Field(default=CRLSchedule(), description="When its revocation lists are made.")
    profiles: list[ProfileName] = listing(
        "The profiles that issuers on this CA may offer; none named: all.", max_items=16
    )
    certificate_ref: HandedIn | None = Field(
        default=None,
        description="Where its certificate lies once it was signed elsewhere: of an offline root, or of a CA below an offline one.",
    )
    request_ref: HandedIn | None = Field(
        default=None,
        description="Where the request lies of an offline CA that is to be signed by a CA whose key is here.",
    )


_PARENT = ChangeRule(
    "has(self.parent) == has(oldSelf.parent) && (!has(self.parent) || self.parent == oldSelf.parent)",
    "The parent of a CA never changes: declare a CA with another id.",
    lambda new, old: new.parent == old.parent,
)


class IssuingAuthority(Authority):
    """A CA that issues to end entities."""

    change_rules: ClassVar[tuple[ChangeRule, ...]] = (*Authority.change_rules, _PARENT)
    key_mode: KeyModeName = Field(
        default="online",
        description="Where the key is. online: opened by the server; sealed: opened only to build, for lists and in "
        "ceremonies; offline: elsewhere. Keys in hardware modules are not supported yet.",
    )
    parent: AuthorityName | None = Field(
        default=None, description="The id of the CA above it; default: the root, or the policy CA that it stands in."
    )
    allowed_namespaces: AllowedNamespaces | None = Field(
        default=None,
        description="The namespaces whose Issuers may bind this CA. Left out: none; ClusterIssuers always may.",
    )


class PolicyAuthority(Authority):
    """A CA between the root and the issuing CAs."""

    change_rules: ClassVar[tuple[ChangeRule, ...]] = (*Authority.change_rules, _PARENT)
    parent: AuthorityName | None = Field(default=None, description="The id of the CA above it; default: the root.")
    issuing_cas: list[IssuingAuthority] = keyed("The issuing CAs below this one.", "id", max_items=16)


class CrossCertificate(Limits):
    """A further certificate for a CA's key, signed by another CA than its parent."""

    rules = (
        _ONE_VALIDITY,
        Rule(
            "[has(self.subject), has(self.subjectCSR), has(self.subjectCertificate)].filter(given, given).size() == 1",
            "Say whose certificate it is by exactly one of subject, subjectCSR and subjectCertificate.",
            lambda cross: [cross.subject, cross.subject_csr, cross.subject_certificate].count(None) == 2,
        ),
        Rule(
            "!has(self.subject) || self.subject != self.issuer",
            "A CA cannot cross-certify itself.",
            lambda cross: cross.subject != cross.issuer,
        ),
    )
    id: AuthorityName = Field(description="The certificate's name in references. It never changes.")
    issuer: AuthorityName = Field(description="The id of the CA that signs.")
    subject: AuthorityName | None = Field(default=None, description="The id of a CA of this tree that is certified.")
    subject_csr: PEM | None = Field(default=None, description="The request of somebody else's CA as PEM text.")
    subject_certificate: PEM | None = Field(
        default=None, description="The certificate of somebody else's CA as PEM text."
    )
