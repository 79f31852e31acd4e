"""What becomes of an Issuer, as a table; and which rows without an object may be shut."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from x509_world import NOW, a_root

from spork.controller.cluster import Ref
from spork.controller.issuer.decide import decide
from spork.controller.issuer.snapshot import Snapshot
from spork.controller.issuer.vanished import vanished
from spork.controller.manifests import load_object
from spork.controller.models import Issuer
from spork.hierarchy.plan import issuer_as_json
from spork.ids import AuthorityId, IssuerId
from spork.policy.issuer import Issuer as StoredIssuer
from spork.policy.issuer import KeyPolicy, NamePolicy

WEB = a_root("Root").subordinate("Web").authority
REF = Ref("Issuer", "shop", "web")


def a_snapshot(*, spec: dict[str, Any] | None = None, ca: dict[str, Any] | None = None, **changes: Any) -> Snapshot:
    """An Issuer that is as it should be, with changes of its spec, its CA and of what is known."""
    authority = replace(WEB, **(ca or {}))
    resource = load_object(
        {
            "apiVersion": "spork-ca.org/v1alpha1",
            "kind": "Issuer",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"ca": str(WEB.id), "profiles": ["tls-server"], **(spec or {})},
        }
    )
    assert isinstance(resource, Issuer)
    snapshot = Snapshot(REF, resource, "", authority, {authority.id: authority}, granted=True, now=NOW)
    return replace(snapshot, **changes)


def test_an_issuer_that_is_as_it_should_be_is_ready() -> None:
    ruling = decide(a_snapshot())
    assert (ruling.ready.status, ruling.ready.reason.name, ruling.not_after) == (True, "Ready", WEB.not_after)
    assert ruling.declared is not None and ruling.declared.authority_id == WEB.id


@pytest.mark.parametrize(
    ("changes", "reason", "sentence"),
    [
        ({"resource": None, "fault": "It is no issuer."}, "Invalid", "It is no issuer."),
        ({"authority": None}, "CAMissing", "There is no CA"),
        ({"granted": False}, "NamespaceNotAllowed", "is not granted to the namespace 'shop'"),
        ({"ca": {"profiles": ("tls-client",)}}, "ProfileNotAllowed", "does not offer 'tls-server', only tls-client"),
        ({"spec": {"names": {"permit": {"dn": ["?"]}}}}, "Invalid", "names.permit.dn[0]"),
    ],
    ids=["an object that cannot be read", "a CA that is not there", "no grant", "another profile", "a bad pattern"],
)
def test_what_may_not_be_used_is_shut(changes: dict[str, Any], reason: str, sentence: str) -> None:
    ruling = decide(a_snapshot(**changes))
    assert (ruling.ready.status, ruling.ready.reason.name, ruling.declared) == (False, reason, None)
    assert sentence in ruling.ready.message


@pytest.mark.parametrize(
    ("changes", "reason", "sentence"),
    [
        ({"ca": {"stopped": "it is disabled"}}, "CAStopped", "signs no more: it is disabled; bind another one."),
        (
            {"ca": {"stopped": "its certificate, or one above it, is revoked"}},
            "CAStopped",
            "signs no more: its certificate, or one above it, is revoked",
        ),
        ({"ca": {"certificate": None, "not_after": None}}, "CANotReady", "see the Hierarchy that declares it"),
        (
            {"ca": {"not_after": NOW - timedelta(seconds=1)}},
            "CAExpired",
            f"expired on {NOW:%Y-%m-%d}; bind another one",
        ),
    ],
    ids=["a disabled CA", "a revoked CA", "a CA without a certificate", "an expired CA"],
)
def test_an_issuer_whose_ca_cannot_sign_is_kept(changes: dict[str, Any], reason: str, sentence: str) -> None:
    ruling = decide(a_snapshot(**changes))
    assert (ruling.ready.status, ruling.ready.reason.name) == (False, reason)
    assert ruling.declared is not None and sentence in ruling.ready.message


def test_a_ca_ends_with_the_last_second_of_its_certificate() -> None:
    assert decide(a_snapshot(ca={"not_after": NOW})).ready.status is True


def a_row(name: str, namespace: str = "", origin: str = "kubernetes", cluster: str = "cluster:one") -> StoredIssuer:
    return StoredIssuer(
        id=IssuerId(1),
        namespace=namespace,
        name=name,
        authority_id=AuthorityId("web"),
        profiles=("tls-server",),
        names=NamePolicy(),
        keys=KeyPolicy(),
        max_validity=None,
        protocols={},
        origin=origin,
        declared_by=cluster,
    )


def _found(rows: list[StoredIssuer], *present: Ref, kind: str = "Issuer") -> tuple[int, int]:
    found = vanished(rows, "kubernetes", "cluster:one", kind, present)
    return len(found.shut), len(found.held_back)


def test_one_row_without_its_object_is_shut() -> None:
    assert _found([a_row("web", "shop"), a_row("web")]) == (1, 0)
    assert _found([a_row("web", "shop"), a_row("web")], REF) == (0, 0)


def test_rows_of_others_are_never_shut() -> None:
    others = [
        a_row("web", "shop", cluster="cluster:two"),
        a_row("web", "shop", cluster="Hierarchy/main"),
        a_row("web", "shop", cluster="hierarchy.toml"),
        a_row("web", "shop", origin="file"),
        a_row("web"),
    ]
    assert _found(others) == (0, 0)


def test_a_tenth_may_go_and_no_more() -> None:
    rows = [a_row(f"web-{number}", "shop") for number in range(30)]
    present = [Ref("Issuer", "shop", row.name) for row in rows]
    assert _found(rows, *present[3:]) == (3, 0)
    assert _found(rows, *present[4:]) == (0, 4)
    assert _found(rows) == (0, 30)


def test_no_part_of_an_issuer_is_left_out_when_it_is_compared_with_its_row() -> None:
    """What the comparison leaves out would never be stored after a change."""
    parts = {one.name for one in fields(StoredIssuer)} - {"id", "namespace", "name", "origin", "declared_by"}
    spelt = {"authority_id": "authority", "keys": "algorithms", "max_validity": "max_validity_s"}
    assert {spelt.get(one, one) for one in parts} == set(issuer_as_json(a_row("web")))
