"""The custom resources on a real API server, with kubectl as the user's hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from operator_refusals import CHANGES, REFUSALS, Refusal
from operator_world import Cluster, a_resource

from spork.controller.manifests import load_object
from spork.controller.models import KINDS

pytestmark = [
    pytest.mark.operator,
    pytest.mark.expected_skip("a user's machine need not have a Kubernetes control plane"),
]
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples" / "kubernetes").glob("*.yaml"))


def _delete(kube: Cluster, resource: dict[str, Any]) -> None:
    kube.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump(resource))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_accepted_and_applied_twice_leaves_no_drift(kube: Cluster, example: Path) -> None:
    words = ("--server-side", "--field-manager=spork-test", "-f", str(example))
    first = kube.kubectl("apply", *words)
    assert first.returncode == 0, first.stderr
    diff = kube.kubectl("diff", *words)
    assert (diff.returncode, diff.stdout) == (0, ""), diff.stderr
    before = kube.get("-f", str(example))["metadata"]
    assert kube.kubectl("apply", *words).returncode == 0
    after = kube.get("-f", str(example))["metadata"]
    assert after["resourceVersion"] == before["resourceVersion"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_valid_resource_is_accepted_and_comes_back_as_the_same_model(kube: Cluster, kind: str) -> None:
    sent = a_resource(kind, name="valid")
    done = kube.apply(sent)
    assert done.returncode == 0, done.stderr
    names = KINDS[kind].names
    space = [] if names.scope == "Cluster" else ["-n", "default"]
    stored = load_object(kube.get(f"{names.plural}.spork-ca.org", "valid", *space))
    assert stored.spec == load_object(sent).spec  # type: ignore[attr-defined]  # Each kind has one of its own.


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.id)
def test_the_api_server_refuses(kube: Cluster, refusal: Refusal) -> None:
    resource = a_resource(refusal.kind, refusal.changes, name="refused")
    done = kube.apply(resource)
    if done.returncode == 0:
        _delete(kube, resource)
    assert done.returncode != 0
    assert refusal.sentence in done.stderr


@pytest.mark.parametrize("refusal", CHANGES, ids=lambda refusal: refusal.id)
def test_the_api_server_refuses_to_change_to(kube: Cluster, refusal: Refusal) -> None:
    assert kube.apply(a_resource(refusal.kind, name="changed")).returncode == 0
    done = kube.apply(a_resource(refusal.kind, refusal.changes, name="changed"))
    assert done.returncode != 0
    assert refusal.sentence in done.stderr


def test_what_may_change_may_change(kube: Cluster) -> None:
    assert kube.apply(a_resource("Hierarchy", name="grows")).returncode == 0
    further = {"id": "more", "commonName": "More", "algorithm": "ml-dsa-65", "validityYears": 3, "parent": "tls"}
    old = a_resource("Hierarchy")["spec"]["issuingCAs"]
    done = kube.apply(
        a_resource("Hierarchy", {"spec/issuingCAs": [further, *old], "spec/root/validityYears": 21}, name="grows")
    )
    assert done.returncode == 0, done.stderr


def test_defaults_are_filled_in(kube: Cluster) -> None:
    assert kube.apply(a_resource("Certificate", name="defaults")).returncode == 0
    spec = kube.get("certificates.spork-ca.org", "defaults")["spec"]
    assert spec["issuerRef"] == {"name": "web", "kind": "Issuer", "group": "spork-ca.org"}
    assert spec["privateKey"] == {"algorithm": "ecdsa-p256", "rotationPolicy": "Always"}
    assert (spec["deletionPolicy"], spec["revisionHistoryLimit"]) == ("Retain", 10)
    assert kube.apply(a_resource("Hierarchy", name="defaults")).returncode == 0
    spec = kube.get("sph", "defaults")["spec"]
    assert [spec["root"]["keyMode"], spec["issuingCAs"][0]["keyMode"]] == ["sealed", "online"]


def test_the_columns_say_whether_it_is_ready_until_when_and_why_not(kube: Cluster) -> None:
    assert kube.apply(a_resource("Certificate", name="columns")).returncode == 0
    condition = '{"type":"Ready","status":"False","reason":"Denied","message":"No.","lastTransitionTime":"2026-01-01T00:00:00Z"}'
    status = f'{{"status":{{"notAfter":"2031-01-01T00:00:00Z","conditions":[{condition}]}}}}'
    patched = kube.kubectl("patch", "spc", "columns", "--subresource=status", "--type=merge", "-p", status)
    assert patched.returncode == 0, patched.stderr
    header, row = kube.kubectl("get", "spc", "columns", "-o", "wide").stdout.splitlines()
    assert header.split()[:5] == ["NAME", "READY", "SECRET", "ISSUER", "UNTIL"]
    assert row.split()[:7] == ["columns", "False", "web-tls", "web", "2031-01-01T00:00:00Z", "Denied", "No."]


@pytest.mark.parametrize("kind", KINDS)
def test_the_category_the_short_name_and_explain_know_the_kind(kube: Cluster, kind: str) -> None:
    names = KINDS[kind].names
    listed = kube.kubectl("api-resources", "--categories=spork", "--no-headers").stdout
    assert f"{names.plural} " in listed
    assert kube.kubectl("get", names.short[0], "-A").returncode == 0
    explained = kube.kubectl("explain", f"{names.plural}.spec", "--recursive", "--api-version=spork-ca.org/v1alpha1")
    assert explained.returncode == 0, explained.stderr
    assert "<no description>" not in explained.stdout


def test_two_managers_of_one_field_conflict_and_of_two_items_do_not(kube: Cluster) -> None:
    first = a_resource("Certificate", {"spec/dnsNames": ["a.example.com"]}, name="shared")
    second = a_resource("Certificate", {"spec/dnsNames": ["b.example.com"]}, name="shared")
    third = a_resource("Certificate", {"spec/secretName": "other"}, name="shared")
    words = ("apply", "--server-side", "-f", "-")
    assert kube.kubectl(*words, "--field-manager=one", stdin=yaml.safe_dump(first)).returncode == 0
    assert kube.kubectl(*words, "--field-manager=two", stdin=yaml.safe_dump(second)).returncode == 0
    assert kube.get("spc", "shared")["spec"]["dnsNames"] == ["a.example.com", "b.example.com"]
    conflict = kube.kubectl(*words, "--field-manager=three", stdin=yaml.safe_dump(third))
    assert conflict.returncode != 0 and ".spec.secretName" in conflict.stderr
