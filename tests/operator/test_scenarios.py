"""The scenarios of tests/scenarios, on a Kubernetes API server with kubectl as the user's hand, and on a folder of files."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from operator_running import RunningOperator, signing
from operator_world import Cluster
from status_world import a_status_world

from spork.controller.cluster import KINDS, Ref
from spork.controller.folder.cluster import FolderCluster
from spork.controller.operator import Operator
from spork.controller.reconciler import Context
from spork.services import wire
from spork.store.database import Database
from tests.scenarios.hand import play, scenarios

pytestmark = [pytest.mark.operator, pytest.mark.store, pytest.mark.timeout(600)]


@dataclass
class Kubectl:
    """Server-side apply, as docs/kubernetes.md tells."""

    kube: Cluster

    async def _run(self, *words: str, stdin: str | None = None) -> str | None:
        done = await asyncio.to_thread(self.kube.kubectl, *words, stdin=stdin)
        if done.returncode and "NotFound" in done.stderr:
            return None
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def apply(self, items: list[dict[str, Any]]) -> None:
        # Namespaces first, since nothing can be made in one that is not there.
        ordered = sorted(items, key=lambda item: item["kind"] != "Namespace")
        await self._run("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(ordered))

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        await self._run("delete", "--wait=false", *_words(kind, namespace, name))

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        text = await self._run("get", "-o", "json", *_words(kind, namespace, name))
        found: dict[str, Any] | None = None if text is None else json.loads(text)
        return found

    async def secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        found = await self.get("Secret", namespace, name)
        return None if found is None else {key: base64.b64decode(text) for key, text in found["data"].items()}


def _words(kind: str, namespace: str, name: str) -> list[str]:
    target = f"{KINDS[kind].plural}.{KINDS[kind].group}".rstrip(".")
    return [target, name, *(["-n", namespace] if namespace else [])]


@dataclass
class Editor:
    """Files in DIR, one for each object, and what the operator leaves in SPORK_HOME."""

    path: Path
    home: Path
    cluster: FolderCluster

    def _file(self, kind: str, namespace: str, name: str) -> Path:
        return self.path / f"{kind}-{namespace}-{name}.yaml"

    async def apply(self, items: list[dict[str, Any]]) -> None:
        for item in items:
            metadata = item["metadata"]
            file = self._file(item["kind"], metadata.get("namespace", ""), metadata["name"])
            file.write_text(yaml.safe_dump(item))

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        self._file(kind, namespace, name).unlink()

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        found = self.cluster.get(Ref(kind, namespace, name))
        return None if found is None else dict(found)

    async def secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        folder = self.home / "secrets" / namespace / name
        return {one.name: one.read_bytes() for one in folder.iterdir()} if folder.is_dir() else None


@asynccontextmanager
async def an_editor(database_url: str, folder: Path) -> AsyncIterator[Editor]:
    """The operator over a folder, in this process. Its patience with vanished files runs a hundred times as fast."""
    home, path = folder / "home", folder / "declared"
    home.mkdir(mode=0o700)
    path.mkdir()
    first, second = [await Database.open(database_url, min_size=1, max_size=6) for _ in range(2)]
    stop = asyncio.Event()
    try:
        async with a_status_world(first, home=home) as world, signing(world.services):
            services = await wire(world.services.settings, second, {}, clock=world.clock)
            cluster = FolderCluster(path, home, world.clock, monotonic=lambda: time.monotonic() * 100, scan_s=0.2)
            await cluster.load()
            running = asyncio.create_task(Operator(Context(cluster, services)).run(stop))
            yield Editor(path, home, cluster)
            stop.set()
            await running
    finally:
        await first.close()
        await second.close()


@pytest.mark.parametrize("name", scenarios())
async def test_on_a_kubernetes_api_server(operator: RunningOperator, name: str) -> None:
    await play(name, Kubectl(operator.kube))


@pytest.mark.parametrize("name", scenarios())
async def test_in_a_folder(database_url: str, tmp_path: Path, name: str) -> None:
    async with an_editor(database_url, tmp_path) as editor:
        await play(name, editor)
