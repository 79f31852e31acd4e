"""What `spork up` does with the resources of its folder: reads them, builds their trees, and runs their reconcilers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import structlog

from spork.controller.annotations import LIVE_CERTIFICATES
from spork.controller.cluster import Change, ref_of
from spork.controller.conversion import declared_hierarchy
from spork.controller.folder.claims import Claims
from spork.controller.folder.cluster import FolderCluster
from spork.controller.folder.reading import FolderReader
from spork.controller.hierarchy.reconcile import reconciler as hierarchy_reconciler
from spork.controller.issuer.reconcile import cluster_issuer_reconciler, issuer_reconciler
from spork.controller.manifests import ManifestError, load_object
from spork.controller.models import Hierarchy as HierarchyResource
from spork.controller.operator import Operator
from spork.controller.reconciler import Context
from spork.errors import Code, ConfigurationError, SporkError
from spork.hierarchy.build import build
from spork.hierarchy.model import Hierarchy
from spork.hierarchy.steps import Plan
from spork.services import Services
from spork.settings import Settings

log = structlog.get_logger("spork.folder")
HIERARCHY_FILE = "hierarchy.toml"
_FIRST = (hierarchy_reconciler, issuer_reconciler, cluster_issuer_reconciler)


def check_declared(directory: Path, settings: Settings) -> None:
    """Before anything is made: the folder declares a tree, or the state knows of one. Raises ConfigurationError with all faults."""
    if (directory / HIERARCHY_FILE).exists() or (settings.home / "status").exists():
        return
    scan = FolderReader(directory, excluded=settings.home).read()
    if any(ref.kind == "Hierarchy" for ref in scan.declared):
        return
    raise ManifestError([*scan.faults, _no_tree(directory)])


def _no_tree(directory: Path) -> str:
    return (
        f"{directory} declares no tree: neither {HIERARCHY_FILE} nor a usable resource of kind Hierarchy is there. "
        f"`spork pki preset write three-tier-tls {directory / HIERARCHY_FILE}` makes one."
    )


async def open_folder(directory: Path, services: Services, declared: Hierarchy | None) -> FolderCluster:
    """The folder with its state as it was left. Says what is wrong in it. Raises ConfigurationError."""
    folder = FolderCluster(directory, services.settings.home, services.clock, claims=_claims(declared))
    await folder.load()
    for fault in folder.faults:
        click.echo(f"spork: {fault}", err=True)
    if declared is None and not folder.all("Hierarchy"):
        raise ConfigurationError(_no_tree(directory))
    return folder


def _claims(declared: Hierarchy | None) -> Claims:
    if declared is None:
        return {}
    cas = {("CA", str(one.id)): HIERARCHY_FILE for one in declared.authorities}
    return cas | {("issuer", one.name): HIERARCHY_FILE for one in declared.issuers}


async def build_trees(folder: FolderCluster, services: Services, progress: Callable[[str], None]) -> None:
    """Builds what the Hierarchies declare, as far as nobody has to approve it. What is in the way of one tree stops no other."""
    for found in folder.all("Hierarchy"):
        if "deletionTimestamp" in found["metadata"]:
            continue
        # Before anything of the tree exists, so that a deletion leaves none behind unseen.
        item = await folder.set_finalizer(found, LIVE_CERTIFICATES, present=True)
        resource = load_object(item, str(ref_of(item)))
        assert isinstance(resource, HierarchyResource)
        try:
            tree = declared_hierarchy(resource, oid_base=services.settings.oid_base)
            await build(tree, services.workshop, accept=_without_approval, progress=progress)
        except SporkError as error:
            if error.code not in (Code.PRECONDITION_FAILED, Code.CONFIGURATION, Code.CONFLICT):
                raise
            progress(f"{ref_of(item)} is left as it is: {error.detail}")


async def _without_approval(plan: Plan) -> str | None:
    return None


async def look_once(folder: FolderCluster, services: Services) -> None:
    """Issuers are in force, and their status is written, before anything listens. What fails here is tried again later."""
    context = Context(folder, services)
    for make in _FIRST:
        reconciler = make(context)
        for item in folder.all(reconciler.kind):
            try:
                await reconciler.reconcile(ref_of(item))
            except SporkError as error:
                log.warning("looked at again later", object=str(ref_of(item)), detail=error.detail)


class FolderWork:
    """The workers of the folder: its reconcilers, and the file of trust anchors, which follows the trees."""

    def __init__(self, folder: FolderCluster, services: Services, write_trust: Callable[[], Awaitable[None]]) -> None:
        self._operator = Operator(Context(folder, services))
        self._write_trust = write_trust
        self._moved = asyncio.Event()
        folder.subscribe(self._changed)

    async def reconcile(self, services: Services, stop: asyncio.Event) -> None:
        await self._operator.run(stop)

    async def follow_trust(self, services: Services, stop: asyncio.Event) -> None:
        """Roots come and go while this runs."""
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                moved = asyncio.create_task(self._moved.wait())
                await asyncio.wait({moved, stopped}, return_when=asyncio.FIRST_COMPLETED)
                moved.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await moved
                if self._moved.is_set():
                    self._moved.clear()
                    await self._write_trust()
        finally:
            stopped.cancel()

    def _changed(self, change: Change) -> None:
        def rows(item: object) -> object:
            return (item.get("status") or {}).get("authorities") if isinstance(item, dict) else None

        if change.ref.kind == "Hierarchy" and rows(change.new) != rows(change.old):
            self._moved.set()
