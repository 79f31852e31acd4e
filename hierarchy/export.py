"""The file's declaration as a Kubernetes resource of kind Hierarchy: the same keys in camelCase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spork.hierarchy.load import parse_toml

_ACRONYMS = {"ca": "CA", "cas": "CAs", "crl": "CRL", "urls": "URLs", "ocsp": "OCSP", "csr": "CSR"}
# What stands below these is keyed by the user or the protocol, not by the model.
_FREE_KEYS = frozenset({"ports"})


def hierarchy_resource(text: str, name: str, resource: str) -> dict[str, Any]:
    """A resource with everything that stands in the (valid) TOML text, and nothing that does not. Raises HierarchyError."""
    values = parse_toml(text, name)
    values.pop("version", None)
    return {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "Hierarchy",
        "metadata": {"name": resource},
        "spec": _camel_keys(values),
    }


def camel_case(key: str) -> str:
    """`policy_cas` is `policyCAs`: acronyms in capitals, as Kubernetes writes them, except at the start."""
    first, *rest = key.split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)


def _camel_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {camel_case(key): one if key in _FREE_KEYS else _camel_keys(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_camel_keys(one) for one in value]
    return value
