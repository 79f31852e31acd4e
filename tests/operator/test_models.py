"""The models without a cluster: schemas, drift, and the same verdicts as the API server's."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from operator_refusals import CHANGES, REFUSALS, Refusal
from operator_world import DROP, PEM, a_resource
from pydantic import BaseModel

from spork.controller import crds
from spork.controller.conversion import declared_hierarchy, declared_issuer
from spork.controller.manifests import ManifestError, load_manifests, load_object, refused_changes
from spork.controller.models import KINDS, ClusterIssuer, Hierarchy, Issuer, authorities, issuer
from spork.controller.models.certificate import USAGES
from spork.hierarchy import spec
from spork.hierarchy.export import hierarchy_resource
from spork.hierarchy.issuers import issuable_profiles
from spork.hierarchy.load import load_text
from spork.hierarchy.model import DeclaredAuthority
from spork.hierarchy.problems import HierarchyError
from spork.ids import AuthorityId
from spork.x509 import profiles

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples" / "kubernetes").glob("*.yaml"))


def _nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, one in schema.get("properties", {}).items():
        yield from _nodes(one, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from _nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _nodes(schema["additionalProperties"], f"{path}{{}}")


def test_the_files_are_what_the_models_say() -> None:
    assert crds.drifted(ROOT / "crds") == []


def test_drift_is_found_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "crds", tmp_path / "crds")
    file = tmp_path / "crds" / "issuers.yaml"
    file.write_text(file.read_text().replace("maxItems: 32", "maxItems: 33", 1))
    assert crds.main([str(tmp_path / "crds"), "--check"]) == 1
    assert "issuers.yaml" in capsys.readouterr().err
    assert crds.main([str(tmp_path / "crds")]) == 0
    assert crds.main([str(tmp_path / "crds"), "--check"]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described_and_bounded(kind: str) -> None:
    nodes = list(_nodes(crds.schema_of(KINDS[kind])))
    fields = [(path, one) for path, one in nodes if not path.endswith(("[]", "{}", ".metadata")) and path]
    assert [path for path, one in fields if not one.get("description", "").endswith(".")] == []
    assert [path for path, one in nodes if one.get("type") == "array" and "maxItems" not in one] == []
    assert [path for path, one in nodes if "anyOf" in one or "$ref" in one or "type" not in one] == []
    assert [path for path, one in nodes if {"properties", "additionalProperties"} <= one.keys()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_conditions_are_told_apart_by_their_type(kind: str) -> None:
    conditions = crds.schema_of(KINDS[kind])["properties"]["status"]["properties"]["conditions"]
    assert (conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"]) == ("map", ["type"])


def test_every_sentence_of_a_rule_has_its_refusal() -> None:
    shown = [refusal.sentence for refusal in (*REFUSALS, *CHANGES)]
    said = {
        rule["message"]
        for kind in KINDS.values()
        for path, node in _nodes(crds.schema_of(kind)["properties"]["spec"])
        for rule in node.get("x-kubernetes-validations", [])
    }
    assert [sentence for sentence in sorted(said) if not any(one in sentence for one in shown)] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_read(example: Path) -> None:
    assert [one.kind.lower() for one in load_manifests(example.read_text(), str(example))] == [example.stem]


@pytest.mark.parametrize("kind", KINDS)
def test_the_valid_resource_is_read(kind: str) -> None:
    assert load_object(a_resource(kind)).kind == kind


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.id)
def test_the_models_refuse(refusal: Refusal) -> None:
    with pytest.raises(ManifestError) as caught:
        load_object(a_resource(refusal.kind, refusal.changes))
    assert (refusal.python or refusal.sentence) in caught.value.detail


@pytest.mark.parametrize("refusal", CHANGES, ids=lambda refusal: refusal.id)
def test_the_models_refuse_to_change_to(refusal: Refusal) -> None:
    old, new = (load_object(a_resource(refusal.kind, changes)) for changes in ({}, refusal.changes))
    assert any(refusal.sentence in sentence for sentence in refused_changes(new, old))
    assert refused_changes(old, old) == []


def test_faults_are_named_together_with_line_and_nearest_key() -> None:
    text = (ROOT / "examples" / "kubernetes" / "certificate.yaml").read_text()
    wrong = text.replace("dnsNames:", "dnsName:").replace("profile: tls-server", "profile: tls-serve")
    with pytest.raises(ManifestError) as caught:
        load_manifests(wrong, "web.yaml")
    assert "web.yaml:9: spec.dnsName: unknown key 'dnsName'; did you mean 'dnsNames'?" in caught.value.lines
    assert "web.yaml:14: spec.profile: unknown profile 'tls-serve'; did you mean 'tls-server'?" in caught.value.lines


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kind: [", "not valid YAML"),
        ("- 1", "an object with apiVersion"),
        ("apiVersion: v1\nkind: Secret", "'v1' is not known here"),
        ("apiVersion: spork-ca.org/v1alpha1\nkind: Certficate", "did you mean 'Certificate'"),
        ("apiVersion: &a spork-ca.org/v1alpha1\nkind: *a", "aliases (*a) are not read"),
        ("kind: Issuer\nkind: Issuer\napiVersion: v1", "m.yaml:2: kind: stands here twice"),
        ("a: " + "[" * 100 + "]" * 100, "is nested too deeply"),
        ("a: " + "[" * 5000 + "]" * 5000, "is nested too deeply"),
        ("a: \x00", "not valid YAML"),
        ("#" + "x" * (1 << 20), "too large for a manifest"),
        ("? [a]\n: b", "not valid YAML"),
    ],
)  # fmt: skip
def test_a_text_that_is_no_manifest_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load_manifests(text, "m.yaml")
    assert sentence in caught.value.detail


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_read_or_refused_in_sentences(text: str) -> None:
    with contextlib.suppress(ManifestError):
        load_manifests(text)


_REFS = {"certificate_ref", "request_ref"}


@pytest.mark.parametrize(
    ("resource", "file", "own"),
    [
        (authorities.Authority, spec.AuthoritySpec, _REFS),
        (authorities.IssuingAuthority, spec.IssuingSpec, {"allowed_namespaces", *_REFS}),
        (authorities.PolicyAuthority, spec.PolicySpec, _REFS),
        (authorities.CrossCertificate, spec.CrossSpec, set()),
        (authorities.CRLSchedule, spec.CRLSpec, set()),
        (issuer.ACMESettings, spec.ACMESpec, set()),
        (issuer.IssuerSettings, spec.IssuerSpec, set()),
        (issuer.NamePolicy, spec.NamePolicySpec, set()),
    ],
)
def test_a_resource_has_the_keys_of_the_file(resource: type[BaseModel], file: type[BaseModel], own: set[str]) -> None:
    elsewhere = {"name", "default"} if resource is issuer.IssuerSettings else set()
    assert set(resource.model_fields) - own == set(file.model_fields) - elsewhere


def test_every_usage_of_an_issuable_profile_has_its_word() -> None:
    words = {
        "digitalSignature": "digital signature",
        "keyEncipherment": "key encipherment",
        "keyAgreement": "key agreement",
        profiles.SERVER_AUTH: "server auth",
        profiles.CLIENT_AUTH: "client auth",
        profiles.CODE_SIGNING: "code signing",
        profiles.EMAIL_PROTECTION: "email protection",
        profiles.TIME_STAMPING: "timestamping",
    }
    issuable = [profiles.PROFILES[name] for name in issuable_profiles()]
    asserted = {usage for profile in issuable for usage in (*profile.key_usage, *profile.extended_key_usage)}
    # Two of Kubernetes' words are other names for usages that have their own.
    assert {words[usage] for usage in asserted} | {"signing", "s/mime"} == set(USAGES)


@pytest.mark.parametrize("preset", sorted((ROOT / "hierarchy" / "presets").glob("*.toml")), ids=lambda path: path.stem)
def test_an_exported_file_is_a_resource_that_declares_the_same_tree(preset: Path) -> None:
    text = preset.read_text()
    resource = load_object(hierarchy_resource(text, preset.name, "main"))
    assert isinstance(resource, Hierarchy)
    assert declared_hierarchy(resource) == load_text(text, preset.name).of("Hierarchy/main")


def test_what_the_schema_cannot_see_is_found_by_the_tree() -> None:
    resource = load_object(a_resource("Hierarchy", {"spec/policyCAs/0/validityYears": 50}))
    assert isinstance(resource, Hierarchy)
    with pytest.raises(HierarchyError, match=r"Hierarchy one: policy_cas\[0\]"):
        declared_hierarchy(resource)


def test_the_text_of_a_resource_survives_yaml() -> None:
    resource = a_resource("Certificate", {"metadata/annotations": {"at": "2026-01-01T00:00:00Z"}})
    (loaded,) = load_manifests(yaml.safe_dump(resource))
    assert loaded.metadata.annotations == {"at": "2026-01-01T00:00:00Z"}


def _tree(changes: dict[str, Any] | None = None) -> Mapping[AuthorityId, DeclaredAuthority]:
    resource = load_object(a_resource("Hierarchy", changes))
    assert isinstance(resource, Hierarchy)
    return declared_hierarchy(resource).by_id


def test_an_issuer_of_a_namespace_declares_its_policy() -> None:
    limits = {"spec/maxValidityDays": 30, "spec/keys/algorithms": ["ecdsa-p256"], "metadata/name": "directory"}
    resource = load_object(a_resource("Issuer", limits))
    assert isinstance(resource, Issuer)
    declared = declared_issuer(resource, _tree())
    assert (declared.name, declared.authority_id, declared.default) == ("directory", "web", False)
    assert (declared.names.permit, declared.keys.algorithms) == ({"dns": ("**.example.com",)}, ("ecdsa-p256",))
    assert declared.max_validity == timedelta(days=30)


def test_a_cluster_issuer_declares_its_doors() -> None:
    resource = load_object(a_resource("ClusterIssuer", {"spec/allowedNamespaces": {"names": ["*"]}}))
    assert isinstance(resource, ClusterIssuer)
    assert declared_issuer(resource, _tree()).protocols["acme"]["ports"] == {"http-01": 8080}


@pytest.mark.parametrize(
    ("changes", "tree", "sentence"),
    [
        ({"spec/ca": "wbe"}, {}, "unknown CA 'wbe'; did you mean 'web'?"),
        ({"spec/ca": "tls"}, {}, "certificates are issued by issuing CAs"),
        ({}, {"spec/policyCAs/0/issuingCAs/0/keyMode": "sealed"}, "a server can sign only with an online one"),
        ({}, {"spec/policyCAs/0/issuingCAs/0/profiles": ["tls-client"]}, "does not offer the profile 'tls-server'"),
        ({"spec/names/permit/dn": ["no name"]}, {}, "no name"),
    ],
)
def test_an_issuer_that_does_not_fit_the_tree_is_refused(
    changes: dict[str, Any], tree: dict[str, Any], sentence: str
) -> None:
    resource = load_object(a_resource("ClusterIssuer", changes))
    assert isinstance(resource, ClusterIssuer)
    with pytest.raises(HierarchyError) as caught:
        declared_issuer(resource, _tree({"spec/issuers": [], **tree}))
    assert sentence in caught.value.detail and caught.value.detail.startswith("ClusterIssuer one: ")


def _cross(pem: str) -> Hierarchy:
    cross = {"spec/crossCertificates/0/subject": DROP, "spec/crossCertificates/0/subjectCSR": pem}
    resource = load_object(a_resource("Hierarchy", cross))
    assert isinstance(resource, Hierarchy)
    return resource


def test_somebody_elses_ca_is_taken_from_pem_text() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Partner")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    declared = declared_hierarchy(_cross(request.public_bytes(Encoding.PEM).decode())).cross_certificates[0]
    assert declared.foreign_subject == name


def test_pem_text_that_is_no_request_is_refused() -> None:
    with pytest.raises(HierarchyError, match="subject_csr"):
        declared_hierarchy(_cross(PEM))
