"""What a CA's own limits allow below it: path length, policies, key usages and names, one function each.

Each yields the key that is to blame and a sentence. The same limits bind children and cross-certificates.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from cryptography.x509.oid import ExtendedKeyUsageOID

from spork.hierarchy.model import DeclaredAuthority, Validity, subtree_text
from spork.hierarchy.subtrees import exclusion_around, outside_of
from spork.x509.profile import CAConstraints
from spork.x509.profiles import profile_named

ANY_POLICY = "2.5.29.32.0"
ANY_USAGE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string
REFERENCE_DAY = datetime(2026, 1, 1, tzinfo=UTC)
"""Years and days are compared on one calendar; which day it starts does not matter, as both sides start on the same."""


def lifetime_faults(validity: Validity, profile: str) -> Iterator[tuple[str, str]]:
    """What the built-in profile allows, which the pipeline would hold against it later."""
    longest = profile_named(profile).max_validity
    if validity.end(REFERENCE_DAY) - REFERENCE_DAY > longest:
        key = "validity_years" if validity.years else "validity_days"
        yield key, f"{validity} are too long for a certificate of the profile {profile!r}; at most {longest.days} days."


def path_length_faults(constraints: CAConstraints, parent: DeclaredAuthority) -> Iterator[tuple[str, str]]:
    """What a CA's path length must not be below this parent."""
    allowed = parent.constraints.path_length
    if allowed is None:
        return
    if allowed == 0:
        yield "", f"{parent.id!r} has path_length 0, which allows no CA below it."
    elif constraints.path_length is None or constraints.path_length >= allowed:
        has = "no path_length" if constraints.path_length is None else f"path_length {constraints.path_length}"
        yield "path_length", f"{has} is impossible below {parent.id!r}, which has {allowed}; at most {allowed - 1}."


def reserved_policies(constraints: CAConstraints, oid_base: str) -> Iterator[tuple[str, str]]:
    """The levels of administrators may be asserted by the management CA alone."""
    for policy in constraints.policies:
        if policy == f"{oid_base}.20" or policy.startswith(f"{oid_base}.20."):
            yield "policies", f"{policy} is reserved for administrators' certificates."


def policy_faults(constraints: CAConstraints, parent: DeclaredAuthority) -> Iterator[tuple[str, str]]:
    """Policies that the parent does not assert would be no policies of the path (RFC 5280 section 6.1.3)."""
    allowed = parent.constraints.policies
    # The root's own certificate is a trust anchor: what it asserts, or that it asserts nothing, binds nobody.
    if (parent.parent_id is None and not allowed) or ANY_POLICY in allowed:
        return
    for policy in constraints.policies:
        if policy not in allowed:
            shown = "any policy" if policy == ANY_POLICY else policy
            yield "policies", f"{shown} is not among the policies of {parent.id!r}: {', '.join(allowed) or 'none'}."


def usage_faults(constraints: CAConstraints, ancestor: DeclaredAuthority) -> Iterator[tuple[str, str]]:
    """Usages that an ancestor's limit would make void."""
    allowed = ancestor.constraints.extended_key_usage
    if not allowed or ANY_USAGE in allowed:
        return
    for usage in constraints.extended_key_usage:
        if usage not in allowed:
            yield "extended_key_usage", f"{usage} is not among the extended key usages of {ancestor.id!r}."


def name_faults(constraints: CAConstraints, ancestor: DeclaredAuthority) -> Iterator[tuple[str, str]]:
    """Permitted subtrees that an ancestor does not permit or excludes."""
    own, above = constraints.name_constraints, ancestor.constraints.name_constraints
    if own is None or above is None:
        return
    for subtree in own.permitted_subtrees or ():
        if outside_of(subtree, above):
            yield "name_constraints", f"{subtree_text(subtree)} is outside of what {ancestor.id!r} permits."
        if around := exclusion_around(subtree, above):
            yield (
                "name_constraints",
                f"{subtree_text(subtree)} is inside of {subtree_text(around)}, which {ancestor.id!r} excludes.",
            )
