"""Issuers and ClusterIssuers: the row of the store is what the object says, for as long as it may be."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import structlog

from spork.controller.annotations import CONFIRM_DELETE, LIVE_CERTIFICATES
from spork.controller.cluster import Change, Cluster, Object, Ref, annotation, ref_of
from spork.controller.conditions import Condition, time_text, write_status
from spork.controller.hierarchy.declarers import declared_cas
from spork.controller.hierarchy.delete import is_confirmed
from spork.controller.issuer.decide import Ruling, decide
from spork.controller.issuer.snapshot import read
from spork.controller.issuer.usable import label_of
from spork.controller.issuer.vanished import vanished
from spork.controller.namespaces import is_terminating
from spork.controller.reasons import CONFLICT
from spork.controller.reasons import LIVE_CERTIFICATES as ARE_ALIVE
from spork.controller.reconciler import Context
from spork.errors import Code, SporkError
from spork.hierarchy.model import DeclaredIssuer
from spork.hierarchy.plan import issuer_as_json
from spork.issuance.ports import AuditEvent
from spork.policy.issuer import Issuer as StoredIssuer

log = structlog.get_logger("spork.controller")

_UNKNOWN = "cluster:unknown"
_RECHECK_S = 60.0
"""CAs of the hierarchy file change without an event here, and certificates expire without one."""
_HELD_S = 30.0
_COUNTED_FOR = timedelta(minutes=10)
"""A status is not written anew for each certificate that comes or goes."""
_WAITING_S = 1.0
"""Until a new root is in every trust bundle: a write for each, so hardly longer."""


def issuer_reconciler(context: Context) -> IssuerReconciler:
    """For the kind Issuer."""
    return IssuerReconciler(context, "Issuer")


def cluster_issuer_reconciler(context: Context) -> IssuerReconciler:
    """For the kind ClusterIssuer."""
    return IssuerReconciler(context, "ClusterIssuer")


class IssuerReconciler:
    """Both kinds differ in grants alone."""

    def __init__(self, context: Context, kind: str) -> None:
        self.kind = kind
        self._context = context
        self._counted_at: dict[Ref, tuple[str, datetime]] = {}
        # An Issuer hangs on its namespace twice: by its labels, which grants match, and when it is terminated.
        self.watches = frozenset({kind, "Hierarchy"} | ({"Namespace"} if kind == "Issuer" else set()))

    def concerned(self, change: Change) -> Iterable[Ref]:
        """Its own object; those that bind a CA of a Hierarchy; those in a namespace."""
        cluster = self._context.cluster
        if change.ref.kind == self.kind:
            return [change.ref]
        if change.ref.kind == "Namespace":
            return [ref_of(one) for one in cluster.all(self.kind, change.ref.name)]
        cas = {one.get("id") for item in (change.new, change.old) if item is not None for one in declared_cas(item)}
        return [ref_of(one) for one in cluster.all(self.kind) if (one.get("spec") or {}).get("ca") in cas]

    async def follow(self, wake: Callable[[Ref], None], stop: asyncio.Event) -> None:
        """Once, when this process begins to work: finds the rows whose objects went while nobody looked."""
        while not stop.is_set():
            try:
                await self._sweep(wake)
                return
            except SporkError as error:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), error.retry_after_s or 5)

    async def _sweep(self, wake: Callable[[Ref], None]) -> None:
        cluster = self._context.cluster
        if cluster_name(cluster) == _UNKNOWN:
            # Any other cluster that could not be told apart would have rows of that name too.
            return
        present = [ref_of(one) for one in cluster.all(self.kind)]
        issuers = await self._context.services.issuers.all()
        found = vanished(issuers, cluster.origin, cluster_name(cluster), self.kind, present)
        for ref in found.shut:
            wake(ref)
        if found.held_back:
            log.error(
                "issuers are in the database and not in the cluster; so many are not shut by themselves: "
                "for each that is really gone, create the object again and delete it",
                kind=self.kind,
                issuers=[str(ref) for ref in found.held_back],
            )

    async def reconcile(self, ref: Ref) -> float | None:
        """See `Reconciler`."""
        item = self._context.cluster.get(ref)
        if item is None:
            self._counted_at.pop(ref, None)
            await self._shut(ref, "it is gone")
            return None
        if "deletionTimestamp" in item["metadata"]:
            return await self._delete(ref, item)
        ruling = decide(await read(self._context, ref, item))
        if ruling.waiting:
            await self._write(item, ruling)
            return _WAITING_S
        if ruling.declared is None:
            if await self._stored(ref) is not None:
                await self._shut(ref, ruling.ready.reason.name)
        else:
            # The finalizer stands before the row does, so that no issuer can go without being shut.
            item = await self._context.cluster.set_finalizer(item, LIVE_CERTIFICATES, present=True)
            ruling = await self._put(ref, ruling, ruling.declared)
        await self._write(item, ruling, await self._live(ref, item))
        return _RECHECK_S

    async def _live(self, ref: Ref, item: Object) -> int:
        """As the status says, or counted anew, where that is more than ten minutes ago. A restart asks for no write."""
        now, uid = self._context.clock.now(), item["metadata"]["uid"]
        known: int | None = (item.get("status") or {}).get("liveCertificates")
        counted_uid, at = self._counted_at.get(ref, (uid, now))
        self._counted_at.setdefault(ref, (uid, now))
        if known is not None and counted_uid == uid and abs(now - at) < _COUNTED_FOR:
            return known
        self._counted_at[ref] = (uid, now)
        return await self._count(ref)

    async def _count(self, ref: Ref) -> int:
        return await self._context.services.issuers.live_certificates(
            ref.name, namespace=ref.namespace, origin=self._context.cluster.origin
        )

    async def _put(self, ref: Ref, ruling: Ruling, declared: DeclaredIssuer) -> Ruling:
        name, stored = cluster_name(self._context.cluster), await self._stored(ref)
        ours = stored is not None and (stored.origin, stored.declared_by) == (self._context.cluster.origin, name)
        if ours and stored is not None and issuer_as_json(stored) == declared.as_json():
            return ruling
        try:
            await self._context.services.issuers.put(
                declared,
                namespace=ref.namespace,
                origin=self._context.cluster.origin,
                audit=self._audit("issuer.configure", ref),
                declared_by=name,
            )
        except SporkError as error:
            if error.code is not Code.CONFLICT:
                raise
            return Ruling(Condition("Ready", False, CONFLICT, error.detail), None)
        return ruling

    async def _stored(self, ref: Ref) -> StoredIssuer | None:
        """The row of that name, whose ever it is, if it is not shut. Costs nothing while the configuration stands still."""
        try:
            return await self._context.services.issuers.issuer(label_of(ref))
        except SporkError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            return None

    async def _shut(self, ref: Ref, why: str) -> None:
        """Disables the row if it is this object's; what it issued stays."""
        cluster = self._context.cluster
        try:
            await self._context.services.issuers.disable(
                ref.name,
                namespace=ref.namespace,
                origin=cluster.origin,
                audit=self._audit("issuer.disable", ref, why=why),
                declared_by=cluster_name(cluster),
            )
        except SporkError as error:
            # No row at all, or somebody else's: there is nothing of this object to shut.
            if error.code not in (Code.NOT_FOUND, Code.CONFLICT):
                raise

    async def _delete(self, ref: Ref, item: Object) -> float | None:
        if LIVE_CERTIFICATES not in (item["metadata"].get("finalizers") or ()):
            return None
        leaving = ref.namespace and is_terminating(self._context.cluster, ref.namespace)
        if not leaving:
            live = await self._count(ref)
            if live and not is_confirmed(item, live):
                await self._write(item, Ruling(_held(live, item), None), live)
                return _HELD_S
        await self._shut(ref, "its namespace is terminated" if leaving else "it is deleted")
        await self._context.cluster.set_finalizer(item, LIVE_CERTIFICATES, present=False)
        return None

    async def _write(self, item: Object, ruling: Ruling, live: int | None = None) -> None:
        fields: dict[str, Any] = {"liveCertificates": live}
        if ruling.declared is not None:
            fields["doors"] = self._doors(ref_of(item), ruling.declared)
        if ruling.not_after is not None:
            fields["notAfter"] = time_text(ruling.not_after)
        await write_status(self._context.cluster, item, [ruling.ready], fields, self._context.clock)

    def _doors(self, ref: Ref, declared: DeclaredIssuer) -> list[dict[str, str]]:
        settings = self._context.services.settings
        urls = {
            "acme": f"{settings.url_of_enrol()}/acme/{label_of(ref)}/directory",
            "token": f"{settings.url_of_admin()}/api/v1/enrolments",
        }
        return [{"protocol": name, "url": url} for name, url in urls.items() if name in declared.protocols]

    def _audit(self, action: str, ref: Ref, **detail: Any) -> AuditEvent:
        origin = self._context.cluster.origin
        return AuditEvent(action, f"{origin}:{ref}", f"issuer:{label_of(ref)}", {"origin": origin, **detail})


def cluster_name(cluster: Cluster) -> str:
    """What a row of an issuer says of where its object is; see `ids.HIERARCHY_FILE`."""
    if cluster.origin == "file":
        return "cluster:folder"
    system = cluster.get(Ref("Namespace", "", "kube-system"))
    return f"cluster:{system['metadata']['uid']}" if system is not None else _UNKNOWN


def _held(live: int, item: Object) -> Condition:
    """The last word on a deletion that waits."""
    number = f"{live} certificate is" if live == 1 else f"{live} certificates are"
    given = annotation(item, CONFIRM_DELETE)
    wrong = f" {CONFIRM_DELETE} says {given!r}, which is not that number." if given is not None else ""
    return Condition(
        "Ready",
        False,
        ARE_ALIVE,
        f"It is being deleted, and {number} alive that it issued: they stay valid and can still be revoked, but not renewed here. "
        f'Revoke them, let them expire, or confirm with the annotation {CONFIRM_DELETE}: "{live}".{wrong}',
    )
