"""The bundle of each namespace that asks for one by its label."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

import structlog

from spork.controller.cluster import Change, Ref, Refused
from spork.controller.reasons import CONFLICT, REFUSED
from spork.controller.reconciler import Context, Reconciler
from spork.controller.trust.asking import NAME, asking, bundle_object, bundle_ref, fulfils, is_as, wish_of
from spork.controller.trust.bundle import bundle_text
from spork.controller.trust.distributed import distribution_of, give_up_on
from spork.controller.trust.roots import Root, changes_of_roots, namespace_ref, next_end_s, trusted_roots, valid
from spork.controller.trust.writing import SomebodyElses, bring, withdraw

BLOCKED_S = 600.0
"""Somebody else's ConfigMap is not watched, so only a request now and then can tell that it is gone."""

log = structlog.get_logger("spork.controller.trust")


def reconciler(context: Context) -> Reconciler:
    """Takes refs of Namespaces."""
    return _NamespaceBundles(context)


class _NamespaceBundles:
    kind = "Namespace"
    watches = frozenset({"Namespace", "ConfigMap", "Hierarchy"})

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster
        self._distribution = distribution_of(context.cluster)

    def concerned(self, change: Change) -> Iterable[Ref]:
        if change.ref.kind == "ConfigMap":
            return (namespace_ref(change.ref.namespace),) if change.ref.name == NAME else ()
        if change.ref.kind == "Hierarchy":
            return [namespace_ref(name) for name, _ in asking(self._cluster)]
        asked = any(item is not None and wish_of(item) is not None for item in (change.old, change.new))
        return (change.ref,) if asked else ()

    async def follow(self, wake: Callable[[Ref], None], stop: asyncio.Event) -> None:
        """Roots come and go in the database, some of them without any change of an object."""
        async for _ in changes_of_roots(self._context.services, stop):
            for name, _wish in asking(self._cluster):
                wake(namespace_ref(name))

    async def reconcile(self, ref: Ref) -> float | None:
        namespace, bundle = self._cluster.get(ref), bundle_ref(ref.name)
        wish = wish_of(namespace) if namespace is not None else None
        if namespace is None or wish is None:
            self._distribution.blocked.pop(bundle, None)
            await withdraw(self._cluster, bundle)
            return None
        now = self._context.clock.now()
        roots = [root for root in valid(await trusted_roots(self._context.services), now) if fulfils(wish, root)]
        if not roots:
            await withdraw(self._cluster, bundle)
            return None
        try:
            await self._bring(ref.name, wish, roots, now)
        except SomebodyElses as error:
            await give_up_on(self._cluster, bundle, error.item, CONFLICT, error.detail)
            return BLOCKED_S
        except Refused as error:
            await give_up_on(self._cluster, bundle, namespace, REFUSED, f"{bundle} is refused: {error.detail}")
            return BLOCKED_S
        self._distribution.blocked.pop(bundle, None)
        return next_end_s(roots, now)

    async def _bring(self, namespace: str, wish: str, roots: list[Root], now: datetime) -> None:
        text, ref = bundle_text(roots), bundle_ref(namespace)
        wrote = await bring(
            self._cluster,
            ref,
            lambda found: bundle_object(namespace, wish, text, found),
            is_as,
            now,
            look=ref in self._distribution.blocked,
        )
        if wrote:
            log.info("trust bundle written", namespace=namespace, roots=[root.fingerprint[:16] for root in roots])
