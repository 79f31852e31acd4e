"""Rules about the subject and its alternative names."""

from __future__ import annotations

from collections import Counter

from cryptography import x509

from spork.policy.patterns import compiled
from spork.policy.proposal import Proposal, Violation
from spork.x509.alabel import alabel_fault
from spork.x509.names import NameKind, SubjectName, from_general_name, to_general_name
from spork.x509.namesyntax import name_fault
from spork.x509.nametext import name_of_common_name
from spork.x509.profile import SubjectRule


def names_well_formed(proposal: Proposal) -> list[Violation]:
    """Each name is one of its kind, in canonical form, and there once."""
    found = []
    for name, times in Counter(proposal.names).items():
        fault = name_fault(name) or _canonical_fault(name) or ("is there more than once" if times > 1 else None)
        if fault is not None:
            found.append(Violation("names_well_formed", f"The {name.kind.value} name {name.value!r} {fault}.", name))
    return found


def names_kind_allowed_by_profile(proposal: Proposal) -> list[Violation]:
    """The profile has names of these kinds."""
    return [
        Violation(
            "names_kind_allowed_by_profile",
            f"Certificates of the profile {proposal.profile.name} have no {name.kind.value} names.",
            name,
        )
        for name in proposal.names
        if name.kind not in proposal.profile.name_kinds
    ]


def names_required(proposal: Proposal) -> Violation | None:
    """There is a name where the profile needs one, and never neither subject nor name (RFC 5280 section 4.1.2.6)."""
    if proposal.names:
        return None
    if proposal.profile.names_required:
        return Violation(
            "names_required", f"Certificates of the profile {proposal.profile.name} need a subject alternative name."
        )
    if not proposal.subject.rdns:
        return Violation("names_required", "The certificate would name nobody: it has neither a subject nor a name.")
    return None


def names_permitted(proposal: Proposal) -> list[Violation]:
    """The issuer's patterns permit each name. The host's own certificates have no issuer and no patterns."""
    if proposal.issuer is None:
        return []
    matcher = compiled(proposal.issuer.names, proposal.requester.namespace or proposal.issuer.namespace)
    found = []
    for name in proposal.names:
        # A name that is not well formed means nothing to a pattern, and another rule refuses it.
        objection = None if name_fault(name) is not None else matcher.objection(name)
        if objection is not None:
            found.append(Violation("names_permitted", f"The {name.kind.value} name {name.value!r} {objection}.", name))
    return found


def wildcard_allowed(proposal: Proposal) -> list[Violation]:
    """Wildcard DNS names only where the issuer has them."""
    if proposal.issuer is None or proposal.issuer.names.wildcards:
        return []
    return [
        Violation("wildcard_allowed", "The issuer does not certify wildcard names.", name)
        for name in proposal.names
        if name.kind is NameKind.DNS and "*" in name.value
    ]


def names_match_grant(proposal: Proposal) -> list[Violation]:
    """Exactly the names that the requester was found entitled to, no more and no fewer; a commonName that is a name counts."""
    granted = proposal.grant.names
    if granted is None:
        return []
    wanted = set(proposal.names) | _spelled_names(proposal.subject)
    extra = [
        Violation("names_match_grant", f"The {name.kind.value} name {name.value!r} was not authorised.", name)
        for name in sorted(wanted - granted)
    ]
    missing = [
        Violation(
            "names_match_grant", f"The {name.kind.value} name {name.value!r} was authorised but is not requested.", name
        )
        for name in sorted(granted - set(proposal.names))
    ]
    return extra + missing


def common_name_is_a_name(proposal: Proposal) -> Violation | None:
    """Where the profile's subject is at most a commonName, that must repeat an alternative name (BR 7.1.4.3)."""
    if proposal.profile.subject is not SubjectRule.EMPTY_OR_CN or not proposal.subject.rdns:
        return None
    attributes = list(proposal.subject)
    if len(attributes) != 1 or attributes[0].oid != x509.NameOID.COMMON_NAME:
        return Violation(
            "common_name_is_a_name",
            f"The subject of the profile {proposal.profile.name} is at most one commonName.",
        )
    if not _repeats_a_name(proposal, str(attributes[0].value)):
        return Violation(
            "common_name_is_a_name",
            f"The commonName {attributes[0].value!r} is none of the subject alternative names.",
        )
    return None


def subject_permitted(proposal: Proposal) -> list[Violation]:
    """A requested subject lies within the issuer's dn patterns, and an e-mail address in it within its email patterns.

    A subject that is only a commonName which repeats one of the names says nothing new, and needs no dn pattern.
    """
    if proposal.issuer is None or proposal.profile.subject is not SubjectRule.REQUESTED or not proposal.subject.rdns:
        return []
    matcher = compiled(proposal.issuer.names, proposal.requester.namespace or proposal.issuer.namespace)
    found = []
    for attribute in proposal.subject.get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS):
        mailbox = SubjectName(NameKind.EMAIL, str(attribute.value))
        fault = name_fault(mailbox) or matcher.objection(_canonical_email(mailbox))
        if fault is not None:
            found.append(
                Violation("subject_permitted", f"The subject's e-mail address {mailbox.value!r} {fault}.", mailbox)
            )
    attributes = list(proposal.subject)
    repeated = len(attributes) == 1 and attributes[0].oid == x509.NameOID.COMMON_NAME
    if repeated and _repeats_a_name(proposal, str(attributes[0].value)):
        return found
    text = proposal.subject.rfc4514_string()
    try:
        objection = matcher.objection(SubjectName(NameKind.DN, text))
    except ValueError:
        objection = "cannot be compared with the issuer's patterns"
    if objection is not None:
        found.append(Violation("subject_permitted", f"The subject {text!r} {objection}."))
    return found


def _repeats_a_name(proposal: Proposal, common_name: str) -> bool:
    # Only DNS names compare without case; they are stored in lower case.
    return any(
        name.value == (common_name.lower() if name.kind is NameKind.DNS else common_name) for name in proposal.names
    )


def _spelled_names(subject: x509.Name) -> set[SubjectName]:
    found = set()
    for attribute in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
        name = name_of_common_name(str(attribute.value))
        if name is not None:
            found.add(name)
    return found


def _canonical_email(name: SubjectName) -> SubjectName:
    local, at, domain = name.value.rpartition("@")
    return SubjectName(name.kind, f"{local}{at}{domain.lower()}")


def _canonical_fault(name: SubjectName) -> str | None:
    try:
        canonical = from_general_name(to_general_name(name))
    except ValueError:
        return "cannot be written into a certificate"
    if canonical != name:
        return "is not in canonical form" + (f"; write {canonical.value!r}" if canonical is not None else "")
    if name.kind is NameKind.DNS:
        return alabel_fault(name.value)
    return None
