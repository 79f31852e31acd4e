"""Path validation: good paths with every algorithm, and one test for each way in which a path can be bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from hypothesis import given
from hypothesis import strategies as st
from x509_world import ALGORITHM_NAMES, CA, NOW, a_name, a_request, a_root, a_signer

from spork.errors import Code, SporkError
from spork.ids import new_serial
from spork.x509.algorithms import BY_NAME
from spork.x509.authority import Authority
from spork.x509.bounds import elements
from spork.x509.chain import MAX_LENGTH, leaf_policies, verify_chain
from spork.x509.der import CertificateTBS, KeyPurpose, TBSCertificate, sign, unwrap, wrap
from spork.x509.names import NameKind, SubjectName, dns, ip
from spork.x509.profile import CAConstraints
from spork.x509.profiles import CLIENT_AUTH, PROFILES, SERVER_AUTH
from spork.x509.spki import key_identifier

SHA256 = hashes.SHA256()
ANY_POLICY = "2.5.29.32.0"


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def refused(
    leaf: x509.Certificate | bytes,
    intermediates: Sequence[x509.Certificate | bytes],
    anchors: Sequence[x509.Certificate | bytes],
    at: datetime = NOW,
    **more: Any,
) -> str:
    """The detail of the refusal."""
    with pytest.raises(SporkError) as caught:
        verify_chain(leaf if isinstance(leaf, bytes) else der(leaf), intermediates, anchors, at, **more)
    assert caught.value.code is Code.UNAUTHENTICATED
    return caught.value.detail


@pytest.fixture(scope="module")
def root() -> CA:
    return a_root()


@pytest.fixture(scope="module")
def issuing(root: CA) -> CA:
    return root.subordinate()


# Certificates that no template would make: built by another library ------------------------------------------------------


class Raw:
    """A CA or end entity of any shape: its key, and its certificate made by cryptography's builder."""

    def __init__(
        self,
        name: str,
        issuer: Raw | None = None,
        *,
        key: Any = None,
        subject: x509.Name | None = None,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        ca: bool = True,
        path_length: int | None = None,
        days: tuple[float, float] = (-1, 100),
        hash_: Any = SHA256,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = subject or a_name(name)
        parent = issuer or self
        builder = (
            x509.CertificateBuilder()
            .serial_number(new_serial())
            .issuer_name(parent.name)
            .subject_name(self.name)
            .not_valid_before(NOW + timedelta(days=days[0]))
            .not_valid_after(NOW + timedelta(days=days[1]))
            .public_key(self.key.public_key())
        )
        basic = x509.BasicConstraints(ca=ca, path_length=path_length if ca else None)
        for value, critical in ((basic, True), *extensions):
            builder = builder.add_extension(value, critical=critical)
        self.certificate = builder.sign(parent.key, hash_)


def a_usage(**bits: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names})


def a_leaf(issuer: Raw, *extensions: tuple[x509.ExtensionType, bool], **more: Any) -> x509.Certificate:
    return Raw("Leaf", issuer, ca=False, extensions=extensions, **more).certificate


# Good paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_a_path_of_each_algorithm_is_valid(algorithm: str) -> None:
    root = a_root(algorithm=algorithm)
    policy = root.subordinate("Policy", algorithm="ecdsa-p256", constraints=CAConstraints(path_length=1))
    issuing = policy.subordinate("Issuing", algorithm=algorithm)
    leaf = issuing.certify()
    path = verify_chain(der(leaf), [issuing.certificate, policy.certificate], [root.certificate], NOW)
    assert path == [leaf, issuing.certificate, policy.certificate, root.certificate]


def test_certificates_may_be_given_as_octets_and_in_any_order(root: CA) -> None:
    policy = root.subordinate("Policy", constraints=CAConstraints(path_length=1))
    issuing = policy.subordinate("Issuing")
    others = [a_root("Another").certificate, der(policy.certificate), der(issuing.certificate)]
    path = verify_chain(der(issuing.certify()), others, [a_root("Third").certificate, der(root.certificate)], NOW)
    assert len(path) == 4


def test_the_path_below_an_intermediate_anchor_ends_there(root: CA, issuing: CA) -> None:
    leaf = issuing.certify()
    assert verify_chain(der(leaf), [root.certificate], [issuing.certificate], NOW) == [leaf, issuing.certificate]


def test_an_anchor_is_a_path_by_itself(root: CA) -> None:
    assert verify_chain(der(root.certificate), [], [root.certificate], NOW) == [root.certificate]


def test_a_ca_certificate_can_be_the_end_of_a_path(root: CA, issuing: CA) -> None:
    assert len(verify_chain(der(issuing.certificate), [], [root.certificate], NOW)) == 2


def test_both_ends_of_the_validity_are_inside(issuing: CA) -> None:
    leaf = issuing.certify()
    for instant in (
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
        leaf.not_valid_after_utc + timedelta(microseconds=9),
    ):
        assert verify_chain(der(leaf), [], [issuing.certificate], instant)


def test_a_cross_certificate_leads_to_the_other_root(root: CA, issuing: CA) -> None:
    other = a_root("Other root")
    request = {"subject": issuing.authority.subject, "names": (), "spki": issuing.authority.spki}
    cross = other.certify("cross", **request, not_after=NOW + timedelta(days=50))
    leaf = issuing.certify()
    assert verify_chain(der(leaf), [issuing.certificate, cross], [other.certificate], NOW) == [
        leaf,
        cross,
        other.certificate,
    ]
    assert verify_chain(der(leaf), [issuing.certificate, cross], [root.certificate], NOW)[1] == issuing.certificate


def test_of_two_certificates_of_one_ca_the_valid_one_is_found(root: CA, issuing: CA) -> None:
    request = {"subject": issuing.authority.subject, "names": (), "spki": issuing.authority.spki}
    expired = root.certify(
        "issuing-ca", **request, not_before=NOW - timedelta(days=9), not_after=NOW - timedelta(days=1)
    )
    leaf = issuing.certify()
    path = verify_chain(der(leaf), [expired, issuing.certificate], [root.certificate], NOW)
    assert path[1] == issuing.certificate


def test_of_two_keys_of_one_name_the_key_identifier_selects(root: CA) -> None:
    old, new = root.subordinate("Same name"), root.subordinate("Same name")
    path = verify_chain(der(new.certify()), [old.certificate, new.certificate], [root.certificate], NOW)
    assert path[1] == new.certificate


def test_a_longest_path_is_valid() -> None:
    chain = [Raw("CA 0")]
    for number in range(1, MAX_LENGTH - 1):
        chain.append(Raw(f"CA {number}", chain[-1]))
    path = verify_chain(der(a_leaf(chain[-1])), [ca.certificate for ca in chain[1:]], [chain[0].certificate], NOW)
    assert len(path) == MAX_LENGTH


@pytest.mark.parametrize("hash_", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_rsa_signatures_with_each_sha2_hash_are_valid(hash_: Any) -> None:
    root = Raw("RSA root", key=rsa.generate_private_key(public_exponent=65537, key_size=2048), hash_=hash_)
    assert verify_chain(der(a_leaf(root, hash_=hash_)), [], [root.certificate], NOW)


def test_another_verifier_agrees_on_a_server_path(root: CA, issuing: CA) -> None:
    leaf = issuing.certify()
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([root.certificate]))
        .time(NOW)
        .build_server_verifier(x509.DNSName("www.example"))
    )
    theirs = verifier.verify(leaf, [issuing.certificate])
    assert theirs == verify_chain(der(leaf), [issuing.certificate], [root.certificate], NOW)


# Dates ------------------------------------------------------------------------------------------------------------------


def test_an_expired_leaf_is_refused(issuing: CA) -> None:
    leaf = issuing.certify()
    assert "expired" in refused(leaf, [], [issuing.certificate], leaf.not_valid_after_utc + timedelta(seconds=1))


def test_a_leaf_from_the_future_is_refused(issuing: CA) -> None:
    leaf = issuing.certify()
    assert "not valid yet" in refused(leaf, [], [issuing.certificate], leaf.not_valid_before_utc - timedelta(seconds=1))


@pytest.mark.parametrize("days", [(-100, -1), (1, 100)], ids=["expired", "not valid yet"])
def test_an_intermediate_outside_of_its_validity_is_refused(days: tuple[float, float]) -> None:
    root = Raw("Root")
    middle = Raw("Middle", root, days=days)
    assert "'CN=Middle,O=SPORK test'" in refused(a_leaf(middle), [middle.certificate], [root.certificate])


def test_an_expired_anchor_is_refused() -> None:
    root = Raw("Root", days=(-100, -1))
    assert "expired" in refused(a_leaf(root), [], [root.certificate])


# Signatures -------------------------------------------------------------------------------------------------------------


def test_a_path_without_an_anchor_is_refused(root: CA, issuing: CA) -> None:
    assert "No trusted CA" in refused(issuing.certify(), [issuing.certificate, root.certificate], [])


def test_a_path_to_another_root_is_refused(root: CA, issuing: CA) -> None:
    other = a_root("Other")
    assert "No trusted CA" in refused(issuing.certify(), [issuing.certificate, root.certificate], [other.certificate])


def test_a_missing_intermediate_is_refused(root: CA, issuing: CA) -> None:
    assert "No trusted CA" in refused(issuing.certify(), [], [root.certificate])


def test_a_root_of_the_same_name_with_another_key_is_refused(issuing: CA) -> None:
    impostor = a_root()
    assert refused(issuing.certify(), [issuing.certificate], [impostor.certificate])


def test_the_signature_of_a_wrong_key_is_refused() -> None:
    # Without key identifiers nothing but the signature tells the two apart.
    root, impostor = Raw("Root"), Raw("Root")
    assert "signature" in refused(a_leaf(impostor), [], [root.certificate])


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_a_flipped_bit_in_the_signature_is_refused(algorithm: str) -> None:
    root = a_root(algorithm=algorithm)
    tbs, _, signature = unwrap(der(root.certify()))
    broken = signature[:-1] + bytes([signature[-1] ^ 1])
    leaf = wrap(CertificateTBS(tbs), BY_NAME[algorithm], broken)
    assert "signature" in refused(leaf, [], [root.certificate])


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_a_changed_name_is_refused(algorithm: str) -> None:
    root = a_root(algorithm=algorithm)
    leaf = der(root.certify()).replace(b"www.example", b"wvw.example")
    assert "signature" in refused(leaf, [], [root.certificate])


def test_an_outer_signature_algorithm_that_differs_is_refused(root: CA) -> None:
    tbs, _, signature = unwrap(der(root.certify()))
    leaf = wrap(CertificateTBS(tbs), BY_NAME["ecdsa-p384"], signature)
    assert "inside and another one outside" in refused(leaf, [], [root.certificate])


@pytest.mark.parametrize("swapped", ["rsa-2048", "ed25519", "ml-dsa-44", "ecdsa-p384"])
def test_a_signature_algorithm_swapped_inside_and_outside_is_refused(swapped: str, root: CA) -> None:
    signer = root.signer
    tbs = root.tbs(signature=BY_NAME[swapped])
    leaf = wrap(tbs, BY_NAME[swapped], signer.sign(tbs))
    assert "signature" in refused(leaf, [], [root.certificate])


def test_an_ml_dsa_signature_under_another_parameter_set_is_refused() -> None:
    root = a_root(algorithm="ml-dsa-65")
    tbs = root.tbs(signature=BY_NAME["ml-dsa-87"])
    assert "ml-dsa-87" in refused(wrap(tbs, BY_NAME["ml-dsa-87"], root.signer.sign(tbs)), [], [root.certificate])


def test_a_sha1_signature_is_refused_with_a_sentence(root: CA) -> None:
    identifier = bytes.fromhex("300906072a8648ce3d0401")
    fields = elements(root.tbs().der)
    body = b"".join([*fields[:2], identifier, *fields[3:]])
    tbs = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    inner = tbs + identifier + bytes.fromhex("03050030020500")
    leaf = b"\x30\x82" + len(inner).to_bytes(2, "big") + inner
    assert "SHA-1" in refused(leaf, [], [root.certificate])


def test_a_small_rsa_key_in_the_path_is_refused() -> None:
    root = Raw("Weak root", key=rsa.generate_private_key(public_exponent=65537, key_size=1024))
    assert "size or curve" in refused(a_leaf(root), [], [root.certificate])


def test_a_curve_outside_of_the_table_is_refused() -> None:
    root = Raw("Root")
    leaf = a_leaf(root, key=ec.generate_private_key(ec.SECP256K1()))
    assert "size or curve" in refused(leaf, [], [root.certificate])


def test_a_key_identifier_that_does_not_fit_is_refused() -> None:
    root = Raw("Root", extensions=[(x509.SubjectKeyIdentifier(b"one"), False)])
    leaf = a_leaf(root, (x509.AuthorityKeyIdentifier(b"two", None, None), False))
    assert "No trusted CA" in refused(leaf, [], [root.certificate])


# CA or not --------------------------------------------------------------------------------------------------------------


def test_ca_false_in_the_middle_is_refused() -> None:
    root = Raw("Root")
    middle = Raw("Middle", root, ca=False)
    assert "not one of a CA" in refused(a_leaf(middle), [middle.certificate], [root.certificate])


def test_a_middle_without_basic_constraints_is_refused(root: CA) -> None:
    # The template gives end entities no basicConstraints at all.
    signer = a_signer()
    middle = root.certify("tls-client", subject=a_name("Middle"), names=(), spki=signer.spki)
    assert all(extension.oid != x509.BasicConstraints.oid for extension in middle.extensions)
    pretender = CA(pretending(root, a_name("Middle"), signer.spki), signer)
    assert "not one of a CA" in refused(pretender.certify(), [middle], [root.certificate])


def pretending(ca: CA, subject: x509.Name, spki: bytes) -> Authority:
    """An authority that nobody made one."""
    return replace(
        ca.authority,
        subject=subject,
        subject_der=subject.public_bytes(),
        spki=spki,
        subject_key_identifier=key_identifier(spki),
    )


def test_an_anchor_that_is_no_ca_is_refused() -> None:
    root = Raw("Root", ca=False)
    assert "not one of a CA" in refused(a_leaf(root), [], [root.certificate])


def test_a_missing_key_cert_sign_is_refused() -> None:
    root = Raw("Root")
    middle = Raw("Middle", root, extensions=[(a_usage(digital_signature=True, crl_sign=True), True)])
    assert "may not sign certificates" in refused(a_leaf(middle), [middle.certificate], [root.certificate])


def test_a_ca_without_key_usage_is_not_limited_by_it() -> None:
    root = Raw("Root")
    assert verify_chain(der(a_leaf(root)), [], [root.certificate], NOW)


# Path length ------------------------------------------------------------------------------------------------------------


def test_a_path_length_that_is_exceeded_is_refused() -> None:
    root = Raw("Root", path_length=0)
    middle = Raw("Middle", root)
    assert "path length of 0" in refused(a_leaf(middle), [middle.certificate], [root.certificate])


def test_a_path_length_that_is_just_kept_is_valid() -> None:
    root = Raw("Root", path_length=1)
    middle = Raw("Middle", root, path_length=0)
    assert len(verify_chain(der(a_leaf(middle)), [middle.certificate], [root.certificate], NOW)) == 3


def test_a_path_length_higher_up_counts_too() -> None:
    root = Raw("Root")
    one = Raw("One", root, path_length=1)
    two = Raw("Two", one)
    three = Raw("Three", two)
    others = [ca.certificate for ca in (one, two, three)]
    assert "path length of 1" in refused(a_leaf(three), others, [root.certificate])


def test_a_self_issued_certificate_does_not_count_towards_the_path_length() -> None:
    root = Raw("Root", path_length=1)
    middle = Raw("Middle", root, path_length=0)
    again = Raw("Middle", middle, subject=middle.name)
    others = [middle.certificate, again.certificate]
    assert len(verify_chain(der(a_leaf(again)), others, [root.certificate], NOW)) == 4


# Too long, loops, floods ------------------------------------------------------------------------------------------------


def test_a_path_of_one_certificate_too_many_is_refused() -> None:
    chain = [Raw("CA 0")]
    for number in range(1, MAX_LENGTH):
        chain.append(Raw(f"CA {number}", chain[-1]))
    detail = refused(a_leaf(chain[-1]), [ca.certificate for ca in chain[1:]], [chain[0].certificate])
    assert f"longer than {MAX_LENGTH}" in detail


def test_two_cas_that_certify_each_other_are_no_path() -> None:
    first, second = Raw("First"), Raw("Second")
    one = Raw("First", second, key=first.key).certificate
    two = Raw("Second", first, key=second.key).certificate
    assert "No trusted CA" in refused(a_leaf(first), [one, two], [Raw("Root").certificate])


def test_many_certificates_of_one_name_cost_a_bounded_number_of_signatures() -> None:
    crowd = [Raw("Crowd") for _ in range(8)]
    # Each of eight keys certifies each other one: without a bound there are 8! orders in which to try them.
    crossed = [
        Raw("Crowd", issuer, key=subject.key).certificate
        for issuer in crowd
        for subject in crowd
        if issuer is not subject
    ]
    assert "too many" in refused(a_leaf(crowd[0]), crossed, [Raw("Root").certificate])


# Critical extensions ----------------------------------------------------------------------------------------------------

UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def test_an_unknown_critical_extension_in_the_leaf_is_refused() -> None:
    root = Raw("Root")
    assert "1.2.3.4" in refused(a_leaf(root, (UNKNOWN, True)), [], [root.certificate])


def test_an_unknown_critical_extension_in_the_middle_is_refused() -> None:
    root = Raw("Root")
    middle = Raw("Middle", root, extensions=[(UNKNOWN, True)])
    assert "1.2.3.4" in refused(a_leaf(middle), [middle.certificate], [root.certificate])


def test_an_unknown_critical_extension_in_the_anchor_is_refused() -> None:
    root = Raw("Root", extensions=[(UNKNOWN, True)])
    assert "1.2.3.4" in refused(a_leaf(root), [], [root.certificate])


def test_an_unknown_extension_that_is_not_critical_is_ignored() -> None:
    root = Raw("Root")
    assert verify_chain(der(a_leaf(root, (UNKNOWN, False))), [], [root.certificate], NOW)


# Name constraints -------------------------------------------------------------------------------------------------------


def limited(permitted: Sequence[x509.GeneralName] | None, excluded: Sequence[x509.GeneralName] | None) -> CA:
    return a_root(constraints=CAConstraints(name_constraints=x509.NameConstraints(permitted, excluded)))


DEVICE_NAME = {"subject": a_name("Device")}


@pytest.mark.parametrize(
    ("permitted", "excluded", "name", "valid"),
    [
        pytest.param([x509.DNSName("example")], None, dns("www.example"), True, id="a permitted DNS name"),
        pytest.param([x509.DNSName("example")], None, dns("www.test"), False, id="a DNS name that is not permitted"),
        pytest.param(None, [x509.DNSName("example")], dns("www.example"), False, id="an excluded DNS name"),
        pytest.param(None, [x509.DNSName("a.example")], dns("*.example"), False, id="a wildcard over an excluded name"),
        pytest.param(
            [x509.DNSName("example")], None, ip("192.0.2.1"), True, id="an address where DNS names are limited"
        ),
        pytest.param(
            None,
            [x509.RFC822Name("example")],
            SubjectName(NameKind.EMAIL, "a@example"),
            False,
            id="an excluded mailbox",
        ),
        pytest.param(
            [x509.UniformResourceIdentifier(".example")],
            None,
            SubjectName(NameKind.URI, "urn:x:y"),
            False,
            id="a URI without a host",
        ),
        pytest.param(
            [x509.DirectoryName(a_name("Device"))],
            None,
            SubjectName(NameKind.DN, "CN=Other"),
            False,
            id="another directory name",
        ),
    ],
)
def test_name_constraints_are_applied_to_the_leaf(
    permitted: Any, excluded: Any, name: SubjectName, valid: bool
) -> None:
    root = limited(permitted, excluded)
    leaf = root.certify("device", **DEVICE_NAME, names=(name,))
    if valid:
        assert verify_chain(der(leaf), [], [root.certificate], NOW)
    else:
        assert "name constraints" in refused(leaf, [], [root.certificate])


def test_name_constraints_apply_to_the_subject() -> None:
    root = limited([x509.DirectoryName(x509.Name.from_rfc4514_string("O=Elsewhere"))], None)
    assert "name constraints" in refused(root.certify("tls-client", **a_request("tls-client")), [], [root.certificate])


def test_name_constraints_apply_to_a_ca_below() -> None:
    root = limited(None, [x509.DirectoryName(a_name("Issuing CA"))])
    middle = root.subordinate()
    assert "name constraints" in refused(middle.certify(), [middle.certificate], [root.certificate])


def test_name_constraints_hold_two_levels_below() -> None:
    root = limited([x509.DNSName("example")], None)
    middle = root.subordinate(
        constraints=CAConstraints(path_length=0, name_constraints=x509.NameConstraints([x509.DNSName("test")], None))
    )
    for name in ("www.example", "www.test"):
        assert "not permitted" in refused(middle.certify(names=(dns(name),)), [middle.certificate], [root.certificate])


def test_a_self_issued_ca_certificate_may_step_out_of_the_constraints_but_a_leaf_may_not() -> None:
    limits = x509.NameConstraints(None, [x509.DirectoryName(a_name("Middle"))])
    root = Raw("Root")
    middle = Raw("Middle", root, extensions=[(limits, True)])
    again = Raw("Middle", middle, subject=middle.name)
    others = [middle.certificate, again.certificate]
    assert verify_chain(der(a_leaf(again)), others, [root.certificate], NOW)
    leaf = Raw("Middle", again, subject=middle.name, ca=False).certificate
    assert "excluded" in refused(leaf, others, [root.certificate])


# Purpose ----------------------------------------------------------------------------------------------------------------


def test_the_purpose_of_the_leaf_is_checked(issuing: CA) -> None:
    leaf = issuing.certify()
    assert verify_chain(der(leaf), [], [issuing.certificate], NOW, purpose=SERVER_AUTH)
    assert "purpose" in refused(leaf, [], [issuing.certificate], purpose=CLIENT_AUTH)


def test_a_leaf_that_names_no_purpose_has_none() -> None:
    root = Raw("Root")
    assert "purpose" in refused(a_leaf(root), [], [root.certificate], purpose=CLIENT_AUTH)


def test_a_ca_that_is_limited_to_another_purpose_is_refused(root: CA) -> None:
    middle = root.subordinate(constraints=CAConstraints(path_length=0, extended_key_usage=(CLIENT_AUTH,)))
    leaf = middle.certify()
    assert "purpose" in refused(leaf, [middle.certificate], [root.certificate], purpose=SERVER_AUTH)


@pytest.mark.parametrize(
    "usage", [(), (SERVER_AUTH,), ("2.5.29.37.0",)], ids=["no limit", "the purpose", "any purpose"]
)
def test_a_ca_that_allows_the_purpose_is_valid(usage: tuple[str, ...], root: CA) -> None:
    middle = root.subordinate(constraints=CAConstraints(path_length=0, extended_key_usage=usage))
    assert verify_chain(der(middle.certify()), [middle.certificate], [root.certificate], NOW, purpose=SERVER_AUTH)


# Policies ---------------------------------------------------------------------------------------------------------------


def policies(*oids: str) -> tuple[x509.ExtensionType, bool]:
    return x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in oids]), False


def explicit(skip: int = 0) -> tuple[x509.ExtensionType, bool]:
    return x509.PolicyConstraints(require_explicit_policy=skip, inhibit_policy_mapping=None), True


def granted(*levels: Sequence[tuple[x509.ExtensionType, bool]]) -> frozenset[str]:
    """The policies of the leaf of a path whose certificates have these extensions, from below the root down."""
    chain = [Raw("Root")]
    for number, extensions in enumerate(levels, start=1):
        chain.append(Raw(f"CA {number}", chain[-1], ca=number < len(levels), extensions=list(extensions)))
    *cas, leaf = chain
    path = verify_chain(der(leaf.certificate), [ca.certificate for ca in cas[1:]], [cas[0].certificate], NOW)
    return leaf_policies(path)


MAPPING = (
    # SEQUENCE OF SEQUENCE { 1.2.3, 1.2.4 }
    x509.UnrecognizedExtension(x509.oid.ExtensionOID.POLICY_MAPPINGS, bytes.fromhex("300a300806022a0306022a04")),
    True,
)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        pytest.param([[policies("1.2.3")], [policies("1.2.3")]], {"1.2.3"}, id="both say so"),
        pytest.param([[policies(ANY_POLICY)], [policies("1.2.3")]], {"1.2.3"}, id="the CA allows any"),
        pytest.param([[policies("1.2.3")], [policies(ANY_POLICY)]], {"1.2.3"}, id="the leaf takes any"),
        pytest.param([[policies("1.2.3")], [policies("1.2.4")]], set(), id="they differ"),
        pytest.param([[policies("1.2.3", "1.2.4")], [policies("1.2.4", "1.2.5")]], {"1.2.4"}, id="they share one"),
        pytest.param([[policies("1.2.3")], []], set(), id="the leaf has none"),
        pytest.param([[], [policies("1.2.3")]], set(), id="the CA has none"),
        pytest.param([[policies("1.2.3")]], {"1.2.3"}, id="directly below the root"),
        pytest.param([[policies(ANY_POLICY)], [policies(ANY_POLICY)]], {ANY_POLICY}, id="any all the way"),
        pytest.param([[policies("1.2.3"), MAPPING], [policies("1.2.4")]], set(), id="a mapped policy ends"),
        pytest.param(
            [[policies("1.2.3"), MAPPING], [policies("1.2.3")]], set(), id="a policy that is mapped away ends"
        ),
        pytest.param(
            [[policies(ANY_POLICY), (x509.InhibitAnyPolicy(0), True)], [policies(ANY_POLICY)]],
            set(),
            id="any is inhibited at once",
        ),
        pytest.param(
            [[policies(ANY_POLICY), (x509.InhibitAnyPolicy(1), True)], [policies(ANY_POLICY)], [policies("1.2.3")]],
            {"1.2.3"},
            id="any is inhibited one level below",
        ),
    ],
)
def test_the_policies_of_the_leaf_are_those_of_the_whole_path(levels: Any, expected: set[str]) -> None:
    assert granted(*levels) == expected


@pytest.mark.parametrize(
    "levels",
    [
        pytest.param([[policies("1.2.3"), explicit()], [policies("1.2.4")]], id="another policy"),
        pytest.param([[policies("1.2.3"), explicit()], []], id="no policy"),
        pytest.param([[explicit()], [policies("1.2.3")]], id="no policy of the CA that demands it"),
        pytest.param([[policies("1.2.3"), explicit(1)], [policies("1.2.3")], []], id="demanded one level further down"),
        pytest.param([[policies("1.2.3")], [explicit()]], id="demanded by the leaf itself"),
    ],
)
def test_an_explicit_policy_that_is_missing_is_refused(levels: Any) -> None:
    with pytest.raises(SporkError) as caught:
        granted(*levels)
    assert caught.value.code is Code.UNAUTHENTICATED
    assert "policy" in caught.value.detail


def test_an_explicit_policy_that_is_there_is_valid() -> None:
    assert granted([policies("1.2.3"), explicit()], [policies("1.2.3")]) == {"1.2.3"}


def test_policy_mappings_that_cannot_be_read_are_refused() -> None:
    broken = x509.UnrecognizedExtension(x509.oid.ExtensionOID.POLICY_MAPPINGS, b"\x30\x02\x30\x80")
    with pytest.raises(SporkError, match="mappings"):
        granted([policies("1.2.3"), (broken, True)], [policies("1.2.3")])


def test_an_administrator_has_exactly_the_level_that_was_signed(root: CA) -> None:
    management = root.subordinate("Management")
    for level in ("1.2.3.1", "1.2.3.2"):
        leaf = management.certify("admin-viewer", **(a_request("admin-viewer") | {"policies": (level,)}))
        path = verify_chain(der(leaf), [management.certificate], [root.certificate], NOW, purpose=CLIENT_AUTH)
        assert leaf_policies(path) == {level}


# What cannot be read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaf", [b"", b"\x30\x00", b"\x30\x80\x00\x00", bytes(70_000), b"\x30\x03\x02\x01\x00"])
def test_what_is_no_certificate_is_refused(leaf: bytes, root: CA) -> None:
    assert refused(leaf, [], [root.certificate])
    assert refused(root.certify(), [leaf], [root.certificate])


def test_an_extension_that_is_there_twice_is_refused(root: CA) -> None:
    tbs = asn1_with_first_extension_doubled(root.tbs())
    assert "extension" in refused(sign(tbs, root.signer), [], [root.certificate]).lower()


def asn1_with_first_extension_doubled(tbs: CertificateTBS) -> CertificateTBS:

    fields = asn1.decode_der(TBSCertificate, tbs.der)
    assert fields.extensions
    fields.extensions.append(fields.extensions[0])
    return CertificateTBS(asn1.encode_der(fields))


FUZZ_ROOT = a_root()
FUZZ_LEAF = der(FUZZ_ROOT.certify(subject=a_name("x"), spki=a_signer(purpose=KeyPurpose.LEAF).spki))


def verdict(leaf: bytes) -> Code | None:
    try:
        verify_chain(leaf, [], [FUZZ_ROOT.certificate], NOW)
    except SporkError as error:
        return error.code
    return None


@given(
    st.lists(
        st.tuples(st.integers(0, len(FUZZ_LEAF) - 1), st.integers(1, 255)),
        min_size=1,
        max_size=4,
        unique_by=lambda c: c[0],
    )
)
def test_a_mutated_leaf_is_never_valid(changes: list[tuple[int, int]]) -> None:
    mutated = bytearray(FUZZ_LEAF)
    for position, difference in changes:
        mutated[position] ^= difference
    assert verdict(bytes(mutated)) is Code.UNAUTHENTICATED


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_mutated_tbs_with_a_right_signature_is_judged_and_nothing_worse(changes: list[tuple[int, int]]) -> None:
    tbs = bytearray(unwrap(FUZZ_LEAF)[0])
    for position, value in changes:
        tbs[position % len(tbs)] = value
    signature = FUZZ_ROOT.signer.sign(CertificateTBS(bytes(tbs)))
    body = bytes(tbs) + BY_NAME["ecdsa-p256"].identifier + bytes([0x03, len(signature) + 1, 0]) + signature
    assert verdict(b"\x30\x82" + len(body).to_bytes(2, "big") + body) in (None, Code.UNAUTHENTICATED)


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "root"])
def test_every_profile_makes_a_certificate_that_validates(profile: str, root: CA) -> None:
    leaf = root.certify(profile, **a_request(profile))
    assert verify_chain(der(leaf), [], [root.certificate], NOW) == [leaf, root.certificate]
