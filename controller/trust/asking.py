"""Which namespaces ask for which roots, and what stands in the way of giving them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spork.controller.cluster import LABEL_MANAGED, Cluster, Object, Ref, annotation
from spork.controller.models.schema import GROUP
from spork.controller.trust.roots import Root

NAME: Final = "spork-ca-bundle"
KEY: Final = "ca.crt"
LABEL_ASK: Final = f"{GROUP}/inject-trust"
"""On a namespace: `true` asks for the roots of every tree, the name of a Hierarchy for those of that one alone."""
EVERYTHING: Final = "true"
_NOTHING: Final = frozenset({"", "false"})
ANNOTATION_BUNDLE: Final = f"{GROUP}/trust-bundle"
"""On each bundle: what its namespace asked for. It tells a bundle from somebody else's object of the same name."""
ANNOTATION_WRITTEN: Final = f"{GROUP}/trust-bundle-written"
"""On each bundle: when it was last written, so that a new process knows for how long its roots have been distributed."""


def wish_of(namespace: Object) -> str | None:
    """`EVERYTHING`, the name of a Hierarchy, or None where nothing is asked for or the namespace is about to go."""
    if namespace["metadata"].get("deletionTimestamp") or _phase(namespace) == "Terminating":
        return None
    value: str = (namespace["metadata"].get("labels") or {}).get(LABEL_ASK, "")
    return None if value in _NOTHING else value


def fulfils(wish: str, root: Root) -> bool:
    """Whether the root belongs into a bundle for that wish."""
    return wish in (EVERYTHING, root.hierarchy)


def asking(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Each namespace that asks, with its wish."""
    for namespace in cluster.all("Namespace"):
        if (wish := wish_of(namespace)) is not None:
            yield namespace["metadata"]["name"], wish


def bundle_ref(namespace: str) -> Ref:
    return Ref("ConfigMap", namespace, NAME)


def is_ours(item: Object) -> bool:
    """Whether this operator made the object: somebody may have taken the label or the annotation away, hardly both."""
    labels = item["metadata"].get("labels") or {}
    return labels.get(LABEL_MANAGED) == "true" or annotation(item, ANNOTATION_BUNDLE) is not None


def bundle_object(namespace: str, wish: str, text: str, found: Object | None = None) -> dict[str, Any]:
    """The ConfigMap as it should be; labels and annotations that others put on the one that is there stay."""
    before: Mapping[str, Any] = found["metadata"] if found is not None else {}
    metadata = {
        "name": NAME,
        "namespace": namespace,
        "labels": {**(before.get("labels") or {}), LABEL_MANAGED: "true"},
        "annotations": {**(before.get("annotations") or {}), ANNOTATION_BUNDLE: wish},
    }
    kept = {key: before[key] for key in ("uid", "resourceVersion", "ownerReferences", "finalizers") if key in before}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**metadata, **kept}, "data": {KEY: text}}


def is_as(found: Object, wanted: Mapping[str, Any]) -> bool:
    """Whether nothing has to be written."""
    return (
        all((found["metadata"].get(k) or {}) == wanted["metadata"][k] for k in ("labels", "annotations"))
        and (found.get("data") or {}) == wanted["data"]
        and not found.get("binaryData")
        and not found.get("immutable")
    )


def _phase(namespace: Object) -> str | None:
    phase: str | None = (namespace.get("status") or {}).get("phase")
    return phase
