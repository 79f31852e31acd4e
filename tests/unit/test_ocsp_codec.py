"""OCSP requests and responses, judged by cryptography's own readers and by generated input."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp as oracle
from hypothesis import given
from hypothesis import strategies as st

from spork.errors import Code, SporkError
from spork.x509.algorithms import BY_NAME
from spork.x509.ocsp import MAX_CERTIFICATES, MAX_REQUEST_OCTETS, build_request, issuer_hashes, parse_request
from spork.x509.ocspresponse import (
    CertStatus,
    ResponseStatus,
    SingleStatus,
    build_response_data,
    error_response,
    wrap_response,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Issuer")])
CERTIFICATE = (
    x509.CertificateBuilder()
    .subject_name(NAME)
    .issuer_name(NAME)
    .public_key(KEY.public_key())
    .serial_number(7)
    .not_valid_before(NOW)
    .not_valid_after(NOW + timedelta(days=1))
    .sign(KEY, hashes.SHA256())
)
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
SUBJECT = NAME.public_bytes()


def an_oracle_request(hash_algorithm: hashes.HashAlgorithm, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
    builder = oracle.OCSPRequestBuilder().add_certificate(CERTIFICATE, CERTIFICATE, hash_algorithm)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.build().public_bytes(Encoding.DER)


def a_response(statuses: list[SingleStatus], nonce: bytes | None = None) -> oracle.OCSPResponse:
    tbs = build_response_data(
        SPKI, statuses, produced_at=NOW, this_update=NOW, next_update=NOW + timedelta(hours=1), nonce=nonce
    )
    signature = KEY.sign(tbs.der, ec.ECDSA(hashes.SHA256()))
    der = wrap_response(tbs, BY_NAME["ecdsa-p256"], signature, CERTIFICATE.public_bytes(Encoding.DER))
    return oracle.load_der_ocsp_response(der)


def a_cert_id(serial: int = 7) -> bytes:
    return parse_request(build_request(SUBJECT, SPKI, [serial], "sha1", None)).certificates[0].der


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_a_request_of_another_implementation_is_read_with_every_hash(algorithm: hashes.HashAlgorithm) -> None:
    request = parse_request(an_oracle_request(algorithm))

    (cert_id,) = request.certificates
    expected = issuer_hashes(SUBJECT, SPKI, algorithm.name)
    assert (cert_id.hash_name, cert_id.serial) == (algorithm.name, 7)
    assert (cert_id.issuer_name_hash, cert_id.issuer_key_hash) == expected
    assert request.nonce is None


@pytest.mark.parametrize("hash_name", ["sha1", "sha256", "sha384", "sha512"])
def test_our_request_is_read_by_another_implementation(hash_name: str) -> None:
    request = oracle.load_der_ocsp_request(build_request(SUBJECT, SPKI, [99], hash_name, b"n" * 32))

    assert request.serial_number == 99
    assert request.hash_algorithm.name == hash_name
    assert (request.issuer_name_hash, request.issuer_key_hash) == issuer_hashes(SUBJECT, SPKI, hash_name)
    assert request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32


def test_several_certificates_keep_their_order() -> None:
    request = parse_request(build_request(SUBJECT, SPKI, [5, 3, 9], "sha256", None))

    assert [cert_id.serial for cert_id in request.certificates] == [5, 3, 9]


def test_a_key_that_cannot_be_read_gives_no_hashes() -> None:
    with pytest.raises(SporkError) as caught:
        issuer_hashes(b"", b"\x30\x00", "sha1")
    assert caught.value.code is Code.BAD_PUBLIC_KEY


def test_hash_parameters_come_back_as_they_came_in() -> None:
    with_null = an_oracle_request(hashes.SHA1())
    absent = with_null.replace(bytes.fromhex("300906052b0e03021a0500"), bytes.fromhex("300706052b0e03021a"))
    lengths = bytearray(absent)
    for position in (1, 3, 5, 7, 9):
        lengths[position] -= 2

    first, second = parse_request(with_null).certificates[0], parse_request(bytes(lengths)).certificates[0]

    assert first.hash_name == second.hash_name == "sha1"
    assert first.der != second.der
    assert second.der in bytes(lengths)


@pytest.mark.parametrize("octets", [1, 32, 128])
def test_nonces_of_allowed_length_are_read(octets: int) -> None:
    request = parse_request(an_oracle_request(hashes.SHA1(), (x509.OCSPNonce(b"x" * octets), False)))

    assert request.nonce == b"x" * octets


@pytest.mark.parametrize("octets", [0, 129, 1000])
def test_nonces_of_other_lengths_are_refused(octets: int) -> None:
    with pytest.raises(SporkError, match="nonce") as refused:
        parse_request(an_oracle_request(hashes.SHA1(), (x509.OCSPNonce(b"x" * octets), False)))

    assert refused.value.code is Code.MALFORMED


def test_a_nonce_that_is_no_octet_string_is_refused() -> None:
    raw_nonce = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.2"), b"raw")

    with pytest.raises(SporkError):
        parse_request(an_oracle_request(hashes.SHA1(), (raw_nonce, False)))


@pytest.mark.parametrize("critical", [True, False])
def test_an_unknown_extension_is_refused_only_if_critical(critical: bool) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    request = an_oracle_request(hashes.SHA1(), (unknown, critical))

    if critical:
        with pytest.raises(SporkError, match="critical"):
            parse_request(request)
    else:
        assert parse_request(request).nonce is None


def test_a_client_that_takes_no_basic_response_is_refused() -> None:
    other = x509.OCSPAcceptableResponses([x509.ObjectIdentifier("1.2.3")])

    with pytest.raises(SporkError, match="basic"):
        parse_request(an_oracle_request(hashes.SHA1(), (other, False)))


def test_preferred_signature_algorithms_may_be_critical() -> None:
    preference = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.8"), b"\x30\x00")

    assert parse_request(an_oracle_request(hashes.SHA1(), (preference, True))).nonce is None


def test_an_unknown_hash_algorithm_is_kept_without_a_name() -> None:
    request = an_oracle_request(hashes.SHA1()).replace(
        bytes.fromhex("06052b0e03021a"), bytes.fromhex("06052b0e030299"[:-2] + "1d")
    )

    assert parse_request(request).certificates[0].hash_name is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x30\x00", id="an empty sequence"),
        pytest.param(bytes.fromhex("30023000"), id="an empty TBSRequest"),
        pytest.param(bytes.fromhex("300430023000"), id="an empty requestList"),
        pytest.param(bytes.fromhex("30063004300230ff"), id="a length beyond the end"),
        pytest.param(b"\x30\x80\x00\x00", id="an indefinite length"),
        pytest.param(b"\x30\x84" * 5000, id="nested lengths"),
        pytest.param(an_oracle_request(hashes.SHA1()) + b"\x00", id="octets after the end"),
        pytest.param(an_oracle_request(hashes.SHA1())[:-1], id="cut short"),
        pytest.param(build_request(SUBJECT, SPKI, range(1, MAX_CERTIFICATES + 2), "sha1", None), id="too many"),
    ],
)
def test_what_is_no_request_is_refused_as_malformed(data: bytes) -> None:
    with pytest.raises(SporkError) as refused:
        parse_request(data)

    assert refused.value.code is Code.MALFORMED


def test_a_request_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(SporkError) as refused:
        parse_request(b"\x30" * (MAX_REQUEST_OCTETS + 1))

    assert refused.value.code is Code.TOO_LARGE


def test_deep_nesting_is_refused() -> None:
    nested = b"\x05\x00"
    for _ in range(200):
        length = len(nested)
        nested = b"\x30" + (bytes((length,)) if length < 128 else b"\x82" + length.to_bytes(2, "big")) + nested
        if length > 250:
            break
    with pytest.raises(SporkError):
        parse_request(nested)


@given(st.binary(max_size=200))
def test_any_octets_are_either_read_or_refused(data: bytes) -> None:
    try:
        parse_request(data)
    except SporkError as refused:
        assert refused.code is Code.MALFORMED  # noqa: PT017 - most inputs raise, some may not


@given(st.data())
def test_a_damaged_request_is_either_read_or_refused(data: st.DataObject) -> None:
    request = bytearray(an_oracle_request(hashes.SHA256(), (x509.OCSPNonce(b"x" * 16), False)))
    for _ in range(data.draw(st.integers(1, 4))):
        request[data.draw(st.integers(0, len(request) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_request(bytes(request))
    except SporkError as refused:
        assert refused.code is Code.MALFORMED  # noqa: PT017


def test_good_is_read_back() -> None:
    response = a_response([SingleStatus(a_cert_id(), CertStatus.good)], nonce=b"n" * 16)

    assert response.response_status is oracle.OCSPResponseStatus.SUCCESSFUL
    assert response.certificate_status is oracle.OCSPCertStatus.GOOD
    assert response.serial_number == 7
    assert (response.this_update_utc, response.next_update_utc) == (NOW, NOW + timedelta(hours=1))
    assert response.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()).digest
    assert response.certificates == [CERTIFICATE]
    assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 16


def test_revoked_carries_time_and_reason() -> None:
    status = SingleStatus(a_cert_id(), CertStatus.revoked, NOW - timedelta(days=1), reason=6)
    response = a_response([status])

    assert response.revocation_time_utc == NOW - timedelta(days=1)
    assert response.revocation_reason is x509.ReasonFlags.certificate_hold


def test_an_unspecified_reason_is_left_out() -> None:
    response = a_response([SingleStatus(a_cert_id(), CertStatus.revoked, NOW)])

    assert response.certificate_status is oracle.OCSPCertStatus.REVOKED
    assert response.revocation_reason is None


def test_revoked_without_a_time_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="revocation time"):
        a_response([SingleStatus(a_cert_id(), CertStatus.revoked)])


def test_each_certificate_gets_its_own_answer_in_order() -> None:
    response = a_response(
        [
            SingleStatus(a_cert_id(1), CertStatus.unknown),
            SingleStatus(a_cert_id(2), CertStatus.good, archive_cutoff=NOW - timedelta(days=900)),
            SingleStatus(a_cert_id(3), CertStatus.revoked, NOW, reason=1),
        ]
    )
    found = [(single.serial_number, single.certificate_status.name) for single in response.responses]

    assert found == [(1, "UNKNOWN"), (2, "GOOD"), (3, "REVOKED")]


@pytest.mark.parametrize("status", [s for s in ResponseStatus if s is not ResponseStatus.successful])
def test_error_responses_are_unsigned_and_readable(status: ResponseStatus) -> None:
    response = oracle.load_der_ocsp_response(error_response(status))

    assert response.response_status.value == status.value
