"""Each lint rule has a TBSCertificate that breaks it; sound certificates break none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from hypothesis import given
from hypothesis import strategies as st
from x509_world import ALGORITHM_NAMES, CA, NOW, a_name, a_request, a_root, a_signer

from spork.x509.algorithms import BY_NAME
from spork.x509.bounds import elements
from spork.x509.der import CertificateTBS, Extension, KeyPurpose, TBSCertificate, Validity, raw, time
from spork.x509.lint import EXTENSION_UNREADABLE, RULES, UNREADABLE, Finding, lint_certificate
from spork.x509.names import EMPTY_NAME, NameKind, SubjectName, dns
from spork.x509.profile import CAConstraints, Profile
from spork.x509.profiles import PROFILES

ROOT = a_root()
POLICY = ROOT.subordinate(
    "Policy CA",
    profile="policy-ca",
    constraints=CAConstraints(
        path_length=1,
        name_constraints=x509.NameConstraints(
            [x509.DNSName("example"), x509.DirectoryName(x509.Name(list(a_name("x"))[:1]))],
            [x509.DNSName("secret.example")],
        ),
    ),
)
ISSUING = POLICY.subordinate()
SERVERS_ONLY = ROOT.subordinate(
    "Servers only", constraints=CAConstraints(path_length=0, extended_key_usage=("1.3.6.1.5.5.7.3.1",))
)
SPKI = a_signer(purpose=KeyPurpose.LEAF).spki
RSA_SPKI = a_signer("rsa-2048", KeyPurpose.LEAF).spki
ED25519_SPKI = a_signer("ed25519", KeyPurpose.LEAF).spki
ML_DSA_SPKI = a_signer("ml-dsa-44", KeyPurpose.LEAF).spki
SERVER = PROFILES["tls-server"]


def codes(tbs: CertificateTBS, profile: Profile = SERVER, ca: CA = ISSUING) -> list[str]:
    return [finding.code for finding in lint_certificate(tbs, profile, ca.authority)]


# Sound certificates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "root"])
def test_a_sound_certificate_has_no_finding(profile: str, algorithm: str) -> None:
    tbs = ROOT.tbs(profile, **a_request(profile), spki=a_signer(algorithm, KeyPurpose.LEAF).spki)
    assert lint_certificate(tbs, PROFILES[profile], ROOT.authority) == []


def test_a_sound_certificate_within_name_constraints_has_no_finding() -> None:
    assert lint_certificate(ISSUING.tbs(spki=SPKI), SERVER, ISSUING.authority) == []


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_a_sound_root_has_no_finding(algorithm: str) -> None:
    ca = a_root(algorithm=algorithm)
    tbs = CertificateTBS(ca.certificate.tbs_certificate_bytes)
    assert lint_certificate(tbs, PROFILES["root"], ca.authority) == []
    assert lint_certificate(tbs, PROFILES["root"], replace(ca.authority, certificate=None, not_after=None)) == []


# Breaking the body ------------------------------------------------------------------------------------------------------


def fields(profile: str = "tls-server", ca: CA = ISSUING, **changes: Any) -> TBSCertificate:
    """A sound TBS, taken apart."""
    request = a_request(profile) if profile not in {"tls-server", "listener"} else {}
    tbs = ca.tbs(profile, **(request | {"spki": SPKI} | changes))
    return asn1.decode_der(TBSCertificate, tbs.der)


def rebuilt(base: TBSCertificate, **changes: Any) -> CertificateTBS:
    """The same with some fields changed, encoded again."""
    names = (
        "version",
        "serial_number",
        "signature",
        "issuer",
        "validity",
        "subject",
        "subject_public_key_info",
        "extensions",
    )
    values = {name: getattr(base, name) for name in names} | changes
    return CertificateTBS(asn1.encode_der(TBSCertificate(**values)))


def dated(not_before: Any, not_after: Any) -> CertificateTBS:
    return rebuilt(fields(), validity=Validity(not_before=not_before, not_after=not_after))


def at(days: float) -> datetime:
    return NOW + timedelta(days=days)


BODY: dict[str, Callable[[], CertificateTBS]] = {
    "rfc5280.version": lambda: rebuilt(fields(), version=1),
    "rfc5280.serial_not_positive": lambda: rebuilt(fields(), serial_number=-7),
    "rfc5280.serial_too_long": lambda: rebuilt(fields(), serial_number=1 << 159),
    "spork.serial_too_short": lambda: rebuilt(fields(), serial_number=(1 << 64) - 1),
    "rfc5280.signature_algorithm": lambda: rebuilt(fields(), signature=raw(BY_NAME["ed25519"].identifier)),
    "rfc5280.issuer_name": lambda: rebuilt(fields(), issuer=raw(a_name("issuing ca").public_bytes())),
    "rfc5280.validity_encoding": lambda: dated(time(at(0)), asn1.GeneralizedTime(at(9))),
    "rfc5280.validity_order": lambda: dated(time(at(9)), time(at(8))),
    "spork.validity_beyond_issuer": lambda: dated(time(at(999)), time(at(1001))),
    "spork.validity_before_issuer": lambda: dated(time(at(-1)), time(at(1))),
    "spork.validity_beyond_profile": lambda: dated(time(at(0)), time(at(398))),
    "rfc5280.duplicate_extension": lambda: with_extensions(lambda found: [*found, found[0]]),
    "rfc5280.no_extensions": lambda: rebuilt(fields(), extensions=None),
    "spork.unexpected_extension": lambda: with_extensions(
        lambda found: [*found, Extension(oid=x509.ObjectIdentifier("1.2.3"), critical=False, value=b"\x05\x00")]
    ),
    "rfc5280.public_key": lambda: rebuilt(fields(), subject_public_key_info=raw(SPKI[:-1] + bytes([SPKI[-1] ^ 1]))),
}


def with_extensions(
    change: Callable[[list[Extension]], Sequence[Extension]], profile: str = "tls-server", ca: CA = ISSUING, **more: Any
) -> CertificateTBS:
    base = fields(profile, ca, **more)
    return rebuilt(base, extensions=list(change(list(base.extensions or ()))))


@pytest.mark.parametrize("code", BODY)
def test_a_broken_body_is_found(code: str) -> None:
    assert code in codes(BODY[code]())


def test_the_end_of_the_profile_is_inclusive() -> None:
    exactly = dated(time(at(0)), time(at(398) - timedelta(seconds=1)))
    assert codes(exactly) == []


def test_a_serial_of_twenty_octets_is_sound() -> None:
    assert codes(rebuilt(fields(), serial_number=(1 << 159) - 1)) == []


def test_a_utctime_for_2050_cannot_be_made_and_a_generalized_one_is_sound() -> None:
    late = datetime(2050, 1, 1, tzinfo=UTC)
    tbs = ROOT.tbs("issuing-ca", **a_request("issuing-ca"), not_after=late)
    found = [finding.code for finding in lint_certificate(tbs, PROFILES["issuing-ca"], ROOT.authority)]
    assert "rfc5280.validity_encoding" not in found


# Breaking the extensions ------------------------------------------------------------------------------------------------


def changed(value: x509.ExtensionType, *, critical: bool = False) -> Callable[[list[Extension]], list[Extension]]:
    """Replaces the extension of the same kind, or appends it."""

    def change(found: list[Extension]) -> list[Extension]:
        new = Extension(oid=value.oid, critical=critical, value=value.public_bytes())
        if all(extension.oid != value.oid for extension in found):
            return [*found, new]
        return [new if extension.oid == value.oid else extension for extension in found]

    return change


def without(kind: type[x509.ExtensionType]) -> Callable[[list[Extension]], list[Extension]]:
    return lambda found: [extension for extension in found if extension.oid != kind.oid]


def criticality(kind: type[x509.ExtensionType], critical: bool) -> Callable[[list[Extension]], list[Extension]]:
    return lambda found: [
        Extension(oid=e.oid, critical=critical, value=e.value) if e.oid == kind.oid else e for e in found
    ]


def usage(*bits: str) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name in bits for name in names})


def purposes(*oids: str) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in oids])


TREES = x509.NameConstraints([x509.DNSName("example")], None)
AKI = x509.AuthorityKeyIdentifier(bytes(20), None, None)
AKI_BY_NAME = x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(a_name("x"))], 7)
CA_BIT = x509.BasicConstraints(ca=True, path_length=None)
POLICIES = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)] * 2)
OTHER_CRL = x509.CRLDistributionPoints(
    [x509.DistributionPoint([x509.UniformResourceIdentifier("http://other.example/2.crl")], None, None, None)]
)
TWO_PURPOSES = purposes("1.3.6.1.5.5.7.3.8", "1.3.6.1.5.5.7.3.2")

# code, profile, change, and further arguments of the certificate that is sound before the change
EXTENSIONS: list[tuple[str, str, Callable[[list[Extension]], list[Extension]], dict[str, Any]]] = [
    ("rfc5280.must_not_be_critical", "tls-server", criticality(x509.SubjectKeyIdentifier, True), {}),
    ("rfc5280.must_not_be_critical", "tls-server", criticality(x509.AuthorityKeyIdentifier, True), {}),
    ("rfc5280.must_not_be_critical", "tls-server", criticality(x509.AuthorityInformationAccess, True), {}),
    ("rfc5280.ski_missing", "tls-server", without(x509.SubjectKeyIdentifier), {}),
    ("spork.ski_not_of_key", "tls-server", changed(x509.SubjectKeyIdentifier(bytes(20))), {}),
    ("rfc5280.aki_missing", "tls-server", without(x509.AuthorityKeyIdentifier), {}),
    ("rfc5280.aki_missing", "tls-server", changed(AKI_BY_NAME), {}),
    ("rfc5280.aki_not_of_issuer", "tls-server", changed(AKI), {}),
    ("rfc5280.ca_basic_constraints", "issuing-ca", without(x509.BasicConstraints), {}),
    ("rfc5280.ca_basic_constraints", "issuing-ca", criticality(x509.BasicConstraints, False), {}),
    (
        "rfc5280.ca_basic_constraints",
        "issuing-ca",
        changed(x509.BasicConstraints(ca=False, path_length=None), critical=True),
        {},
    ),
    ("spork.leaf_with_ca_bit", "tls-server", changed(CA_BIT, critical=True), {}),
    ("rfc5280.ca_without_key_cert_sign", "issuing-ca", changed(usage("crl_sign"), critical=True), {}),
    ("rfc5280.ca_without_key_cert_sign", "issuing-ca", without(x509.KeyUsage), {}),
    ("rfc5280.key_cert_sign_without_ca", "tls-server", changed(usage("key_cert_sign"), critical=True), {}),
    ("rfc5280.key_usage_missing", "tls-server", without(x509.KeyUsage), {}),
    ("rfc5280.key_usage_missing", "tls-server", changed(usage(), critical=True), {}),
    ("rfc5280.key_usage_not_critical", "tls-server", criticality(x509.KeyUsage, False), {}),
    ("rfc9881.key_usage", "tls-server", changed(usage("key_encipherment"), critical=True), {"spki": ML_DSA_SPKI}),
    (
        "rfc9881.key_usage",
        "tls-server",
        changed(usage("key_agreement", "encipher_only"), critical=True),
        {"spki": ML_DSA_SPKI},
    ),
    ("rfc8410.key_usage", "tls-server", changed(usage("key_agreement"), critical=True), {"spki": ED25519_SPKI}),
    ("rfc8813.key_usage", "tls-server", changed(usage("key_encipherment"), critical=True), {}),
    ("rfc8813.key_usage", "tls-server", changed(usage("data_encipherment"), critical=True), {}),
    (
        "spork.key_usage_beyond_profile",
        "tls-server",
        changed(usage("data_encipherment"), critical=True),
        {"spki": RSA_SPKI},
    ),
    ("spork.key_usage_beyond_profile", "tls-server", changed(usage("crl_sign"), critical=True), {}),
    ("spork.extended_key_usage_not_of_profile", "tls-server", without(x509.ExtendedKeyUsage), {}),
    (
        "spork.extended_key_usage_not_of_profile",
        "tls-server",
        changed(purposes("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2")),
        {},
    ),
    ("rfc6960.responder_without_no_check", "ocsp-signing", without(x509.OCSPNoCheck), {}),
    ("rfc3161.time_stamping_not_alone", "timestamping", criticality(x509.ExtendedKeyUsage, False), {}),
    ("rfc3161.time_stamping_not_alone", "timestamping", changed(TWO_PURPOSES, critical=True), {}),
    ("rfc5280.name_constraints_on_leaf", "tls-server", changed(TREES, critical=True), {}),
    ("rfc5280.name_constraints_not_critical", "issuing-ca", changed(TREES), {}),
    ("rfc5280.duplicate_policy", "tls-server", changed(POLICIES), {}),
    ("spork.locations_not_of_issuer", "tls-server", changed(OTHER_CRL), {}),
    ("spork.locations_not_of_issuer", "tls-server", without(x509.AuthorityInformationAccess), {}),
    ("spork.locations_not_of_issuer", "ocsp-signing", changed(OTHER_CRL), {}),
    (
        "rfc5280.san_not_critical_with_empty_subject",
        "tls-server",
        criticality(x509.SubjectAlternativeName, False),
        {"subject": EMPTY_NAME},
    ),
    ("spork.san_missing", "tls-server", without(x509.SubjectAlternativeName), {"subject": a_name("www.example")}),
    (EXTENSION_UNREADABLE, "tls-server", changed(x509.UnrecognizedExtension(x509.KeyUsage.oid, b"\x30\x80")), {}),
    (
        EXTENSION_UNREADABLE,
        "tls-server",
        changed(x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x04\xa3\x02\x05\x00")),
        {},
    ),
    (
        "rfc5280.san_empty",
        "tls-client",
        changed(x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x00")),
        {},
    ),
]


@pytest.mark.parametrize(
    ("code", "profile", "change", "more"), EXTENSIONS, ids=[f"{c[0]}-{i}" for i, c in enumerate(EXTENSIONS)]
)
def test_a_broken_extension_is_found(
    code: str, profile: str, change: Callable[[list[Extension]], list[Extension]], more: dict[str, Any]
) -> None:
    ca = ROOT if PROFILES[profile].ca else ISSUING
    sound = with_extensions(lambda found: found, profile, ca, **more)
    assert codes(sound, PROFILES[profile], ca) == []
    assert code in codes(with_extensions(change, profile, ca, **more), PROFILES[profile], ca)


# Names and what the path above allows -----------------------------------------------------------------------------------


def a_ca_request(**changes: Any) -> dict[str, Any]:
    return {"subject": a_name("Lower"), "names": ()} | changes


LONG = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "a" * 65)])

NAMES: list[tuple[str, str, CA, dict[str, Any]]] = [
    ("rfc5280.subject_missing", "tls-client", ISSUING, {"subject": EMPTY_NAME, "names": ()}),
    ("rfc5280.subject_missing", "issuing-ca", ROOT, {"subject": EMPTY_NAME, "names": ()}),
    ("rfc5280.subject_malformed", "tls-client", ISSUING, {"subject": LONG, "names": ()}),
    ("spork.subject_is_issuer", "tls-client", ISSUING, {"subject": ISSUING.authority.subject, "names": ()}),
    ("rfc5280.name_syntax", "tls-server", ISSUING, {"names": (SubjectName(NameKind.DNS, "a_b.example"),)}),
    ("rfc5280.name_syntax", "tls-server", ISSUING, {"names": (SubjectName(NameKind.DNS, "a.*.example"),)}),
    ("spork.name_kind_not_of_profile", "tls-server", ISSUING, {"names": (SubjectName(NameKind.EMAIL, "a@example"),)}),
    ("spork.common_name_not_a_name", "tls-server", ISSUING, {"subject": a_name("other.example")}),
    ("rfc5280.name_constraints_violated", "tls-server", ISSUING, {"names": (dns("www.test"),)}),
    ("rfc5280.name_constraints_violated", "tls-server", ISSUING, {"names": (dns("www.secret.example"),)}),
    (
        "rfc5280.name_constraints_violated",
        "tls-client",
        ISSUING,
        {"subject": x509.Name.from_rfc4514_string("O=Else"), "names": ()},
    ),
    ("rfc5280.path_length_exhausted", "issuing-ca", ISSUING, a_ca_request(constraints=CAConstraints(path_length=0))),
    ("spork.path_length_beyond_issuer", "issuing-ca", POLICY, a_ca_request(constraints=CAConstraints(path_length=1))),
    ("spork.path_length_unstated", "issuing-ca", POLICY, a_ca_request(constraints=CAConstraints())),
    ("spork.extended_key_usage_beyond_issuer", "tls-client", SERVERS_ONLY, {"subject": a_name("x"), "names": ()}),
    (
        "spork.extended_key_usage_beyond_issuer",
        "issuing-ca",
        SERVERS_ONLY,
        a_ca_request(constraints=CAConstraints(path_length=0, extended_key_usage=("1.3.6.1.5.5.7.3.2",))),
    ),
]


@pytest.mark.parametrize(
    ("code", "profile", "ca", "request_"), NAMES, ids=[f"{case[0]}-{i}" for i, case in enumerate(NAMES)]
)
def test_a_wrong_name_or_limit_is_found(code: str, profile: str, ca: CA, request_: dict[str, Any]) -> None:
    assert code in codes(ca.tbs(profile, spki=SPKI, **request_), PROFILES[profile], ca)


def test_an_end_entity_without_usages_below_a_limited_ca_is_found() -> None:
    profile = replace(SERVER, extended_key_usage=())
    tbs = SERVERS_ONLY.tbs(profile, spki=SPKI)
    assert "spork.extended_key_usage_beyond_issuer" in codes(tbs, profile, SERVERS_ONLY)


def test_the_ocsp_responder_of_a_limited_ca_is_sound() -> None:
    tbs = SERVERS_ONLY.tbs("ocsp-signing", spki=SPKI, **a_request("ocsp-signing"))
    assert codes(tbs, PROFILES["ocsp-signing"], SERVERS_ONLY) == []


def test_a_ca_under_a_limited_path_is_sound_where_it_keeps_the_limit() -> None:
    tbs = POLICY.tbs("issuing-ca", spki=SPKI, **a_ca_request(constraints=CAConstraints(path_length=0)))
    assert codes(tbs, PROFILES["issuing-ca"], POLICY) == []


def test_the_limits_of_the_whole_path_count_not_only_those_of_the_issuer() -> None:
    top = ROOT.subordinate("Top", constraints=CAConstraints(path_length=1))
    middle = top.subordinate("Middle", constraints=CAConstraints(path_length=5))
    tbs = middle.tbs("issuing-ca", spki=SPKI, **a_ca_request(constraints=CAConstraints(path_length=0)))
    assert "rfc5280.path_length_exhausted" in codes(tbs, PROFILES["issuing-ca"], middle)


def test_a_commonname_that_repeats_a_name_is_sound() -> None:
    tbs = ISSUING.tbs(subject=a_name("www.example"), spki=SPKI)
    assert codes(tbs) == []


# The linter itself ------------------------------------------------------------------------------------------------------


def test_every_rule_has_a_certificate_that_breaks_it() -> None:
    broken = set(BODY) | {case[0] for case in EXTENSIONS} | {case[0] for case in NAMES}
    assert {rule.code for rule in RULES} <= broken


def test_codes_are_unique_and_name_their_source() -> None:
    all_codes = [rule.code for rule in RULES]
    assert len(set(all_codes)) == len(all_codes)
    assert all(
        code.partition(".")[0] in {"rfc5280", "rfc9881", "rfc8410", "rfc8813", "rfc6960", "rfc3161", "spork"}
        for code in all_codes
    )


def test_only_two_rules_are_warnings() -> None:
    assert {rule.code for rule in RULES if rule.severity == "warning"} == {
        "rfc5280.key_usage_not_critical",
        "spork.path_length_unstated",
    }


def test_several_faults_are_all_reported() -> None:
    tbs = rebuilt(fields(), serial_number=5, issuer=raw(a_name("x").public_bytes()))
    assert codes(tbs) == ["spork.serial_too_short", "rfc5280.issuer_name"]


@pytest.mark.parametrize("der", [b"", b"\x30\x00", b"\x30\x80", b"\x05\x00", bytes(100)])
def test_what_is_no_tbs_is_one_finding(der: bytes) -> None:
    found = lint_certificate(CertificateTBS(der), SERVER, ISSUING.authority)
    assert [(finding.code, finding.severity) for finding in found] == [(UNREADABLE, "error")]


def test_the_extensions_of_another_profile_are_found() -> None:
    tbs = ISSUING.tbs("tls-client", spki=SPKI, **a_request("tls-client"))
    assert "spork.extended_key_usage_not_of_profile" in codes(tbs, SERVER)


GOOD = ISSUING.tbs(spki=SPKI, subject=a_name("www.example")).der


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_mutated_tbs_leads_to_findings_and_nothing_worse(changes: list[tuple[int, int]]) -> None:
    mutated = bytearray(GOOD)
    for position, value in changes:
        mutated[position] = value
    found = lint_certificate(CertificateTBS(bytes(mutated)), SERVER, ISSUING.authority)
    assert all(isinstance(finding, Finding) for finding in found)


def test_lint_reads_the_octets_and_not_what_they_were_made_of() -> None:
    position = elements(GOOD)[5]
    assert b"www.example" in position
    assert "spork.common_name_not_a_name" in codes(
        CertificateTBS(GOOD.replace(position, position.replace(b"www", b"wwx")))
    )
