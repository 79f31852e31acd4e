"""An issuer: one authority bound to profiles, name and key policy, limits and the doors that serve it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from spork.ids import HIERARCHY_FILE, AuthorityId, IssuerId


@dataclass(frozen=True, slots=True)
class NamePolicy:
    """Which names may be certified. A name must match a `permit` pattern of its kind and no `deny` pattern.

    Patterns, by kind (see `policy/patterns.py`):
    dns    `example.com` (itself only), `*.example.com` (one label), `**.example.com` or `.example.com` (any depth below it)
    ip     CIDR
    email  `user@example.com`, `@example.com`, `@.example.com`
    uri    a prefix with scheme and host
    dn     an RFC 4514 suffix
    An absent kind permits nothing of that kind. `{namespace}` in a pattern stands for the Kubernetes namespace of who asks;
    where there is none, such a permit pattern permits nothing and such a deny pattern denies nothing.
    """

    permit: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """NameKind value -> patterns."""
    deny: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wildcards: bool = True
    """Whether wildcard DNS names may be certified at all."""


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """Which subject keys are accepted, by names of the algorithm table; empty means every algorithm in the table."""

    algorithms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition in CEL over the request (see `policy/expressions.py`), which must be true."""

    rule: str
    message: str = ""
    """What the requester is told where it does not hold: one sentence."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer as stored. `label` is its name in URLs (`/acme/{label}/directory`)."""

    id: IssuerId
    namespace: str
    """Empty for issuers of a TOML file and for ClusterIssuers."""
    name: str
    authority_id: AuthorityId
    profiles: tuple[str, ...]
    """The first is the default."""
    names: NamePolicy
    keys: KeyPolicy
    max_validity: timedelta | None
    protocols: Mapping[str, Mapping[str, Any]]
    """Protocol name (`acme`, `est`, ...) -> its settings; absent means that the door is shut. For acme: `challenges`, `networks`
    (CIDRs that validators may reach beyond public addresses), `terms_of_service`, `caa_identities`, `ports`."""
    origin: str
    """file, kubernetes or rest: who owns this row."""
    expressions: tuple[Expression, ...] = ()
    default: bool = False
    """Whether `/acme/directory` answers for it."""
    declared_by: str = HIERARCHY_FILE
    """Which of the origin's declarations it comes from; see `ids.HIERARCHY_FILE`."""

    @property
    def label(self) -> str:
        return f"{self.namespace}.{self.name}" if self.namespace else self.name
