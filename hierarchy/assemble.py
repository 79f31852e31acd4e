"""From the file model to the tree: ids, parents, defaults, and the references between the parts of a file."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass, replace

from spork.hierarchy import values
from spork.hierarchy.checks import check_tree
from spork.hierarchy.foreign import foreign_subject
from spork.hierarchy.issuers import declared_issuers
from spork.hierarchy.model import (
    CRLSettings,
    DeclaredAuthority,
    DeclaredCrossCertificate,
    Hierarchy,
    URLTemplates,
)
from spork.hierarchy.positions import Path
from spork.hierarchy.problems import Problems
from spork.hierarchy.spec import AuthoritySpec, CrossSpec, HierarchySpec, IssuingSpec, LimitsSpec, PolicySpec
from spork.ids import MANAGEMENT_AUTHORITY, AuthorityId, is_slug, slug
from spork.issuance.crl_schedule import CRLPolicy
from spork.x509.algorithms import BY_NAME, Algorithm
from spork.x509.authority import AuthorityKind, KeyMode
from spork.x509.names import common_name
from spork.x509.profile import CAConstraints

_ANY_POLICY = ("2.5.29.32.0",)


@dataclass(frozen=True, slots=True)
class Node:
    """A CA of the file: where it stands there, and what it becomes."""

    path: Path
    spec: AuthoritySpec
    authority: DeclaredAuthority


def assemble(spec: HierarchySpec, problems: Problems, base: pathlib.Path | None, oid_base: str) -> Hierarchy | None:
    """Builds the tree and checks it. None where its shape is broken; problems tell more."""
    if spec.version != 1:
        problems.add(("version",), f"version {spec.version} is not known to this program; it reads version 1.")
    nodes = _nodes(spec, problems)
    _check_doubles(nodes, problems)
    by_id = {node.authority.id: node for node in nodes}
    _check_parents(nodes, by_id, problems)
    ordered = _in_order(nodes, by_id, problems)
    issuers = declared_issuers(spec.issuers, {node.authority.id: node.authority for node in nodes}, problems)
    if ordered is None:
        return None
    ordered = _with_path_lengths(ordered)
    tree = {node.authority.id: node.authority for node in ordered}
    hierarchy = Hierarchy(
        authorities=tuple(node.authority for node in ordered),
        cross_certificates=tuple(
            _cross(cross, ("cross_certificates", index), tree, problems, base)
            for index, cross in enumerate(spec.cross_certificates)
        ),
        issuers=issuers,
    )
    check_tree(hierarchy, {node.authority.id: node.path for node in ordered}, problems, oid_base)
    return hierarchy


def _nodes(spec: HierarchySpec, problems: Problems) -> list[Node]:
    root = _node(spec.root, ("root",), AuthorityKind.ROOT, None, problems)
    nodes = [root]
    for i, policy in enumerate(spec.policy_cas):
        path: Path = ("policy_cas", i)
        node = _node(policy, path, AuthorityKind.POLICY, policy.parent or root.authority.id, problems)
        nodes.append(node)
        for j, below in enumerate(policy.issuing_cas):
            inner = (*path, "issuing_cas", j)
            if below.parent not in (None, node.authority.id):
                problems.add(
                    (*inner, "parent"),
                    f"it stands inside {node.authority.id!r}, which is its parent; leave `parent` out.",
                )
            nodes.append(_node(below, inner, AuthorityKind.ISSUING, node.authority.id, problems))
    for i, issuing in enumerate(spec.issuing_cas):
        parent = issuing.parent or root.authority.id
        nodes.append(_node(issuing, ("issuing_cas", i), AuthorityKind.ISSUING, parent, problems))
    return nodes


def _node(spec: AuthoritySpec, path: Path, kind: AuthorityKind, parent: str | None, problems: Problems) -> Node:
    subject = values.subject_name(spec, path, problems)
    mode = _key_mode(spec, path, kind, problems)
    if not 1 <= spec.crl_shards <= 1024:
        problems.add((*path, "crl_shards"), f"{spec.crl_shards} is out of range; at least 1, at most 1024.")
    sharded = spec.crl_shards > 1
    authority = DeclaredAuthority(
        id=_id(spec, path, kind, common_name(subject) or "", problems),
        kind=kind,
        parent_id=None if parent is None else AuthorityId(parent),
        subject=subject,
        algorithm=_algorithm(spec, path, problems),
        validity=values.validity(spec, path, problems),
        constraints=_constraints(spec, path, problems),
        key_mode=mode,
        crl=_crl(spec, path, mode, problems),
        crl_shards=spec.crl_shards,
        urls=URLTemplates(
            crl=values.urls(spec.crl_urls, (*path, "crl_urls"), problems, sharded=sharded),
            delta_crl=values.urls(spec.delta_crl_urls, (*path, "delta_crl_urls"), problems, sharded=sharded),
            ocsp=values.urls(spec.ocsp_urls, (*path, "ocsp_urls"), problems),
            ca_issuers=values.urls(spec.ca_issuer_urls, (*path, "ca_issuer_urls"), problems),
        ),
        profiles=tuple(spec.profiles),
    )
    return Node(path, spec, authority)


def _id(spec: AuthoritySpec, path: Path, kind: AuthorityKind, name: str, problems: Problems) -> AuthorityId:
    text = slug(name) if spec.id is None else spec.id
    where = path if spec.id is None else (*path, "id")
    if not is_slug(text):
        hint = f"; such as {slug(text)!r}" if slug(text) else ""
        problems.add(where, f"the id {text!r} is no slug of lower-case letters, digits and hyphens, at most 63{hint}.")
    elif text == MANAGEMENT_AUTHORITY:
        problems.add(where, f"the id {text!r} is reserved for the CA of administrators.")
    elif text.endswith("-chain") or (text == "root" and kind is not AuthorityKind.ROOT):
        problems.add(where, f"the id {text!r} is reserved: exported files have such names.")
    return AuthorityId(text)


def _algorithm(spec: AuthoritySpec, path: Path, problems: Problems) -> Algorithm:
    if spec.algorithm is None:
        problems.add(path, f"`algorithm` is missing; known are {', '.join(BY_NAME)}.")
    elif spec.algorithm not in BY_NAME:
        problems.unknown((*path, "algorithm"), "algorithm", spec.algorithm, BY_NAME)
    return BY_NAME.get(spec.algorithm or "", BY_NAME["ecdsa-p256"])


def _key_mode(spec: AuthoritySpec, path: Path, kind: AuthorityKind, problems: Problems) -> KeyMode:
    default = KeyMode.ONLINE if kind is AuthorityKind.ISSUING else KeyMode.SEALED
    offered = [KeyMode.SEALED.value, KeyMode.ONLINE.value, KeyMode.OFFLINE.value]
    if spec.key_mode is None:
        return default
    if spec.key_mode == KeyMode.PKCS11.value:
        problems.add(
            (*path, "key_mode"),
            f"keys in PKCS#11 modules are not part of this version; known are {', '.join(offered)}.",
        )
        return default
    if spec.key_mode not in offered:
        problems.unknown((*path, "key_mode"), "key mode", spec.key_mode, offered)
        return default
    return KeyMode(spec.key_mode)


def _constraints(spec: LimitsSpec, path: Path, problems: Problems) -> CAConstraints:
    policies = _ANY_POLICY if spec.policies is None else values.oids(spec.policies, (*path, "policies"), problems)
    return CAConstraints(
        path_length=values.path_length(spec.path_length, path, problems),
        name_constraints=values.name_constraints(spec.name_constraints, (*path, "name_constraints"), problems),
        extended_key_usage=values.extended_key_usages(spec.extended_key_usage, (*path, "extended_key_usage"), problems),
        policies=policies,
    )


def _crl(spec: AuthoritySpec, path: Path, mode: KeyMode, problems: Problems) -> CRLSettings:
    where = (*path, "crl")
    default = CRLPolicy.of({}, mode)
    declared = {
        key: None if text is None else values.duration(text, (*where, key), problems)
        for key, text in (
            ("interval", spec.crl.interval),
            ("overlap", spec.crl.overlap),
            ("delta_interval", spec.crl.delta_interval),
        )
    }
    settings = CRLSettings(
        interval=declared["interval"] or default.interval,
        overlap=declared["overlap"] or default.validity - default.interval,
        delta_interval=declared["delta_interval"],
    )
    if settings.delta_interval is not None and settings.delta_interval >= settings.interval:
        problems.add(
            (*where, "delta_interval"), "delta CRLs come between full ones, so it must be shorter than the interval."
        )
    if settings.delta_interval is not None and mode is not KeyMode.ONLINE:
        problems.add((*where, "delta_interval"), f"delta CRLs need an online key, and this one is {mode.value}.")
    return settings


def _check_doubles(nodes: list[Node], problems: Problems) -> None:
    ids: dict[str, Node] = {}
    names: dict[bytes, Node] = {}
    for node in nodes:
        subject = node.authority.subject
        twin = ids.setdefault(node.authority.id, node)
        if twin is not node:
            where = node.path if node.spec.id is None else (*node.path, "id")
            problems.add(where, f"the id {node.authority.id!r} is taken already; give one of the two another `id`.")
        twin = names.setdefault(subject.public_bytes(), node)
        if twin is not node and subject is not values.STAND_IN_NAME:
            key = "subject" if node.spec.subject is not None else "common_name"
            problems.add(
                (*node.path, key), f"the name {subject.rfc4514_string()!r} is taken already by {twin.authority.id!r}."
            )


def _check_parents(nodes: list[Node], by_id: dict[AuthorityId, Node], problems: Problems) -> None:
    for node in nodes:
        parent = node.authority.parent_id
        if not isinstance(node.spec, PolicySpec | IssuingSpec) or parent is None or node.spec.parent is None:
            continue
        where = (*node.path, "parent")
        if parent not in by_id:
            problems.unknown(where, "CA", parent, by_id)
        elif by_id[parent].authority.kind is AuthorityKind.ISSUING:
            problems.add(where, f"{parent!r} is an issuing CA; only the root and policy CAs have CAs below them.")


def _in_order(nodes: list[Node], by_id: dict[AuthorityId, Node], problems: Problems) -> list[Node] | None:
    """Parents before children. None where ids clash, a parent is unknown, or parents lead in a circle."""
    if len(by_id) != len(nodes) or any(n.authority.parent_id not in by_id for n in nodes[1:]):
        return None
    ordered: list[Node] = []
    placed: set[AuthorityId | None] = {None}
    waiting = nodes
    while ready := [node for node in waiting if node.authority.parent_id in placed]:
        ordered += ready
        placed |= {node.authority.id for node in ready}
        waiting = [node for node in waiting if node.authority.id not in placed]
    for circle in _circles(waiting, by_id):
        node = by_id[AuthorityId(circle[0])]
        problems.add((*node.path, "parent"), f"a loop of parents: {' -> '.join([*circle, circle[0]])}.")
    return None if waiting else ordered


def _circles(waiting: list[Node], by_id: dict[AuthorityId, Node]) -> list[list[str]]:
    circles: list[list[str]] = []
    seen: set[str] = set()
    for start in waiting:
        trail: list[str] = []
        current = start.authority.id
        while current not in seen:
            seen.add(current)
            trail.append(current)
            current = by_id[current].authority.parent_id or current
        if current in trail:
            circles.append(trail[trail.index(current) :])
    return circles


def _with_path_lengths(nodes: list[Node]) -> list[Node]:
    """Fills in what the file leaves open: 0 for issuing CAs, for policy CAs the levels below (at least 1), none for the root."""
    depth: dict[AuthorityId | None, int] = {}
    for node in reversed(nodes):
        authority = node.authority
        depth[authority.parent_id] = max(depth.get(authority.parent_id, 0), depth.setdefault(authority.id, 0) + 1)
    return [_with_path_length(node, depth[node.authority.id]) for node in nodes]


def _with_path_length(node: Node, depth: int) -> Node:
    authority = node.authority
    if authority.constraints.path_length is not None or authority.kind is AuthorityKind.ROOT:
        return node
    length = 0 if authority.kind is AuthorityKind.ISSUING else max(1, depth)
    return replace(node, authority=replace(authority, constraints=replace(authority.constraints, path_length=length)))


def _cross(
    spec: CrossSpec,
    path: Path,
    tree: dict[AuthorityId, DeclaredAuthority],
    problems: Problems,
    base: pathlib.Path | None,
) -> DeclaredCrossCertificate:
    for key, ca in (("issuer", spec.issuer), ("subject", spec.subject)):
        if ca is not None and ca not in tree:
            problems.unknown((*path, key), "CA", ca, tree)
    name, spki = foreign_subject(spec, path, problems, base)
    subject = spec.subject or (slug(common_name(name) or "") if name is not None else "")
    text = spec.id or f"{subject}-by-{spec.issuer}"[:63].strip("-")
    if not is_slug(text):
        problems.add(
            (*path, "id"), f"the id {text!r} is no slug of lower-case letters, digits and hyphens, at most 63."
        )
    return DeclaredCrossCertificate(
        id=text,
        issuer_id=AuthorityId(spec.issuer),
        subject_id=AuthorityId(spec.subject) if spec.subject is not None else None,
        foreign_subject=name,
        foreign_spki=spki,
        validity=values.validity(spec, path, problems),
        constraints=_constraints(spec, path, problems),
    )
