"""Certificate revocation lists, judged by cryptography's own reader."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from spork.errors import Code, SporkError
from spork.x509.algorithms import BY_NAME
from spork.x509.crl import (
    CRLHeader,
    RevokedEntry,
    assemble,
    build_tbs,
    encode_entries,
    entries_of,
    read_crl,
    verify_crl,
)
from spork.x509.der import wrap

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def a_header(**changes: object) -> CRLHeader:
    fields: dict[str, object] = {
        "issuer_der": x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")]).public_bytes(),
        "signature": BY_NAME["ecdsa-p256"].identifier,
        "authority_key_identifier": b"k" * 20,
        "number": 5,
        "this_update": NOW,
        "next_update": NOW + timedelta(days=7),
    }
    return CRLHeader(**(fields | changes))  # type: ignore[arg-type]


def a_list(header: CRLHeader, entries: list[RevokedEntry]) -> bytes:
    tbs = build_tbs(header, encode_entries(entries))
    return wrap(tbs, BY_NAME["ecdsa-p256"], KEY.sign(tbs.der, ec.ECDSA(hashes.SHA256())))


def test_an_empty_list_has_no_revoked_certificates_field() -> None:
    der = a_list(a_header(), [])
    crl = x509.load_der_x509_crl(der)

    assert len(crl) == 0
    # The TBS goes from nextUpdate straight to the extensions: no empty SEQUENCE between them.
    assert b"\x30\x00" not in crl.tbs_certlist_bytes


def test_entries_are_read_back_with_reason_and_invalidity_date() -> None:
    entries = [
        RevokedEntry(1, NOW, 0),
        RevokedEntry(2**126 + 1, NOW, 1, NOW - timedelta(days=3)),
        RevokedEntry(3, NOW, 6),
    ]
    crl = x509.load_der_x509_crl(a_list(a_header(), entries))

    assert list(entries_of(crl)) == entries


def test_an_unspecified_reason_gives_no_extension() -> None:
    crl = x509.load_der_x509_crl(a_list(a_header(), [RevokedEntry(1, NOW, 0)]))

    assert len(crl[0].extensions) == 0


def test_extensions_of_a_base_list() -> None:
    header = a_header(distribution_points=("http://a.test/1.crl",), freshest=("http://a.test/1/delta.crl",))
    crl = x509.load_der_x509_crl(a_list(header, []))

    points = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    freshest = crl.extensions.get_extension_for_class(x509.FreshestCRL)
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 5
    assert crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == b"k" * 20
    assert points.critical
    assert points.value.full_name == [x509.UniformResourceIdentifier("http://a.test/1.crl")]
    assert not freshest.critical
    # DEFAULT FALSE fields are left out: the value is the distribution point alone.
    assert points.value.public_bytes().endswith(b"http://a.test/1.crl")


def test_a_delta_says_critically_which_base_it_changes() -> None:
    read = read_crl(a_list(a_header(base_number=3), [RevokedEntry(9, NOW, 8)]))

    assert (read.number, read.base_number) == (5, 3)
    assert read.crl.extensions.get_extension_for_class(x509.DeltaCRLIndicator).critical
    assert next(iter(entries_of(read.crl))).reason == 8


@pytest.mark.parametrize(
    ("year", "tag"), [pytest.param(2049, 0x17, id="UTCTime"), pytest.param(2050, 0x18, id="GeneralizedTime")]
)
def test_times_change_their_form_in_2050(year: int, tag: int) -> None:
    next_update = datetime(year, 6, 1, tzinfo=UTC)
    der = a_list(a_header(next_update=next_update), [])

    assert x509.load_der_x509_crl(der).next_update_utc == next_update
    text = next_update.strftime("%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ").encode()
    assert bytes((tag, len(text))) + text in der


def test_issuer_octets_are_copied_as_they_are() -> None:
    # A PrintableString that a library would write as UTF8String.
    subject = bytes.fromhex("300d310b3009060355040313024341")

    assert subject in a_list(a_header(issuer_der=subject), [])


def test_batches_join_to_the_same_octets() -> None:
    entries = [RevokedEntry(serial, NOW, serial % 5) for serial in range(1, 300)]

    assert encode_entries(entries) == encode_entries(entries[:120]) + encode_entries(entries[120:])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"number": -1}, "number", id="a negative number"),
        pytest.param({"number": 1 << 160}, "number", id="a number of 21 octets"),
        pytest.param({"next_update": NOW}, "nextUpdate", id="no time between the updates"),
        pytest.param({"base_number": 5}, "base", id="a delta on itself"),
        pytest.param({"base_number": 3, "freshest": ("http://a/d",)}, "freshestCRL", id="a delta with freshestCRL"),
    ],
)
def test_headers_that_break_the_standard_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build_tbs(a_header(**changes), b"")


@pytest.mark.parametrize(
    "entry", [RevokedEntry(1, NOW, 7), RevokedEntry(0, NOW), RevokedEntry(-3, NOW), RevokedEntry(1, NOW, 11)]
)
def test_entries_that_break_the_standard_are_refused(entry: RevokedEntry) -> None:
    with pytest.raises(ValueError, match=r"reason|CRLReason|positive"):
        encode_entries([entry])


def test_a_list_verifies_under_its_key_only() -> None:
    der = a_list(a_header(), [RevokedEntry(1, NOW)])
    other = ec.generate_private_key(ec.SECP256R1()).public_key()

    assert verify_crl(der, SPKI).name == "ecdsa-p256"
    with pytest.raises(SporkError) as refused:
        verify_crl(der, other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert refused.value.code is Code.BAD_SIGNATURE


def test_a_changed_list_does_not_verify() -> None:
    der = a_list(a_header(), [RevokedEntry(0x4242, NOW)])

    with pytest.raises(SporkError):
        verify_crl(der.replace(b"\x42\x42", b"\x42\x43"), SPKI)


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"-----BEGIN X509 CRL-----\n", b"hello"])
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(SporkError) as refused:
        read_crl(data)

    assert refused.value.code is Code.MALFORMED


@given(st.lists(st.tuples(st.integers(1, 2**159), st.sampled_from([0, 1, 2, 3, 4, 5, 6, 8, 9, 10])), max_size=20))
def test_any_entries_survive_the_round_trip(pairs: list[tuple[int, int]]) -> None:
    entries = [RevokedEntry(serial, NOW, reason) for serial, reason in pairs]

    assert list(entries_of(x509.load_der_x509_crl(a_list(a_header(), entries)))) == entries


@given(st.binary(max_size=300))
def test_octets_that_are_no_list_cannot_be_assembled(octets: bytes) -> None:
    with pytest.raises(SporkError) as refused:
        assemble(octets, b"signature")
    assert refused.value.code is Code.MALFORMED
