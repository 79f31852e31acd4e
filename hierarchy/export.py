"""The file's declaration as a Kubernetes resource of kind Hierarchy: the same keys in camelCase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography import x509

from spork.hierarchy.load import parse_toml
from spork.ids import slug
from spork.x509.names import common_name

_ACRONYMS = {"ca": "CA", "cas": "CAs", "crl": "CRL", "urls": "URLs", "ocsp": "OCSP", "csr": "CSR"}
# What stands below these is keyed by the user or the protocol, not by the model.
_FREE_KEYS = frozenset({"ports"})


def hierarchy_resource(text: str, name: str, resource: str) -> dict[str, Any]:
    """A resource with everything that stands in the (valid) TOML text, and nothing that does not. Raises HierarchyError."""
    values = parse_toml(text, name)
    values.pop("version", None)
    _add_ids(values)
    return {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "Hierarchy",
        "metadata": {"name": resource},
        "spec": _camel_keys(values),
    }


def _add_ids(values: dict[str, Any]) -> None:
    """A file may leave ids out and get them from the common names; in a resource they are what entries are told apart by."""
    policy_cas = values.get("policy_cas", [])
    nested = [ca for policy in policy_cas for ca in policy.get("issuing_cas", [])]
    for ca in (values["root"], *policy_cas, *nested, *values.get("issuing_cas", [])):
        ca.setdefault(
            "id", slug(ca.get("common_name") or common_name(x509.Name.from_rfc4514_string(ca["subject"])) or "")
        )
    for cross in values.get("cross_certificates", []):
        if "subject" in cross:
            cross.setdefault("id", f"{cross['subject']}-by-{cross['issuer']}"[:63].strip("-"))


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
