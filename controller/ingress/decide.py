"""Which Certificates an Ingress asks for, and what is to be made, changed and removed. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spork.controller.cluster import Object, controller_of, owner_reference
from spork.controller.ingress.annotations import BadAnnotation, issuer_ref, options
from spork.controller.manifests import ManifestError, load_object
from spork.controller.models.schema import GROUP, VERSION
from spork.controller.reasons import BAD_ANNOTATION, BAD_TLS, CERTIFICATE_NOT_OURS, Reason


@dataclass(frozen=True, slots=True)
class Fault:
    """What a person must correct."""

    reason: Reason
    message: str


@dataclass(slots=True)
class Plan:
    """What is to be done. A name with a fault is left as it is."""

    create: list[dict[str, Any]] = field(default_factory=list)
    update: list[dict[str, Any]] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def plan_of(ingress: Object, certificates: Sequence[Object], *, cert_manager: bool) -> Plan:
    """`certificates` are those of the namespace; `cert_manager` says whether cert-manager is there for its own annotations."""
    plan = Plan()
    if "deletionTimestamp" in ingress["metadata"]:
        return plan  # What it owns goes with it.
    try:
        issuer = issuer_ref(ingress, cert_manager=cert_manager)
        common = options(ingress) if issuer is not None else {}
    except BadAnnotation as error:
        plan.faults.append(Fault(BAD_ANNOTATION, str(error)))
        return plan
    entries = _entries(ingress, plan) if issuer is not None else {}
    existing = {one["metadata"]["name"]: one for one in certificates}
    for name, hosts in entries.items():
        if hosts is not None:
            _settle(
                plan, ingress, _certificate(ingress, name, hosts, {**common, "issuerRef": issuer}), existing.get(name)
            )
    plan.delete = [one for name, one in existing.items() if name not in entries and _is_of(one, ingress)]
    return plan


def _entries(ingress: Object, plan: Plan) -> dict[str, list[str] | None]:
    """Hosts by the name of the Secret; None for an entry that cannot be used."""
    found: dict[str, list[str] | None] = {}
    tls = (ingress.get("spec") or {}).get("tls") or ()
    counts = Counter(entry.get("secretName") for entry in tls)
    for number, entry in enumerate(tls):
        name, hosts = entry.get("secretName"), list(dict.fromkeys(entry.get("hosts") or ()))
        if not name:
            plan.faults.append(Fault(BAD_TLS, f"spec.tls[{number}] has no secretName, and gets no Certificate."))
            continue
        found.setdefault(name, hosts or None)
        if not hosts:
            plan.faults.append(Fault(BAD_TLS, f"spec.tls[{number}] has no hosts, and gets no Certificate."))
        if counts[name] > 1:
            found[name] = None
            fault = Fault(
                BAD_TLS,
                f"The Secret {name!r} is named by {counts[name]} entries of spec.tls; one Certificate writes it.",
            )
            if fault not in plan.faults:
                plan.faults.append(fault)
    return found


def _certificate(ingress: Object, name: str, hosts: Sequence[str], common: Mapping[str, Any]) -> dict[str, Any]:
    addresses = [host for host in hosts if _is_address(host)]
    names = [host for host in hosts if host not in addresses]
    spec = {**common, "secretName": name}
    for key, values in (("dnsNames", names), ("ipAddresses", addresses)):
        if merged := list(dict.fromkeys([*values, *common.get(key, ())])):
            spec[key] = merged
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Certificate",
        "metadata": {
            "name": name,
            "namespace": ingress["metadata"]["namespace"],
            # Blocking the owner's deletion would need a right to write to Ingresses, and is good for nothing here.
            "ownerReferences": [{**owner_reference(ingress), "blockOwnerDeletion": False}],
        },
        "spec": spec,
    }


def _settle(plan: Plan, ingress: Object, wanted: dict[str, Any], existing: Object | None) -> None:
    name = wanted["metadata"]["name"]
    try:
        spec = load_object(wanted, f"Certificate {name}").model_dump()["spec"]
    except ManifestError as error:
        plan.faults.append(Fault(BAD_ANNOTATION, " ".join(error.lines)))
        return
    if existing is None:
        plan.create.append(wanted)
    elif not _is_of(existing, ingress):
        if not _was_of_namesake(existing, ingress):
            message = f"The Certificate {name!r} is there already and not this Ingress's own; it was not touched."
            plan.faults.append(Fault(CERTIFICATE_NOT_OURS, message))
    elif "deletionTimestamp" not in existing["metadata"] and _spec_of(existing) != spec:
        plan.update.append({**existing, "spec": wanted["spec"]})


def _spec_of(certificate: Object) -> Any:
    """With the defaults that the API server may or may not have filled in; None if it can no longer be read."""
    try:
        return load_object({key: value for key, value in certificate.items() if key != "status"}).model_dump()["spec"]
    except ManifestError:
        return None


def _is_of(certificate: Object, ingress: Object) -> bool:
    owner = controller_of(certificate)
    return owner is not None and owner["uid"] == ingress["metadata"]["uid"]


def _was_of_namesake(certificate: Object, ingress: Object) -> bool:
    """An Ingress of the same name was deleted and made anew: what the old one owned is about to be collected."""
    owner = controller_of(certificate)
    return owner is not None and (owner["kind"], owner["name"]) == ("Ingress", ingress["metadata"]["name"])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
