"""What another place declares already, the hierarchy file for example: a file of the folder that declares it again is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from spork.controller.cluster import Object
from spork.controller.folder.reading import Scan

Claims = Mapping[tuple[str, str], str]
"""("CA", id) or ("issuer", name) -> the name of the place."""


def without_claimed(scan: Scan, claims: Claims) -> Scan:
    """The scan without the objects that declare something a second time, and with a sentence for each."""
    if not claims:
        return scan
    doubles = {
        ref: f"{one.place}: {ref} declares the {what} {name!r}, which {claims[what, name]} declares as well; remove one."
        for ref, one in scan.declared.items()
        for what, name in claimed_by(one.item)
        if (what, name) in claims
    }
    declared = {ref: one for ref, one in scan.declared.items() if ref not in doubles}
    return replace(scan, declared=declared, faults=(*scan.faults, *doubles.values()))


def claimed_by(item: Object) -> Iterator[tuple[str, str]]:
    """What one object declares of what has one name for the whole installation."""
    if item["kind"] == "ClusterIssuer":
        yield "issuer", item["metadata"]["name"]
    if item["kind"] != "Hierarchy":
        return
    spec: Mapping[str, Any] = item["spec"]
    yield "CA", spec["root"]["id"]
    for ca in (*spec.get("policyCAs", ()), *spec.get("issuingCAs", ())):
        yield "CA", ca["id"]
        yield from (("CA", inner["id"]) for inner in ca.get("issuingCAs", ()))
    yield from (("issuer", issuer["name"]) for issuer in spec.get("issuers", ()))
