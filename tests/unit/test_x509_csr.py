"""PKCS#10 requests: what is read, what is refused and why, and what is built."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import subprocess
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from x509_world import ALGORITHM_NAMES, a_name, a_signer

from spork.errors import Code, SporkError
from spork.x509.algorithms import BY_NAME
from spork.x509.bounds import elements
from spork.x509.csr import build_csr, csr_from_pem, parse_csr
from spork.x509.der import CSRTBS, Extension, KeyPurpose, unwrap, wrap
from spork.x509.names import EMPTY_NAME, NameKind, SubjectName, dns, ip

KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NAMES = (
    dns("www.example"),
    dns("*.example"),
    ip("192.0.2.1"),
    SubjectName(NameKind.EMAIL, "Alice@mail.example"),
    SubjectName(NameKind.URI, "urn:example:7"),
    SubjectName(NameKind.DN, "CN=alice,O=Example"),
)


def a_builder(*names: x509.GeneralName, subject: x509.Name = EMPTY_NAME) -> x509.CertificateSigningRequestBuilder:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder


def signed(builder: x509.CertificateSigningRequestBuilder, key: Any = KEY, hash_: Any = None, **more: Any) -> bytes:
    """The request in DER; SHA-256 where the key wants a hash and none is given."""
    needs_hash = isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return builder.sign(key, hash_ or (hashes.SHA256() if needs_hash else None), **more).public_bytes(Encoding.DER)


def resigned(tbs: bytes, *, identifier: bytes | None = None) -> bytes:
    """Any octets as CertificationRequestInfo, with a right signature of KEY over them."""
    request = wrap(CSRTBS(tbs), BY_NAME["ecdsa-p256"], KEY.sign(tbs, ec.ECDSA(hashes.SHA256())))
    return request if identifier is None else request.replace(BY_NAME["ecdsa-p256"].identifier, identifier)


def der(tag: int, *contents: bytes) -> bytes:
    """One value with its length in the shortest form."""
    body = b"".join(contents)
    size = len(body).to_bytes(max(1, (len(body).bit_length() + 7) // 8), "big")
    return bytes([tag]) + (size if len(body) < 0x80 else bytes([0x80 | len(size)]) + size) + body


def refusal(request: bytes) -> SporkError:
    with pytest.raises(SporkError) as caught:
        parse_csr(request)
    return caught.value


# Reading ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
@pytest.mark.parametrize("subject", [EMPTY_NAME, a_name("www.example")], ids=["without a subject", "with a subject"])
def test_what_build_csr_wrote_is_read_with_every_algorithm(algorithm: str, subject: x509.Name) -> None:
    signer = a_signer(algorithm, KeyPurpose.LEAF)
    parsed = parse_csr(build_csr(subject, NAMES, signer))
    assert parsed.names == NAMES
    assert parsed.spki == signer.spki
    assert parsed.subject == subject
    assert parsed.common_name == ("www.example" if subject.rdns else None)


@pytest.mark.parametrize(
    ("key", "hash_"),
    [
        pytest.param(KEY, hashes.SHA256(), id="P-256 with SHA-256"),
        pytest.param(KEY, hashes.SHA512(), id="P-256 with SHA-512"),
        pytest.param(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256(), id="P-384 with SHA-256"),
        pytest.param(RSA_KEY, hashes.SHA256(), id="RSA with SHA-256"),
        pytest.param(RSA_KEY, hashes.SHA384(), id="RSA with SHA-384"),
        pytest.param(RSA_KEY, hashes.SHA512(), id="RSA with SHA-512"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), None, id="Ed25519"),
        pytest.param(mldsa.MLDSA65PrivateKey.generate(), None, id="ML-DSA-65"),
    ],
)
def test_requests_of_another_library_are_read(key: Any, hash_: Any) -> None:
    request = signed(a_builder(x509.DNSName("WWW.Example")), key, hash_)
    parsed = parse_csr(request)
    assert parsed.names == (dns("www.example"),)
    assert parsed.spki == key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert parsed.request.public_bytes(Encoding.DER) == request


def test_the_same_name_in_two_spellings_is_one_name() -> None:
    names = (x509.DNSName("b.example"), x509.DNSName("a.example"), x509.DNSName("B.EXAMPLE"))
    assert parse_csr(signed(a_builder(*names))).names == (dns("b.example"), dns("a.example"))


def test_a_request_without_names_or_attributes_is_read() -> None:
    parsed = parse_csr(signed(a_builder()))
    assert parsed.names == ()
    assert parsed.common_name is None
    assert list(parsed.extensions) == []


def test_a_challenge_password_is_kept_beside_the_extensions() -> None:
    builder = a_builder(x509.DNSName("a.example")).add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, b"secret")
    parsed = parse_csr(signed(builder))
    found = parsed.request.attributes.get_attribute_for_oid(x509.oid.AttributeOID.CHALLENGE_PASSWORD)
    assert found.value == b"secret"


def test_the_extensions_asked_for_are_all_there() -> None:
    builder = a_builder(x509.DNSName("a.example")).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    oids = {extension.oid for extension in parse_csr(signed(builder)).extensions}
    assert oids == {x509.SubjectAlternativeName.oid, x509.BasicConstraints.oid}


# PEM --------------------------------------------------------------------------------------------------------------------


def pem(request: bytes, label: str = "CERTIFICATE REQUEST") -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(request).decode()}-----END {label}-----\n"


@pytest.mark.parametrize("label", ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"])
def test_a_pem_request_is_read_with_text_around_it(label: str) -> None:
    text = "Subject: nobody\n" + pem(signed(a_builder(x509.DNSName("a.example"))), label)
    assert csr_from_pem(text).names == (dns("a.example"),)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("-----BEGIN CERTIFICATE REQUEST-----\nMIIB", id="no end"),
        pytest.param(pem(b"\x30\x00", "CERTIFICATE"), id="a certificate"),
        pytest.param(pem(b"\x30\x00") * 2, id="two requests"),
        pytest.param("-----BEGIN CERTIFICATE REQUEST-----\nA\n-----END CERTIFICATE REQUEST-----", id="broken base64"),
        pytest.param(pem(b"\x30\x00"), id="an empty request"),
        pytest.param("x" * 200_000, id="a large text"),
    ],
)
def test_a_pem_text_that_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(SporkError) as caught:
        csr_from_pem(text)
    assert caught.value.code is Code.BAD_CSR


# Size and encoding ------------------------------------------------------------------------------------------------------


def test_a_request_of_more_than_64_kib_is_refused_before_it_is_parsed() -> None:
    error = refusal(der(0x30, b"\x05\x00" * 20_000) + bytes(30_000))
    assert error.code is Code.BAD_CSR
    assert "octets" in error.detail


def test_a_deeply_nested_request_is_refused() -> None:
    value = b""
    for _ in range(1000):
        value = der(0x30, value)
    error = refusal(value)
    assert error.code is Code.BAD_CSR
    assert "nested" in error.detail


@pytest.mark.parametrize("cut", [0, 1, 2, 10, 50, -1])
def test_a_truncated_request_is_refused(cut: int) -> None:
    assert refusal(signed(a_builder(x509.DNSName("a.example")))[:cut]).code is Code.BAD_CSR


def test_octets_after_the_request_are_refused() -> None:
    assert refusal(signed(a_builder()) + b"\x00").code is Code.BAD_CSR


def test_a_certificate_in_place_of_a_request_is_refused() -> None:
    certificate = (
        x509.CertificateBuilder()
        .subject_name(EMPTY_NAME)
        .issuer_name(EMPTY_NAME)
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC))
        .sign(KEY, hashes.SHA256())
    )
    assert refusal(certificate.public_bytes(Encoding.DER)).code is Code.BAD_CSR


def test_a_request_of_version_two_is_refused() -> None:
    fields = elements(unwrap(signed(a_builder()))[0])
    error = refusal(resigned(der(0x30, b"\x02\x01\x01", *fields[1:])))
    assert error.code is Code.BAD_CSR


# Proof of possession ----------------------------------------------------------------------------------------------------


def test_a_changed_signature_is_refused() -> None:
    tbs, _, signature = unwrap(signed(a_builder(x509.DNSName("a.example")), ed25519.Ed25519PrivateKey.generate()))
    broken = bytes([signature[0] ^ 1]) + signature[1:]
    error = refusal(wrap(CSRTBS(tbs), BY_NAME["ed25519"], broken))
    assert error.code is Code.BAD_CSR
    assert "possession" in error.detail


def test_a_changed_name_is_refused() -> None:
    error = refusal(signed(a_builder(x509.DNSName("aaaa.example"))).replace(b"aaaa.example", b"bbbb.example"))
    assert error.code is Code.BAD_CSR
    assert "possession" in error.detail


def test_the_signature_of_another_key_is_refused() -> None:
    tbs, _, _ = unwrap(signed(a_builder(x509.DNSName("a.example")), ec.generate_private_key(ec.SECP256R1())))
    assert "possession" in refusal(resigned(tbs)).detail


def test_an_rsa_signature_with_sha1_is_refused_with_a_sentence() -> None:
    tbs, _, _ = unwrap(signed(a_builder(), RSA_KEY))
    identifier = bytes.fromhex("300d06092a864886f70d0101050500")
    signature = RSA_KEY.sign(tbs, padding.PKCS1v15(), hashes.SHA1())
    request = wrap(CSRTBS(tbs), BY_NAME["rsa-2048"], signature).replace(BY_NAME["rsa-2048"].identifier, identifier)
    error = refusal(request)
    assert error.code is Code.BAD_CSR
    assert "SHA-1" in error.detail


@pytest.mark.parametrize(
    ("identifier", "word"),
    [
        pytest.param("300d06092a864886f70d0101040500", "MD5", id="MD5 with RSA"),
        pytest.param("300906072a8648ce3d0401", "SHA-1", id="SHA-1 with ECDSA"),
        pytest.param("300d06092a864886f70d01010a3000", "unsupported", id="RSA-PSS"),
        pytest.param("300c06082a8648ce3d0403020500", "not a readable", id="ECDSA with a NULL"),
        pytest.param("300706052b0e03021a", "unsupported", id="a bare hash"),
        pytest.param("3000", "not a readable", id="no algorithm"),
    ],
)
def test_other_signature_algorithms_are_refused_with_a_sentence(identifier: str, word: str) -> None:
    tbs, _, _ = unwrap(signed(a_builder()))
    signature = KEY.sign(tbs, ec.ECDSA(hashes.SHA256()))
    request = der(0x30, tbs, bytes.fromhex(identifier), der(0x03, b"\x00", signature))
    error = refusal(request)
    assert error.code is Code.BAD_CSR
    assert word in error.detail


def test_a_signature_algorithm_of_another_family_is_refused() -> None:
    tbs, _, signature = unwrap(signed(a_builder()))
    assert "possession" in refusal(wrap(CSRTBS(tbs), BY_NAME["rsa-2048"], signature)).detail


def test_an_ml_dsa_signature_under_the_name_of_another_set_is_refused() -> None:
    tbs, _, signature = unwrap(signed(a_builder(), mldsa.MLDSA65PrivateKey.generate()))
    assert "possession" in refusal(wrap(CSRTBS(tbs), BY_NAME["ml-dsa-44"], signature)).detail


# Keys -------------------------------------------------------------------------------------------------------------------


def with_spki(spki: bytes) -> bytes:
    fields = elements(unwrap(signed(a_builder()))[0])
    return resigned(der(0x30, fields[0], fields[1], spki, fields[3]))


def test_a_point_off_the_curve_is_refused() -> None:
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert refusal(with_spki(spki[:-1] + bytes([spki[-1] ^ 1]))).code is Code.BAD_PUBLIC_KEY


def test_a_key_in_an_unusual_encoding_is_refused() -> None:
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    point = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    compressed = der(0x30, elements(spki)[0], der(0x03, b"\x00", point))
    assert refusal(with_spki(compressed)).code is Code.BAD_PUBLIC_KEY


def test_a_key_of_an_unknown_kind_is_refused() -> None:
    strange = der(0x30, der(0x30, bytes.fromhex("06032a0304")), der(0x03, b"\x00" * 33))
    assert refusal(with_spki(strange)).code is Code.BAD_PUBLIC_KEY


# Attributes and extensions ----------------------------------------------------------------------------------------------


def with_attributes(*attributes: bytes) -> bytes:
    fields = elements(unwrap(signed(a_builder()))[0])
    return resigned(der(0x30, *fields[:3], der(0xA0, *attributes)))


def an_extension_request(*extensions: bytes, oid: str = "06092a864886f70d01090e") -> bytes:
    return der(0x30, bytes.fromhex(oid), der(0x31, der(0x30, *extensions)))


def an_extension(value: x509.ExtensionType) -> bytes:
    return asn1.encode_der(Extension(oid=value.oid, critical=False, value=value.public_bytes()))


SAN = an_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]))
MICROSOFT = "060a2b060104018237020" + "10e"


def test_an_extension_request_made_by_hand_is_read() -> None:
    assert parse_csr(with_attributes(an_extension_request(SAN))).names == (dns("a.example"),)


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param((an_extension_request(SAN, SAN),), id="an extension twice"),
        pytest.param((an_extension_request(SAN), an_extension_request(SAN)), id="two extension requests"),
        pytest.param(
            (an_extension_request(SAN), an_extension_request(SAN, oid=MICROSOFT)),
            id="extensions in both kinds of attribute",
        ),
        pytest.param(
            (der(0x30, bytes.fromhex("06092a864886f70d010907"), der(0x31)),), id="an attribute without a value"
        ),
        pytest.param((an_extension_request(b"\x05\x00"),), id="an extension request that holds no extension"),
        pytest.param(
            (an_extension_request(der(0x30, bytes.fromhex("0603551d11"), b"\x04\x02\x30\x80")),), id="a broken SAN"
        ),
        pytest.param((b"\x05\x00",), id="an attribute that is none"),
    ],
)
def test_unusable_attributes_are_refused(attributes: tuple[bytes, ...]) -> None:
    assert refusal(with_attributes(*attributes)).code is Code.BAD_CSR


# Names ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word"),
    [
        pytest.param(
            x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01a"), "otherName", id="UPN"
        ),
        pytest.param(x509.RegisteredID(x509.ObjectIdentifier("1.2.3")), "registeredID", id="registeredID"),
        pytest.param(x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")), "network", id="a network"),
        pytest.param(x509.DNSName("evil.example\0.good.example"), "control", id="a NUL inside"),
        pytest.param(x509.DNSName("a.example."), "dot", id="a dot at the end"),
        pytest.param(x509.DNSName("a..example"), "empty label", id="an empty label"),
        pytest.param(x509.DNSName(""), "empty", id="an empty name"),
        pytest.param(x509.DNSName("a.*.example"), "wildcard", id="an inner wildcard"),
        pytest.param(x509.DNSName("a_b.example"), "hyphens", id="an underscore"),
        pytest.param(x509.DNSName("192.0.2.1"), "number", id="an address as a DNS name"),
        pytest.param(x509.RFC822Name("nobody"), "no @", id="a mailbox without a host"),
        pytest.param(x509.UniformResourceIdentifier("relative/path"), "absolute", id="a relative URI"),
    ],
)
def test_a_name_that_cannot_be_issued_is_refused_by_its_kind_or_fault(name: x509.GeneralName, word: str) -> None:
    error = refusal(signed(a_builder(x509.DNSName("good.example"), name)))
    assert error.code is Code.BAD_CSR
    assert word in error.detail


def test_a_dns_name_outside_ascii_is_refused() -> None:
    value = der(0x30, der(0x82, "bücher.example".encode()))
    request = an_extension_request(der(0x30, bytes.fromhex("0603551d11"), der(0x04, value)))
    assert refusal(with_attributes(request)).code is Code.BAD_CSR


@pytest.mark.parametrize("tag", [0xA3, 0xA5], ids=["x400Address", "ediPartyName"])
def test_the_kinds_of_name_that_nobody_reads_are_refused(tag: int) -> None:
    request = an_extension_request(der(0x30, bytes.fromhex("0603551d11"), der(0x04, der(0x30, der(tag, b"\x05\x00")))))
    assert refusal(with_attributes(request)).code is Code.BAD_CSR


def test_a_control_character_in_the_subject_is_refused() -> None:
    error = refusal(signed(a_builder(subject=a_name("good.example\0evil"))))
    assert error.code is Code.BAD_CSR
    assert "control" in error.detail


def test_an_organization_of_65_characters_is_refused() -> None:
    organization = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "a" * 65)
    error = refusal(signed(a_builder(subject=x509.Name([organization]))))
    assert error.code is Code.BAD_CSR
    assert "64" in error.detail


def test_a_country_of_three_letters_is_refused() -> None:
    fields = elements(unwrap(signed(a_builder()))[0])
    subject = der(0x30, der(0x31, der(0x30, bytes.fromhex("0603550406"), der(0x13, b"DEU"))))
    assert refusal(resigned(der(0x30, fields[0], subject, *fields[2:]))).code is Code.BAD_CSR


# Building ---------------------------------------------------------------------------------------------------------------


def test_the_names_are_critical_only_without_a_subject() -> None:
    signer = a_signer(purpose=KeyPurpose.LEAF)
    for subject in (EMPTY_NAME, a_name("a.example")):
        extensions = parse_csr(build_csr(subject, (dns("a.example"),), signer)).extensions
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert found.critical == (not subject.rdns)


def test_an_offline_ca_can_ask_for_its_own_extensions() -> None:
    basic = x509.BasicConstraints(ca=True, path_length=0)
    wanted = Extension(oid=basic.oid, critical=True, value=basic.public_bytes())
    parsed = parse_csr(build_csr(a_name("Offline CA"), (), a_signer("ml-dsa-87"), (wanted,)))
    assert parsed.extensions.get_extension_for_class(x509.BasicConstraints).value == basic


def test_a_request_without_extensions_has_no_extension_request() -> None:
    parsed = parse_csr(build_csr(a_name("x"), (), a_signer(purpose=KeyPurpose.LEAF)))
    assert list(parsed.request.attributes) == []


def test_build_csr_writes_what_another_library_writes() -> None:
    signer = a_signer(purpose=KeyPurpose.LEAF)
    ours = parse_csr(build_csr(a_name("a.example"), (dns("a.example"),), signer)).request
    theirs = a_builder(x509.DNSName("a.example"), subject=a_name("a.example")).sign(KEY, hashes.SHA256())
    mine, other = elements(ours.tbs_certrequest_bytes), elements(theirs.tbs_certrequest_bytes)
    # Only the keys differ.
    assert [mine[i] for i in (0, 1, 3)] == [other[i] for i in (0, 1, 3)]


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHM_NAMES if not name.startswith("ml-dsa")])
def test_openssl_verifies_our_requests(algorithm: str, system_program: Any) -> None:
    request = build_csr(a_name("a.example"), NAMES, a_signer(algorithm, KeyPurpose.LEAF))
    command = [system_program("openssl"), "req", "-inform", "DER", "-verify", "-noout", "-text"]
    done = subprocess.run(command, input=request, capture_output=True, check=True)
    assert b"verify OK" in done.stdout + done.stderr
    assert b"DNS:www.example" in done.stdout


# Anything at all --------------------------------------------------------------------------------------------------------

GOOD = signed(
    a_builder(
        x509.DNSName("a.example"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
        x509.DirectoryName(a_name("x")),
        subject=a_name("a.example", country_name="DE"),
    )
)
GOOD_TBS = unwrap(GOOD)[0]


def outcome(request: bytes) -> Code | None:
    """The code of the refusal, or None where the request was read."""
    try:
        parse_csr(request)
    except SporkError as error:
        return error.code
    return None


PROPER = (None, Code.BAD_CSR, Code.BAD_PUBLIC_KEY)


@given(st.binary(max_size=300))
def test_random_octets_are_refused_and_nothing_worse(value: bytes) -> None:
    assert outcome(value) in PROPER


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(GOOD_TBS) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_mutated_request_with_a_right_signature_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    mutated = bytearray(GOOD_TBS)
    for position, value in changes:
        mutated[position] = value
    signature = KEY.sign(bytes(mutated), ec.ECDSA(hashes.SHA256()))
    assert outcome(der(0x30, bytes(mutated), BY_NAME["ecdsa-p256"].identifier, der(0x03, b"\x00", signature))) in PROPER


@given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.binary(max_size=8))
def test_a_request_with_a_piece_replaced_is_read_or_refused(start: int, end: int, piece: bytes) -> None:
    assert outcome(GOOD[: min(start, end)] + piece + GOOD[max(start, end) :]) in PROPER
