"""Keys that are elsewhere: requests go out, and only what was declared and asked for comes in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from tree_world import NOW, TREE, World, a_tree
from x509_world import a_signer

from spork.errors import Code, SporkError
from spork.hierarchy.build import Built, build, make_plan
from spork.hierarchy.model import Hierarchy
from spork.hierarchy.offline import import_certificate, import_csr
from spork.hierarchy.output import csr_pem
from spork.hierarchy.snapshot import PROFILE_OF, declared_snapshot
from spork.ids import AuthorityId, new_serial
from spork.keys.software import SoftwareSigner
from spork.x509.csr import build_csr, parse_csr
from spork.x509.der import sign
from spork.x509.profiles import profile_named
from spork.x509.template import build_tbs

TREE_BELOW_OFFLINE_ROOT = a_tree(TREE, ('"Root"', '"Root"\nkey_mode = "offline"'))
ISSUING_OFFLINE = a_tree(TREE.partition("[[issuers]]")[0], ('"Issuing"', '"Issuing"\nkey_mode = "offline"'))


class Elsewhere:
    """Another machine with the root's key."""

    def __init__(self, tree: Hierarchy, *, signer: SoftwareSigner | None = None) -> None:
        self.tree = tree
        self.signer = signer or a_signer()
        self.root: x509.Certificate | None = None

    def sign(self, name: str = "root", csr: bytes | None = None, **changes: Any) -> x509.Certificate:
        """What the root's key signs: its own certificate, or that of the declared CA whose request came."""
        declared = self.tree.by_id[AuthorityId(name)]
        authority = declared_snapshot(
            self.tree.root,
            generation=1,
            key_id=None,
            spki=self.signer.spki,
            certificate=self.root,
            chain=(),
            urls=self.tree.root.urls_of(1, "http://pki.example"),
        )
        arguments: dict[str, Any] = {
            "profile": profile_named(PROFILE_OF[declared.kind]),
            "authority": authority,
            "subject": declared.subject,
            "names": (),
            "spki": self.signer.spki if csr is None else parse_csr(csr).spki,
            "serial": new_serial(),
            "not_before": NOW,
            "not_after": declared.validity.end(NOW),
            "signature": self.signer.algorithm,
            "constraints": declared.constraints,
        }
        signed = x509.load_der_x509_certificate(sign(build_tbs(**{**arguments, **changes}), self.signer))
        if csr is None:
            self.root = signed
        return signed


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


async def with_root() -> tuple[World, Elsewhere, bytes]:
    """A tree whose offline root is imported, and the request of its policy CA."""
    world, elsewhere = World(), Elsewhere(TREE_BELOW_OFFLINE_ROOT)
    await import_certificate(TREE_BELOW_OFFLINE_ROOT, world.workshop, pem(elsewhere.sign()))
    built: Built = await build(TREE_BELOW_OFFLINE_ROOT, world.workshop)
    return world, elsewhere, built.requests[AuthorityId("policy")]


async def test_a_tree_below_an_offline_root_is_built_in_three_steps() -> None:
    world, elsewhere, csr = await with_root()
    assert list(world.store.authorities) == ["root", "policy"]
    assert (await make_plan(TREE_BELOW_OFFLINE_ROOT, world.workshop)).changes == (), "it waits for the answer"
    answer = pem(elsewhere.sign("policy", csr))
    assert await import_certificate(TREE_BELOW_OFFLINE_ROOT, world.workshop, answer) == "policy"
    await import_certificate(TREE_BELOW_OFFLINE_ROOT, world.workshop, answer)
    built = await build(TREE_BELOW_OFFLINE_ROOT, world.workshop)
    assert built.requests == {}
    assert list(world.store.authorities) == ["root", "policy", "issuing"]
    assert (await make_plan(TREE_BELOW_OFFLINE_ROOT, world.workshop)).changes == ()
    assert [(one.authority_id, one.issuer_id, one.profile) for one in world.store.imported] == [
        ("root", "root", "root"),
        ("policy", "root", "policy-ca"),
    ]


async def test_a_certificate_below_an_offline_ca_has_a_crl_and_no_ocsp_url() -> None:
    _, elsewhere, csr = await with_root()
    extensions = elsewhere.sign("policy", csr).extensions
    access = extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [one.access_method.dotted_string for one in access] == ["1.3.6.1.5.5.7.48.2"]
    assert extensions.get_extension_for_class(x509.CRLDistributionPoints).value


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        pytest.param({"not_after": NOW + timedelta(days=365 * 11)}, "declared is 10 years", id="it lives too long"),
        pytest.param({"not_after": NOW + timedelta(days=365 * 5)}, "lives only", id="it lives too short"),
        pytest.param({"not_before": datetime(2027, 6, 1, tzinfo=UTC)}, "valid", id="it is not valid yet"),
        pytest.param(
            {"constraints": a_tree().root.constraints}, "path length is unlimited", id="its path length is another one"
        ),
        pytest.param(
            {
                "constraints": a_tree(TREE, ('"Policy"', '"Policy"\nname_constraints.excluded.dns = ["x"]'))
                .authorities[1]
                .constraints
            },
            "name constraints are not the declared ones",
            id="it has name constraints",
        ),
        pytest.param(
            {
                "constraints": a_tree(TREE, ('"Policy"', '"Policy"\nextended_key_usage = ["serverAuth"]'))
                .authorities[1]
                .constraints
            },
            "extended key usages are not",
            id="it is limited to other usages",
        ),
        pytest.param(
            {
                "constraints": a_tree(TREE, ('"Policy"', '"Policy"\npolicies = ["2.5.29.32.0", "1.2.3.4"]'))
                .authorities[1]
                .constraints
            },
            r"certificate policies are not the declared ones: it has 1\.2\.3\.4, 2\.5\.29\.32\.0 \(any policy\), declared is 2\.5",
            id="it has other policies",
        ),
        pytest.param({"profile": profile_named("tls-server")}, "not a certificate of a CA", id="it is no CA"),
        pytest.param(
            {"spki": a_signer().spki},
            "its key is not the one that the request was made for",
            id="it is for another key",
        ),
        pytest.param(
            {"spki": a_signer("ed25519").spki},
            "its key is ed25519, declared is ecdsa-p256",
            id="it is for another kind of key",
        ),
        pytest.param(
            {"subject": x509.Name.from_rfc4514_string("CN=Elsewhere")},
            "No CA with the name",
            id="it is for another name",
        ),
    ],
)
async def test_an_answer_that_is_not_what_was_asked_for_is_refused(changes: dict[str, Any], fault: str) -> None:
    world, elsewhere, csr = await with_root()
    with pytest.raises(SporkError, match=fault):
        await import_certificate(TREE_BELOW_OFFLINE_ROOT, world.workshop, pem(elsewhere.sign("policy", csr, **changes)))
    assert len(world.store.imported) == 1


async def test_an_answer_signed_by_another_key_is_refused() -> None:
    world, _, csr = await with_root()
    imposter = Elsewhere(TREE_BELOW_OFFLINE_ROOT)
    imposter.sign()
    with pytest.raises(SporkError) as refusal:
        await import_certificate(TREE_BELOW_OFFLINE_ROOT, world.workshop, pem(imposter.sign("policy", csr)))
    assert refusal.value.code is Code.BAD_SIGNATURE


async def test_a_root_of_another_algorithm_or_not_signed_by_itself_is_refused() -> None:
    world = World()
    certificate = Elsewhere(TREE_BELOW_OFFLINE_ROOT, signer=a_signer("ed25519")).sign()
    with pytest.raises(SporkError, match="its key is ed25519"):
        await import_certificate(TREE_BELOW_OFFLINE_ROOT, world.workshop, pem(certificate))
    elsewhere = Elsewhere(TREE_BELOW_OFFLINE_ROOT)
    elsewhere.sign()
    with pytest.raises(SporkError) as refusal:
        await import_certificate(TREE_BELOW_OFFLINE_ROOT, world.workshop, pem(elsewhere.sign(spki=a_signer().spki)))
    assert refusal.value.code is Code.BAD_SIGNATURE
    assert world.store.imported == []


async def test_another_root_under_the_same_name_is_refused() -> None:
    world, _, _ = await with_root()
    with pytest.raises(SporkError, match="not the one that the request was made for"):
        await import_certificate(
            TREE_BELOW_OFFLINE_ROOT, world.workshop, pem(Elsewhere(TREE_BELOW_OFFLINE_ROOT).sign())
        )


async def test_a_child_cannot_come_before_its_root() -> None:
    world, elsewhere = World(), Elsewhere(TREE_BELOW_OFFLINE_ROOT)
    assert (await build(TREE_BELOW_OFFLINE_ROOT, world.workshop)).requests == {}
    elsewhere.sign()
    csr = build_csr(TREE_BELOW_OFFLINE_ROOT.by_id[AuthorityId("policy")].subject, (), a_signer())
    with pytest.raises(SporkError, match="Import the certificate of root first"):
        await import_certificate(TREE_BELOW_OFFLINE_ROOT, world.workshop, pem(elsewhere.sign("policy", csr)))


async def test_an_answer_that_nobody_asked_for_is_refused() -> None:
    world, elsewhere = World(), Elsewhere(TREE_BELOW_OFFLINE_ROOT)
    await import_certificate(TREE_BELOW_OFFLINE_ROOT, world.workshop, pem(elsewhere.sign()))
    csr = build_csr(TREE_BELOW_OFFLINE_ROOT.by_id[AuthorityId("policy")].subject, (), a_signer())
    with pytest.raises(SporkError, match="nothing was requested for it"):
        await import_certificate(TREE_BELOW_OFFLINE_ROOT, world.workshop, pem(elsewhere.sign("policy", csr)))


async def test_what_is_built_here_is_not_imported() -> None:
    world, elsewhere = World(), Elsewhere(a_tree())
    await build(a_tree(), world.workshop)
    with pytest.raises(SporkError, match="The key of root is here"):
        await import_certificate(a_tree(), world.workshop, pem(elsewhere.sign()))


async def test_a_ca_with_an_offline_key_is_certified_by_its_imported_request() -> None:
    world, signer = World(), a_signer()
    await build(ISSUING_OFFLINE, world.workshop)
    csr = build_csr(ISSUING_OFFLINE.by_id[AuthorityId("issuing")].subject, (), signer)
    assert await import_csr(ISSUING_OFFLINE, world.workshop, csr_pem(csr)) == "issuing"
    await build(ISSUING_OFFLINE, world.workshop)
    state = world.store.authorities[AuthorityId("issuing")]
    assert (state.current.spki, state.current.key_id, state.current.pending_csr) == (signer.spki, None, None)
    assert (await make_plan(ISSUING_OFFLINE, world.workshop)).changes == ()


async def test_a_request_for_another_key_or_kind_of_key_is_refused() -> None:
    world = World()
    await build(ISSUING_OFFLINE, world.workshop)
    name = ISSUING_OFFLINE.by_id[AuthorityId("issuing")].subject
    with pytest.raises(SporkError, match="its key is ed25519"):
        await import_csr(ISSUING_OFFLINE, world.workshop, csr_pem(build_csr(name, (), a_signer("ed25519"))))
    await import_csr(ISSUING_OFFLINE, world.workshop, csr_pem(build_csr(name, (), a_signer())))
    with pytest.raises(SporkError) as refusal:
        await import_csr(ISSUING_OFFLINE, world.workshop, csr_pem(build_csr(name, (), a_signer())))
    assert refusal.value.code is Code.CONFLICT


async def test_a_request_for_a_ca_whose_key_is_here_is_refused() -> None:
    csr = build_csr(a_tree().by_id[AuthorityId("issuing")].subject, (), a_signer())
    with pytest.raises(SporkError, match="awaits no request"):
        await import_csr(a_tree(), World().workshop, csr_pem(csr))


def _as_pem(octets: bytes) -> str:
    return csr_pem(octets).replace("CERTIFICATE REQUEST", "CERTIFICATE")


@given(st.text(max_size=80) | st.binary(max_size=80).map(_as_pem))
async def test_no_text_that_is_imported_ends_in_a_traceback(text: str) -> None:
    with pytest.raises(SporkError):
        await import_certificate(TREE_BELOW_OFFLINE_ROOT, World().workshop, text)


async def test_a_depth_bomb_is_refused_before_it_is_parsed() -> None:
    bomb = b""
    for _ in range(60):
        bomb = b"\x30" + (bytes([len(bomb)]) if len(bomb) < 128 else b"\x81" + bytes([len(bomb)])) + bomb
    with pytest.raises(SporkError):
        await import_certificate(TREE_BELOW_OFFLINE_ROOT, World().workshop, _as_pem(bomb))
