"""Whether a root has reached everybody who asks for it: the question before the first signature below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from weakref import WeakKeyDictionary

import structlog
from cryptography import x509

from spork.controller.cluster import Cluster, Object, Ref, annotation
from spork.controller.conditions import time_of
from spork.controller.reasons import Reason
from spork.controller.reconciler import Context
from spork.controller.trust.asking import ANNOTATION_WRITTEN, EVERYTHING, KEY, asking, bundle_ref
from spork.controller.trust.bundle import fingerprints_in
from spork.controller.trust.roots import fingerprint_of, hierarchy_of
from spork.x509.authority import Authority
from spork.x509.names import common_name

BOUND: Final = timedelta(minutes=2)
"""How long a root waits at most. A write to each namespace takes milliseconds; a namespace that takes longer is out of order, and
its disorder must not stop everybody else."""
_NAMED: Final = 3

log = structlog.get_logger("spork.controller.trust")


@dataclass
class Distribution:
    """What this process knows of the way of each root. A new process learns it from the bundles and the times on them."""

    arrived: set[str] = field(default_factory=set)
    """Roots that were everywhere once, or waited long enough. Whoever asks later, or damages a bundle, stops nothing any more."""
    waiting_since: dict[str, datetime] = field(default_factory=dict)
    blocked: dict[Ref, str] = field(default_factory=dict)
    """Bundles that cannot be written, and why: nobody waits for them."""
    told: set[tuple[Ref, str, str]] = field(default_factory=set)
    """Of which obstacle, on which object, an event told."""


_distributions: WeakKeyDictionary[Cluster, Distribution] = WeakKeyDictionary()


def distribution_of(cluster: Cluster) -> Distribution:
    """The one of this process and cluster."""
    return _distributions.setdefault(cluster, Distribution())


async def give_up_on(cluster: Cluster, bundle: Ref, item: Object, reason: Reason, message: str) -> None:
    """Nobody waits for this bundle any more, until it can be written; one event about `item` says why."""
    distribution = distribution_of(cluster)
    distribution.blocked[bundle] = message
    told = (bundle, reason.name, item["metadata"]["uid"])
    if told not in distribution.told:
        distribution.told.add(told)
        await cluster.report(item, reason.name, message, warning=True)


def waits_for(context: Context, authority: Authority) -> str | None:
    """Why nothing is to be signed below the CA yet, as a sentence, or None. Makes no request.

    To be asked before each signature, with the CA's current generation: a new generation of the root is a new root. The answer
    is None for good once the root was in every bundle that was asked for, or after `BOUND`. Not waited for are namespaces that are
    being deleted, and bundles that the API server refuses or that are somebody else's.
    """
    root = _root_of(authority)
    if root is None:
        return None
    distribution, fingerprint = distribution_of(context.cluster), fingerprint_of(root)
    if fingerprint in distribution.arrived:
        return None
    now, lacking = context.clock.now(), []
    since = distribution.waiting_since.setdefault(fingerprint, now)
    for ref in _bundles(context.cluster, hierarchy_of(authority)):
        bundle = context.cluster.get(ref)
        if fingerprint in _held(bundle):
            since = min(since, _written(bundle) or since)
        elif ref not in distribution.blocked:
            lacking.append(ref)
    if lacking and now - since < BOUND:
        return _sentence(root, lacking)
    if lacking:
        log.warning("a root is not in every trust bundle", root=fingerprint, bundles=[str(ref) for ref in lacking])
    distribution.arrived.add(fingerprint)
    distribution.waiting_since.pop(fingerprint, None)
    return None


def _root_of(authority: Authority) -> x509.Certificate | None:
    """The root above the CA; None where that is somebody else's, whose distribution is not ours."""
    top = authority.chain[-1] if authority.chain else authority.certificate
    return top if top is not None and top.subject == top.issuer else None


def _bundles(cluster: Cluster, hierarchy: str | None) -> Iterator[Ref]:
    for namespace, wish in asking(cluster):
        if wish in (EVERYTHING, hierarchy):
            yield bundle_ref(namespace)
    if hierarchy is not None and cluster.has("ClusterTrustBundle"):
        yield cluster_bundle_ref(hierarchy)


def cluster_bundle_ref(hierarchy: str) -> Ref:
    """The ClusterTrustBundle of a Hierarchy: its signer's name with a colon for the slash, then a name of its own."""
    return Ref("ClusterTrustBundle", "", f"spork-ca.org:{hierarchy}:roots")


def _held(bundle: Object | None) -> frozenset[str]:
    if bundle is None:
        return frozenset()
    texts = (bundle.get("data") or {}).get(KEY), (bundle.get("spec") or {}).get("trustBundle")
    return fingerprints_in(next((text for text in texts if text), ""))


def _written(bundle: Object | None) -> datetime | None:
    try:
        text = annotation(bundle, ANNOTATION_WRITTEN) if bundle is not None else None
        found = time_of(text) if text else None
    except ValueError:
        return None
    # Somebody may have edited it; without a zone it is no instant.
    return found if found is not None and found.tzinfo is not None else None


def _sentence(root: x509.Certificate, lacking: list[Ref]) -> str:
    name = common_name(root.subject) or root.subject.rfc4514_string()
    places = ", ".join(str(ref) for ref in lacking[:_NAMED])
    more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
    return (
        f"The root {name!r} is new and not yet in the trust bundle {places}{more}; nothing is signed below it before."
    )
