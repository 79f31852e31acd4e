"""Administrator levels: exactly one OID, compared whole."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from spork.errors import Code, SporkError
from spork.policy.levels import ACTIONS, AdminLevel, is_at_or_below, level_named, level_of, level_oid

BASE = "1.3.6.1.4.1.56266.1"


def certificate_with(*policies: str) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "alice")])
    builder = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
    )
    if policies:
        information = [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in policies]
        builder = builder.add_extension(x509.CertificatePolicies(information), critical=False)
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize("level", AdminLevel)
def test_each_level_is_read_from_its_oid(level: AdminLevel) -> None:
    assert level_of(certificate_with("2.23.140.1.2.1", level_oid(level, BASE)), BASE) is level
    assert level_of([level_oid(level, BASE)], BASE) is level


def test_the_oids_are_those_that_are_documented() -> None:
    assert level_oid(AdminLevel.SUPERADMIN, BASE) == "1.3.6.1.4.1.56266.1.20.4"
    assert level_oid(AdminLevel.VIEWER, BASE) == "1.3.6.1.4.1.56266.1.20.1"


@pytest.mark.parametrize(
    "policies",
    [
        pytest.param([], id="no policy"),
        pytest.param(["2.5.29.32.0"], id="any policy is no level"),
        pytest.param([f"{BASE}.20.1", f"{BASE}.20.4"], id="two levels"),
        pytest.param([f"{BASE}.20.4", f"{BASE}.20.4"], id="one level twice"),
        pytest.param([f"{BASE}.20.5"], id="an unknown level"),
        pytest.param([f"{BASE}.20.0"], id="level zero"),
        pytest.param([f"{BASE}.20.4.1"], id="an OID below a level"),
        pytest.param([f"{BASE}.20"], id="the arc itself"),
        pytest.param([f"{BASE}.20.4", f"{BASE}.20"], id="a level and the arc"),
        pytest.param([f"{BASE}.204"], id="an OID whose text begins like the arc"),
        pytest.param([f"{BASE}.20.14"], id="an OID whose text ends like a level"),
        pytest.param(["1.3.6.1.4.1.56266.2.20.4"], id="another installation's arc"),
    ],
)
def test_anything_but_one_level_is_forbidden(policies: list[str]) -> None:
    with pytest.raises(SporkError) as caught:
        level_of(policies, BASE)
    assert caught.value.code is Code.FORBIDDEN


def test_a_certificate_without_policies_is_forbidden() -> None:
    with pytest.raises(SporkError) as caught:
        level_of(certificate_with(), BASE)
    assert caught.value.code is Code.FORBIDDEN


def test_levels_are_ordered() -> None:
    assert AdminLevel.VIEWER < AdminLevel.OPERATOR < AdminLevel.ADMIN < AdminLevel.SUPERADMIN


def test_names_of_levels_are_the_four_words_only() -> None:
    assert [level_named(name) for name in ("viewer", "operator", "admin", "superadmin")] == list(AdminLevel)
    for name in ("VIEWER", "root", "", "admin "):
        with pytest.raises(SporkError):
            level_named(name)


def test_an_arc_holds_itself_and_what_lies_below_it() -> None:
    assert is_at_or_below("1.2.3", "1.2.3")
    assert is_at_or_below("1.2.3.4", "1.2.3")
    assert not is_at_or_below("1.2.30", "1.2.3")
    assert not is_at_or_below("1.2", "1.2.3")


@pytest.mark.parametrize(
    ("action", "level"),
    [
        ("certificate.read", AdminLevel.VIEWER),
        ("audit.read", AdminLevel.VIEWER),
        ("certificate.issue", AdminLevel.OPERATOR),
        ("revocation.read", AdminLevel.OPERATOR),
        ("certificate.revoke", AdminLevel.ADMIN),
        ("crl.publish", AdminLevel.ADMIN),
        ("authority.manage", AdminLevel.SUPERADMIN),
        ("key.manage", AdminLevel.SUPERADMIN),
        ("administrator.manage", AdminLevel.SUPERADMIN),
    ],
)
def test_each_action_has_the_level_that_is_documented(action: str, level: AdminLevel) -> None:
    assert ACTIONS[action] is level
