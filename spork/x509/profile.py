"""Certificate profiles: what a kind of certificate contains and what a request for one may ask.

A `Profile` is data. `x509/profiles.py` holds the built-in ones; a hierarchy file may narrow or add some.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from cryptography import x509

from spork.x509.names import NameKind


class SubjectRule(StrEnum):
    """Where the subject distinguished name comes from."""

    EMPTY_OR_CN = "empty-or-cn"
    """Only a commonName that repeats one of the subject alternative names, or an empty subject (then SAN is critical)."""
    REQUESTED = "requested"
    """As requested, within the issuer's DN policy."""
    DECLARED = "declared"
    """Given by the CA's own configuration; a request cannot choose it."""


@dataclass(frozen=True, slots=True)
class CAConstraints:
    """What a CA certificate says about what may stand below it (RFC 5280 sections 4.2.1.9 to 4.2.1.12)."""

    path_length: int | None = None
    name_constraints: x509.NameConstraints | None = None
    extended_key_usage: tuple[str, ...] = ()
    """Dotted OIDs; empty means no limit."""
    policies: tuple[str, ...] = ("2.5.29.32.0",)
    """Certificate policy OIDs; anyPolicy by default."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a kind of certificate contains."""

    name: str
    description: str
    key_usage: frozenset[str]
    """Bit names as RFC 5280 spells them (digitalSignature, keyCertSign, ...). keyEncipherment is asserted for RSA keys only."""
    extended_key_usage: tuple[str, ...]
    """Dotted OIDs."""
    default_validity: timedelta
    max_validity: timedelta
    ca: bool = False
    subject: SubjectRule = SubjectRule.EMPTY_OR_CN
    name_kinds: frozenset[NameKind] = frozenset()
    """Kinds of subject alternative name that may be asked for."""
    names_required: bool = True
    """At least one subject alternative name must be there."""
    critical_extended_key_usage: bool = False
    ocsp_no_check: bool = False
    revocation_urls: bool = True
    """Whether cRLDistributionPoints and the OCSP URL are put in (not for OCSP responders)."""
    policies: tuple[str, ...] = ()
    csr_extensions: frozenset[str] = frozenset({"2.5.29.17", "2.5.29.15", "2.5.29.37", "2.5.29.19", "2.5.29.14"})
    """Dotted OIDs of extensions that a CSR may carry. SAN is read; the others must not contradict the profile, and what is
    signed always comes from the profile."""
    requestable: bool = True
    """False for profiles that only SPORK itself issues (root, policy-ca, issuing-ca, cross, ocsp-signing)."""
    minimum_level: str = "operator"
    """The lowest administrator level that may issue it by the REST API: viewer, operator, admin or superadmin."""
    labels: tuple[str, ...] = field(default=())
