"""Plans: each difference between declaration and state has one class, and a plan that was carried out leaves nothing to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tree_world import ISSUER, ISSUING, NOW, POLICY, ROOT, STATUS_URL, TREE, World, a_tree

from spork.errors import SporkError
from spork.hierarchy.build import build
from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.model import Hierarchy
from spork.hierarchy.plan import plan
from spork.hierarchy.ports import TreeState
from spork.hierarchy.steps import Action, Plan, Step
from spork.ids import AuthorityId

LIMITED = ISSUING + 'policies = ["1.3.6.1.4.1.99999.1"]\n'


@pytest.fixture
async def world() -> World:
    """The tree, built."""
    made = World()
    await build(a_tree(), made.workshop)
    return made


async def planned(world: World, tree: Hierarchy, *, live: int = 0, status_url: str = STATUS_URL) -> Plan:
    state = await world.store.read_tree()
    issuing = AuthorityId("issuing")
    authorities = {**state.authorities, issuing: replace(state.authorities[issuing], live_certificates=live)}
    return plan(tree, replace(state, authorities=authorities), status_url=status_url, now=NOW)


def step(steps: Plan, name: str) -> Step:
    return next(one for one in steps.steps if one.id == name)


def test_an_empty_state_gets_everything_parents_first() -> None:
    steps = plan(a_tree(), TreeState(), status_url=STATUS_URL, now=NOW)
    assert [(one.id, one.change, one.action) for one in steps.steps] == [
        ("root", ChangeClass.CREATE, Action.CREATE),
        ("policy", ChangeClass.CREATE, Action.CREATE),
        ("issuing", ChangeClass.CREATE, Action.CREATE),
        ("web", ChangeClass.CREATE, Action.CREATE),
    ]
    assert not any(one.needs_approval for one in steps.steps)


async def test_a_built_tree_needs_nothing(world: World) -> None:
    steps = await planned(world, a_tree(), live=3)
    assert steps.changes == ()
    assert {one.change for one in steps.steps} == {ChangeClass.NONE}
    assert [one.live_certificates for one in steps.steps] == [3, 3, 3, 0]


async def test_a_plan_is_pure_and_its_hash_leaves_out_what_changes_by_the_minute(world: World) -> None:
    changed = a_tree(TREE, ("validity_years = 5", "validity_years = 4"))
    first, second = await planned(world, changed, live=1), await planned(world, changed, live=2)
    assert first.hash == second.hash
    assert first.hash != (await planned(world, a_tree(TREE, ("validity_years = 5", "validity_years = 3")))).hash


@pytest.mark.parametrize(
    ("tree", "name", "change", "field"),
    [
        pytest.param(
            a_tree(TREE, ('"Issuing"', '"Renamed"\nid = "issuing"')),
            "issuing",
            ChangeClass.FORBIDDEN,
            "subject",
            id="a new common name under the same id is forbidden",
        ),
        pytest.param(
            a_tree(
                ROOT
                + POLICY
                + '[[issuing_cas]]\ncommon_name = "Issuing"\nalgorithm = "ecdsa-p256"\nvalidity_years = 5\n'
            ),
            "issuing",
            ChangeClass.FORBIDDEN,
            "parent",
            id="another parent is forbidden",
        ),
        pytest.param(
            a_tree(TREE, ('"Issuing"\nalgorithm = "ecdsa-p256"', '"Issuing"\nalgorithm = "ed25519"')),
            "issuing",
            ChangeClass.REKEY,
            "algorithm",
            id="another algorithm needs another key",
        ),
        pytest.param(
            a_tree(TREE, ('"Policy"', '"Policy"\nkey_mode = "online"')),
            "policy",
            ChangeClass.REKEY,
            "key_mode",
            id="another protection needs another key",
        ),
        pytest.param(
            a_tree(TREE, ("validity_years = 10", "validity_years = 12")),
            "policy",
            ChangeClass.REISSUE,
            "validity",
            id="a longer life needs a new certificate",
        ),
        pytest.param(
            a_tree(TREE, ('"Policy"', '"Policy"\npath_length = 2')),
            "policy",
            ChangeClass.REISSUE,
            "path_length",
            id="another path length needs a new certificate",
        ),
        pytest.param(
            a_tree(TREE, ('"Issuing"', '"Issuing"\nname_constraints.permitted.dns = ["example"]')),
            "issuing",
            ChangeClass.REISSUE,
            "name_constraints",
            id="name constraints need a new certificate",
        ),
        pytest.param(
            a_tree(ROOT + POLICY + LIMITED + ISSUER),
            "issuing",
            ChangeClass.REISSUE,
            "policies",
            id="policies need a new certificate",
        ),
        pytest.param(
            a_tree(TREE, ('"Issuing"', '"Issuing"\nextended_key_usage = ["serverAuth"]')),
            "issuing",
            ChangeClass.REISSUE,
            "extended_key_usage",
            id="usages need a new certificate",
        ),
        pytest.param(
            a_tree(TREE, ('"Issuing"', '"Issuing"\ncrl.interval = "1h"')),
            "issuing",
            ChangeClass.IN_PLACE,
            "crl",
            id="the schedule of CRLs changes in place",
        ),
        pytest.param(
            a_tree(TREE, ('"Issuing"', '"Issuing"\nocsp_urls = ["http://o.example"]')),
            "issuing",
            ChangeClass.IN_PLACE,
            "urls",
            id="URLs of future certificates change in place",
        ),
        pytest.param(
            a_tree(TREE, ('"Issuing"', '"Issuing"\ncrl_shards = 8')),
            "issuing",
            ChangeClass.IN_PLACE,
            "crl_shards",
            id="more shards come in place",
        ),
        pytest.param(
            a_tree(TREE, ('"Issuing"', '"Issuing"\nprofiles = ["tls-server"]')),
            "issuing",
            ChangeClass.IN_PLACE,
            "profiles",
            id="profiles change in place",
        ),
        pytest.param(
            a_tree(TREE, ("**.example", "**.test")),
            "web",
            ChangeClass.IN_PLACE,
            "names",
            id="the policy of an issuer changes in place",
        ),
    ],
)
async def test_a_change_has_its_class(
    world: World, tree: Hierarchy, name: str, change: ChangeClass, field: str
) -> None:
    found = step(await planned(world, tree, live=7), name)
    assert found.change is change
    assert field in [one.field for one in found.fields]
    assert found.live_certificates == (0 if name == "web" else 7)
    assert found.reason.startswith(field)


async def test_a_public_address_that_moves_changes_urls_in_place(world: World) -> None:
    steps = await planned(world, a_tree(), status_url="http://new.example")
    assert {one.change for one in steps.steps if one.target == "ca"} == {ChangeClass.IN_PLACE}


async def test_the_worst_of_several_changes_decides(world: World) -> None:
    tree = a_tree(
        TREE, ("validity_years = 5", "validity_years = 4\ncrl_shards = 2"), ('"Issuing"', '"Renamed"\nid = "issuing"')
    )
    found = step(await planned(world, tree), "issuing")
    assert (found.change, found.action) == (ChangeClass.FORBIDDEN, Action.NOTHING)
    assert {one.field for one in found.fields} == {"subject", "validity", "crl_shards", "urls"}


async def test_fewer_shards_are_forbidden_while_certificates_name_them() -> None:
    sharded = World()
    await build(a_tree(TREE, ('"Issuing"', '"Issuing"\ncrl_shards = 8')), sharded.workshop)
    fewer = a_tree(TREE, ('"Issuing"', '"Issuing"\ncrl_shards = 4'))
    assert step(await planned(sharded, fewer, live=1), "issuing").change is ChangeClass.FORBIDDEN
    assert step(await planned(sharded, fewer, live=0), "issuing").change is ChangeClass.IN_PLACE


async def test_a_ca_with_live_certificates_cannot_be_removed(world: World) -> None:
    found = step(await planned(world, a_tree(ROOT + POLICY), live=2), "issuing")
    assert (found.change, found.live_certificates) == (ChangeClass.FORBIDDEN, 2)


async def test_a_ca_without_live_certificates_is_removed_with_approval(world: World) -> None:
    found = step(await planned(world, a_tree(ROOT + POLICY)), "issuing")
    assert (found.change, found.action, found.needs_approval) == (ChangeClass.IN_PLACE, Action.DISABLE, True)


async def test_an_issuer_that_is_no_longer_declared_is_shut(world: World) -> None:
    found = step(await planned(world, a_tree(ROOT + POLICY + ISSUING)), "web")
    assert (found.change, found.action, found.needs_approval) == (ChangeClass.IN_PLACE, Action.DISABLE, False)


async def test_a_changed_id_is_forbidden_because_the_name_is_taken(world: World) -> None:
    found = step(
        await planned(world, a_tree(TREE, ('"Issuing"', '"Issuing"\nid = "other"'), ('"issuing"', '"other"'))), "other"
    )
    assert found.change is ChangeClass.FORBIDDEN
    assert "belongs to 'issuing' already" in found.reason


async def test_an_issuer_of_another_origin_is_left_alone(world: World) -> None:
    world.store.issuers["web"] = replace(world.store.issuers["web"], origin="kubernetes")
    assert step(await planned(world, a_tree()), "web").change is ChangeClass.FORBIDDEN
    assert [one.id for one in (await planned(world, a_tree(ROOT + POLICY + ISSUING))).steps] == [
        "root",
        "policy",
        "issuing",
    ]


async def test_a_ca_that_would_outlive_the_parent_that_is_left_is_forbidden(world: World) -> None:
    late = NOW + timedelta(days=365 * 6)
    tree = a_tree(
        TREE + '[[policy_cas.issuing_cas]]\ncommon_name = "Late"\nalgorithm = "ecdsa-p256"\nvalidity_years = 5\n'
    )
    found = step(plan(tree, await world.store.read_tree(), status_url=STATUS_URL, now=late), "late")
    assert found.change is ChangeClass.FORBIDDEN
    assert "2036-11-24" in found.reason


def test_below_an_offline_root_everything_waits_until_its_certificate_is_imported() -> None:
    tree = a_tree(TREE, ('"Root"', '"Root"\nkey_mode = "offline"'))
    steps = plan(tree, TreeState(), status_url=STATUS_URL, now=NOW)
    assert [(one.id, one.change, one.action) for one in steps.steps] == [
        ("root", ChangeClass.WAITING, Action.NOTHING),
        ("policy", ChangeClass.WAITING, Action.NOTHING),
        ("issuing", ChangeClass.WAITING, Action.NOTHING),
        ("web", ChangeClass.WAITING, Action.NOTHING),
    ]


# Several declarations of one installation


async def test_what_others_have_declared_is_none_of_a_plan(world: World) -> None:
    other = a_tree(
        ROOT.replace('"Root"', '"Other Root"') + ISSUING.replace("policy_cas.", "").replace('"Issuing"', '"Other"')
    ).of("Hierarchy/other")
    steps = await planned(world, other)
    assert [(one.id, one.action) for one in steps.steps] == [
        ("other-root", Action.CREATE),
        ("other", Action.CREATE),
    ]
    await build(other, world.workshop)
    assert (await planned(world, a_tree())).changes == ()
    assert (await planned(world, other)).changes == ()


async def test_a_name_of_somebody_elses_ca_stays_forbidden(world: World) -> None:
    other = a_tree(ROOT + 'id = "mine"\n').of("Hierarchy/other")
    found = step(await planned(world, other), "mine")
    assert (found.change, "belongs to 'root' already" in found.reason) == (ChangeClass.FORBIDDEN, True)


async def test_taking_over_a_tree_needs_approval_and_is_done_once(world: World) -> None:
    ours = a_tree().of("Hierarchy/main")
    steps = await planned(world, ours)
    assert {one.id: one.action for one in steps.changes} == dict.fromkeys(
        ("root", "policy", "issuing", "web"), Action.ADOPT
    )
    assert all(one.needs_approval for one in steps.changes)
    with pytest.raises(SporkError, match="needs approval"):
        await build(ours, world.workshop)
    await build(ours, world.workshop, approve=steps.hash)
    assert (await planned(world, ours)).changes == ()
    assert {one.declared_by for one in world.store.authorities.values()} == {"Hierarchy/main"}
    assert world.store.issuers["web"].declared_by == "Hierarchy/main"
    # From now on the file is the one that would have to ask.
    assert {one.action for one in (await planned(world, a_tree())).changes} == {Action.ADOPT}


async def test_what_else_has_changed_follows_after_a_ca_was_taken_over(world: World) -> None:
    changed = a_tree(TREE, ("validity_years = 5", "validity_years = 4")).of("Hierarchy/main")
    await build(changed, world.workshop, approve=(await planned(world, changed)).hash)
    steps = await planned(world, changed)
    assert [(one.id, one.change) for one in steps.changes] == [("issuing", ChangeClass.REISSUE)]


async def test_an_issuer_that_a_resource_declares_is_not_taken_over(world: World) -> None:
    world.store.issuers["web"] = replace(world.store.issuers["web"], declared_by="cluster:folder")
    found = step(await planned(world, a_tree()), "web")
    assert (found.change, found.action) == (ChangeClass.FORBIDDEN, Action.NOTHING)
    none = a_tree(TREE.partition("[[issuers]]")[0])
    assert (await planned(world, none)).changes == ()
