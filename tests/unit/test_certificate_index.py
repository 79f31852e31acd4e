"""Whom a change wakes: found by index, and nobody for nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from memory_cluster import MemoryCluster
from operator_world import a_resource

from spork.controller.certificate import marks
from spork.controller.certificate.index import Index
from spork.controller.cluster import Change, Object, Ref, owner_reference, ref_of

CERTIFICATE = Ref("Certificate", "default", "one")


@pytest.fixture
def cluster() -> MemoryCluster:
    made = MemoryCluster()
    made.add(a_resource("Certificate", {"spec/issuerRef": {"kind": "ClusterIssuer", "name": "web"}}))
    made.add(a_resource("Certificate", {"spec/issuerRef": {"name": "web"}, "spec/secretName": "two"}, name="two"))
    made.add(a_resource("ClusterIssuer", name="web"))
    return made


def changed(item: Object, **top: Any) -> Change:
    """A change that replaces parts of the object."""
    new = {**copy.deepcopy(dict(item)), **top}
    return Change(ref_of(item), new, item)


def a_secret(name: str, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default", **metadata}}


def names(index: Index, change: Change) -> set[str]:
    return {ref.name for ref in index.concerned(change)}


def test_a_secret_wakes_the_certificate_that_names_it(cluster: MemoryCluster) -> None:
    index = Index(cluster)
    assert names(index, Change(Ref("Secret", "default", "two"), a_secret("two"), None)) == {"two"}
    assert names(index, Change(Ref("Secret", "other", "two"), None, a_secret("two"))) == set()


def test_a_pending_key_wakes_its_owner(cluster: MemoryCluster) -> None:
    owner = cluster.get(CERTIFICATE)
    assert owner is not None
    secret = a_secret("one-key-1", ownerReferences=[owner_reference(owner)])
    assert names(Index(cluster), Change(Ref("Secret", "default", "one-key-1"), None, secret)) == {"one"}


def test_an_issuer_wakes_those_of_its_kind_only_when_it_says_something_new(cluster: MemoryCluster) -> None:
    index, issuer = Index(cluster), cluster.get(Ref("ClusterIssuer", "", "web"))
    assert issuer is not None
    ready = {"conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}]}
    assert names(index, changed(issuer, status=ready)) == {"one"}
    assert names(index, Change(ref_of(issuer), None, issuer)) == {"one"}
    counted = {**issuer, "status": {**ready, "liveCertificates": 7}}
    assert names(index, Change(ref_of(issuer), counted, {**issuer, "status": ready})) == set()


def test_a_hierarchy_wakes_those_below_a_ca_that_changed_and_not_for_its_counters(cluster: MemoryCluster) -> None:
    index, tree = Index(cluster), cluster.add(a_resource("Hierarchy"))

    def with_status(**state: Any) -> dict[str, Any]:
        return {**tree, "status": {"authorities": [{"id": "web", "phase": "Ready", "serial": "01", **state}]}}

    assert names(index, Change(ref_of(tree), with_status(serial="02"), with_status())) == {"one"}
    assert names(index, Change(ref_of(tree), with_status(liveCertificates=9), with_status())) == set()


def test_a_namespace_wakes_its_own_only_when_its_labels_change(cluster: MemoryCluster) -> None:
    index = Index(cluster)
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": {}}}
    ref = Ref("Namespace", "", "default")
    labelled = {**space, "metadata": {"name": "default", "labels": {"a": "b"}}}
    assert names(index, Change(ref, labelled, space)) == {"one", "two"}
    assert names(index, Change(ref, {**space, "status": {"phase": "Active"}}, space)) == set()


def test_who_waits_for_the_name_of_a_secret_hears_of_every_change_of_it(cluster: MemoryCluster) -> None:
    index, two = Index(cluster), cluster.get(Ref("Certificate", "default", "two"))
    assert two is not None
    assert names(index, changed(two, spec={**two["spec"], "secretName": "web-tls"})) == {"one", "two"}
    assert names(index, changed(two, status={"revision": 1})) == {"two"}


def test_what_is_gone_is_forgotten(cluster: MemoryCluster) -> None:
    index = Index(cluster)
    cluster.add(
        a_secret(
            "two",
            labels={"spork-ca.org/managed": "true"},
            annotations={marks.SERIAL: "AB", marks.AUTHORITY: "web/1"},
        )
    )
    assert list(index.serials("web")) == ["AB"]
    assert [ref.name for ref in index.with_serial("web", "AB")] == ["two"]
    for item in [*cluster.all("Certificate"), *cluster.all("Secret"), *cluster.all("ClusterIssuer")]:
        index.follow(Change(ref_of(item), None, item))
    assert (index._keys, dict(index._refs)) == ({}, {})


@pytest.mark.parametrize("spec", [None, [], {"issuerRef": "web"}, {"keystores": {"pkcs12": 5}}, {"secretName": None}])
def test_a_spec_of_another_form_is_no_error(cluster: MemoryCluster, spec: Any) -> None:
    item = {**a_resource("Certificate", name="odd"), "spec": spec}
    assert "odd" in names(Index(cluster), Change(Ref("Certificate", "default", "odd"), item, None))
