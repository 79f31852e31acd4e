"""Ceremony: what custodians have to agree on before it is done, in order."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spork.controller.models.names import AuthorityName
from spork.controller.models.schema import ChangeRule, Column, Names, Resource, Rule, Table, Text, keyed
from spork.controller.models.status import AGE, Status, Time, ready_columns

_SLUG = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
Slug = Annotated[str, Text(63, _SLUG, "This is a word of lower-case letters, digits and hyphens, at most 63.")]
SHA256 = Annotated[str, Text(64, "[0-9a-f]{64}", "A hash is 64 hexadecimal digits in lower case.")]


class Custodian(Table):
    name: Slug = Field(description="How the custodian is called in approvals.")
    display_name: Annotated[str, Text(128)] | None = Field(default=None, description="The person's name.")
    certificate_fingerprint: SHA256 = Field(
        description="SHA-256 of the administrator's certificate that the custodian approves with."
    )


class Action(Table):
    rules = (
        Rule(
            "(self.kind == 'ImportCertificate') == has(self.certificate)",
            "certificate is given for ImportCertificate, and for no other kind.",
            lambda action: (action.kind == "ImportCertificate") == (action.certificate is not None),
        ),
    )
    name: Slug = Field(description="How the action is called in the status.")
    kind: Literal["GenerateKey", "SignCertificate", "SignCRL", "ImportCertificate", "RevokeCertificate"] = Field(
        description="What is done."
    )
    authority: AuthorityName = Field(description="The id of the CA that it is done with.")
    certificate: Annotated[str, Text(65536)] | None = Field(
        default=None, description="The certificate that is taken in, as PEM text."
    )
    note: Annotated[str, Text(1024)] | None = Field(default=None, description="What the custodians should know of it.")


class CeremonySpec(Table):
    rules = (
        Rule(
            "self.quorum <= self.custodians.size()",
            "quorum is larger than the number of custodians, so that it could never be reached.",
            lambda spec: spec.quorum <= len(spec.custodians),
        ),
    )
    change_rules = (
        ChangeRule(
            "self == oldSelf",
            "A ceremony never changes, because approvals are given to what was read: create another one.",
            lambda new, old: new == old,
        ),
    )
    hierarchy: Annotated[str, Text(253)] = Field(description="The Hierarchy whose CAs it concerns.")
    purpose: Annotated[str, Text(1024)] = Field(description="Why it is held, for the transcript.")
    quorum: int = Field(ge=1, le=16, description="How many custodians must approve.")
    custodians: list[Custodian] = Field(
        min_length=1,
        max_length=16,
        description="Who may approve.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    actions: list[Action] = Field(
        min_length=1,
        max_length=64,
        description="What is done, in this order.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class ActionState(Table):
    name: Slug = Field(description="The name of the action.")
    state: Literal["Pending", "Running", "Done", "Failed", "Skipped"] = Field(description="How far it is.")
    message: Annotated[str, Field(max_length=4096)] = Field(default="", description="What came of it.")
    finished_time: Time | None = Field(default=None, description="When it was done.")


class Approval(Table):
    custodian: Slug = Field(description="Who approved.")
    time: Time = Field(description="When.")


class CeremonyStatus(Status):
    phase: Literal["Pending", "Approved", "Running", "Complete", "Failed"] | None = Field(
        default=None, description="How far the ceremony is."
    )
    actions: list[ActionState] = keyed("How far each action is.", "name", max_items=64)
    approvals: list[Approval] = keyed("Who has approved.", "custodian", max_items=16)
    transcript_hash: SHA256 | None = Field(default=None, description="SHA-256 of the transcript.")


class Ceremony(Resource):
    """Ordered actions with CA keys that a quorum of custodians must approve."""

    names = Names(
        "ceremonies",
        "ceremony",
        ("spcer",),
        "Cluster",
        (
            ready_columns()[0],
            Column("Phase", ".status.phase", "How far the ceremony is."),
            Column("Quorum", ".spec.quorum", "How many custodians must approve.", "integer"),
            *ready_columns()[1:],
            AGE,
        ),
    )
    kind: Literal["Ceremony"] = Field(description="Ceremony.")
    spec: CeremonySpec = Field(description="What is to be done, and who decides.")
    status: CeremonyStatus | None = Field(default=None, description="What has been done.")
