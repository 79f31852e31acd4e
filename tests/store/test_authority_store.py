from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from store_builders import NOW, a_reservation, a_revocation, an_event, issued, one, plant_authority

from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.ids import AuthorityId, KeyId, Serial
from spork.issuance.ports import AuditEvent, KeyEncryptionKey, WrappedKey
from spork.issuance.tree import ImportedCertificate, NewAuthority, NewGeneration
from spork.store.authority import Authorities
from spork.store.certificate import CertificateLedger
from spork.store.certificate_search import CertificateRecords
from spork.store.configuration import watch_of
from spork.store.database import Database
from spork.store.private_key import KeyRecords
from spork.store.revocation import RevocationLedger
from spork.x509.authority import AuthorityKind, AuthorityURLs, KeyMode
from spork.x509.der import KeyPurpose

pytestmark = pytest.mark.store

URLS = AuthorityURLs(crl=("http://ca.test/crl/{shard}.crl",), ocsp=("http://ca.test/ocsp",))
ROOT, POLICY, ISSUING = AuthorityId("root"), AuthorityId("policy"), AuthorityId("issuing")


@dataclass(frozen=True)
class Key:
    """A CA's key and name."""

    name: x509.Name
    private: ec.EllipticCurvePrivateKey

    @property
    def spki(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def certificate(self, subject: Key, *, with_identifier: bool = True) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder(self.name, subject.name, subject.private.public_key(), x509.random_serial_number())
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=365))
            .add_extension(x509.BasicConstraints(True, None), critical=True)
        )
        if with_identifier:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private.public_key())
            builder = builder.add_extension(identifier, critical=False)
        return builder.sign(self.private, hashes.SHA256())


def a_ca(common_name: str) -> Key:
    return Key(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]), ec.generate_private_key(ec.SECP256R1())
    )


def a_generation(key: Key, number: int = 1, key_id: KeyId | None = None) -> NewGeneration:
    return NewGeneration(number, key_id, "ecdsa-p256", key.spki, URLS)


def a_new(authority_id: AuthorityId, key: Key, kind: AuthorityKind, parent: AuthorityId | None = None) -> NewAuthority:
    spec = {"subject": key.name.rfc4514_string()}
    return NewAuthority(authority_id, kind, parent, key.name.public_bytes(), KeyMode.ONLINE, spec, 4, a_generation(key))


def an_audit(authority_id: str) -> AuditEvent:
    return an_event("authority.change", f"authority:{authority_id}")


async def certify(
    store: Authorities, authority_id: AuthorityId, certificate: x509.Certificate, generation: int = 1
) -> None:
    der = certificate.public_bytes(Encoding.DER)
    await store.set_certificate(
        authority_id, generation, der, certificate.not_valid_after_utc, {"built": 1}, an_audit(authority_id)
    )


@dataclass(frozen=True)
class Tree:
    root: Key
    policy: Key
    issuing: Key
    root_certificate: x509.Certificate
    policy_certificate: x509.Certificate
    issuing_certificate: x509.Certificate


@pytest.fixture
def authorities(database: Database) -> Authorities:
    return Authorities(database)


@pytest.fixture
async def tree(authorities: Authorities) -> Tree:
    root, policy, issuing = a_ca("Root"), a_ca("Policy"), a_ca("Issuing")
    certificates = root.certificate(root), root.certificate(policy), policy.certificate(issuing)
    await authorities.create_authority(a_new(ROOT, root, AuthorityKind.ROOT), an_audit("root"))
    await authorities.create_authority(a_new(POLICY, policy, AuthorityKind.POLICY, ROOT), an_audit("policy"))
    await authorities.create_authority(a_new(ISSUING, issuing, AuthorityKind.ISSUING, POLICY), an_audit("issuing"))
    for authority_id, certificate in zip((ROOT, POLICY, ISSUING), certificates, strict=True):
        await certify(authorities, authority_id, certificate)
    return Tree(root, policy, issuing, *certificates)


async def test_a_snapshot_has_names_key_urls_and_the_chain_to_the_root(authorities: Authorities, tree: Tree) -> None:
    found = await authorities.authority(ISSUING)
    assert (found.kind, found.generation, found.key_mode, found.parent_id) == (
        AuthorityKind.ISSUING,
        1,
        KeyMode.ONLINE,
        POLICY,
    )
    assert (found.subject, found.spki, found.algorithm.name) == (tree.issuing.name, tree.issuing.spki, "ecdsa-p256")
    assert (
        found.subject_key_identifier
        == x509.SubjectKeyIdentifier.from_public_key(tree.issuing.private.public_key()).digest
    )
    assert (found.urls, found.crl_shards) == (URLS, 4)
    assert found.certificate == tree.issuing_certificate
    assert found.chain == (tree.policy_certificate, tree.root_certificate)
    assert (await authorities.authority(ROOT)).chain == ()
    assert [authority.id for authority in await authorities.all()] == [ROOT, POLICY, ISSUING]
    assert await authorities.ca_spkis() == {
        hashlib.sha256(key.spki).digest() for key in (tree.root, tree.policy, tree.issuing)
    }


async def test_key_hashes_are_those_that_ocsp_asks_by(tree: Tree, database: Database) -> None:
    row = await one(
        database,
        "SELECT spki_sha256, key_identifier, key_sha256 FROM authority_generation WHERE authority_id = 'issuing'",
    )
    octets = tree.issuing.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert row == (
        hashlib.sha256(tree.issuing.spki).digest(),
        hashlib.sha1(octets).digest(),
        hashlib.sha256(octets).digest(),
    )


async def test_an_authority_without_a_certificate_is_there_for_its_own_signing(authorities: Authorities) -> None:
    await authorities.create_authority(a_new(ROOT, a_ca("Root"), AuthorityKind.ROOT), an_audit("root"))
    found = await authorities.authority(ROOT)
    assert (found.certificate, found.chain, found.not_after) == (None, (), None)


@pytest.mark.parametrize(("name", "generation"), [("nobody", None), ("issuing", 2), ("", None)])
async def test_an_authority_that_is_not_there_is_not_found(
    authorities: Authorities, tree: Tree, name: str, generation: int | None
) -> None:
    with pytest.raises(SporkError) as caught:
        await authorities.authority(AuthorityId(name), generation)
    assert caught.value.code is Code.NOT_FOUND


async def test_reading_again_asks_nothing_for_half_a_second(
    authorities: Authorities, tree: Tree, database: Database
) -> None:
    await authorities.authority(ISSUING)
    database.statistics.reset()
    for _ in range(100):
        await authorities.authority(ISSUING)
        await authorities.ca_spkis()
    assert database.statistics.round_trips <= 1


async def test_an_unchanged_configuration_costs_one_cheap_statement(
    authorities: Authorities, tree: Tree, database: Database
) -> None:
    await authorities.authority(ISSUING)
    watch_of(database).forget()
    database.statistics.reset()
    await asyncio.gather(*(authorities.authority(ISSUING) for _ in range(20)))
    assert database.statistics.round_trips == 1


async def test_another_replica_sees_a_change_within_half_a_second(
    authorities: Authorities, tree: Tree, database_url: str
) -> None:
    other_database = await Database.open(database_url, min_size=1)
    other = Authorities(other_database)
    assert (await other.authority(ISSUING)).crl_shards == 4
    await authorities.update_authority(ISSUING, {"new": 1}, 8, 1, AuthorityURLs(), an_audit("issuing"))
    assert ((await authorities.authority(ISSUING)).crl_shards, (await authorities.authority(ISSUING)).urls) == (
        8,
        AuthorityURLs(),
    )
    for _ in range(100):
        if (await other.authority(ISSUING)).crl_shards == 8:
            break
        await asyncio.sleep(0.1)
    assert (await other.authority(ISSUING)).crl_shards == 8
    await other_database.close()


async def test_each_change_is_notified_and_audited(authorities: Authorities, tree: Tree, database: Database) -> None:
    before = await one(database, "SELECT version, (SELECT count(*) FROM audit_event) FROM configuration_version")
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as listener:
        await listener.execute("LISTEN spork_configuration")
        await authorities.set_pending_csr(ISSUING, 1, b"csr", an_audit("issuing"))
        heard = [message.payload async for message in listener.notifies(timeout=1.0, stop_after=1)]
    assert heard == [str(before[0] + 1)]
    assert await one(database, "SELECT version, (SELECT count(*) FROM audit_event) FROM configuration_version") == (
        before[0] + 1,
        before[1] + 1,
    )


async def test_creating_it_again_is_no_conflict(authorities: Authorities, tree: Tree, database: Database) -> None:
    before = await one(database, "SELECT version, (SELECT count(*) FROM audit_event) FROM configuration_version")
    await authorities.create_authority(a_new(POLICY, tree.policy, AuthorityKind.POLICY, ROOT), an_audit("policy"))
    assert (
        await one(database, "SELECT version, (SELECT count(*) FROM audit_event) FROM configuration_version") == before
    )


@pytest.mark.parametrize("taken", ["id", "name", "key"])
async def test_creating_what_is_taken_is_a_conflict(authorities: Authorities, tree: Tree, taken: str) -> None:
    fresh = a_new(AuthorityId("new"), a_ca("New"), AuthorityKind.POLICY, ROOT)
    clash = {
        "id": replace(fresh, id=POLICY),
        "name": replace(fresh, subject_der=tree.policy.name.public_bytes()),
        "key": replace(fresh, first=a_generation(tree.policy)),
    }[taken]
    with pytest.raises(SporkError) as caught:
        await authorities.create_authority(clash, an_audit("new"))
    assert caught.value.code is Code.CONFLICT
    assert set((await authorities.read_tree()).authorities) == {ROOT, POLICY, ISSUING}


async def test_a_second_generation_signs_only_after_the_switch(authorities: Authorities, tree: Tree) -> None:
    second = a_ca("Issuing")
    await authorities.add_generation(ISSUING, a_generation(second, 2), an_audit("issuing"))
    await authorities.add_generation(ISSUING, a_generation(second, 2), an_audit("issuing"))
    with pytest.raises(SporkError) as caught:
        await authorities.switch_generation(ISSUING, 2, an_audit("issuing"))
    assert caught.value.code is Code.NOT_FOUND
    await certify(authorities, ISSUING, tree.policy.certificate(second), 2)
    assert (await authorities.authority(ISSUING)).generation == 1
    await authorities.switch_generation(ISSUING, 2, an_audit("issuing"))
    assert (await authorities.authority(ISSUING)).spki == second.spki
    assert [authority.generation for authority in await authorities.generations(ISSUING)] == [1, 2]
    assert (await authorities.authority(ISSUING, 1)).spki == tree.issuing.spki


async def test_the_chain_goes_through_the_generation_that_signed(authorities: Authorities, tree: Tree) -> None:
    second = a_ca("Policy")
    await authorities.add_generation(POLICY, a_generation(second, 2), an_audit("policy"))
    renewed = tree.root.certificate(second)
    await certify(authorities, POLICY, renewed, 2)
    await authorities.switch_generation(POLICY, 2, an_audit("policy"))
    assert (await authorities.authority(ISSUING)).chain == (tree.policy_certificate, tree.root_certificate)
    await certify(authorities, ISSUING, second.certificate(tree.issuing))
    assert (await authorities.authority(ISSUING)).chain == (renewed, tree.root_certificate)


async def test_a_certificate_without_key_identifier_is_chained_where_there_is_no_doubt(
    authorities: Authorities, tree: Tree
) -> None:
    await certify(authorities, ISSUING, tree.policy.certificate(tree.issuing, with_identifier=False))
    assert (await authorities.authority(ISSUING)).chain == (tree.policy_certificate, tree.root_certificate)


async def test_a_certificate_drops_the_pending_request(authorities: Authorities, tree: Tree) -> None:
    await authorities.set_pending_csr(ISSUING, 1, b"csr", an_audit("issuing"))
    state = (await authorities.read_tree()).authorities[ISSUING]
    assert state.current is not None
    assert state.current.pending_csr == b"csr"
    await certify(authorities, ISSUING, tree.issuing_certificate)
    state = (await authorities.read_tree()).authorities[ISSUING]
    assert state.current is not None
    assert (state.current.pending_csr, state.spec) == (None, {"built": 1})


@pytest.mark.parametrize(
    "call", ["set_certificate", "set_pending_csr", "update", "switch", "disable", "add_generation"]
)
async def test_changing_what_is_not_there_changes_nothing(
    authorities: Authorities, tree: Tree, database: Database, call: str
) -> None:
    nobody, audit = AuthorityId("nobody"), an_audit("nobody")
    events = await one(database, "SELECT count(*) FROM audit_event")
    work = {
        "set_certificate": lambda: authorities.set_certificate(ISSUING, 9, b"der", NOW, {}, audit),
        "set_pending_csr": lambda: authorities.set_pending_csr(nobody, 1, b"csr", audit),
        "update": lambda: authorities.update_authority(ISSUING, {}, 2, 9, URLS, audit),
        "switch": lambda: authorities.switch_generation(ISSUING, 9, audit),
        "disable": lambda: authorities.disable_authority(nobody, audit),
        "add_generation": lambda: authorities.add_generation(nobody, a_generation(a_ca("Nobody")), audit),
    }[call]
    with pytest.raises(SporkError) as caught:
        await work()
    assert caught.value.code is Code.NOT_FOUND
    assert await one(database, "SELECT count(*) FROM audit_event") == events
    assert (await authorities.authority(ISSUING)).crl_shards == 4


async def test_a_disabled_authority_issues_no_more_and_is_still_readable(authorities: Authorities, tree: Tree) -> None:
    await authorities.disable_authority(ISSUING, an_audit("issuing"))
    assert [authority.id for authority in await authorities.all()] == [ROOT, POLICY]
    assert (await authorities.authority(ISSUING)).id == ISSUING
    assert (await authorities.read_tree()).authorities[ISSUING].disabled


def _imported(tree: Tree, certificate: x509.Certificate, **more: object) -> ImportedCertificate:
    der = certificate.public_bytes(Encoding.DER)
    values = {
        "authority_id": ISSUING,
        "generation": 1,
        "issuer_id": POLICY,
        "issuer_generation": 1,
        "profile": "issuing-ca",
        "serial": certificate.serial_number,
        "subject": "CN=Issuing",
        "spki_sha256": hashlib.sha256(tree.issuing.spki).digest(),
        "not_before": NOW,
        "not_after": certificate.not_valid_after_utc,
        "der": der,
    }
    return ImportedCertificate(**{**values, **more})  # type: ignore[arg-type]


async def test_an_imported_certificate_is_recorded_once_as_issued(
    authorities: Authorities, tree: Tree, database: Database
) -> None:
    imported = _imported(tree, tree.policy.certificate(tree.issuing))
    first = await authorities.import_certificate(imported, {"built": 2}, an_audit("issuing"))
    assert await authorities.import_certificate(imported, {"built": 2}, an_audit("issuing")) == first
    row = await CertificateRecords(database).by_serial(POLICY, Serial(imported.serial))
    assert row is not None
    assert (row.id, row.state, row.profile, row.der) == (first, "issued", "issuing-ca", imported.der)
    assert await one(database, "SELECT crl_shard FROM certificate") == (1 + imported.serial % 4,)
    found = (await authorities.authority(ISSUING)).certificate
    assert found is not None
    assert found.public_bytes(Encoding.DER) == imported.der


async def test_an_import_that_repeats_a_serial_is_refused_whole(authorities: Authorities, tree: Tree) -> None:
    first = _imported(tree, tree.policy.certificate(tree.issuing))
    await authorities.import_certificate(first, {}, an_audit("issuing"))
    other = _imported(tree, tree.policy.certificate(tree.issuing), serial=first.serial)
    with pytest.raises(SporkError) as caught:
        await authorities.import_certificate(other, {}, an_audit("issuing"))
    assert caught.value.code is Code.CONFLICT
    found = (await authorities.authority(ISSUING)).certificate
    assert found is not None
    assert found.serial_number == first.serial


async def test_the_tree_counts_live_certificates_without_the_cas_own_and_its_responders(
    authorities: Authorities, tree: Tree, database: Database
) -> None:
    ledger = CertificateLedger(database)
    own = hashlib.sha256(tree.root.spki).digest()
    await issued(ledger, a_reservation(authority_id=ROOT, spki_sha256=own))
    await issued(ledger, a_reservation(authority_id=ROOT))
    # Every CA in service has one, made by `spork serve` again and again: counted, no CA could ever be taken out of the tree.
    await issued(ledger, a_reservation(authority_id=ROOT, profile="ocsp-signing"))
    revoked = await issued(ledger, a_reservation(authority_id=ROOT))
    await RevocationLedger(database).revoke(a_revocation(revoked.certificate_id), an_event())
    assert (await authorities.read_tree()).authorities[ROOT].live_certificates == 1


async def test_the_management_ca_is_not_in_the_tree(authorities: Authorities, tree: Tree, database: Database) -> None:
    await plant_authority(database, "management", kind="management")
    assert set((await authorities.read_tree()).authorities) == {ROOT, POLICY, ISSUING}


async def test_cross_certificates_are_listed_while_they_live(
    authorities: Authorities, tree: Tree, database: Database
) -> None:
    ledger, spki = CertificateLedger(database), hashlib.sha256(tree.issuing.spki).digest()
    der = tree.root.certificate(tree.issuing).public_bytes(Encoding.DER)
    attributes = {"cross": {"id": "x1", "spec": {"years": 1}}}
    cross = a_reservation(authority_id=ROOT, profile="cross", spki_sha256=spki, attributes=attributes)
    recorded = await issued(ledger, cross, der)
    assert [found.public_bytes(Encoding.DER) for found in await authorities.cross_certificates(ISSUING, 1)] == [der]
    state = (await authorities.read_tree()).cross_certificates
    assert [(one.id, one.issuer_id, one.spec, one.certificate_der) for one in state] == [
        ("x1", ROOT, {"years": 1}, der)
    ]
    await RevocationLedger(database).revoke(a_revocation(recorded.certificate_id), an_event())
    assert list(await authorities.cross_certificates(ISSUING, 1)) == []
    assert (await authorities.read_tree()).cross_certificates == ()


async def test_the_tree_is_built_by_one_process_at_a_time(authorities: Authorities, database_url: str) -> None:
    other_database = await Database.open(database_url, min_size=1)
    other = Authorities(other_database)
    async with authorities.lock():
        with pytest.raises(SporkError) as caught:
            async with other.lock():
                pass
        assert caught.value.code is Code.CONFLICT
    async with other.lock():
        pass
    await other_database.close()


async def test_a_key_that_a_killed_process_left_is_found_again(authorities: Authorities, database: Database) -> None:
    keys = KeyRecords(database)
    await keys.add_kek(KeyEncryptionKey("kek", "online", b"salt", 65536, 3, 1, b"verifier", True))
    key = a_ca("Issuing")
    for number in ("first", "second"):
        wrapped = WrappedKey(KeyId(number), KeyPurpose.CA, "ecdsa-p256", a_ca(number).spki, "kek", b"w", b"c")
        if number == "second":
            wrapped = replace(wrapped, spki=key.spki)
        await keys.add_key(wrapped, AuditEvent("key.generate", "host", "authority:issuing", {"key_id": number}))
    assert await authorities.unused_key(ISSUING, "ecdsa-p256", "online") == ("second", key.spki)
    assert await authorities.unused_key(ISSUING, "ecdsa-p256", "sealed") is None
    assert await authorities.unused_key(ISSUING, "rsa-2048", "online") is None
    assert await authorities.unused_key(POLICY, "ecdsa-p256", "online") is None
    new = a_new(ISSUING, key, AuthorityKind.ISSUING)
    await authorities.create_authority(replace(new, first=a_generation(key, 1, KeyId("second"))), an_audit("issuing"))
    found = await authorities.unused_key(ISSUING, "ecdsa-p256", "online")
    assert found is not None
    assert found[0] == "first"


async def test_snapshots_outlive_an_absent_database(authorities: Authorities, tree: Tree, database: Database) -> None:
    await authorities.authority(ISSUING)
    await database.close()
    watch_of(database).forget()
    assert (await authorities.authority(ISSUING)).id == ISSUING
    with pytest.raises(DatabaseUnavailable):
        await Authorities(database).read_tree()
