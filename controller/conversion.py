"""From resources to what the hierarchy file declares: the same values, checked by the same code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spork.controller.models import ClusterIssuer, Hierarchy, Issuer, Resource
from spork.hierarchy.issuers import KnownAuthority, declared_issuers
from spork.hierarchy.load import DEFAULT_OID_BASE, load_declaration
from spork.hierarchy.model import DeclaredIssuer
from spork.hierarchy.model import Hierarchy as DeclaredHierarchy
from spork.hierarchy.problems import HierarchyError, Problems, key_text
from spork.hierarchy.spec import IssuerSpec
from spork.ids import AuthorityId

# What a resource has and a file has not: it is about namespaces and objects in them, which a file knows nothing of.
_NOT_IN_FILES = {"allowed_namespaces", "certificate_ref", "request_ref"}


def declared_hierarchy(resource: Hierarchy, *, oid_base: str = DEFAULT_OID_BASE) -> DeclaredHierarchy:
    """The tree that the resource declares. Raises HierarchyError with every fault that its schema cannot see."""
    name = resource.metadata.name
    return load_declaration(file_values(resource), f"Hierarchy/{name}", name=f"Hierarchy {name}", oid_base=oid_base)


def file_values(resource: Hierarchy) -> dict[str, Any]:
    """The tree as plain values with the keys of a file, such as a signer can read."""
    values: dict[str, Any] = _without(resource.spec.model_dump(exclude_unset=True))
    return values


def declared_issuer(resource: Issuer | ClusterIssuer, tree: Mapping[AuthorityId, KnownAuthority]) -> DeclaredIssuer:
    """What the resource binds to which CA of the tree. Raises HierarchyError with every fault, such as a CA that is not there.

    Whether the CA allows the resource's namespace is not looked at here.
    """
    values = _without(resource.spec.model_dump(exclude_unset=True))
    problems = Problems()
    # The words of URLs are reserved for issuers without a namespace, whose names the models have checked already.
    (issuer,) = declared_issuers([IssuerSpec.model_validate({**values, "name": "issuer"})], tree, problems)
    if problems.found:
        raise _error(resource, problems)
    default = isinstance(resource, ClusterIssuer) and resource.spec.default
    return replace(issuer, name=resource.metadata.name, default=default)


def _error(resource: Resource, problems: Problems) -> HierarchyError:
    space = f"{resource.metadata.namespace}/" if resource.metadata.namespace else ""
    name = f"{resource.kind} {space}{resource.metadata.name}"
    return HierarchyError([f"{name}: {key_text(fault.path)}: {fault.sentence}" for fault in problems.found])


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(one) for key, one in value.items() if key not in _NOT_IN_FILES}
    if isinstance(value, list):
        return [_without(one) for one in value]
    return value
