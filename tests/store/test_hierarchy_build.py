"""Trees built for real: PostgreSQL, stored keys, policy, lint and pipeline; and killed at every step."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tree_world import TREE, Killed, a_tree

from spork.clock import SystemClock
from spork.errors import Code, SporkError
from spork.hierarchy.build import Workshop, build, make_plan
from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.load import load_hierarchy, load_text
from spork.hierarchy.output import write_tree
from spork.hierarchy.presets import preset_names, preset_text
from spork.ids import AuthorityId
from spork.issuance.pipeline import Pipeline
from spork.keys.passphrase import Passphrases
from spork.keys.ring import KeyRing
from spork.policy.engine import PolicyEngine
from spork.store.audit import EventFilter, list_events
from spork.store.authority import Authorities
from spork.store.certificate import CertificateLedger
from spork.store.database import Database
from spork.store.issuer import Issuers
from spork.store.private_key import KeyRecords

pytestmark = pytest.mark.store

QUICKSTART = Path("examples/quickstart/hierarchy.toml")
CROSS = (
    '[[policy_cas]]\ncommon_name = "Other"\nalgorithm = "ecdsa-p256"\nvalidity_years = 10\n'
    '[[cross_certificates]]\nissuer = "policy"\nsubject = "other"\nvalidity_days = 100\npath_length = 0\n'
)


async def a_workshop(database: Database, status_url: str = "http://pki.example") -> Workshop:
    passphrases = {kind: Passphrases(b"correct horse battery staple") for kind in ("online", "sealed")}
    ring = await KeyRing.open(KeyRecords(database), passphrases=passphrases, create=True)
    authorities, clock = Authorities(database), SystemClock()
    policy = PolicyEngine(fips=True, admin_arc="1.3.6.1.4.1.56266.1.20")
    pipeline = Pipeline(CertificateLedger(database), ring, authorities, clock, policy.decide)
    return Workshop(authorities, ring, ring, pipeline, clock, status_url)


@pytest.fixture
async def workshop(database: Database) -> Workshop:
    return await a_workshop(database)


async def count(database: Database, table: str) -> int:
    row = await (await database.execute(f"SELECT count(*) FROM {table}")).fetchone()  # type: ignore[arg-type]
    return int(row[0]) if row else 0


async def test_the_quickstart_is_built_once_and_verifies_with_openssl(
    workshop: Workshop, database: Database, tmp_path: Path, system_program: Callable[[str], str]
) -> None:
    tree = load_hierarchy(QUICKSTART)
    built = await build(tree, workshop)
    assert len(built.plan.changes) == 4
    again = await build(tree, workshop)
    assert again.plan.changes == ()
    assert [await count(database, table) for table in ("authority", "private_key", "certificate", "issuer")] == [
        3,
        3,
        3,
        1,
    ]
    write_tree(again.state, tmp_path)
    line = [system_program("openssl"), "verify", "-x509_strict", "-CAfile", "root.pem"]
    line += ["-untrusted", "spork-tls-policy-ca.pem", "spork-tls-web-server-issuing-ca.pem"]
    await asyncio.to_thread(subprocess.run, line, cwd=tmp_path, check=True, capture_output=True)


async def test_the_store_gives_issuers_and_authorities_as_they_were_declared(
    workshop: Workshop, database: Database
) -> None:
    tree = load_hierarchy(QUICKSTART)
    await build(tree, workshop)
    issuer = await Issuers(database).issuer(None)
    assert (issuer.label, issuer.names, issuer.profiles) == ("tls-web", tree.issuers[0].names, tree.issuers[0].profiles)
    authority = await Authorities(database).authority(tree.issuers[0].authority_id)
    assert len(authority.chain) == 2
    assert authority.urls.ocsp == ("http://pki.example/ocsp/spork-tls-web-server-issuing-ca",)


async def test_every_step_leaves_its_audit_event(workshop: Workshop, database: Database) -> None:
    await build(a_tree(), workshop)
    events = await list_events(database, EventFilter(subject="authority:policy"))
    assert [event.action for event in reversed(events)] == ["key.generate", "authority.create", "authority.certify"]
    assert {event.actor for event in events} == {"host"}
    assert [e.action for e in await list_events(database, EventFilter(subject="issuer:web"))] == ["issuer.configure"]


@pytest.mark.parametrize("name", preset_names())
async def test_every_preset_passes_policy_and_lint(name: str, workshop: Workshop) -> None:
    tree = load_text(re.sub(r'^algorithm = "rsa-.*"$', 'algorithm = "rsa-2048"', preset_text(name), flags=re.MULTILINE))
    built = await build(tree, workshop)
    assert not built.plan.forbidden
    assert (await make_plan(tree, workshop)).changes == ()


class _Killing:
    """Stands before a part of the workshop, and kills the process after the call whose number comes up."""

    def __init__(self, inner: Any, killer: dict[str, int | None]) -> None:
        self._inner = inner
        self._killer = killer

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name in ("lock", "read_tree", "unused_key"):
            return method

        async def call(*arguments: Any, **keywords: Any) -> Any:
            result = await method(*arguments, **keywords)
            number = self._killer["calls"] or 0
            self._killer["calls"] = number + 1
            if number == self._killer["at"]:
                raise Killed
            return result

        return call


async def test_a_build_that_is_killed_after_every_step_in_turn_ends_with_one_certificate_each(
    workshop: Workshop, database: Database
) -> None:
    tree = a_tree(TREE + CROSS)
    kills = 0
    while True:
        # In turns after the first and after the second thing that a run does, because a run that finds a certificate recorded asks
        # for it again before it goes on.
        killer: dict[str, int | None] = {"calls": 0, "at": kills % 2}
        mortal = replace(
            workshop,
            store=_Killing(workshop.store, killer),
            keys=_Killing(workshop.keys, killer),
            pipeline=_Killing(workshop.pipeline, killer),
        )
        try:
            await build(tree, mortal)
        except Killed:
            kills += 1
            continue
        break
    # Each CA: a key, a row, a certificate, and the certificate made its own; then the cross-certificate and the issuer.
    assert kills >= 4 * 4 + 1
    assert [await count(database, table) for table in ("authority", "private_key", "certificate", "issuer")] == [
        4,
        4,
        5,
        1,
    ]
    assert (await make_plan(tree, workshop)).changes == ()


async def test_two_builds_at_once_are_refused(workshop: Workshop) -> None:
    async with workshop.store.lock():
        with pytest.raises(SporkError) as refusal:
            await build(a_tree(), workshop)
    assert refusal.value.code is Code.CONFLICT
    await build(a_tree(), workshop)


async def test_a_reissued_ca_keeps_its_key_and_counts_what_lives_below(workshop: Workshop, database: Database) -> None:
    await build(a_tree(TREE + CROSS), workshop)
    before = await Authorities(database).authority(AuthorityId("policy"))
    tree = a_tree(TREE + CROSS, ('"Policy"', '"Policy"\npath_length = 2\ncrl_shards = 4'))
    step = next(one for one in (await make_plan(tree, workshop)).steps if one.id == "policy")
    assert (step.change, step.live_certificates) == (ChangeClass.REISSUE, 2)
    await build(tree, workshop)
    after = await Authorities(database).authority(AuthorityId("policy"))
    assert (after.spki, after.crl_shards) == (before.spki, 4)
    assert after.certificate != before.certificate
    assert (await make_plan(tree, workshop)).changes == ()


async def test_a_removed_ca_is_taken_out_of_service_when_nothing_lives_below(
    workshop: Workshop, database: Database
) -> None:
    await build(a_tree(TREE + CROSS), workshop)
    tree = a_tree(TREE.partition("[[policy_cas.issuing_cas]]")[0] + CROSS)
    plan = await make_plan(tree, workshop)
    await build(tree, workshop, approve=plan.hash)
    assert [one.id for one in await Authorities(database).all()] == ["root", "policy", "other"]
    with pytest.raises(SporkError, match="another id"):
        await build(a_tree(TREE + CROSS), workshop)


async def test_the_root_is_written_as_it_is_stored(workshop: Workshop, database: Database, tmp_path: Path) -> None:
    built = await build(a_tree(), workshop)
    write_tree(built.state, tmp_path)
    root = await Authorities(database).authority(AuthorityId("root"))
    assert root.certificate is not None
    assert (tmp_path / "root.pem").read_bytes() == root.certificate.public_bytes(Encoding.PEM)
