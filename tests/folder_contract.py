"""The folder adapter as a world of the port's contract: the user writes files, and what the adapter's methods write is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from contract_world import ContractWorld, running
from folder_world import Folder

from spork.clock import SystemClock
from spork.controller.cluster import Ref, ref_of
from spork.controller.folder import requests
from spork.controller.folder.cluster import FolderCluster
from spork.controller.folder.deletions import hash_of


class CountedFolder(FolderCluster):
    """Counts what would be requests to an API server."""

    requests = 0


def _counted(name: str) -> Any:
    inner = getattr(FolderCluster, name)

    async def method(self: CountedFolder, *arguments: Any, **options: Any) -> Any:
        version = self._version
        result = await inner(self, *arguments, **options)
        # A finalizer that is so already costs no request; everything else does.
        self.requests += name != "set_finalizer" or self._version != version
        return result

    return method


for _name in ("read", "create", "replace", "apply", "delete", "set_status", "set_finalizer", "annotate"):
    setattr(CountedFolder, _name, _counted(_name))


@asynccontextmanager
async def folder_world(place: Path) -> AsyncIterator[ContractWorld]:
    """A folder in which each object has a file of its own. Its user takes files away and confirms that this is meant."""
    folder = Folder(place / "dir", place / "home")
    cluster = CountedFolder(folder.path, folder.home, SystemClock(), scan_s=0.2)

    def file_of(ref: Ref) -> Path:
        return folder.path / f"{ref.kind}-{ref.namespace}-{ref.name}.yaml".lower()

    async def apply(item: dict[str, Any]) -> None:
        fresh = file_of(ref_of(item)).with_suffix(".new")
        fresh.write_text(yaml.safe_dump(item))
        fresh.rename(file_of(ref_of(item)))
        await cluster.scan()

    async def remove(ref: Ref) -> None:
        if not file_of(ref).exists():  # A reconciler's object has no file; it goes as if with its owner.
            await FolderCluster.delete(cluster, ref)
            return
        file_of(ref).unlink()
        requests.leave(folder.home, requests.Request(prune=hash_of([ref])))
        await cluster.scan()

    world = ContractWorld(cluster, "default", apply, remove, lambda: cluster.requests)
    async with running(world):
        yield world
