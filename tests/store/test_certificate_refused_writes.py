"""A Secret that the API server does not take: told in the status, and no certificate spent on what cannot be written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from certificate_world import CertificateWorld, a_certificate_world

from spork.controller.cluster import Object, Refused
from spork.errors import Code
from spork.store.database import Database

pytestmark = pytest.mark.store


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> CertificateWorld:
    return await a_certificate_world(database, tmp_path)


async def test_a_missing_role_is_told_and_looked_at_again(
    world: CertificateWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(manifest: Mapping[str, Any]) -> Object:
        raise Refused(Code.FORBIDDEN, "Secret default/web-tls: the API server refuses: no right to create secrets")

    world.add()
    with monkeypatch.context() as patched:
        patched.setattr(world.cluster, "create", refuse)
        assert await world.run() == 60
    status, reason, message = world.condition("Ready")
    assert (status, reason) == ("False", "Refused")
    assert "no right to create secrets" in message
    await world.settle()
    assert world.condition("Ready")[0] == "True"
    assert await world.issued() == 1


@pytest.mark.parametrize(
    "template",
    [
        {"labels": {"not a label": "x"}},
        {"labels": {"a/b/c": "x"}},
        {"labels": {"/a": "x"}},
        {"labels": {"UPPER.example/a": "x"}},
        {"labels": {"a": "-x"}},
        {"labels": {"a": "x y"}},
        {"annotations": {"x" * 64: "y"}},
        {"annotations": {"": "y"}},
    ],
)
async def test_a_template_that_no_secret_can_have_costs_no_certificate(
    world: CertificateWorld, template: dict[str, Any]
) -> None:
    world.add({"spec/secretTemplate": template})
    await world.settle()
    assert world.condition("Ready")[:2] == ("False", "Invalid")
    assert "secretTemplate" in world.condition("Ready")[2]
    assert await world.issued() == 0
