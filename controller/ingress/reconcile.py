"""Keeps the Certificates that Ingresses ask for."""

from __future__ import annotations

from collections.abc import Iterable

from spork.controller.cluster import Change, Object, Ref, controller_of, ref_of
from spork.controller.ingress.decide import Fault, plan_of
from spork.controller.reasons import CERTIFICATE_CREATED, CERTIFICATE_DELETED, CERTIFICATE_UPDATED, Reason
from spork.controller.reconciler import Context, Reconciler


def reconciler(context: Context) -> Reconciler:
    """The reconciler of Ingresses."""
    return Ingresses(context)


class Ingresses:
    """Two requests for each Certificate that is made, changed or removed: itself and an event. None where all is well."""

    kind = "Ingress"
    watches = frozenset({"Ingress", "Certificate"})

    def __init__(self, context: Context) -> None:
        self._cluster = context.cluster
        self._told: dict[Ref, frozenset[Fault]] = {}
        """What people were told already, so that each fault is one event and not one for each look."""

    def concerned(self, change: Change) -> Iterable[Ref]:
        if change.ref.kind == self.kind:
            return [change.ref]
        found = {ref for item in (change.old, change.new) if item is not None and (ref := _owner(item)) is not None}
        if change.new is None:
            # The name is free for whoever waited for it.
            found |= {
                ref_of(one)
                for one in self._cluster.all(self.kind, change.ref.namespace)
                if any(entry.get("secretName") == change.ref.name for entry in one["spec"].get("tls") or ())
            }
        return found

    async def reconcile(self, ref: Ref) -> float | None:
        ingress = self._cluster.get(ref)
        if ingress is None:
            self._told.pop(ref, None)
            return None
        # A CertificateRequest is what cert-manager's presence is known by: then its own shim reads its own annotations.
        cert_manager = self._cluster.has("CertificateRequest")
        plan = plan_of(ingress, self._cluster.all("Certificate", ref.namespace), cert_manager=cert_manager)
        for certificate in plan.create:
            await self._cluster.create(certificate)
            await self._tell(ingress, CERTIFICATE_CREATED, certificate, "was made.")
        for certificate in plan.update:
            await self._cluster.replace(certificate)
            await self._tell(ingress, CERTIFICATE_UPDATED, certificate, "was brought up to date.")
        for gone in plan.delete:
            await self._cluster.delete(ref_of(gone), uid=gone["metadata"]["uid"])
            await self._tell(ingress, CERTIFICATE_DELETED, gone, "is no longer asked for and was deleted.")
        await self._warn(ref, ingress, frozenset(plan.faults))
        return None

    async def _tell(self, ingress: Object, reason: Reason, certificate: Object, what: str) -> None:
        await self._cluster.report(ingress, reason.name, f"The Certificate {certificate['metadata']['name']!r} {what}")

    async def _warn(self, ref: Ref, ingress: Object, faults: frozenset[Fault]) -> None:
        told = self._told.get(ref, frozenset())
        for fault in sorted(faults - told, key=lambda fault: fault.message):
            await self._cluster.report(ingress, fault.reason.name, fault.message, warning=True)
        if faults:
            self._told[ref] = faults
        else:
            self._told.pop(ref, None)


def _owner(certificate: Object) -> Ref | None:
    owner = controller_of(certificate)
    if owner is None or owner["kind"] != "Ingress":
        return None
    return Ref("Ingress", certificate["metadata"]["namespace"], owner["name"])
