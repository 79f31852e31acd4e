"""Cross-certificates: who may certify whom, and no way round in a circle."""

from __future__ import annotations

from collections.abc import Iterator

from spork.hierarchy import limits
from spork.hierarchy.model import DeclaredCrossCertificate, Hierarchy
from spork.hierarchy.problems import Problems
from spork.hierarchy.subtrees import is_permitted_name
from spork.ids import AuthorityId
from spork.x509.authority import KeyMode


def check_cross_certificates(hierarchy: Hierarchy, problems: Problems, oid_base: str) -> None:
    """Notes every cross-certificate that its issuer must not sign, and every loop."""
    edges = {
        authority.id: [child.id for child in hierarchy.children(authority.id)] for authority in hierarchy.authorities
    }
    seen: set[str] = set()
    for index, cross in enumerate(hierarchy.cross_certificates):
        path = ("cross_certificates", index)
        if cross.id in seen:
            problems.add(path, f"there is a cross-certificate {cross.id!r} already; give one of the two another `id`.")
        seen.add(cross.id)
        if cross.issuer_id not in edges or (cross.subject_id is not None and cross.subject_id not in edges):
            continue
        for key, sentence in _faults(hierarchy, cross, oid_base):
            problems.add((*path, key) if key else path, sentence)
        if cross.subject_id is not None:
            way = _way(edges, cross.subject_id, cross.issuer_id)
            if way and cross.subject_id != cross.issuer_id:
                problems.add(path, f"a loop: {' -> '.join([cross.issuer_id, *way])}.")
            else:
                edges[cross.issuer_id].append(cross.subject_id)


def _faults(hierarchy: Hierarchy, cross: DeclaredCrossCertificate, oid_base: str) -> Iterator[tuple[str, str]]:
    issuer = hierarchy.by_id[cross.issuer_id]
    subject = hierarchy.by_id[cross.subject_id] if cross.subject_id is not None else None
    if subject is issuer:
        yield "subject", f"{cross.issuer_id!r} cannot cross-certify itself."
    elif subject is not None and subject.parent_id == issuer.id:
        yield "issuer", f"{issuer.id!r} is the parent of {subject.id!r} and certifies it already."
    if issuer.key_mode is KeyMode.OFFLINE:
        yield "issuer", f"the key of {issuer.id!r} is elsewhere; a cross-certificate is signed where it is."
    if cross.validity.end(limits.REFERENCE_DAY) > issuer.validity.end(limits.REFERENCE_DAY):
        key = "validity_years" if cross.validity.years else "validity_days"
        yield key, f"{cross.validity} outlive its issuer {issuer.id!r}, which has {issuer.validity}."
    yield from limits.lifetime_faults(cross.validity, "cross")
    yield from limits.path_length_faults(cross.constraints, issuer)
    yield from limits.reserved_policies(cross.constraints, oid_base)
    yield from limits.policy_faults(cross.constraints, issuer)
    name = subject.subject if subject is not None else cross.foreign_subject
    for above in (issuer, *hierarchy.ancestors(issuer.id)):
        yield from limits.usage_faults(cross.constraints, above)
        yield from limits.name_faults(cross.constraints, above)
        if name is not None and not is_permitted_name(name, above.constraints.name_constraints):
            yield "", f"the name to be certified is outside of the name constraints of {above.id!r}."


def _way(edges: dict[AuthorityId, list[AuthorityId]], start: AuthorityId, goal: AuthorityId) -> list[AuthorityId]:
    """A chain of certificates from one CA down to another; empty if there is none."""
    trail: dict[AuthorityId, AuthorityId | None] = {start: None}
    waiting = [start]
    while waiting:
        current = waiting.pop()
        if current == goal:
            way: list[AuthorityId] = []
            step: AuthorityId | None = current
            while step is not None:
                way.insert(0, step)
                step = trail[step]
            return way
        for below in edges[current]:
            if below not in trail:
                trail[below] = current
                waiting.append(below)
    return []
