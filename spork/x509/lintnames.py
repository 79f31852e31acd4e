"""Lint rules for the names in a certificate, and for what its issuer's path allows below it.

Source: RFC 5280 sections 4.1.2.6, 4.2.1.6, 4.2.1.9, 4.2.1.10.
"""

from __future__ import annotations

from cryptography import x509

from spork.x509.lintview import Rule, View
from spork.x509.nameconstraints import constrained_names, constraint_fault
from spork.x509.names import SubjectName, common_name, from_general_name
from spork.x509.namesyntax import name_fault, subject_fault
from spork.x509.profile import SubjectRule
from spork.x509.profiles import OCSP_SIGNING

_ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0"


def _subject_missing(view: View) -> str | None:
    if view.subject_name.rdns or (view.alternative_names and not view.profile.ca):
        return None
    return "a CA needs a subject" if view.profile.ca else "there is neither a subject nor a subject alternative name"


def _subject_malformed(view: View) -> str | None:
    fault = subject_fault(view.subject_name)
    return None if fault is None else f"the subject {fault}"


def _subject_is_issuer(view: View) -> str | None:
    if view.profile.ca or view.subject != view.issuer:
        return None
    return "an end entity has its issuer's name, as if the CA had issued it to itself"


def _san_not_critical(view: View) -> str | None:
    if view.subject_name.rdns or not view.alternative_names or view.critical(x509.SubjectAlternativeName):
        return None
    return "subjectAltName must be critical where the subject is empty"


def _san_empty(view: View) -> str | None:
    present = view.value(x509.SubjectAlternativeName) is not None
    return "subjectAltName holds no name" if present and not view.alternative_names else None


def _san_missing(view: View) -> str | None:
    needed = view.profile.names_required and not view.alternative_names
    return f"the profile {view.profile.name} needs a subject alternative name" if needed else None


def _names(view: View) -> list[SubjectName | None]:
    return [from_general_name(name) for name in view.alternative_names]


def _name_syntax(view: View) -> str | None:
    for name in _names(view):
        if name is not None and (fault := name_fault(name)) is not None:
            return f"the {name.kind.value} name {name.value!r} {fault}"
    return None


def _name_kind(view: View) -> str | None:
    for name in _names(view):
        if name is None or name.kind not in view.profile.name_kinds:
            kind = "unsupported" if name is None else name.kind.value
            return f"the profile {view.profile.name} has no names of the kind {kind}"
    return None


def _common_name_not_a_name(view: View) -> str | None:
    if view.profile.subject is not SubjectRule.EMPTY_OR_CN:
        return None
    wanted = common_name(view.subject_name)
    if wanted is None or wanted in {name.value for name in _names(view) if name is not None}:
        return None
    return f"the commonName {wanted!r} is not one of the subject alternative names"


def _name_constraints(view: View) -> str | None:
    limits = view.limits.name_constraints
    if not limits:
        return None
    names = constrained_names(view.subject_name, view.alternative_names)
    return next((fault for one in limits if (fault := constraint_fault(one, names)) is not None), None)


def _path_length_exhausted(view: View) -> str | None:
    left = view.limits.path_length
    if not view.profile.ca or left is None or left > 0 or view.subject == view.issuer:
        return None
    return "no further CA may stand below the issuer"


def _path_length_beyond_issuer(view: View) -> str | None:
    left, basic = view.limits.path_length, view.value(x509.BasicConstraints)
    if left is None or basic is None or not basic.ca:
        return None
    below = left if view.subject == view.issuer else left - 1
    if basic.path_length is None or basic.path_length <= max(0, below):
        return None
    return f"the path length {basic.path_length} is more than the {max(0, below)} that the issuer's path leaves"


def _path_length_unstated(view: View) -> str | None:
    left, basic = view.limits.path_length, view.value(x509.BasicConstraints)
    unstated = left is not None and basic is not None and basic.ca and basic.path_length is None
    return "the issuer's path is limited, but this CA certificate states no path length" if unstated else None


def _extended_key_usage_beyond_issuer(view: View) -> str | None:
    usage = view.value(x509.ExtendedKeyUsage)
    # A CA's own OCSP responder answers for that CA alone; its purpose is not one that the CA passes on.
    asserted = None if usage is None else {oid.dotted_string for oid in usage} - {OCSP_SIGNING}
    for limit in view.limits.extended_key_usages:
        if _ANY_EXTENDED_KEY_USAGE in limit:
            continue
        if asserted is None:
            # A CA below that states nothing is limited all the same; an end entity would claim every purpose.
            if not view.profile.ca:
                return "a CA above is limited to some extended key usages, and this certificate names none"
        elif not asserted <= limit:
            return f"a CA above is not allowed the extended key usage {', '.join(sorted(asserted - limit))}"
    return None


NAME_RULES = (
    Rule("rfc5280.subject_missing", "error", _subject_missing),
    Rule("rfc5280.subject_malformed", "error", _subject_malformed),
    Rule("spork.subject_is_issuer", "error", _subject_is_issuer),
    Rule("rfc5280.san_not_critical_with_empty_subject", "error", _san_not_critical),
    Rule("rfc5280.san_empty", "error", _san_empty),
    Rule("spork.san_missing", "error", _san_missing),
    Rule("rfc5280.name_syntax", "error", _name_syntax),
    Rule("spork.name_kind_not_of_profile", "error", _name_kind),
    Rule("spork.common_name_not_a_name", "error", _common_name_not_a_name),
    Rule("rfc5280.name_constraints_violated", "error", _name_constraints),
    Rule("rfc5280.path_length_exhausted", "error", _path_length_exhausted),
    Rule("spork.path_length_beyond_issuer", "error", _path_length_beyond_issuer),
    Rule("spork.path_length_unstated", "warning", _path_length_unstated),
    Rule("spork.extended_key_usage_beyond_issuer", "error", _extended_key_usage_beyond_issuer),
)
