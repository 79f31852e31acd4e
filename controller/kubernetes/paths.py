"""Where objects are on an API server."""

from __future__ import annotations

from spork.controller.cluster import Kind, Ref


def collection(kind: Kind, namespace: str | None, api_version: str | None = None) -> str:
    """Path of all objects of a kind, or of those in one namespace. Source: Kubernetes API concepts, "Resource URIs"."""
    version = api_version or kind.api_version
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/namespaces/{namespace}/{kind.plural}" if kind.namespaced and namespace else f"{root}/{kind.plural}"


def one(kind: Kind, ref: Ref, api_version: str | None = None) -> str:
    """Path of one object."""
    return f"{collection(kind, ref.namespace, api_version)}/{ref.name}"
