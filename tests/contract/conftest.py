"""Each test of the contract runs in every world: in memory, over a real API server, and over a folder."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from contract_world import ContractWorld, kubernetes_world, memory_world
from folder_contract import folder_world

_numbers = itertools.count(1)


@pytest.fixture(
    params=[
        pytest.param("memory", id="in memory"),
        pytest.param("folder", id="over a folder"),
        pytest.param("kubernetes", id="over an API server", marks=pytest.mark.operator),
    ]
)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ContractWorld]:
    """A running adapter with nothing of ours in it."""
    if request.param == "memory":
        async with memory_world() as made:
            yield made
    elif request.param == "folder":
        async with folder_world(tmp_path) as made:
            yield made
    else:
        kube = request.getfixturevalue("kube")
        async with kubernetes_world(kube, f"contract-{os.getpid()}-{next(_numbers)}") as made:
            yield made
