"""Certificates for annotated Ingresses: which are made, changed and removed, what is left alone, and at what cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from memory_cluster import MemoryCluster

from spork.controller.cluster import Object, Ref
from spork.controller.ingress.reconcile import Ingresses
from spork.controller.reconciler import Context

WEB = Ref("Ingress", "shop", "web")
TLS = Ref("Certificate", "shop", "web-tls")
OURS = {"spork-ca.org/issuer": "web"}
THEIRS = {"cert-manager.io/issuer": "web", "cert-manager.io/issuer-group": "spork-ca.org"}


class ClusterOfIngresses(MemoryCluster):
    """With or without cert-manager."""

    cert_manager = False

    def has(self, kind: str) -> bool:
        return self.cert_manager if kind == "CertificateRequest" else True


@pytest.fixture
def cluster() -> ClusterOfIngresses:
    return ClusterOfIngresses()


@pytest.fixture
def ingresses(cluster: ClusterOfIngresses) -> Ingresses:
    return Ingresses(Context(cluster, SimpleNamespace()))  # type: ignore[arg-type]


def an_ingress(annotations: dict[str, str], *tls: dict[str, Any], name: str = "web") -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
        "spec": {"tls": list(tls) or [{"hosts": ["www.example.com"], "secretName": "web-tls"}]},
    }


def a_certificate(**metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": "Certificate",
        "metadata": {"name": "web-tls", "namespace": "shop", **metadata},
        "spec": {"secretName": "web-tls", "dnsNames": ["mine.example.com"], "issuerRef": {"name": "mine"}},
    }


async def spec_of(cluster: ClusterOfIngresses, ingresses: Ingresses, item: dict[str, Any]) -> dict[str, Any]:
    """The spec of the one Certificate, after all has come to rest."""
    cluster.add(item)
    await cluster.settle(ingresses)
    (found,) = cluster.all("Certificate")
    return dict(found["spec"])


def warnings(cluster: ClusterOfIngresses) -> list[str]:
    return [message for _, _, message, warning in cluster.reports if warning]


async def test_each_entry_of_tls_becomes_a_certificate_of_the_ingress(
    cluster: ClusterOfIngresses, ingresses: Ingresses
) -> None:
    owner = cluster.add(
        an_ingress(
            OURS,
            {"hosts": ["www.example.com", "*.shop.example.com"], "secretName": "web-tls"},
            {"hosts": ["api.example.com"], "secretName": "api-tls"},
        )
    )
    await cluster.settle(ingresses)
    made = {one["metadata"]["name"]: one for one in cluster.all("Certificate")}
    assert made.keys() == {"web-tls", "api-tls"}
    web = made["web-tls"]
    assert web["spec"]["dnsNames"] == ["www.example.com", "*.shop.example.com"]
    assert web["spec"]["secretName"] == "web-tls"
    assert web["spec"]["profile"] == "tls-server"
    assert web["spec"]["issuerRef"] == {"group": "spork-ca.org", "kind": "Issuer", "name": "web"}
    (reference,) = web["metadata"]["ownerReferences"]
    assert (reference["uid"], reference["controller"]) == (owner["metadata"]["uid"], True)
    assert reference["blockOwnerDeletion"] is False, "that would need a right to write to Ingresses"
    assert sorted(cluster.requests) == [
        "create Certificate shop/api-tls",
        "create Certificate shop/web-tls",
        f"report {WEB}",
        f"report {WEB}",
    ]


async def test_an_ingress_that_is_as_it_should_be_costs_nothing(
    cluster: ClusterOfIngresses, ingresses: Ingresses
) -> None:
    cluster.add(an_ingress(OURS | {"spork-ca.org/duration": "2160h0m0s"}))
    await cluster.settle(ingresses)
    cluster.requests.clear()
    await cluster.settle(ingresses, Ingresses(Context(cluster, SimpleNamespace())))  # type: ignore[arg-type]
    assert cluster.requests == []


@pytest.mark.parametrize(
    ("annotations", "kind"),
    [
        (OURS, "Issuer"),
        ({"spork-ca.org/cluster-issuer": "web"}, "ClusterIssuer"),
        (THEIRS, "Issuer"),
        (THEIRS | {"cert-manager.io/issuer-kind": "Issuer"}, "Issuer"),
        (THEIRS | {"cert-manager.io/issuer-kind": "ClusterIssuer"}, "ClusterIssuer"),
        ({"cert-manager.io/cluster-issuer": "web", "cert-manager.io/issuer-group": "spork-ca.org"}, "ClusterIssuer"),
    ],
)
async def test_every_spelling_of_an_issuer_is_understood(
    cluster: ClusterOfIngresses, ingresses: Ingresses, annotations: dict[str, str], kind: str
) -> None:
    spec = await spec_of(cluster, ingresses, an_ingress(annotations))
    assert spec["issuerRef"] == {"group": "spork-ca.org", "kind": kind, "name": "web"}


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"cert-manager.io/issuer": "web"},
        {"cert-manager.io/cluster-issuer": "letsencrypt", "cert-manager.io/issuer": "both"},
        {"cert-manager.io/issuer": "web", "cert-manager.io/issuer-group": "cert-manager.io"},
        {"cert-manager.io/issuer-group": "spork-ca.org"},
        {"kubernetes.io/tls-acme": "true"},
    ],
)
async def test_what_asks_somebody_else_or_nobody_is_left_alone(
    cluster: ClusterOfIngresses, ingresses: Ingresses, annotations: dict[str, str]
) -> None:
    cluster.add(an_ingress(annotations))
    await cluster.settle(ingresses)
    assert cluster.requests == []


async def test_with_cert_manager_there_its_annotations_are_its_own(
    cluster: ClusterOfIngresses, ingresses: Ingresses
) -> None:
    cluster.cert_manager = True
    cluster.add(an_ingress(THEIRS))
    await cluster.settle(ingresses)
    assert cluster.requests == []
    cluster.add(an_ingress(OURS, {"hosts": ["api.example.com"], "secretName": "api-tls"}, name="api"))
    await cluster.settle(ingresses)
    assert [one["metadata"]["name"] for one in cluster.all("Certificate")] == ["api-tls"]


async def test_when_cert_manager_comes_what_its_annotations_made_here_is_handed_over(
    cluster: ClusterOfIngresses, ingresses: Ingresses
) -> None:
    await spec_of(cluster, ingresses, an_ingress(THEIRS))
    cluster.cert_manager = True
    await cluster.settle(ingresses)
    assert cluster.all("Certificate") == [], "two controllers would write one Secret"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"common-name": "www.example.com"}, {"commonName": "www.example.com"}),
        ({"duration": "1.5h"}, {"duration": "1h30m"}),
        ({"renew-before": "720h0m0s"}, {"renewBefore": "720h"}),
        ({"usages": "digital signature, server auth"}, {"usages": ["digital signature", "server auth"]}),
        ({"revision-history-limit": "3"}, {"revisionHistoryLimit": 3}),
        ({"private-key-algorithm": "RSA"}, {"privateKey": {"algorithm": "rsa-2048", "rotationPolicy": "Always"}}),
        ({"private-key-size": "4096"}, {"privateKey": {"algorithm": "rsa-4096", "rotationPolicy": "Always"}}),
        (
            {"private-key-algorithm": "ECDSA", "private-key-size": "384"},
            {"privateKey": {"algorithm": "ecdsa-p384", "rotationPolicy": "Always"}},
        ),
        (
            {"private-key-algorithm": "Ed25519", "private-key-size": "7"},
            {"privateKey": {"algorithm": "ed25519", "rotationPolicy": "Always"}},
        ),
        (
            {"private-key-algorithm": "ml-dsa-65"},
            {"privateKey": {"algorithm": "ml-dsa-65", "rotationPolicy": "Always"}},
        ),
        (
            {"private-key-rotation-policy": "Never"},
            {"privateKey": {"algorithm": "ecdsa-p256", "rotationPolicy": "Never"}},
        ),
        ({"private-key-encoding": "PKCS8"}, {}),
        ({"alt-names": "b.example.com,www.example.com"}, {"dnsNames": ["www.example.com", "b.example.com"]}),
        ({"ip-sans": "192.0.2.1, 2001:db8::1"}, {"ipAddresses": ["192.0.2.1", "2001:db8::1"]}),
        ({"uri-sans": "spiffe://example.com/web"}, {"uris": ["spiffe://example.com/web"]}),
        ({"email-sans": "ada@example.com"}, {"emailAddresses": ["ada@example.com"]}),
        (
            {"subject-organizations": '"Shop, Inc",Lab', "subject-countries": "DE", "subject-serialnumber": "7"},
            {"subject": {"organizations": ["Shop, Inc", "Lab"], "countries": ["DE"], "serialNumber": "7"}},
        ),
        ({"secret-template": '{"labels": {"team": "shop"}}'}, {"secretTemplate": {"labels": {"team": "shop"}}}),
        ({"profile": "device"}, {"profile": "device"}),
        ({"deletion-policy": "Revoke"}, {"deletionPolicy": "Revoke"}),
    ],
)
@pytest.mark.parametrize("prefix", ["cert-manager.io", "spork-ca.org"])
async def test_an_option_sets_its_field(
    cluster: ClusterOfIngresses, ingresses: Ingresses, prefix: str, given: dict[str, str], expected: dict[str, Any]
) -> None:
    annotations = OURS | {f"{prefix}/{word}": value for word, value in given.items()}
    spec = await spec_of(cluster, ingresses, an_ingress(annotations))
    assert warnings(cluster) == []
    for key, value in expected.items():
        found = spec[key]
        assert (found if not isinstance(value, dict) else {**found, **value}) == found, key
        assert found == value or isinstance(value, dict)


async def test_our_own_spelling_of_an_option_counts_before_the_other(
    cluster: ClusterOfIngresses, ingresses: Ingresses
) -> None:
    both = {"cert-manager.io/duration": "24h", "spork-ca.org/duration": "48h"}
    assert (await spec_of(cluster, ingresses, an_ingress(OURS | both)))["duration"] == "48h"


async def test_hosts_that_are_addresses_become_addresses(cluster: ClusterOfIngresses, ingresses: Ingresses) -> None:
    spec = await spec_of(cluster, ingresses, an_ingress(OURS, {"hosts": ["192.0.2.1"], "secretName": "web-tls"}))
    assert spec["ipAddresses"] == ["192.0.2.1"]
    assert not spec.get("dnsNames")


@pytest.mark.parametrize(
    ("annotations", "sentence"),
    [
        ({"spork-ca.org/issuer": "a", "spork-ca.org/cluster-issuer": "b"}, "exclude each other"),
        (OURS | {"cert-manager.io/issuer": "letsencrypt"}, "leave one out"),
        (THEIRS | {"cert-manager.io/cluster-issuer": "b"}, "exclude each other"),
        (THEIRS | {"cert-manager.io/issuer-kind": "VaultIssuer"}, "cannot be the kind"),
        ({"spork-ca.org/issuer": ""}, "issuerRef.name"),
        ({"spork-ca.org/issuer": "Not A Name"}, "issuerRef.name"),
        (OURS | {"cert-manager.io/duration": "soon"}, "'soon' is not a duration"),
        (OURS | {"cert-manager.io/duration": "-5h"}, "is not a duration"),
        (OURS | {"cert-manager.io/duration": "1m"}, "duration is at least 1h"),
        (OURS | {"cert-manager.io/renew-before": "0s"}, "is not between"),
        (OURS | {"cert-manager.io/renew-before": "48h", "cert-manager.io/duration": "24h"}, "must be shorter"),
        (OURS | {"cert-manager.io/renew-before-percentage": "30"}, "give renew-before"),
        (OURS | {"cert-manager.io/usages": "server auth,sing"}, "unknown usage 'sing'"),
        (OURS | {"cert-manager.io/usages": "cert sign"}, "unknown usage 'cert sign'"),
        (OURS | {"cert-manager.io/revision-history-limit": "many"}, "is not a whole number"),
        (OURS | {"cert-manager.io/revision-history-limit": "0"}, "revisionHistoryLimit"),
        (OURS | {"cert-manager.io/private-key-algorithm": "DSA"}, "There is no key 'DSA'"),
        (OURS | {"cert-manager.io/private-key-size": "1024"}, "There is no key 'RSA 1024'"),
        (OURS | {"cert-manager.io/private-key-encoding": "PKCS1"}, "written as PKCS8"),
        (OURS | {"cert-manager.io/private-key-rotation-policy": "Sometimes"}, "rotationPolicy"),
        (OURS | {"cert-manager.io/ip-sans": "999.0.0.1"}, "ipAddresses"),
        (OURS | {"cert-manager.io/email-sans": "nobody"}, "emailAddresses"),
        (OURS | {"cert-manager.io/subject-countries": "Germany"}, "countries"),
        (OURS | {"cert-manager.io/subject-organizations": '"a'}, "one line"),
        (OURS | {"cert-manager.io/subject-organizations": "a\nb"}, "one line"),
        (OURS | {"cert-manager.io/common-name": "other.example.com"}, "commonName"),
        (OURS | {"cert-manager.io/secret-template": "{"}, "JSON"),
        (OURS | {"cert-manager.io/secret-template": '{"data": {}}'}, "unknown key 'data'"),
        (OURS | {"spork-ca.org/profile": "root"}, "profile"),
        (OURS | {"spork-ca.org/deletion-policy": "Burn"}, "deletionPolicy"),
    ],
)
async def test_a_wrong_annotation_is_one_warning_and_no_certificate(
    cluster: ClusterOfIngresses, ingresses: Ingresses, annotations: dict[str, str], sentence: str
) -> None:
    cluster.add(an_ingress(annotations))
    for _ in range(3):
        await cluster.settle(ingresses)
    assert cluster.all("Certificate") == []
    (warning,) = warnings(cluster)
    assert sentence in warning
    assert cluster.requests == [f"report {WEB}"]


async def test_a_wrong_annotation_leaves_the_certificate_that_is_there(
    cluster: ClusterOfIngresses, ingresses: Ingresses
) -> None:
    before = await spec_of(cluster, ingresses, an_ingress(OURS))
    wrong = an_ingress({"spork-ca.org/issuer": "a", "spork-ca.org/cluster-issuer": "b"})
    assert await spec_of(cluster, ingresses, wrong) == before
    assert len(warnings(cluster)) == 1
    fixed = an_ingress({})
    fixed["metadata"]["annotations"] = {"spork-ca.org/cluster-issuer": "b"}
    assert (await spec_of(cluster, ingresses, fixed))["issuerRef"]["kind"] == "ClusterIssuer"
    await spec_of(cluster, ingresses, wrong)
    assert len(warnings(cluster)) == 2, "a fault that comes back is told again"


@pytest.mark.parametrize(
    ("tls", "sentences"),
    [
        ([{"hosts": ["a.example.com"]}], ["spec.tls[0] has no secretName"]),
        ([{"secretName": "web-tls"}], ["spec.tls[0] has no hosts"]),
        ([{}], ["spec.tls[0] has no secretName"]),
        (
            [
                {"hosts": ["a.example.com"], "secretName": "web-tls"},
                {"hosts": ["b.example.com"], "secretName": "web-tls"},
            ],
            ["named by 2 entries"],
        ),
    ],
)
async def test_a_wrong_entry_is_told_and_the_others_are_served(
    cluster: ClusterOfIngresses, ingresses: Ingresses, tls: list[dict[str, Any]], sentences: list[str]
) -> None:
    cluster.add(an_ingress(OURS, *tls, {"hosts": ["good.example.com"], "secretName": "good-tls"}))
    await cluster.settle(ingresses)
    assert [one["metadata"]["name"] for one in cluster.all("Certificate")] == ["good-tls"]
    for told, sentence in zip(warnings(cluster), sentences, strict=True):
        assert sentence in told


async def test_a_change_of_the_ingress_is_one_write_and_one_event(
    cluster: ClusterOfIngresses, ingresses: Ingresses
) -> None:
    await spec_of(cluster, ingresses, an_ingress(OURS | {"spork-ca.org/duration": "24h"}))
    cluster.requests.clear()
    changed = an_ingress(OURS, {"hosts": ["new.example.com"], "secretName": "web-tls"})
    spec = await spec_of(cluster, ingresses, changed)
    assert spec["dnsNames"] == ["new.example.com"]
    assert "duration" not in spec, "what is no longer annotated is gone"
    assert cluster.requests == [f"replace {TLS}", f"report {WEB}"]


async def test_what_somebody_changes_in_an_owned_certificate_is_put_back(
    cluster: ClusterOfIngresses, ingresses: Ingresses
) -> None:
    before = await spec_of(cluster, ingresses, an_ingress(OURS))
    edited = a_certificate()
    cluster.add({**edited, "metadata": {**edited["metadata"], "labels": {"kept": "yes"}}})
    await cluster.settle(ingresses)
    (found,) = cluster.all("Certificate")
    assert found["spec"]["dnsNames"] == before["dnsNames"]
    assert found["metadata"]["labels"] == {"kept": "yes"}


@pytest.mark.parametrize("change", ["no annotation", "another Secret", "no tls"])
async def test_what_is_no_longer_asked_for_is_removed(
    cluster: ClusterOfIngresses, ingresses: Ingresses, change: str
) -> None:
    await spec_of(cluster, ingresses, an_ingress(OURS))
    cluster.requests.clear()
    item = an_ingress(OURS)
    if change == "no annotation":
        item["metadata"]["annotations"] = {}
    elif change == "no tls":
        item["spec"] = {}
    else:
        item["spec"]["tls"][0]["secretName"] = "new-tls"
    cluster.add(item)
    await cluster.settle(ingresses)
    assert cluster.get(TLS) is None
    assert f"delete {TLS}" in cluster.requests


async def test_a_certificate_of_somebody_else_is_never_touched(
    cluster: ClusterOfIngresses, ingresses: Ingresses
) -> None:
    theirs = cluster.add(a_certificate())
    cluster.add(an_ingress(OURS))
    for _ in range(2):
        await cluster.settle(ingresses)
    assert cluster.get(TLS) == theirs
    assert cluster.requests == [f"report {WEB}"]
    assert "not this Ingress's own" in warnings(cluster)[0]
    await cluster.delete(TLS)
    await cluster.settle(ingresses)
    assert (cluster.get(TLS) or {})["spec"]["dnsNames"] == ["www.example.com"]


async def test_of_two_ingresses_with_one_secret_the_first_has_it(
    cluster: ClusterOfIngresses, ingresses: Ingresses
) -> None:
    before = await spec_of(cluster, ingresses, an_ingress(OURS))
    second = an_ingress(OURS, {"hosts": ["b.example.com"], "secretName": "web-tls"}, name="second")
    assert await spec_of(cluster, ingresses, second) == before
    assert len(warnings(cluster)) == 1
    heard: list[Ref] = []
    cluster.subscribe(lambda change: heard.extend(ingresses.concerned(change)))
    await cluster.delete(WEB)
    await cluster.settle(ingresses)
    assert Ref("Ingress", "shop", "second") in heard, "whoever waited for the name hears that it is free"
    assert (cluster.get(TLS) or {})["spec"]["dnsNames"] == ["b.example.com"]


async def test_an_ingress_of_the_same_name_made_anew_waits_for_the_old_ones_certificate_to_go(
    cluster: ClusterOfIngresses, ingresses: Ingresses
) -> None:
    owner = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "name": "web",
        "uid": "of-the-old-one",
        "controller": True,
    }
    cluster.add(a_certificate(ownerReferences=[owner]))
    cluster.add(an_ingress(OURS))
    await cluster.settle(ingresses)
    assert cluster.requests == []


async def test_an_ingress_that_is_going_makes_nothing(cluster: ClusterOfIngresses, ingresses: Ingresses) -> None:
    item = an_ingress(OURS)
    item["metadata"] |= {"finalizers": ["example.com/hold"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    cluster.add(item)
    await cluster.settle(ingresses)
    assert cluster.requests == []


async def test_what_an_ingress_owns_goes_with_it(cluster: ClusterOfIngresses, ingresses: Ingresses) -> None:
    await spec_of(cluster, ingresses, an_ingress(OURS))
    await cluster.delete(WEB)
    await cluster.settle(ingresses)
    assert cluster.get(TLS) is None


async def test_a_deleted_certificate_is_made_again(cluster: ClusterOfIngresses, ingresses: Ingresses) -> None:
    await spec_of(cluster, ingresses, an_ingress(OURS))
    heard: list[Ref] = []
    cluster.subscribe(lambda change: heard.extend(ingresses.concerned(change)))
    await cluster.delete(TLS)
    assert heard == [WEB]
    await cluster.settle(ingresses)
    found: Object | None = cluster.get(TLS)
    assert found is not None
