"""Relations between the CAs of a tree: what a parent allows, its children must keep to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from spork.hierarchy.crosschecks import check_cross_certificates
from spork.hierarchy.issuers import issuable_profiles
from spork.hierarchy.limits import (
    ANY_USAGE,
    REFERENCE_DAY,
    lifetime_faults,
    name_faults,
    path_length_faults,
    policy_faults,
    reserved_policies,
    usage_faults,
)
from spork.hierarchy.model import DeclaredAuthority, Hierarchy
from spork.hierarchy.positions import Path
from spork.hierarchy.problems import Problems
from spork.hierarchy.snapshot import PROFILE_OF
from spork.hierarchy.subtrees import is_permitted_name
from spork.ids import AuthorityId
from spork.x509.profiles import PROFILES


def check_tree(hierarchy: Hierarchy, paths: Mapping[AuthorityId, Path], problems: Problems, oid_base: str) -> None:
    """Notes every CA and issuer that breaks a limit of a CA above it."""
    for authority in hierarchy.authorities:
        path = paths[authority.id]
        for key, sentence in _faults(hierarchy, authority, oid_base):
            problems.add((*path, key) if key else path, sentence)
        for index, profile in enumerate(authority.profiles):
            if profile not in issuable_profiles():
                problems.unknown((*path, "profiles", index), "profile", profile, issuable_profiles())
    _check_issuer_usages(hierarchy, problems)
    check_cross_certificates(hierarchy, problems, oid_base)


def _faults(hierarchy: Hierarchy, authority: DeclaredAuthority, oid_base: str) -> Iterator[tuple[str, str]]:
    yield from reserved_policies(authority.constraints, oid_base)
    yield from lifetime_faults(authority.validity, PROFILE_OF[authority.kind])
    if authority.parent_id is None:
        return
    parent = hierarchy.by_id[authority.parent_id]
    yield from _lifetime(authority, parent)
    yield from path_length_faults(authority.constraints, parent)
    yield from policy_faults(authority.constraints, parent)
    for ancestor in hierarchy.ancestors(authority.id):
        yield from usage_faults(authority.constraints, ancestor)
        yield from name_faults(authority.constraints, ancestor)
        if not is_permitted_name(authority.subject, ancestor.constraints.name_constraints):
            yield "", f"its own name is outside of the name constraints of {ancestor.id!r}."


def _lifetime(authority: DeclaredAuthority, parent: DeclaredAuthority) -> Iterator[tuple[str, str]]:
    if authority.validity.end(REFERENCE_DAY) > parent.validity.end(REFERENCE_DAY):
        key = "validity_years" if authority.validity.years else "validity_days"
        yield key, f"{authority.validity} outlive its parent {parent.id!r}, which has {parent.validity}."


def _check_issuer_usages(hierarchy: Hierarchy, problems: Problems) -> None:
    for index, issuer in enumerate(hierarchy.issuers):
        if issuer.authority_id not in hierarchy.by_id:
            continue
        line = [hierarchy.by_id[issuer.authority_id], *hierarchy.ancestors(issuer.authority_id)]
        for position, name in enumerate(issuer.profiles):
            profile = PROFILES.get(name)
            for authority in line:
                allowed = authority.constraints.extended_key_usage
                if (
                    profile
                    and allowed
                    and ANY_USAGE not in allowed
                    and not set(profile.extended_key_usage) <= set(allowed)
                ):
                    problems.add(
                        ("issuers", index, "profiles", position),
                        f"{authority.id!r} is limited to other extended key usages than those of the profile {name!r}.",
                    )
