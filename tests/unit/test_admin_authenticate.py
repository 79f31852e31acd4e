"""Who is an administrator: chains and rows that must be believed, and all those that must not."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from x509_world import CA, NOW, a_name, a_root, a_signer

from spork.api.admin.authenticate import CACHE_SIZE, Administrator, AdministratorRow, Authenticator, limits_of
from spork.clock import FixedClock
from spork.errors import Code, SporkError
from spork.ids import MANAGEMENT_AUTHORITY, AuthorityId, CertificateId
from spork.policy.levels import AdminLevel, level_oid
from spork.x509.authority import Authority, AuthorityKind
from spork.x509.profile import CAConstraints
from spork.x509.profiles import PROFILES

BASE = "1.3.6.1.4.1.56266.1"
OID = {level: level_oid(level, BASE) for level in AdminLevel}
MANAGEMENT = a_root("SPORK Management CA", constraints=CAConstraints(path_length=0))


@dataclass
class Door:
    """An authenticator over a record that a test may change."""

    anchor: CA = field(default_factory=lambda: MANAGEMENT)
    rows: dict[bytes, AdministratorRow] = field(default_factory=dict)
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    reads: int = 0

    def __post_init__(self) -> None:
        self.authenticator = Authenticator(self, self.read, self.clock, BASE)  # type: ignore[arg-type]

    async def authority(self, authority_id: AuthorityId, generation: int | None = None) -> Authority:
        assert authority_id == MANAGEMENT_AUTHORITY
        return replace(self.anchor.authority, id=MANAGEMENT_AUTHORITY, kind=AuthorityKind.MANAGEMENT)

    async def read(self, sha256: bytes) -> AdministratorRow | None:
        self.reads += 1
        return self.rows.get(sha256)

    def record(self, certificate: x509.Certificate, **changes: Any) -> None:
        der = certificate.public_bytes(Encoding.DER)
        row = AdministratorRow(CertificateId(1), MANAGEMENT_AUTHORITY, "issued", der, False, {})
        self.rows[hashlib.sha256(der).digest()] = replace(row, **changes)

    async def ask(self, *chain: x509.Certificate, **scope: Any) -> Administrator:
        pems = [ssl.DER_cert_to_PEM_cert(c.public_bytes(Encoding.DER)) for c in chain]
        return await self.authenticator.authenticate({"extensions": {"tls": {"client_cert_chain": pems}}, **scope})


def an_admin(ca: CA = MANAGEMENT, *, profile: str = "admin-operator", **changes: Any) -> x509.Certificate:
    """A certificate of an operator, with changes."""
    arguments = {"subject": a_name("alice"), "names": (), "policies": (OID[AdminLevel.OPERATOR],), **changes}
    return ca.certify(profile, **arguments)


@pytest.mark.parametrize("level", AdminLevel)
async def test_a_recorded_certificate_of_each_level_is_believed(level: AdminLevel) -> None:
    door = Door()
    certificate = an_admin(policies=(OID[level],))
    door.record(certificate)
    who = await door.ask(certificate, client=("192.0.2.1", 4))
    assert (who.name, who.level, who.issuers, who.address) == ("alice", level, None, "192.0.2.1")
    assert who.identity == f"admin:alice#{certificate.serial_number:032X}"


def _impostor() -> CA:
    """Another CA with the very name of the management CA."""
    return a_root("SPORK Management CA")


_ISSUING = a_root("Root").subordinate("Issuing")

REFUSED: dict[str, Callable[[], x509.Certificate]] = {
    "expired a second ago": lambda: an_admin(not_before=NOW - timedelta(days=2), not_after=NOW - timedelta(seconds=1)),
    "valid from the next second on": lambda: an_admin(not_before=NOW + timedelta(seconds=1)),
    "signed by a CA of the management CA's name": lambda: an_admin(_impostor()),
    "signed by another CA of the tree, with the right level": lambda: an_admin(_ISSUING),
    "signed by itself, under the subject of an administrator": lambda: a_root("alice").certificate,
    "the management CA's own certificate": lambda: MANAGEMENT.certificate,
    "for servers only": lambda: an_admin(profile="tls-server"),
    "for any purpose, which is not said outright": lambda: an_admin(
        profile=replace(PROFILES["admin-operator"], extended_key_usage=("2.5.29.37.0",))
    ),
    "for no stated purpose": lambda: an_admin(profile=replace(PROFILES["admin-operator"], extended_key_usage=())),
    "an OCSP responder's": lambda: an_admin(profile="ocsp-signing"),
    "without a level": lambda: an_admin(policies=()),
    "with two levels": lambda: an_admin(policies=(OID[AdminLevel.OPERATOR], OID[AdminLevel.VIEWER])),
    "with a fifth level": lambda: an_admin(policies=(f"{BASE}.20.5",)),
    "with a level of level zero": lambda: an_admin(policies=(f"{BASE}.20.0",)),
    "with the arc alone": lambda: an_admin(policies=(f"{BASE}.20",)),
    "with an OID below a level": lambda: an_admin(policies=(f"{BASE}.20.4.1",)),
    "with an OID that only begins like a level": lambda: an_admin(policies=(f"{BASE}.20.41",)),
    "with a level beside an unknown one": lambda: an_admin(policies=(OID[AdminLevel.VIEWER], f"{BASE}.20.9")),
    "with any policy": lambda: an_admin(policies=("2.5.29.32.0",)),
    "with the level of another installation's arc": lambda: an_admin(policies=("1.3.6.1.4.1.99999.1.20.4",)),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_certificate_is_refused_although_it_is_recorded(name: str) -> None:
    door = Door()
    certificate = REFUSED[name]()
    door.record(certificate)
    with pytest.raises(SporkError) as refused:
        await door.ask(certificate)
    assert refused.value.code in (Code.UNAUTHENTICATED, Code.FORBIDDEN)


@pytest.mark.parametrize("name", ["SPORK Management CA", "Another name"])
async def test_a_subordinate_of_the_management_ca_makes_no_administrators(name: str) -> None:
    anchor = a_root("SPORK Management CA")
    below = anchor.subordinate(name)
    certificate = an_admin(below)
    door = Door(anchor)
    door.record(certificate)
    for chain in ((certificate,), (certificate, below.certificate)):
        with pytest.raises(SporkError, match="unauthenticated"):
            await door.ask(*chain)


async def test_a_chain_sent_along_cannot_bring_its_own_anchor() -> None:
    impostor = _impostor()
    certificate = an_admin(impostor)
    door = Door()
    door.record(certificate)
    with pytest.raises(SporkError, match="unauthenticated"):
        await door.ask(certificate, impostor.certificate)


@pytest.mark.parametrize(
    "change",
    [
        {"revoked": True},
        {"state": "reserved"},
        {"state": "abandoned"},
        {"authority_id": "test-web-issuing-ca"},
        {"der": b"another"},
        {"der": None},
    ],
    ids=["revoked or held", "reserved", "abandoned", "of another authority", "with another DER", "without a DER"],
)
async def test_a_row_that_does_not_vouch_for_the_certificate_refuses_it(change: dict[str, Any]) -> None:
    door = Door()
    certificate = an_admin()
    door.record(certificate, **change)
    with pytest.raises(SporkError) as refused:
        await door.ask(certificate)
    assert refused.value.code is Code.UNAUTHENTICATED


async def test_a_missing_row_refuses_the_best_certificate() -> None:
    with pytest.raises(SporkError, match="no record"):
        await Door().ask(an_admin())


async def test_revocation_and_expiry_count_on_the_next_request_although_the_chain_is_remembered() -> None:
    door = Door()
    certificate = an_admin(not_after=NOW + timedelta(hours=1))
    door.record(certificate)
    await door.ask(certificate)
    door.record(certificate, revoked=True)
    with pytest.raises(SporkError, match="revoked or on hold"):
        await door.ask(certificate)
    door.record(certificate)
    await door.ask(certificate)
    door.clock.current = NOW + timedelta(hours=1)
    await door.ask(certificate)
    door.clock.current = NOW + timedelta(hours=1, seconds=1)
    with pytest.raises(SporkError, match="not now"):
        await door.ask(certificate)
    assert door.reads == 4, "each request that gets as far as the record reads it"


async def test_a_new_management_ca_ends_what_was_remembered_of_the_old_one() -> None:
    door = Door()
    certificate = an_admin()
    door.record(certificate)
    await door.ask(certificate)
    door.anchor = _impostor()
    with pytest.raises(SporkError, match="unauthenticated"):
        await door.ask(certificate)


async def test_refusals_are_not_remembered_and_the_memory_is_bounded() -> None:
    door = Door()
    with pytest.raises(SporkError):
        await door.ask(an_admin(policies=()))
    assert len(door.authenticator._good) == 0
    door.authenticator._good.update({bytes([n // 256, n % 256]): None for n in range(CACHE_SIZE)})  # type: ignore[misc]
    certificate = an_admin()
    door.record(certificate)
    await door.ask(certificate)
    assert len(door.authenticator._good) == CACHE_SIZE


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"extensions": {}},
        {"extensions": {"tls": None}},
        {"extensions": {"tls": {}}},
        {"extensions": {"tls": {"client_cert_chain": []}}},
        {"extensions": {"tls": {"client_cert_chain": ["not a certificate"]}}},
        {"extensions": {"tls": {"client_cert_chain": ["\u00e9"]}}},
        {"extensions": {"tls": {"client_cert_chain": [""]}}},
    ],
)
async def test_no_readable_certificate_is_unauthenticated(scope: dict[str, Any]) -> None:
    with pytest.raises(SporkError) as refused:
        await Door().authenticator.authenticate(scope)
    assert refused.value.code is Code.UNAUTHENTICATED


async def test_headers_make_nobody_an_administrator() -> None:
    door = Door()
    certificate = an_admin()
    door.record(certificate)
    pem = ssl.DER_cert_to_PEM_cert(certificate.public_bytes(Encoding.DER)).replace("\n", "%0A").encode()
    names = ("x-client-cert", "x-forwarded-client-cert", "x-ssl-client-cert", "ssl-client-cert", "client-cert")
    headers = [(name.encode(), pem) for name in names] + [(b"x-client-verify", b"SUCCESS")]
    with pytest.raises(SporkError, match="No client certificate"):
        await door.authenticator.authenticate({"headers": headers})


async def test_a_huge_certificate_is_refused_before_it_is_parsed() -> None:
    pem = ssl.DER_cert_to_PEM_cert(b"0" * 40_000)
    with pytest.raises(SporkError, match="too large"):
        await Door().authenticator.authenticate({"extensions": {"tls": {"client_cert_chain": [pem]}}})


async def test_an_rsa_administrator_works_as_well() -> None:
    door = Door()
    certificate = an_admin(spki=a_signer("rsa-2048").spki)
    door.record(certificate)
    assert (await door.ask(certificate)).level is AdminLevel.OPERATOR


@pytest.mark.parametrize(
    ("attributes", "limits"),
    [
        ({}, None),
        ({"issuers": None}, None),
        ({"issuers": []}, frozenset()),
        ({"issuers": ["web"]}, frozenset({"web"})),
        ({"issuers": "web"}, frozenset()),
        ({"issuers": [1]}, frozenset()),
        ({"issuers": {"web": True}}, frozenset()),
    ],
)
def test_limits_that_cannot_be_read_grant_nothing(attributes: dict[str, Any], limits: frozenset[str] | None) -> None:
    assert limits_of(attributes) == limits
