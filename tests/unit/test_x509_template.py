"""Certificates from profiles: what stands in them, against another library's builder, and as OpenSSL reads them."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from x509_world import ALGORITHM_NAMES, CA, NOW, URLS, a_name, a_request, a_root, a_signer

from spork.errors import Code, SporkError
from spork.keys.software import generate_private_key, pkcs8
from spork.x509.algorithms import algorithm_named, load_public_key
from spork.x509.authority import AuthorityURLs
from spork.x509.bounds import elements
from spork.x509.der import KeyPurpose
from spork.x509.names import EMPTY_NAME, dns
from spork.x509.profile import CAConstraints
from spork.x509.profiles import PROFILES
from spork.x509.spki import family_of, key_identifier

OID = x509.oid.ExtensionOID


@pytest.fixture(scope="module")
def root() -> CA:
    return a_root()


@pytest.fixture(scope="module")
def issuing(root: CA) -> CA:
    return root.subordinate()


def value(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> Any:
    return certificate.extensions.get_extension_for_class(kind).value


def oids(certificate: x509.Certificate) -> set[str]:
    return {extension.oid.dotted_string for extension in certificate.extensions}


# The body ---------------------------------------------------------------------------------------------------------------


def test_issuer_and_public_key_are_copied_octet_for_octet(issuing: CA) -> None:
    # A UTF8String where our own encoder would write another type, and blanks that a comparison would ignore.
    odd = bytes.fromhex("3013311130 0f06035504030c0841 2020 42206361 20".replace(" ", ""))
    authority = replace(issuing.authority, subject_der=odd)
    spki = a_signer(purpose=KeyPurpose.LEAF).spki
    fields = elements(CA(authority, issuing.signer).tbs(spki=spki).der)
    assert fields[3] == odd
    assert fields[6] == spki


def test_a_root_has_one_name_in_the_same_octets_twice(root: CA) -> None:
    fields = elements(root.certificate.tbs_certificate_bytes)
    assert fields[3] == fields[5] == root.authority.subject_der


@pytest.mark.parametrize(
    ("year", "tag"),
    [pytest.param(2049, 0x17, id="UTCTime in 2049"), pytest.param(2050, 0x18, id="GeneralizedTime in 2050")],
)
def test_dates_change_their_type_in_2050(root: CA, year: int, tag: int) -> None:
    end = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC) if year == 2049 else datetime(year, 1, 1, tzinfo=UTC)
    tbs = root.tbs("issuing-ca", subject=a_name("x"), names=(), not_after=end)
    not_before, not_after = elements(elements(tbs.der)[4])
    assert not_before[0] == 0x17
    assert not_after[0] == tag


def test_fractions_of_a_second_are_cut(issuing: CA) -> None:
    certificate = issuing.certify(not_before=NOW + timedelta(microseconds=900_000))
    assert certificate.not_valid_before_utc == NOW


def test_the_signature_algorithm_is_that_of_the_signer(issuing: CA) -> None:
    for name in ALGORITHM_NAMES:
        fields = elements(issuing.tbs(signature=algorithm_named(name)).der)
        assert fields[2] == algorithm_named(name).identifier


def test_a_key_of_an_unknown_kind_is_refused(issuing: CA) -> None:
    with pytest.raises(SporkError) as caught:
        issuing.tbs(spki=bytes.fromhex("3009300506032b656e0300"))
    assert caught.value.code is Code.BAD_PUBLIC_KEY


@pytest.mark.parametrize("spki", [b"\x30\x00", b"", b"\x04\x01\x00", b"\x30\x06\x30\x02\x05\x00\x03\x00"])
def test_a_broken_key_is_refused(spki: bytes) -> None:
    with pytest.raises(SporkError) as caught:
        family_of(spki)
    assert caught.value.code is Code.BAD_PUBLIC_KEY


# Extensions -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_key_identifiers_are_sha1_of_the_bit_string(algorithm: str, issuing: CA) -> None:
    spki = a_signer(algorithm, KeyPurpose.LEAF).spki
    expected = x509.SubjectKeyIdentifier.from_public_key(load_public_key(spki)).digest
    certificate = issuing.certify(spki=spki)
    assert value(certificate, x509.SubjectKeyIdentifier).digest == expected == key_identifier(spki)
    assert value(certificate, x509.AuthorityKeyIdentifier).key_identifier == issuing.authority.subject_key_identifier


def usages(certificate: x509.Certificate) -> set[str]:
    usage = value(certificate, x509.KeyUsage)
    names = ("digital_signature", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    return {name for name in names if getattr(usage, name)}


@pytest.mark.parametrize(
    ("profile", "algorithm", "expected"),
    [
        ("tls-server", "rsa-2048", {"digital_signature", "key_encipherment"}),
        ("tls-server", "ecdsa-p256", {"digital_signature"}),
        ("tls-server", "ed25519", {"digital_signature"}),
        ("tls-server", "ml-dsa-65", {"digital_signature"}),
        ("email", "rsa-2048", {"digital_signature", "key_encipherment"}),
        ("email", "ecdsa-p256", {"digital_signature", "key_agreement"}),
        ("email", "ml-dsa-65", {"digital_signature"}),
        ("tls-client", "rsa-2048", {"digital_signature"}),
        ("device", "rsa-2048", {"digital_signature", "key_encipherment"}),
        ("device", "ml-dsa-44", {"digital_signature"}),
        ("issuing-ca", "rsa-2048", {"key_cert_sign", "crl_sign"}),
        ("issuing-ca", "ml-dsa-87", {"key_cert_sign", "crl_sign"}),
    ],
)
def test_key_usage_depends_on_the_kind_of_key(profile: str, algorithm: str, expected: set[str], root: CA) -> None:
    certificate = root.certify(profile, **a_request(profile), spki=a_signer(algorithm, KeyPurpose.LEAF).spki)
    assert usages(certificate) == expected
    assert certificate.extensions.get_extension_for_class(x509.KeyUsage).critical


@pytest.mark.parametrize(
    ("profile", "purpose"),
    [
        ("tls-server", "1.3.6.1.5.5.7.3.1"),
        ("listener", "1.3.6.1.5.5.7.3.1"),
        ("tls-client", "1.3.6.1.5.5.7.3.2"),
        ("device", "1.3.6.1.5.5.7.3.2"),
        ("admin-superadmin", "1.3.6.1.5.5.7.3.2"),
        ("admin-admin", "1.3.6.1.5.5.7.3.2"),
        ("admin-operator", "1.3.6.1.5.5.7.3.2"),
        ("admin-viewer", "1.3.6.1.5.5.7.3.2"),
        ("code-signing", "1.3.6.1.5.5.7.3.3"),
        ("email", "1.3.6.1.5.5.7.3.4"),
        ("timestamping", "1.3.6.1.5.5.7.3.8"),
        ("ocsp-signing", "1.3.6.1.5.5.7.3.9"),
    ],
)
def test_each_profile_has_exactly_its_own_extended_key_usage(profile: str, purpose: str, issuing: CA) -> None:
    found = issuing.certify(profile, **a_request(profile)).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert [oid.dotted_string for oid in found.value] == [purpose]
    assert found.critical == (profile == "timestamping")


def test_an_ocsp_responder_has_no_check_and_no_revocation_urls(issuing: CA) -> None:
    certificate = issuing.certify("ocsp-signing", **a_request("ocsp-signing"))
    assert OID.OCSP_NO_CHECK.dotted_string in oids(certificate)
    assert OID.CRL_DISTRIBUTION_POINTS.dotted_string not in oids(certificate)
    methods = {d.access_method for d in value(certificate, x509.AuthorityInformationAccess)}
    assert methods == {x509.oid.AuthorityInformationAccessOID.CA_ISSUERS}


def test_a_root_carries_only_what_a_root_needs(root: CA) -> None:
    assert oids(root.certificate) == {
        OID.BASIC_CONSTRAINTS.dotted_string,
        OID.KEY_USAGE.dotted_string,
        OID.SUBJECT_KEY_IDENTIFIER.dotted_string,
    }


def test_a_root_may_limit_what_stands_below_it() -> None:
    constraints = CAConstraints(
        path_length=2,
        name_constraints=x509.NameConstraints([x509.DNSName("example")], None),
        extended_key_usage=("1.3.6.1.5.5.7.3.1",),
        policies=("1.2.3.4",),
    )
    certificate = a_root(constraints=constraints).certificate
    assert value(certificate, x509.BasicConstraints).path_length == 2
    assert value(certificate, x509.NameConstraints) == constraints.name_constraints
    assert [oid.dotted_string for oid in value(certificate, x509.ExtendedKeyUsage)] == ["1.3.6.1.5.5.7.3.1"]
    assert [p.policy_identifier.dotted_string for p in value(certificate, x509.CertificatePolicies)] == ["1.2.3.4"]


def test_a_ca_certificate_carries_its_constraints_critically(root: CA) -> None:
    limits = x509.NameConstraints([x509.DNSName("example")], [x509.DNSName("secret.example")])
    request = a_request("issuing-ca") | {"constraints": CAConstraints(path_length=0, name_constraints=limits)}
    certificate = root.certify("issuing-ca", **request)
    for kind in (x509.BasicConstraints, x509.NameConstraints, x509.KeyUsage):
        assert certificate.extensions.get_extension_for_class(kind).critical
    assert value(certificate, x509.BasicConstraints) == x509.BasicConstraints(ca=True, path_length=0)
    assert value(certificate, x509.NameConstraints) == limits
    policies = [p.policy_identifier.dotted_string for p in value(certificate, x509.CertificatePolicies)]
    assert policies == ["2.5.29.32.0"]


def test_the_constraints_of_a_ca_are_never_put_into_an_end_entity(issuing: CA) -> None:
    certificate = issuing.certify(constraints=CAConstraints(path_length=3))
    assert OID.BASIC_CONSTRAINTS.dotted_string not in oids(certificate)
    assert OID.CERTIFICATE_POLICIES.dotted_string not in oids(certificate)


def test_policies_of_profile_and_request_stand_together_once_each(issuing: CA) -> None:
    profile = replace(PROFILES["tls-server"], policies=("1.2.3", "1.2.4"))
    certificate = issuing.certify(profile, policies=("1.2.4", "1.2.5"))
    policies = [p.policy_identifier.dotted_string for p in value(certificate, x509.CertificatePolicies)]
    assert policies == ["1.2.3", "1.2.4", "1.2.5"]


@pytest.mark.parametrize("subject", [EMPTY_NAME, a_name("www.example")], ids=["without a subject", "with a subject"])
def test_the_alternative_names_are_critical_only_without_a_subject(subject: x509.Name, issuing: CA) -> None:
    found = issuing.certify(subject=subject).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert found.critical == (not subject.rdns)


def test_the_locations_are_those_of_the_issuer(issuing: CA) -> None:
    certificate = issuing.certify()
    points = value(certificate, x509.CRLDistributionPoints)
    assert [[name.value for name in point.full_name] for point in points] == [list(URLS.crl)]
    places = [
        (d.access_method._name, d.access_location.value) for d in value(certificate, x509.AuthorityInformationAccess)
    ]
    assert places == [("OCSP", URLS.ocsp[0]), ("caIssuers", URLS.ca_issuers[0])]
    assert OID.FRESHEST_CRL.dotted_string not in oids(certificate)


def with_urls(issuing: CA, urls: AuthorityURLs, shards: int = 1) -> CA:
    return CA(replace(issuing.authority, urls=urls, crl_shards=shards), issuing.signer)


def test_the_shard_of_the_serial_stands_in_the_urls(issuing: CA) -> None:
    urls = AuthorityURLs(crl=("http://x.example/{shard}.crl",), delta_crl=("http://x.example/{shard}/delta.crl",))
    ca = with_urls(issuing, urls, shards=8)
    for serial in range(1 << 126, (1 << 126) + 16):
        certificate = ca.certify(serial=serial)
        shard = ca.authority.shard_of(serial)
        assert value(certificate, x509.CRLDistributionPoints)[0].full_name[0].value == f"http://x.example/{shard}.crl"
        assert value(certificate, x509.FreshestCRL)[0].full_name[0].value == f"http://x.example/{shard}/delta.crl"


def test_a_ca_without_urls_leaves_the_extensions_out(issuing: CA) -> None:
    certificate = with_urls(issuing, AuthorityURLs()).certify()
    left_out = {OID.CRL_DISTRIBUTION_POINTS, OID.AUTHORITY_INFORMATION_ACCESS, OID.FRESHEST_CRL}
    assert oids(certificate).isdisjoint(oid.dotted_string for oid in left_out)


def test_two_authorities_do_not_share_what_is_cached(root: CA) -> None:
    first, second = root.subordinate("One"), root.subordinate("Two")
    second = with_urls(second, AuthorityURLs(ocsp=("http://two.example/",)))
    identifiers = {value(ca.certify(), x509.AuthorityKeyIdentifier).key_identifier for ca in (first, second)}
    assert len(identifiers) == 2
    places = {d.access_location.value for d in value(second.certify(), x509.AuthorityInformationAccess)}
    assert places == {"http://two.example/"}


# Against another library ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "root"])
@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "rsa-2048", "ml-dsa-44"])
def test_another_builder_makes_the_same_octets_from_the_same_values(profile: str, algorithm: str, issuing: CA) -> None:
    """Each extension is built anew from plain values by cryptography's own builder; order and octets must be the same."""
    signer = a_signer(algorithm, KeyPurpose.LEAF)
    request = a_request(profile)
    ours = issuing.certify(profile, **request, spki=signer.spki, serial=1 << 126)
    builder = (
        x509.CertificateBuilder()
        .serial_number(1 << 126)
        .issuer_name(issuing.authority.subject)
        .subject_name(request.get("subject", EMPTY_NAME))
        .not_valid_before(NOW - timedelta(minutes=1))
        .not_valid_after(request.get("not_after", NOW + timedelta(days=10)))
        .public_key(load_public_key(signer.spki))
    )
    for extension in ours.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    key = load_der_private_key(bytes(pkcs8(generate_private_key(algorithm_named("ecdsa-p256")))), None)
    theirs = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type] # made as an EC key just above
    assert ours.tbs_certificate_bytes == theirs.tbs_certificate_bytes


def test_tls_server_extension_for_extension(issuing: CA) -> None:
    """The most issued profile, written out by hand."""
    spki = a_signer("rsa-2048", KeyPurpose.LEAF).spki
    expected: list[tuple[x509.ExtensionType, bool]] = [
        (
            x509.KeyUsage(
                digital_signature=True, content_commitment=False, key_encipherment=True, data_encipherment=False,
                key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
            ),
            True,
        ),
        (x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(load_public_key(spki)), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            value(issuing.certificate, x509.SubjectKeyIdentifier)), False),
        (x509.SubjectAlternativeName([x509.DNSName("www.example")]), True),
        (x509.CRLDistributionPoints(
            [x509.DistributionPoint([x509.UniformResourceIdentifier(URLS.crl[0])], None, None, None)]), False),
        (x509.AuthorityInformationAccess([
            x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.OCSP,
                                   x509.UniformResourceIdentifier(URLS.ocsp[0])),
            x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.CA_ISSUERS,
                                   x509.UniformResourceIdentifier(URLS.ca_issuers[0])),
        ]), False),
    ]  # fmt: skip
    certificate = issuing.certify(spki=spki)
    assert [(extension.value, extension.critical) for extension in certificate.extensions] == expected


@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.parametrize("algorithm", [name for name in ALGORITHM_NAMES if not name.startswith("ml-dsa")])
def test_openssl_reads_every_profile_with_every_classical_key(
    profile: str, algorithm: str, root: CA, system_program: Any
) -> None:
    spki = a_signer(algorithm, KeyPurpose.LEAF).spki
    certificate = root.certificate if profile == "root" else root.certify(profile, **a_request(profile), spki=spki)
    command = [system_program("openssl"), "x509", "-inform", "DER", "-noout", "-text"]
    done = subprocess.run(command, input=certificate.public_bytes(Encoding.DER), capture_output=True, check=True)
    assert done.stderr == b""
    assert b"X509v3 Key Usage: critical" in done.stdout
    assert b"<Not Supported>" not in done.stdout
    assert b"error" not in done.stdout.lower()


def test_openssl_verifies_a_chain_of_every_classical_algorithm(tmp_path: Any, system_program: Any) -> None:
    for algorithm in ("rsa-2048", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519"):
        root = a_root(algorithm=algorithm)
        ca = root.subordinate(algorithm=algorithm)
        files = {"root": root.certificate, "ca": ca.certificate, "leaf": ca.certify()}
        for name, certificate in files.items():
            (tmp_path / name).write_bytes(certificate.public_bytes(Encoding.PEM))
        command = [system_program("openssl"), "verify", "-x509_strict", "-attime", str(int(NOW.timestamp()))]
        command += ["-purpose", "sslserver", "-CAfile", "root", "-untrusted", "ca", "leaf"]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout == b"leaf: OK\n"


def test_the_digest_of_a_tbs_does_not_depend_on_the_run(issuing: CA) -> None:
    """Equal inputs give equal octets: what was reserved is what is signed."""
    spki = a_signer(purpose=KeyPurpose.LEAF).spki
    digests = {hashlib.sha256(issuing.tbs(spki=spki, serial=1 << 126).der).digest() for _ in range(3)}
    assert len(digests) == 1
    assert asn1.decode_der(asn1.TLV, issuing.tbs(names=(dns("a.example"),)).der).tag_bytes == b"\x30"
