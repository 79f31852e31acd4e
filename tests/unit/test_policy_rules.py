"""Every rule of the policy: what it lets pass and what it refuses."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from proposals import (
    CA_BEGINS,
    CA_ENDS,
    CA_KEY,
    LEAF_KEY,
    NOW,
    a_csr,
    a_proposal,
    an_authority,
    an_issuer,
    ca_certificate,
    name_of,
    spki_of,
)

from spork.ids import AuthorityId
from spork.policy.engine import PolicyEngine, decide
from spork.policy.issuer import KeyPolicy, NamePolicy
from spork.policy.proposal import Door, Grant, Proposal, Requester
from spork.policy.rules import RULES
from spork.x509.algorithms import BY_NAME
from spork.x509.authority import AuthorityKind
from spork.x509.names import NameKind, SubjectName, dns, ip
from spork.x509.profile import CAConstraints
from spork.x509.profiles import PROFILES, profile_named

HOST = Requester(Door.BOOTSTRAP, "host")
ACME = Requester(Door.ACME, "acme-account:1")
ARC = "1.3.6.1.4.1.56266.1.20"
SERVER_AUTH, CLIENT_AUTH = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"


def refused_by(proposal: Proposal, engine: PolicyEngine | None = None) -> set[str]:
    decision = engine.decide(proposal) if engine is not None else decide(proposal)
    return {violation.rule for violation in decision.violations}


def email(value: str) -> SubjectName:
    return SubjectName(NameKind.EMAIL, value)


def uri(value: str) -> SubjectName:
    return SubjectName(NameKind.URI, value)


def management(**changes: Any) -> Any:
    return an_authority(id=AuthorityId("management"), kind=AuthorityKind.MANAGEMENT, **changes)


def test_a_good_proposal_passes_every_rule() -> None:
    decision = decide(a_proposal())
    assert decision.allowed
    assert [verdict.rule for verdict in decision.verdicts] == [rule.name for rule in RULES]


# Issuer, profile and requester


def test_an_issuer_of_another_ca_is_refused() -> None:
    assert refused_by(a_proposal(issuer=an_issuer(authority_id=AuthorityId("other")))) == {"issuer_binds_authority"}


@pytest.mark.parametrize("door", [door for door in Door if door is not Door.BOOTSTRAP])
def test_without_an_issuer_only_the_host_may_ask(door: Door) -> None:
    assert refused_by(a_proposal(issuer=None, requester=Requester(door, "x"))) == {"issuer_binds_authority"}
    assert refused_by(a_proposal(issuer=None, requester=HOST)) == set()


def test_administrators_are_certified_by_the_management_ca_without_an_issuer() -> None:
    proposal = a_proposal(
        profile="admin-viewer",
        issuer=None,
        authority=management(),
        names=(),
        subject=name_of("CN=alice"),
        policies=(f"{ARC}.1",),
    )
    assert refused_by(proposal) == set()
    assert refused_by(replace(proposal, requester=ACME)) == {"issuer_binds_authority"}


def test_a_profile_that_the_issuer_or_the_grant_does_not_have_is_refused() -> None:
    assert refused_by(a_proposal(issuer=an_issuer(profiles=("tls-client",)))) == {"profile_is_allowed"}
    assert refused_by(a_proposal(grant=Grant(profiles=frozenset({"email"})))) == {"profile_is_allowed"}
    assert refused_by(a_proposal(grant=Grant(profiles=frozenset({"tls-server"})))) == set()


@pytest.mark.parametrize("name", [name for name, profile in PROFILES.items() if not profile.requestable])
def test_a_profile_of_the_host_cannot_be_requested_even_if_an_issuer_offers_it(name: str) -> None:
    assert "profile_is_requestable" in refused_by(a_proposal(profile=name, issuer=an_issuer(profiles=(name,))))


def test_limits_of_a_ca_belong_to_ca_profiles_and_cas_to_no_issuer() -> None:
    assert refused_by(a_proposal(constraints=CAConstraints())) == {"ca_profile_only_for_ca"}
    proposal = a_ca_proposal(issuer=an_issuer(profiles=("issuing-ca",)))
    assert refused_by(proposal) == {"ca_profile_only_for_ca"}


# Names


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(SubjectName(NameKind.DNS, "WWW.example.com"), id="upper case"),
        pytest.param(SubjectName(NameKind.DNS, "www.example.com."), id="a trailing dot"),
        pytest.param(SubjectName(NameKind.DNS, "a..example.com"), id="an empty label"),
        pytest.param(SubjectName(NameKind.DNS, "a b.example.com"), id="a blank"),
        pytest.param(SubjectName(NameKind.DNS, "*.*.example.com"), id="two wildcards"),
        pytest.param(SubjectName(NameKind.DNS, "w*.example.com"), id="a partial wildcard"),
        pytest.param(SubjectName(NameKind.DNS, "ab--c.example.com"), id="a reserved label"),
        pytest.param(SubjectName(NameKind.DNS, "xn--a.example.com"), id="an A-label that does not decode"),
        pytest.param(SubjectName(NameKind.DNS, "xn--abc-.example.com"), id="an A-label of plain ASCII"),
        pytest.param(SubjectName(NameKind.DNS, "www.example.com\0.evil.org"), id="a NUL"),
        pytest.param(SubjectName(NameKind.IP, "192.0.2.256"), id="no address"),
        pytest.param(SubjectName(NameKind.IP, "192.0.2.0/24"), id="a network"),
        pytest.param(SubjectName(NameKind.IP, "2001:DB8::1"), id="an address in another form"),
    ],
)
def test_a_name_that_is_not_well_formed_is_refused_and_named(name: SubjectName) -> None:
    decision = decide(a_proposal(name))
    blamed = [violation.name for violation in decision.violations if violation.rule == "names_well_formed"]
    assert blamed == [name]


def test_an_internationalised_name_passes() -> None:
    assert refused_by(a_proposal("xn--bcher-kva.example.com")) == set()


def test_the_same_name_twice_is_refused() -> None:
    assert refused_by(a_proposal("a.example.com", "a.example.com")) == {"names_well_formed"}


def test_each_name_that_is_not_permitted_is_named() -> None:
    decision = decide(
        a_proposal("www.example.com", "www.example.org", ip("192.0.2.1"), ip("198.51.100.1"), "secret.example.com")
    )
    assert {str(violation.name) for violation in decision.violations} == {
        "dns:www.example.org",
        "ip:198.51.100.1",
        "dns:secret.example.com",
    }
    assert {violation.rule for violation in decision.violations} == {"names_permitted"}


def test_kinds_of_names_come_from_the_profile() -> None:
    assert refused_by(a_proposal("a.example.com", email("a@example.com"))) == {"names_kind_allowed_by_profile"}
    assert refused_by(a_proposal(email("a@example.com"), profile="email")) == set()
    assert refused_by(a_proposal(uri("https://example.com/app/x"), profile="device")) == set()
    assert refused_by(a_proposal(uri("https://example.com/other"), profile="device")) == {"names_permitted"}


def test_names_are_there_where_the_profile_needs_them_and_somebody_is_named() -> None:
    assert refused_by(a_proposal(names=())) == {"names_required"}
    assert refused_by(a_proposal(profile="tls-client", names=())) == {"names_required"}
    assert refused_by(a_proposal(profile="tls-client", names=(), subject=name_of("CN=a,O=Example"))) == set()


def test_wildcards_need_the_issuers_consent() -> None:
    proposal = a_proposal("*.a.example.com")
    assert refused_by(proposal) == set()
    names = NamePolicy(permit={"dns": ("**.example.com",)}, wildcards=False)
    assert refused_by(replace(proposal, issuer=an_issuer(names=names))) == {"wildcard_allowed"}


def test_a_wildcard_that_covers_a_denied_name_is_refused() -> None:
    assert refused_by(a_proposal("*.example.com")) == {"names_permitted"}


@pytest.mark.parametrize(
    ("names", "granted", "blamed"),
    [
        pytest.param(["a", "b"], ["a", "b"], set(), id="the same"),
        pytest.param(["a", "b"], ["a"], {"b"}, id="one name more"),
        pytest.param(["a"], ["a", "b"], {"b"}, id="one name fewer"),
        pytest.param(["a"], [], {"a"}, id="a grant of no names"),
        pytest.param(["*.a"], ["a"], {"*.a", "a"}, id="a wildcard of what was granted"),
    ],
)
def test_names_are_exactly_those_of_the_grant(names: list[str], granted: list[str], blamed: set[str]) -> None:
    wanted = [f"{name}.example.com" for name in names]
    grant = Grant(names=frozenset(dns(f"{name}.example.com") for name in granted))
    decision = decide(a_proposal(*wanted, grant=grant))
    assert {str(one.name.value).removesuffix(".example.com") for one in decision.violations if one.name} == blamed
    assert {one.rule for one in decision.violations} <= {"names_match_grant"}


def test_a_common_name_counts_against_the_grant() -> None:
    grant = Grant(names=frozenset({dns("a.example.com")}))
    proposal = a_proposal(
        "a.example.com", profile="tls-client", grant=grant, subject=name_of("CN=b.example.com,O=Example")
    )
    assert refused_by(proposal) == {"names_match_grant"}
    assert refused_by(replace(proposal, subject=name_of("CN=a.example.com,O=Example"))) == set()


@pytest.mark.parametrize(
    ("subject", "passes"),
    [
        ("", True),
        ("CN=www.example.com", True),
        ("CN=WWW.example.com", True),
        ("CN=mail.example.com", False),
        ("CN=Example Inc", False),
        ("CN=www.example.com,O=Example", False),
        ("O=Example", False),
        ("CN=www.example.com,CN=www.example.com", False),
        ("CN=www.example.com+OU=x", False),
    ],
)
def test_the_common_name_of_a_server_repeats_a_name(subject: str, passes: bool) -> None:
    assert refused_by(a_proposal(subject=name_of(subject))) == (set() if passes else {"common_name_is_a_name"})


@pytest.mark.parametrize(
    ("subject", "passes"),
    [
        pytest.param("CN=alice,O=Example", True, id="below the pattern"),
        pytest.param("O=Example", True, id="the pattern itself"),
        pytest.param("CN=www.example.com", True, id="only a name that is certified anyway"),
        pytest.param("CN=alice", False, id="outside of the pattern"),
        pytest.param("CN=x\\,O=Example", False, id="a value that looks like the pattern"),
        pytest.param("CN=alice,O=Example,C=DE", False, id="a root above the pattern"),
        pytest.param("1.2.840.113549.1.9.1=a@example.com,O=Example", True, id="a permitted address"),
        pytest.param("1.2.840.113549.1.9.1=a@evil.org,O=Example", False, id="an address of somebody else"),
        pytest.param("1.2.840.113549.1.9.1=nonsense,O=Example", False, id="what is no address"),
    ],
)
def test_a_requested_subject_lies_within_the_issuers_patterns(subject: str, passes: bool) -> None:
    proposal = a_proposal(profile="tls-client", subject=name_of(subject))
    assert refused_by(proposal) == (set() if passes else {"subject_permitted"})


# The certificate request


def key_usage(**bits: bool) -> x509.KeyUsage:
    every = dict.fromkeys(
        ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"], False
    )
    more = dict.fromkeys(["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"], False)
    return x509.KeyUsage(**{**every, **more, **bits})


def usages(*oids: str) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in oids])


@pytest.mark.parametrize(
    ("extensions", "passes"),
    [
        pytest.param([], True, id="none"),
        pytest.param([x509.BasicConstraints(False, None)], True, id="no CA"),
        pytest.param([key_usage(digital_signature=True, content_commitment=True)], True, id="usages of a leaf"),
        pytest.param([usages(SERVER_AUTH)], True, id="the profile's purpose"),
        pytest.param([x509.BasicConstraints(True, None)], False, id="a CA"),
        pytest.param([x509.BasicConstraints(True, 0)], False, id="a CA with a path length"),
        pytest.param([key_usage(key_cert_sign=True)], False, id="keyCertSign"),
        pytest.param([key_usage(crl_sign=True)], False, id="cRLSign"),
        pytest.param([usages(SERVER_AUTH, CLIENT_AUTH)], False, id="a foreign purpose"),
        pytest.param([usages("2.5.29.37.0")], False, id="any purpose"),
        pytest.param(
            [x509.TLSFeature([x509.TLSFeatureType.status_request])], False, id="an extension beyond the profile"
        ),
        pytest.param([x509.OCSPNoCheck()], False, id="OCSP nocheck"),
        pytest.param([x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")], False, id="unknown"),
    ],
)
def test_extensions_of_the_request_agree_with_the_profile(extensions: list[x509.ExtensionType], passes: bool) -> None:
    csr = a_csr(x509.DNSName("www.example.com"), extensions=extensions)
    assert refused_by(a_proposal(csr=csr)) == (set() if passes else {"csr_extensions_allowed"})


def test_a_profile_can_widen_the_extensions_that_a_request_may_carry() -> None:
    csr = a_csr(x509.DNSName("www.example.com"), extensions=[x509.TLSFeature([x509.TLSFeatureType.status_request])])
    wide = replace(profile_named("tls-server"), csr_extensions=frozenset({"2.5.29.17", "1.3.6.1.5.5.7.1.24"}))
    assert refused_by(a_proposal(csr=csr, profile="tls-server")) == {"csr_extensions_allowed"}
    assert refused_by(replace(a_proposal(csr=csr), profile=wide)) == set()


@pytest.mark.parametrize("door", [Door.ACME, Door.EST, Door.SCEP, Door.CMP, Door.REST, Door.KUBERNETES])
@pytest.mark.parametrize(
    ("asked", "subject", "passes"),
    [
        pytest.param(["a"], "", True, id="the same"),
        pytest.param(["a"], "CN=a.example.com", True, id="the same, repeated as commonName"),
        pytest.param([], "CN=a.example.com", True, id="only a commonName"),
        pytest.param(["a", "b"], "", False, id="one name more"),
        pytest.param(["b"], "", False, id="another name"),
        pytest.param(["a"], "CN=b.example.com", False, id="one name more as commonName"),
        pytest.param([], "CN=b.example.com", False, id="another name as commonName"),
    ],
)
def test_names_of_the_request_are_the_names_of_the_certificate(
    door: Door, asked: list[str], subject: str, passes: bool
) -> None:
    csr = a_csr(*(x509.DNSName(f"{name}.example.com") for name in asked), subject=subject)
    proposal = a_proposal("a.example.com", csr=csr, requester=Requester(door, "x"))
    assert refused_by(proposal) == (set() if passes else {"names_from_csr_not_smuggled"})


def test_a_request_with_one_name_fewer_is_refused() -> None:
    proposal = a_proposal("a.example.com", "b.example.com", csr=a_csr(x509.DNSName("a.example.com")))
    assert refused_by(proposal) == {"names_from_csr_not_smuggled"}


def test_a_request_without_names_brings_only_its_key_where_names_stand_beside_it() -> None:
    for door, passes in ((Door.REST, True), (Door.KUBERNETES, True), (Door.ACME, False), (Door.EST, False)):
        proposal = a_proposal(csr=a_csr(subject="O=x"), requester=Requester(door, "x"))
        assert refused_by(proposal) == (set() if passes else {"names_from_csr_not_smuggled"})


@pytest.mark.parametrize(
    "name",
    [
        x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
        x509.RFC822Name("a@example.com"),
        x509.UniformResourceIdentifier("https://example.com/app"),
        x509.DirectoryName(x509.Name.from_rfc4514_string("O=Example")),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01a"),
    ],
    ids=lambda name: type(name).__name__,
)
def test_a_name_of_another_kind_cannot_be_smuggled_in(name: x509.GeneralName) -> None:
    csr = a_csr(x509.DNSName("www.example.com"), name)
    assert refused_by(a_proposal(csr=csr, requester=ACME)) == {"names_from_csr_not_smuggled"}


def test_a_common_name_without_a_dot_may_be_the_name() -> None:
    issuer = an_issuer(names=NamePolicy(permit={"dns": ("localhost",)}))
    proposal = a_proposal("localhost", issuer=issuer, csr=a_csr(subject="CN=localhost"), requester=ACME)
    assert refused_by(proposal) == set()


def test_a_persons_subject_in_the_request_is_no_smuggled_name() -> None:
    csr = a_csr(x509.RFC822Name("a@example.com"), subject="CN=alice.example.org,O=Example")
    proposal = a_proposal(email("a@example.com"), profile="email", csr=csr, subject=csr.subject)
    assert refused_by(proposal) == set()


# The key


def test_the_key_is_that_of_the_request() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    csr = a_csr(x509.DNSName("www.example.com"), key=other)
    assert refused_by(a_proposal(csr=csr)) == {"key_is_that_of_the_csr"}
    assert refused_by(a_proposal(csr=csr, spki=spki_of(other))) == set()


@pytest.mark.parametrize("algorithm", ["ecdsa-p384", "ed25519", "ml-dsa-65"])
def test_keys_of_every_family_are_accepted_unless_the_issuer_limits_them(algorithm: str) -> None:
    from spork.keys.software import generate_private_key

    spki = spki_of(generate_private_key(BY_NAME[algorithm]))
    assert refused_by(a_proposal(spki=spki)) == set()
    assert refused_by(a_proposal(spki=spki, issuer=an_issuer(keys=KeyPolicy((algorithm, "rsa-2048"))))) == set()
    limited = an_issuer(keys=KeyPolicy(("ecdsa-p256",)))
    assert refused_by(a_proposal(spki=spki, issuer=limited)) == {"key_algorithm_allowed"}


def test_an_algorithm_that_is_not_approved_is_refused_while_fips_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from spork.policy import keyrules

    foreign = replace(BY_NAME["ed25519"], fips_approved=False)
    spki = spki_of(ed25519.Ed25519PrivateKey.generate())
    monkeypatch.setattr(keyrules, "algorithm_of", lambda key: foreign)
    assert refused_by(a_proposal(spki=spki), PolicyEngine(fips=True)) == {"key_algorithm_allowed"}
    assert refused_by(a_proposal(spki=spki), PolicyEngine(fips=False)) == set()


def test_weak_keys_are_refused() -> None:
    weak = [
        rsa.generate_private_key(65537, 1024),
        rsa.generate_private_key(3, 2048),
        ec.generate_private_key(ec.SECP256K1()),
    ]
    for key in weak:
        assert refused_by(a_proposal(spki=spki_of(key))) == {"key_is_strong"}
    point = ed25519.Ed25519PublicKey.from_public_bytes(bytes(32))
    assert refused_by(a_proposal(spki=point.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))) == {
        "key_is_strong"
    }


def test_a_blocked_key_is_refused() -> None:
    blocked = frozenset({hashlib.sha256(spki_of(LEAF_KEY)).hexdigest()})
    assert refused_by(a_proposal(), PolicyEngine(blocked_keys=blocked)) == {"key_is_strong"}


@pytest.mark.parametrize(
    "spki",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x30\x00", id="an empty sequence"),
        pytest.param(spki_of(LEAF_KEY)[:-1], id="cut short"),
        pytest.param(spki_of(LEAF_KEY)[:-1] + bytes([spki_of(LEAF_KEY)[-1] ^ 1]), id="a point off the curve"),
        pytest.param(spki_of(LEAF_KEY)[:27] + bytes(64), id="the point (0, 0)"),
    ],
)
def test_a_key_that_cannot_be_read_is_refused(spki: bytes) -> None:
    assert refused_by(a_proposal(spki=spki)) == {"key_is_readable"}


def test_a_compressed_point_is_refused_and_hides_no_ca_key() -> None:
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    compressed = CA_KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    assert refused_by(a_proposal(spki=head + compressed)) == {"key_is_readable", "key_is_not_a_ca_key"}


def test_the_key_of_a_ca_is_refused() -> None:
    assert refused_by(a_proposal(spki=spki_of(CA_KEY))) == {"key_is_not_a_ca_key"}
    cas = frozenset({hashlib.sha256(spki_of(LEAF_KEY)).digest()})
    assert refused_by(a_proposal(ca_spkis=cas)) == {"key_is_not_a_ca_key"}
    assert refused_by(replace(a_ca_proposal(), ca_spkis=cas)) == set()


# Validity


def test_lifetimes_are_counted_with_both_ends() -> None:
    proposal = a_proposal()
    day = timedelta(days=1)
    exact = proposal.not_before + timedelta(days=398) - timedelta(seconds=1)
    assert refused_by(replace(proposal, not_after=exact)) == set()
    assert refused_by(replace(proposal, not_after=exact + timedelta(seconds=1))) == {"validity_within_limits"}
    tight = an_issuer(max_validity=90 * day)
    assert refused_by(replace(proposal, issuer=tight)) == set()
    longer = proposal.not_after + timedelta(seconds=1)
    assert refused_by(replace(proposal, issuer=tight, not_after=longer)) == {"validity_within_limits"}
    assert refused_by(replace(proposal, grant=Grant(max_validity=89 * day))) == {"validity_within_limits"}


def test_every_limit_that_is_exceeded_is_named() -> None:
    proposal = a_proposal(
        issuer=an_issuer(max_validity=timedelta(days=1)),
        grant=Grant(max_validity=timedelta(hours=1)),
        not_after=CA_ENDS,
    )
    assert len(decide(proposal).violations) == 3


def test_dates_are_in_order_whole_and_utc() -> None:
    proposal = a_proposal()
    assert refused_by(replace(proposal, not_after=proposal.not_before)) == set()
    bad = [
        {"not_after": proposal.not_before - timedelta(seconds=1)},
        {"not_before": proposal.not_before.replace(microsecond=1)},
        {"not_before": proposal.not_before.replace(tzinfo=None)},
        {"not_after": proposal.not_after.astimezone(timezone(timedelta(hours=1)))},
    ]
    for change in bad:
        assert refused_by(replace(proposal, **change)) == {"validity_in_order"}
    endless = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert "validity_in_order" in refused_by(replace(proposal, not_after=endless))


def test_a_certificate_neither_outlives_its_ca_nor_begins_before_it() -> None:
    proposal = a_proposal(not_after=CA_ENDS, not_before=CA_ENDS - timedelta(days=30))
    assert refused_by(proposal) == set()
    assert refused_by(replace(proposal, not_after=CA_ENDS + timedelta(seconds=1))) == {"validity_within_authority"}
    early = a_proposal(not_before=CA_BEGINS - timedelta(seconds=1))
    assert refused_by(early) == {"validity_within_authority"}
    sooner = an_authority(not_after=NOW + timedelta(days=5))
    assert refused_by(a_proposal(authority=sooner)) == {"validity_within_authority"}


# What the CA's own certificate allows


def a_ca_proposal(**changes: Any) -> Proposal:
    proposal = a_proposal(
        profile="issuing-ca",
        issuer=None,
        requester=HOST,
        names=(),
        subject=name_of("CN=Below"),
        constraints=CAConstraints(path_length=0),
    )
    return replace(proposal, **changes)


def test_a_ca_certificate_passes() -> None:
    assert refused_by(a_ca_proposal()) == set()


def test_a_root_signs_itself_and_nothing_else_before_it_has_a_certificate() -> None:
    root = an_authority(None, kind=AuthorityKind.ROOT, not_after=None)
    proposal = a_ca_proposal(
        profile=profile_named("root"), authority=root, subject=root.subject, spki=root.spki, constraints=CAConstraints()
    )
    assert refused_by(proposal) == set()
    assert refused_by(replace(proposal, spki=spki_of(LEAF_KEY))) == {"authority_may_sign"}
    assert refused_by(replace(proposal, subject=name_of("CN=Other"))) == {"authority_may_sign"}
    assert "authority_may_sign" in refused_by(a_proposal(authority=root))


def test_a_certificate_that_is_not_a_cas_signs_nothing() -> None:
    assert refused_by(a_proposal(authority=an_authority(ca_certificate(ca=False)))) == {"authority_may_sign"}
    above = an_authority(chain=(ca_certificate(subject="CN=Root", ca=False),))
    assert refused_by(a_proposal(authority=above)) == {"authority_may_sign"}


@pytest.mark.parametrize(
    ("own", "above", "wanted", "passes"),
    [
        pytest.param(None, None, None, True, id="no limits"),
        pytest.param(0, None, 0, False, id="no CA may stand below"),
        pytest.param(1, None, 0, True, id="one may"),
        pytest.param(1, None, 1, False, id="one may, and not two"),
        pytest.param(2, None, 1, True, id="two may"),
        pytest.param(None, 1, 0, False, id="the limit of the CA above counts the CA itself"),
        pytest.param(None, 2, 0, True, id="it leaves room for one"),
        pytest.param(None, 2, 1, False, id="and not for two"),
    ],
)
def test_path_lengths_hold(own: int | None, above: int | None, wanted: int | None, passes: bool) -> None:
    certificate = ca_certificate(path_length=own)
    chain = (ca_certificate(subject="CN=Root", issuer="CN=Root", path_length=above),)
    proposal = a_ca_proposal(
        authority=an_authority(certificate, chain=chain), constraints=CAConstraints(path_length=wanted)
    )
    assert refused_by(proposal) == (set() if passes else {"path_length_holds"})


def test_a_leaf_may_stand_below_a_path_length_of_zero() -> None:
    assert refused_by(a_proposal(authority=an_authority(ca_certificate(path_length=0)))) == set()


def constrained(permitted: list[x509.GeneralName] | None = None, excluded: list[x509.GeneralName] | None = None) -> Any:
    return an_authority(ca_certificate(names=x509.NameConstraints(permitted, excluded)))


@pytest.mark.parametrize(
    ("permitted", "excluded", "passes"),
    [
        ([x509.DNSName("example.com")], None, True),
        ([x509.DNSName("www.example.com")], None, True),
        ([x509.DNSName("example.org")], None, False),
        ([x509.DNSName("w.example.com")], None, False),
        ([x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))], None, True),
        (None, [x509.DNSName("example.com")], False),
        (None, [x509.DNSName("example.org")], True),
        ([x509.DNSName("example.com")], [x509.DNSName("www.example.com")], False),
    ],
)
def test_dns_name_constraints_hold(permitted: Any, excluded: Any, passes: bool) -> None:
    decision = decide(a_proposal(authority=constrained(permitted, excluded)))
    assert {one.rule for one in decision.violations} == (set() if passes else {"name_constraints_hold"})
    assert all(one.name == dns("www.example.com") for one in decision.violations)


@pytest.mark.parametrize(
    ("name", "profile", "inside", "outside"),
    [
        (
            ip("192.0.2.7"),
            "tls-server",
            x509.IPAddress(ipaddress.ip_network("192.0.2.0/28")),
            x509.IPAddress(ipaddress.ip_network("192.0.2.16/28")),
        ),
        (email("a@example.com"), "email", x509.RFC822Name("example.com"), x509.RFC822Name("example.org")),
        (
            uri("https://example.com/app"),
            "device",
            x509.UniformResourceIdentifier("example.com"),
            x509.UniformResourceIdentifier(".example.com"),
        ),
    ],
    ids=["ip", "email", "uri"],
)
def test_other_name_constraints_hold(name: SubjectName, profile: str, inside: Any, outside: Any) -> None:
    proposal = a_proposal(name, profile=profile)
    assert refused_by(replace(proposal, authority=constrained([inside]))) == set()
    assert refused_by(replace(proposal, authority=constrained([outside]))) == {"name_constraints_hold"}
    assert refused_by(replace(proposal, authority=constrained(None, [inside]))) == {"name_constraints_hold"}


def test_constraints_on_directory_names_hold_for_the_subject() -> None:
    proposal = a_proposal(profile="tls-client", subject=name_of("CN=alice,O=Example"))
    inside, outside = x509.DirectoryName(name_of("O=Example")), x509.DirectoryName(name_of("O=Other"))
    assert refused_by(replace(proposal, authority=constrained([inside]))) == set()
    assert refused_by(replace(proposal, authority=constrained([outside]))) == {"name_constraints_hold"}
    assert refused_by(replace(proposal, authority=constrained(None, [inside]))) == {"name_constraints_hold"}
    # An empty subject is not a name that could be outside.
    assert refused_by(a_proposal(authority=constrained([outside]))) == set()


def test_a_constraint_on_mailboxes_holds_for_an_address_in_the_subject() -> None:
    proposal = a_proposal(profile="tls-client", subject=name_of("1.2.840.113549.1.9.1=a@example.com,O=Example"))
    assert refused_by(replace(proposal, authority=constrained([x509.RFC822Name("example.com")]))) == set()
    outside = constrained([x509.RFC822Name("example.org")])
    assert refused_by(replace(proposal, authority=outside)) == {"name_constraints_hold"}


def test_constraints_of_a_ca_further_up_hold_too() -> None:
    above = ca_certificate(subject="CN=Root", names=x509.NameConstraints([x509.DNSName("example.org")], None))
    assert refused_by(a_proposal(authority=an_authority(chain=(above,)))) == {"name_constraints_hold"}


def test_purposes_stay_within_those_of_the_ca() -> None:
    server_only = an_authority(ca_certificate(usages=[SERVER_AUTH]))
    client = a_proposal(profile="tls-client", subject=name_of("CN=alice,O=Example"))
    assert refused_by(a_proposal(authority=server_only)) == set()
    assert refused_by(replace(client, authority=server_only)) == {"extended_key_usage_holds"}
    every = an_authority(ca_certificate(usages=["2.5.29.37.0", SERVER_AUTH]))
    assert refused_by(replace(client, authority=every)) == set()
    wide = CAConstraints(path_length=0, extended_key_usage=(SERVER_AUTH, CLIENT_AUTH))
    assert refused_by(a_ca_proposal(authority=server_only, constraints=wide)) == {"extended_key_usage_holds"}
    responder = a_proposal(profile="ocsp-signing", issuer=None, requester=HOST, names=(), subject=name_of("CN=OCSP"))
    assert refused_by(replace(responder, authority=server_only)) == set()


# Administrators


@pytest.mark.parametrize("oid", [ARC, f"{ARC}.1", f"{ARC}.4", f"{ARC}.4.1", f"{ARC}.99"])
def test_only_the_management_ca_asserts_policies_in_the_administrators_arc(oid: str) -> None:
    both = {"policies_within_arc", "admin_level_matches_profile"}
    assert refused_by(a_proposal(policies=(oid,))) == both
    assert refused_by(a_ca_proposal(constraints=CAConstraints(path_length=0, policies=(oid,)))) == both
    # Not even the management CA gives a level to what is no administrator.
    listener = a_proposal(profile="listener", issuer=None, requester=HOST, authority=management(), policies=(oid,))
    assert refused_by(listener) == {"admin_level_matches_profile"}


def test_policies_beside_the_arc_are_free() -> None:
    assert refused_by(a_proposal(policies=(f"{ARC}0", f"{ARC.removesuffix('.20')}.2", "2.23.140.1.2.1"))) == set()


def test_the_arc_follows_the_setting() -> None:
    engine = PolicyEngine(admin_arc="1.2.3.20")
    assert "policies_within_arc" in refused_by(a_proposal(policies=("1.2.3.20.4",)), engine)
    assert refused_by(a_proposal(policies=(f"{ARC}.4",)), engine) == set()


@pytest.mark.parametrize(
    "policies",
    [(), (f"{ARC}.4",), (f"{ARC}.1", f"{ARC}.4"), (f"{ARC}.1", f"{ARC}.1"), (f"{ARC}.1", f"{ARC}.1.1"), (f"{ARC}.5",)],
    ids=["none", "a higher one", "two", "one twice", "one below the level", "an unknown one"],
)
def test_an_administrator_carries_exactly_the_level_of_the_profile(policies: tuple[str, ...]) -> None:
    proposal = a_proposal(
        profile="admin-viewer", issuer=None, authority=management(), names=(), subject=name_of("CN=alice")
    )
    assert refused_by(replace(proposal, policies=policies)) == {"admin_level_matches_profile"}


def test_no_issuer_and_no_other_ca_makes_administrators() -> None:
    proposal = a_proposal(
        profile="admin-viewer",
        issuer=an_issuer(profiles=("admin-viewer",)),
        names=(),
        subject=name_of("CN=alice,O=Example"),
        policies=(f"{ARC}.1",),
    )
    assert refused_by(proposal) == {"policies_within_arc", "admin_level_matches_profile"}
