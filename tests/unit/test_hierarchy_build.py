"""Building: exactly the plan, once, and to the same end wherever it was interrupted."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tree_world import ISSUING, NOW, POLICY, ROOT, TREE, Killed, World, a_tree
from x509_world import a_signer

from spork.errors import Code, SporkError
from spork.hierarchy.build import build, make_plan
from spork.hierarchy.load import load_text
from spork.hierarchy.model import Hierarchy
from spork.hierarchy.output import write_tree
from spork.ids import AuthorityId
from spork.x509.authority import AuthorityKind
from spork.x509.chain import verify_chain
from spork.x509.csr import build_csr

OTHER = '[[policy_cas]]\ncommon_name = "Other"\nalgorithm = "ecdsa-p256"\nvalidity_years = 10\n'
CROSS = '[[cross_certificates]]\nissuer = "policy"\nsubject = "other"\nvalidity_days = 100\npath_length = 0\n'


def certificate(world: World, name: str) -> x509.Certificate:
    return x509.load_der_x509_certificate(world.store.authorities[AuthorityId(name)].current.certificate_der)


async def refused(world: World, tree: Hierarchy, approve: str | None = None) -> SporkError:
    calls = world.calls
    with pytest.raises(SporkError) as refusal:
        await build(tree, world.workshop, approve=approve)
    assert world.calls == calls, "a plan that cannot be carried out as a whole changes nothing"
    return refusal.value


async def test_a_tree_is_built_once() -> None:
    world = World()
    await build(a_tree(), world.workshop)
    calls = world.calls
    again = await build(a_tree(), world.workshop)
    assert again.plan.changes == ()
    assert world.calls == calls
    assert len(world.recorded) == 3


async def test_what_is_built_verifies_up_to_the_root_with_openssl(
    tmp_path: Path, system_program: Callable[[str], str]
) -> None:
    world = World()
    built = await build(a_tree(TREE + OTHER + CROSS), world.workshop)
    files = write_tree(built.state, tmp_path)
    assert sorted(file.name for file in files) == [
        "issuing-chain.pem", "issuing.pem", "other-by-policy.pem", "other-chain.pem", "other.pem", "policy-chain.pem",
        "policy.pem", "root.pem",
    ]  # fmt: skip
    command = [
        system_program("openssl"),
        "verify",
        "-x509_strict",
        "-attime",
        str(int(NOW.timestamp())),
        "-CAfile",
        "root.pem",
    ]
    for untrusted, leaf in (
        ("policy.pem", "issuing.pem"),
        ("root.pem", "policy.pem"),
        ("policy.pem", "other-by-policy.pem"),
    ):
        line = [*command, "-untrusted", untrusted, leaf]
        await asyncio.to_thread(subprocess.run, line, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "issuing-chain.pem").read_text().count("BEGIN") == 2


@pytest.mark.parametrize("before", [True, False], ids=["killed before a call", "killed after a call"])
async def test_a_build_that_is_killed_anywhere_ends_with_one_certificate_and_one_key_each(before: bool) -> None:
    tree = a_tree(TREE + OTHER + CROSS)
    whole = World()
    await build(tree, whole.workshop)
    for number in range(whole.calls):
        world = World(killed_at=number, killed_before=before)
        with pytest.raises(Killed):
            await build(tree, world.workshop)
        world.killed_at = None
        await build(tree, world.workshop)
        assert (await make_plan(tree, world.workshop)).changes == ()
        assert len(world.recorded) == len(whole.recorded)
        assert len(world.store.keys) == len(whole.store.keys)
        assert list(world.store.authorities) == list(whole.store.authorities)


async def test_a_run_after_a_kill_may_come_later_than_the_first(tmp_path: Path) -> None:
    tree = a_tree(TREE, ("validity_years = 10", "validity_years = 20"))
    world = World(killed_at=3)
    with pytest.raises(Killed):
        await build(tree, world.workshop)
    world.killed_at = None
    world.clock.current = NOW + timedelta(hours=3)
    await build(tree, world.workshop)
    root, policy = certificate(world, "root"), certificate(world, "policy")
    assert policy.not_valid_after_utc == root.not_valid_after_utc, "the end is cut to the issuer's"


async def test_a_change_of_the_certificate_keeps_key_and_name_and_leaves_the_children_alone() -> None:
    world = World()
    await build(a_tree(), world.workshop)
    before, child = certificate(world, "policy"), certificate(world, "issuing")
    changed = a_tree(TREE, ('"Policy"', '"Policy"\npath_length = 3\ncrl.interval = "40d"'))
    await build(changed, world.workshop)
    after = certificate(world, "policy")
    assert after.public_key() == before.public_key()
    assert after.serial_number != before.serial_number
    assert after.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 3
    assert certificate(world, "issuing") == child
    assert (await build(changed, world.workshop)).plan.changes == ()
    verify_chain(child.public_bytes(Encoding.DER), [after], [certificate(world, "root")], NOW)


async def test_a_kill_between_the_new_certificate_and_the_new_settings_loses_neither() -> None:
    changed = a_tree(TREE, ('"Policy"', '"Policy"\npath_length = 3\ncrl_shards = 2\ncrl.interval = "40d"'))
    for number in range(3):
        world = World()
        await build(a_tree(), world.workshop)
        world.calls, world.killed_at = 0, number
        with pytest.raises(Killed):
            await build(changed, world.workshop)
        world.killed_at = None
        await build(changed, world.workshop)
        state = world.store.authorities[AuthorityId("policy")]
        assert (state.crl_shards, state.spec["path_length"]) == (2, 3)
        assert len(world.recorded) == 4


async def test_going_back_to_an_earlier_declaration_makes_a_new_certificate() -> None:
    world = World()
    for years in (5, 4, 5):
        await build(a_tree(TREE, ("validity_years = 5", f"validity_years = {years}")), world.workshop)
    assert len(world.recorded) == 5


async def test_the_root_signs_itself_again_and_may_live_longer() -> None:
    world = World()
    await build(a_tree(), world.workshop)
    await build(a_tree(TREE, ("validity_years = 20", "validity_years = 25")), world.workshop)
    assert certificate(world, "root").not_valid_after_utc.year == 2051


async def test_forbidden_changes_stop_the_whole_build() -> None:
    world = World()
    await build(a_tree(), world.workshop)
    tree = a_tree(TREE + OTHER, ('"Issuing"', '"Renamed"\nid = "issuing"'))
    refusal = await refused(world, tree, (await make_plan(tree, world.workshop)).hash)
    assert (refusal.code, "issuing: subject" in refusal.detail) == (Code.PRECONDITION_FAILED, True)


async def test_a_new_key_is_refused_even_with_approval() -> None:
    world = World()
    await build(a_tree(), world.workshop)
    tree = a_tree(TREE, ('"Issuing"\nalgorithm = "ecdsa-p256"', '"Issuing"\nalgorithm = "ed25519"'))
    refusal = await refused(world, tree, (await make_plan(tree, world.workshop)).hash)
    assert "not part of this version" in refusal.detail


async def test_a_removal_needs_the_hash_of_this_very_plan() -> None:
    world = World()
    await build(a_tree(), world.workshop)
    tree = a_tree(ROOT + POLICY)
    approval = (await make_plan(tree, world.workshop)).hash
    assert f"--approve {approval}" in (await refused(world, tree)).detail
    assert "is not the one that would be carried out" in (await refused(world, tree, "0" * 64)).detail
    await build(tree, world.workshop, approve=approval)
    assert world.store.authorities[AuthorityId("issuing")].disabled
    assert "give the new CA another id" in (await refused(world, a_tree())).detail


@pytest.mark.parametrize("algorithm", ["rsa-2048", "ecdsa-p521", "ed25519", "ml-dsa-65"])
async def test_every_family_can_carry_a_tree(algorithm: str) -> None:
    world = World()
    await build(a_tree(TREE.replace("ecdsa-p256", algorithm)), world.workshop)
    leaf = certificate(world, "issuing").public_bytes(Encoding.DER)
    assert len(verify_chain(leaf, [certificate(world, "policy")], [certificate(world, "root")], NOW)) == 3


async def test_a_foreign_ca_is_cross_certified_by_its_request(tmp_path: Path) -> None:
    signer = a_signer("ecdsa-p384")
    name = x509.Name.from_rfc4514_string("CN=Partner CA,O=Partner")
    csr = x509.load_der_x509_csr(build_csr(name, (), signer))
    (tmp_path / "partner.csr").write_bytes(csr.public_bytes(Encoding.PEM))
    text = TREE + CROSS.replace('subject = "other"', 'subject_csr = "partner.csr"')
    tree = load_text(text, base=tmp_path)
    world = World()
    built = await build(tree, world.workshop)
    cross = x509.load_der_x509_certificate(built.state.cross_certificates[0].certificate_der)
    assert (cross.subject, built.state.cross_certificates[0].id) == (name, "partner-ca-by-policy")
    assert (await make_plan(tree, world.workshop)).changes == ()


def test_kinds_of_ca_have_a_profile_each() -> None:
    assert [one.kind for one in a_tree(ROOT + POLICY + ISSUING).authorities] == [
        AuthorityKind.ROOT,
        AuthorityKind.POLICY,
        AuthorityKind.ISSUING,
    ]


class _Busy:
    """A pipeline whose reservation of an interrupted run has still to lapse."""

    def __init__(self, inner: Any, refusals: int) -> None:
        self._inner = inner
        self.refusals = refusals

    async def issue(self, request: Any) -> Any:
        if self.refusals:
            self.refusals -= 1
            raise SporkError(Code.IN_PROGRESS, "The same request is being answered already.", retry_after_s=5)
        return await self._inner.issue(request)


async def test_a_build_waits_for_the_reservation_of_an_interrupted_one_and_says_so_once() -> None:
    waits: list[float] = []
    said: list[str] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    workshop = World().workshop
    busy = replace(workshop, pipeline=_Busy(workshop.pipeline, 3), sleep=sleep)
    await build(a_tree(), busy, progress=said.append)
    assert waits == [5.0, 5.0, 5.0]
    assert len([sentence for sentence in said if "interrupted" in sentence]) == 1


async def test_a_build_does_not_wait_for_ever() -> None:
    async def sleep(seconds: float) -> None:
        pass

    workshop = World().workshop
    with pytest.raises(SporkError) as refusal:
        await build(a_tree(), replace(workshop, pipeline=_Busy(workshop.pipeline, 10**6), sleep=sleep))
    assert refusal.value.code is Code.IN_PROGRESS
