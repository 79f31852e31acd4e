"""The ClusterTrustBundle of each Hierarchy, which pods mount by the name of the signer.

Its signer is `spork-ca.org/<hierarchy>`. Kubernetes demands that the name begins with that, and of whoever writes it the verb
`attest` on that signer (KEP-3257).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import structlog

from spork.controller.cluster import KINDS, LABEL_MANAGED, Change, Object, Ref, Refused, ref_of
from spork.controller.models.schema import GROUP
from spork.controller.reasons import CONFLICT, REFUSED
from spork.controller.reconciler import Context, Reconciler
from spork.controller.trust.asking import ANNOTATION_BUNDLE
from spork.controller.trust.bundle import bundle_text
from spork.controller.trust.distributed import cluster_bundle_ref, distribution_of, give_up_on
from spork.controller.trust.reconcile import BLOCKED_S
from spork.controller.trust.roots import changes_of_roots, next_end_s, of_hierarchy, trusted_roots, valid
from spork.controller.trust.writing import SomebodyElses, bring, withdraw

log = structlog.get_logger("spork.controller.trust")


def reconciler(context: Context) -> Reconciler:
    """Takes refs of Hierarchies, also of those that are gone."""
    return _ClusterBundles(context)


class _ClusterBundles:
    kind = "Hierarchy"
    watches = frozenset({"Hierarchy", "ClusterTrustBundle"})

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster
        self._distribution = distribution_of(context.cluster)

    def concerned(self, change: Change) -> Iterable[Ref]:
        if change.ref.kind == "Hierarchy":
            return (change.ref,)
        signer, _, rest = change.ref.name.partition(":")
        hierarchy = rest.removesuffix(":roots")
        return (Ref("Hierarchy", "", hierarchy),) if signer == GROUP and hierarchy != rest else ()

    async def follow(self, wake: Callable[[Ref], None], stop: asyncio.Event) -> None:
        """As for namespaces."""
        async for _ in changes_of_roots(self._context.services, stop):
            for hierarchy in self._cluster.all("Hierarchy"):
                wake(ref_of(hierarchy))

    async def reconcile(self, ref: Ref) -> float | None:
        if not self._cluster.has("ClusterTrustBundle"):
            return None
        hierarchy, bundle, now = self._cluster.get(ref), cluster_bundle_ref(ref.name), self._context.clock.now()
        roots = valid(of_hierarchy(await trusted_roots(self._context.services), ref.name), now)
        if hierarchy is None or not roots:
            self._distribution.blocked.pop(bundle, None)
            await withdraw(self._cluster, bundle)
            return None
        text = bundle_text(roots)
        try:
            blocked = bundle in self._distribution.blocked
            wanted = partial(_object, ref.name, text)
            if await bring(self._cluster, bundle, wanted, _is_as, now, look=blocked):
                log.info("trust bundle written", hierarchy=ref.name, roots=[root.fingerprint[:16] for root in roots])
        except SomebodyElses as error:
            await give_up_on(self._cluster, bundle, hierarchy, CONFLICT, error.detail)
            return BLOCKED_S
        except Refused as error:
            await give_up_on(self._cluster, bundle, hierarchy, REFUSED, f"{bundle} is refused: {error.detail}")
            return BLOCKED_S
        self._distribution.blocked.pop(bundle, None)
        return next_end_s(roots, now)


def _object(hierarchy: str, text: str, found: Object | None) -> dict[str, Any]:
    before: Mapping[str, Any] = found["metadata"] if found is not None else {}
    kept = {key: before[key] for key in ("uid", "resourceVersion", "ownerReferences", "finalizers") if key in before}
    return {
        "apiVersion": KINDS["ClusterTrustBundle"].api_version,
        "kind": "ClusterTrustBundle",
        "metadata": {
            "name": cluster_bundle_ref(hierarchy).name,
            "labels": {**(before.get("labels") or {}), LABEL_MANAGED: "true"},
            "annotations": {**(before.get("annotations") or {}), ANNOTATION_BUNDLE: hierarchy},
            **kept,
        },
        "spec": {"signerName": f"{GROUP}/{hierarchy}", "trustBundle": text},
    }


def _is_as(found: Object, wanted: Mapping[str, Any]) -> bool:
    same = all((found["metadata"].get(k) or {}) == wanted["metadata"][k] for k in ("labels", "annotations"))
    return same and found["spec"] == wanted["spec"]
