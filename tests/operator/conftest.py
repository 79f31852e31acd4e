"""What operator tests share: a control plane with what is shipped, and the operator running over `kube` (see control_plane.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from control_plane import control_plane
from operator_running import Programs, RunningOperator, an_operator, programs
from operator_world import Cluster
from shipped_world import install


@pytest.fixture(scope="session")
def shipped_kube(kube_assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of its own with crds/ and manifests/base, whose controllers have identities as on a real cluster.

    Apart from `kube`, because the admission policies would look at what every other test does.
    """
    folder = tmp_path_factory.mktemp("shipped")
    flags = "--use-service-account-credentials --controllers=clusterrole-aggregation-controller"
    with control_plane(kube_assets, folder, KUBE_CONTROLLER_MANAGER_FLAGS=flags) as cluster:
        install(cluster)
        yield cluster


@pytest.fixture
async def operator(kube: Cluster, database_url: str, tmp_path: Path) -> AsyncIterator[RunningOperator]:
    """All reconcilers, a signer and a built tree in this process, over a cluster that holds nothing of SPORK yet."""
    async with an_operator(kube, database_url, tmp_path) as running:
        yield running


@pytest.fixture
def installation(kube: Cluster, database_url: str, tmp_path: Path) -> Iterator[Programs]:
    """`spork serve` and `spork controller` as programs of their own, none of which runs yet."""
    with programs(kube, database_url, tmp_path) as made:
        yield made
