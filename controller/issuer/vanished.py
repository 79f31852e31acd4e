"""Issuers whose objects went while nobody looked, without our finalizer: their rows are shut, but never many at once. Pure.

A row says in which cluster its object is, so that an operator that is pointed at another cluster, where none of them is, finds
none of its own and shuts nothing. Within its cluster, a state that was restored from an old copy has lost many at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spork.controller.cluster import Ref
from spork.policy.issuer import Issuer

_SHARE = 10


@dataclass(frozen=True, slots=True)
class Vanished:
    """What is to be shut, and what would be if it were not so many."""

    shut: tuple[Ref, ...] = ()
    held_back: tuple[Ref, ...] = ()


def vanished(issuers: Iterable[Issuer], origin: str, cluster: str, kind: str, present: Iterable[Ref]) -> Vanished:
    """`cluster` is how rows of this cluster say so; `kind` is Issuer or ClusterIssuer; `present` are the objects that are there."""
    ours = [one for one in issuers if (one.origin, one.declared_by) == (origin, cluster)]
    there = set(present)
    gone = tuple(ref for one in ours if (ref := _ref(one)).kind == kind and ref not in there)
    return Vanished(shut=gone) if len(gone) <= _most(ours) else Vanished(held_back=gone)


def _ref(issuer: Issuer) -> Ref:
    return Ref("Issuer" if issuer.namespace else "ClusterIssuer", issuer.namespace, issuer.name)


def _most(ours: Sequence[Issuer]) -> int:
    """One, or a tenth of all."""
    return max(1, len(ours) // _SHARE)
