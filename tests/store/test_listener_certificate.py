"""Which CA signs the TLS certificate of the listeners."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spork.bootstrap import ensure_management_ca
from spork.clock import FixedClock
from spork.hierarchy.build import Workshop, build
from spork.hierarchy.load import load_text
from spork.ids import MANAGEMENT_AUTHORITY
from spork.keys.passphrase import Passphrases
from spork.listener import PROFILE, ListenerCertificate
from spork.services import wire
from spork.settings import load_settings
from spork.store.database import Database
from spork.store.held import held_certificates

pytestmark = pytest.mark.store

_TREE = """
[root]
common_name = "Root CA"
algorithm = "{root}"
validity_years = 20
[[issuing_cas]]
common_name = "Issuing CA"
algorithm = "{issuing}"
validity_years = 5
[[issuers]]
name = "one"
ca = "issuing-ca"
profiles = ["{profile}"]
names.permit.dns = ["**.test"]
"""


async def test_a_certificate_from_before_the_tree_is_replaced_once_it_is_there(
    database: Database, tmp_path: Path
) -> None:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    passphrases = {kind: Passphrases(b"a passphrase for tests") for kind in ("online", "sealed")}
    services = await wire(load_settings(environment={}, home=tmp_path), database, passphrases, create=True, clock=clock)
    await ensure_management_ca(services)
    listener = ListenerCertificate(services, [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)])
    await listener.ensure()
    before = await held_certificates(database, PROFILE, clock.now())
    tree = load_text(_TREE.format(root="ecdsa-p256", issuing="ecdsa-p256", profile="tls-server"))
    await build(tree, services.workshop)
    for _ in range(3):
        await listener.ensure()
    after = await held_certificates(database, PROFILE, clock.now())
    assert [str(one.authority_id) for one in before] == [MANAGEMENT_AUTHORITY]
    assert sorted(str(one.authority_id) for one in after) == ["issuing-ca", MANAGEMENT_AUTHORITY]


async def test_a_tree_that_may_not_certify_the_listeners_is_asked_once(database: Database, tmp_path: Path) -> None:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    passphrases = {kind: Passphrases(b"a passphrase for tests") for kind in ("online", "sealed")}
    services = await wire(load_settings(environment={}, home=tmp_path), database, passphrases, create=True, clock=clock)
    await ensure_management_ca(services)
    text = _TREE.format(root="ecdsa-p256", issuing="ecdsa-p256", profile="tls-server")
    limited = text.replace("[[issuing_cas]]", '[[issuing_cas]]\nname_constraints.permitted.dns = ["elsewhere.test"]')
    await build(load_text(limited), services.workshop)
    listener = ListenerCertificate(services, [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)])
    for _ in range(3):
        await listener.ensure()
    row = await (await database.execute("SELECT count(*) FROM private_key WHERE purpose = 'listener'")).fetchone()
    assert row == (2,)


async def _signer(database: Database, home: Path, root: str, issuing: str, profile: str) -> str:
    """The CA that the certificate came from, after a TLS context took it."""
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    passphrases = {kind: Passphrases(b"a passphrase for tests") for kind in ("online", "sealed")}
    services = await wire(load_settings(environment={}, home=home), database, passphrases, create=True, clock=clock)
    await ensure_management_ca(services)
    workshop = Workshop(
        services.authorities, services.keys, services.keys, services.pipeline, clock, services.settings.url_of_status()
    )
    await build(load_text(_TREE.format(root=root, issuing=issuing, profile=profile)), workshop)
    await ListenerCertificate(services, [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)]).ensure()
    (held,) = await held_certificates(database, PROFILE, clock.now())
    return str(held.authority_id)


async def test_a_ca_for_tls_servers_certifies_the_listeners(database: Database, tmp_path: Path) -> None:
    assert await _signer(database, tmp_path, "ecdsa-p384", "ecdsa-p256", "tls-server") == "issuing-ca"


@pytest.mark.parametrize(("root", "issuing"), [("ml-dsa-65", "ml-dsa-65"), ("ml-dsa-87", "ecdsa-p256")])
async def test_a_post_quantum_tree_leaves_the_listeners_to_the_management_ca(
    database: Database, tmp_path: Path, root: str, issuing: str
) -> None:
    assert await _signer(database, tmp_path, root, issuing, "tls-server") == "management"


async def test_a_ca_for_devices_does_not_certify_the_listeners(database: Database, tmp_path: Path) -> None:
    assert await _signer(database, tmp_path, "ecdsa-p384", "ecdsa-p256", "device") == "management"
