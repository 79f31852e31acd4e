"""Between resources and the declared tree: a Hierarchy resource says what a hierarchy file says, in camelCase."""

from __future__ import annotations

from typing import Any

from spork.controller.models import Hierarchy
from spork.hierarchy.load import DEFAULT_OID_BASE, load_values
from spork.hierarchy.model import Hierarchy as DeclaredHierarchy
from spork.hierarchy.problems import HierarchyError, Problems, key_text

# What a resource has and a file has not: it is about namespaces, which a file knows nothing of.
_NOT_IN_FILES = {"allowed_namespaces"}


def declared_hierarchy(resource: Hierarchy, *, oid_base: str = DEFAULT_OID_BASE) -> DeclaredHierarchy:
    """The tree that the resource declares. Raises HierarchyError with every fault that its schema cannot see."""
    values = _without(resource.spec.model_dump(exclude_unset=True))
    problems = Problems()
    hierarchy = load_values(values, problems, oid_base=oid_base)
    if hierarchy is None:
        name = f"Hierarchy {resource.metadata.name}"
        raise HierarchyError([f"{name}: {key_text(fault.path)}: {fault.sentence}" for fault in problems.found])
    return hierarchy


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(one) for key, one in value.items() if key not in _NOT_IN_FILES}
    if isinstance(value, list):
        return [_without(one) for one in value]
    return value
