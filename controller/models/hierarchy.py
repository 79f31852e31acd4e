"""Hierarchy: a whole tree of CAs, with the keys of a hierarchy file in camelCase."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from spork.controller.models.authorities import Authority, CrossCertificate, IssuingAuthority, PolicyAuthority
from spork.controller.models.issuer import IssuerSettings
from spork.controller.models.names import SLUG_PATTERN, AuthorityName
from spork.controller.models.schema import ChangeRule, Column, Names, Resource, Rule, Table, Text, keyed
from spork.controller.models.status import AGE, Status, Time, ready_columns

_SAME_ID = "Two CAs of the tree have the same id."
_EXISTS_ISSUING = (
    "((has(self.issuingCAs) && self.issuingCAs.exists(c, c.id == {id})) || (has(self.policyCAs) && "
    "self.policyCAs.exists(p, has(p.issuingCAs) && p.issuingCAs.exists(c, c.id == {id}))))"
)
_EXISTS_ABOVE = "({id} == self.root.id || (has(self.policyCAs) && self.policyCAs.exists(p, p.id == {id})))"


class DeclaredIssuer(IssuerSettings):
    """An issuer of the tree itself. ClusterIssuer and Issuer resources say the same in objects of their own."""

    name: Annotated[
        str, Text(63, SLUG_PATTERN, "The name of an issuer has letters, digits and hyphens, and no dots.")
    ] = Field(description="Its name in URLs.")
    default: bool = Field(default=False, description="Whether /acme/directory answers for it.")


def _nested(spec: Any) -> list[IssuingAuthority]:
    return [ca for policy in spec.policy_cas for ca in policy.issuing_cas]


def _ids(authorities: list[Any]) -> list[str]:
    return [authority.id for authority in authorities]


def _unique(ids: list[str]) -> bool:
    return len(set(ids)) == len(ids)


def _parents_exist(spec: Any) -> bool:
    above = {spec.root.id, *(ca.id for ca in spec.policy_cas)}
    return all(ca.parent is None or ca.parent in above for ca in (*spec.policy_cas, *spec.issuing_cas))


def _nested_parents_are_theirs(spec: Any) -> bool:
    return all(ca.parent in (None, policy.id) for policy in spec.policy_cas for ca in policy.issuing_cas)


class HierarchySpec(Table):
    rules = (
        Rule(
            "!has(self.policyCAs) || self.policyCAs.all(p, !has(p.issuingCAs) || p.issuingCAs.all(c, "
            "self.policyCAs.filter(q, has(q.issuingCAs) && q.issuingCAs.exists(d, d.id == c.id)).size() == 1))",
            _SAME_ID,
            lambda spec: _unique(_ids(_nested(spec))),
        ),
        Rule(
            "!has(self.policyCAs) || self.policyCAs.all(p, p.id != self.root.id && (!has(p.issuingCAs) || "
            "p.issuingCAs.all(c, c.id != self.root.id && !self.policyCAs.exists(q, q.id == c.id))))",
            _SAME_ID,
            lambda spec: (
                not {spec.root.id, *_ids(spec.policy_cas)} & set(_ids(_nested(spec)))
                and spec.root.id not in _ids(spec.policy_cas)
            ),
        ),
        Rule(
            "!has(self.issuingCAs) || self.issuingCAs.all(c, c.id != self.root.id && (!has(self.policyCAs) || "
            "!self.policyCAs.exists(p, p.id == c.id || (has(p.issuingCAs) && p.issuingCAs.exists(d, d.id == c.id)))))",
            _SAME_ID,
            lambda spec: not set(_ids(spec.issuing_cas)) & {spec.root.id, *_ids(spec.policy_cas), *_ids(_nested(spec))},
        ),
        Rule(
            f"(!has(self.policyCAs) || self.policyCAs.all(c, !has(c.parent) || {_EXISTS_ABOVE.format(id='c.parent')})) && "
            f"(!has(self.issuingCAs) || self.issuingCAs.all(c, !has(c.parent) || {_EXISTS_ABOVE.format(id='c.parent')}))",
            "A parent is the id of the root or of a policy CA of this tree.",
            _parents_exist,
        ),
        Rule(
            "!has(self.policyCAs) || self.policyCAs.all(p, !has(p.issuingCAs) || "
            "p.issuingCAs.all(c, !has(c.parent) || c.parent == p.id))",
            "An issuing CA inside a policy CA has that one as its parent; leave parent out.",
            _nested_parents_are_theirs,
        ),
        Rule(
            f"!has(self.issuers) || self.issuers.all(i, {_EXISTS_ISSUING.format(id='i.ca')})",
            "An issuer's ca is the id of an issuing CA of this tree.",
            lambda spec: {issuer.ca for issuer in spec.issuers} <= {*_ids(spec.issuing_cas), *_ids(_nested(spec))},
        ),
        Rule(
            "!has(self.issuers) || self.issuers.filter(i, i.default).size() <= 1",
            "One issuer at most is the default.",
            lambda spec: sum(issuer.default for issuer in spec.issuers) <= 1,
        ),
    )
    change_rules = (
        ChangeRule(
            "self.root.id == oldSelf.root.id",
            "The id of the root never changes: declare another Hierarchy for another root.",
            lambda new, old: new.root.id == old.root.id,
        ),
    )
    root: Authority = Field(description="The one root, which signs itself.")
    policy_cas: list[PolicyAuthority] = keyed("The CAs between the root and the issuing CAs.", "id", max_items=8)
    issuing_cas: list[IssuingAuthority] = keyed(
        "Issuing CAs directly below the root, or below the parent that they name.", "id", max_items=32
    )
    cross_certificates: list[CrossCertificate] = keyed(
        "Further certificates for CAs of this tree or of somebody else.", "id", max_items=16
    )
    issuers: list[DeclaredIssuer] = keyed(
        "Who issues what to whom from which CA. ClusterIssuer and Issuer resources are the other way to say so.",
        "name",
        max_items=32,
    )


class AuthorityState(Table):
    id: AuthorityName = Field(description="The CA's id.")
    phase: Literal["Pending", "Waiting", "Ready", "Expiring", "Expired", "Revoked", "Failed"] = Field(
        description="Where the CA stands. Waiting: somebody elsewhere has to sign."
    )
    message: Annotated[str, Field(max_length=4096)] = Field(default="", description="What it waits for or failed at.")
    generation: int | None = Field(default=None, ge=1, description="How many keys it has had.")
    serial: Annotated[str, Text(40, "[0-9A-F]+", "A serial is upper-case hexadecimal.")] | None = Field(
        default=None, description="The serial number of its certificate in hexadecimal."
    )
    not_after: Time | None = Field(default=None, description="The last second of its certificate.")
    live_certificates: int | None = Field(default=None, ge=0, description="How many certificates below it are alive.")
    request: Annotated[str, Text(65536)] | None = Field(
        default=None, description="The CA's request as PEM text, while somebody elsewhere has to sign it."
    )


class PlannedChange(Table):
    change_class: Annotated[str, Text(32)] = Field(description="None, create, in place, re-issue, re-key or forbidden.")
    subject: Annotated[str, Text(253)] = Field(description="The CA, cross-certificate or issuer that it concerns.")
    message: Annotated[str, Field(max_length=1024)] = Field(description="What will be done, or why it must not.")


class Plan(Table):
    hash: Annotated[str, Text(64, "[0-9a-f]{64}", "A hash is 64 hexadecimal digits.")] = Field(
        description="The plan's SHA-256, which an approval names."
    )
    changes: list[PlannedChange] = Field(
        default=[],
        max_length=256,
        description="What a change of the spec would do, before it is done.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class HierarchyStatus(Status):
    authorities: list[AuthorityState] = keyed("One entry for each CA.", "id", max_items=1024)
    plan: Plan | None = Field(default=None, description="What remains to be done.")
    ready: Annotated[str, Text(16)] | None = Field(default=None, description="How many CAs are ready, such as 3/4.")
    not_after: Time | None = Field(default=None, description="When the first certificate of a CA of the tree ends.")


class Hierarchy(Resource):
    """A tree of CAs: a root, policy CAs and issuing CAs below it, cross-certificates, and issuers."""

    names = Names(
        "hierarchies",
        "hierarchy",
        ("sph",),
        "Cluster",
        (
            ready_columns()[0],
            Column("CAs", ".status.ready", "How many CAs are ready."),
            Column("Until", ".status.notAfter", "When the first certificate of a CA of the tree ends."),
            *ready_columns()[1:],
            AGE,
        ),
    )
    kind: Literal["Hierarchy"] = Field(description="Hierarchy.")
    spec: HierarchySpec = Field(description="The tree as it should be.")
    status: HierarchyStatus | None = Field(default=None, description="The tree as it is.")
