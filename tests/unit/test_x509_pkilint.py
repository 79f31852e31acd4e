"""An outside judge: pkilint on one certificate per profile and per algorithm, with nothing above a notice.

What it reports and we accept is listed below, each with its reason.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import lru_cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from x509_world import ALGORITHM_NAMES, CA, a_request, a_root, a_signer

from spork.x509.authority import AuthorityURLs
from spork.x509.der import KeyPurpose
from spork.x509.names import dns
from spork.x509.profile import CAConstraints
from spork.x509.profiles import PROFILES

with warnings.catch_warnings():
    # Its own dependencies announce their changes of tomorrow while they are imported.
    warnings.simplefilter("ignore")
    from pkilint import loader
    from pkilint.pkix import certificate, extension, name
    from pkilint.validation import ValidationFindingSeverity

ACCEPTED = {
    # Says by which method the key identifier was made; ours is method 1 of RFC 5280 section 4.2.1.2.
    ("pkix.subject_key_identifier_method_1_identified", ""),
    # RFC 5280 section 4.2.1.1 lets a self-signed certificate do without; the judge cannot verify this signature to see it.
    ("pkix.aki_absent_self_issued_and_unsupported_algorithm", "2.16.840.1.101.3.4.3.1"),
    # RFC 5280 section 4.2.1.6 leaves wildcards to others; the Baseline Requirements and RFC 6125 have this form.
    ("pkix.invalid_domain_name_syntax", '"*.app.example"'),
    # The judge knows URIs with a host only. RFC 5280 section 4.2.1.6 allows any absolute URI, and RFC 9562 has this one.
    ("pkix.invalid_uri_syntax", '"urn:uuid:7d444840-9dc0-11d1-b245-5ffdce74fad2"'),
}


@lru_cache
def judge() -> certificate.CertificateValidatorContainer:  # type: ignore[name-defined] # the judge has no types
    """The validators of `lint_pkix_cert`."""
    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


def findings(subject: x509.Certificate) -> list[tuple[ValidationFindingSeverity, str, str]]:
    """Everything that is not accepted: severity, code and message."""
    document = loader.load_certificate(subject.public_bytes(Encoding.DER), "certificate")
    found = []
    for result in judge().validate(document.root):
        for description in result.finding_descriptions:
            code, message = description.finding.code, description.message or ""
            if not any(code == accepted and text in message for accepted, text in ACCEPTED):
                found.append((description.finding.severity, code, message))
    return found


@pytest.fixture(scope="module")
def issuing() -> CA:
    return a_root().subordinate("Policy CA", constraints=CAConstraints(path_length=1))


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "root"])
@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_a_certificate_of_each_profile_and_subject_key_is_clean(profile: str, algorithm: str, issuing: CA) -> None:
    spki = a_signer(algorithm, KeyPurpose.LEAF).spki
    assert findings(issuing.certify(profile, **a_request(profile), spki=spki)) == []


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_root_issuing_ca_and_leaf_of_each_signing_algorithm_are_clean(algorithm: str) -> None:
    root = a_root(algorithm=algorithm)
    issuing = root.subordinate(algorithm=algorithm)
    for subject in (root.certificate, issuing.certificate, issuing.certify()):
        assert findings(subject) == []


def test_a_ca_with_every_constraint_is_clean(issuing: CA) -> None:
    constraints = CAConstraints(
        path_length=0,
        name_constraints=x509.NameConstraints([x509.DNSName("example.com")], [x509.DNSName("secret.example.com")]),
        extended_key_usage=("1.3.6.1.5.5.7.3.1",),
        policies=("1.3.6.1.4.1.99999.2.1",),
    )
    request = a_request("issuing-ca") | {"constraints": constraints}
    assert findings(issuing.certify("issuing-ca", **request)) == []


def test_a_certificate_with_delta_crls_and_shards_is_clean(issuing: CA) -> None:
    urls = AuthorityURLs(
        crl=("http://status.example/crl/ca/1/{shard}.crl",),
        delta_crl=("http://status.example/crl/ca/1/{shard}/delta.crl",),
    )
    authority = replace(issuing.authority, urls=urls, crl_shards=4)
    assert findings(CA(authority, issuing.signer).certify()) == []


def test_the_judge_does_find_faults(issuing: CA) -> None:
    """Without this the tests above could pass because nothing is judged at all."""
    broken = issuing.certify(names=(dns("two..dots.example"),))
    assert [code for _, code, _ in findings(broken)] == ["pkix.invalid_domain_name_syntax"]
