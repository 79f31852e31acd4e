"""The Cluster port over a folder of YAML files: what `spork up DIR` reconciles."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from watchfiles import Change as FileChange
from watchfiles import DefaultFilter, awatch

from spork.clock import Clock
from spork.controller.cluster import Change, Cluster, ClusterError, Object, Ref, Unreachable
from spork.controller.fieldsets import Fields
from spork.controller.folder import state
from spork.controller.folder.claims import Claims, without_claimed
from spork.controller.folder.declared import DECLARABLE, DEFAULT_NAMESPACE, Declared
from spork.controller.folder.deletions import Deletions, Judgement, hash_of
from spork.controller.folder.places import DATA_KINDS, requests_folder, summary_file
from spork.controller.folder.reading import FolderReader, Scan
from spork.controller.folder.requests import Request, pending
from spork.controller.objects import ObjectStore
from spork.errors import SporkError
from spork.files import write_atomically

log = structlog.get_logger("spork.folder")
_APPLIER = "spork-folder"
"""Whose fields those are that stand in files, as against what reconcilers set."""
_SCAN_S = 10.0
_SHOWN = 10
_ORDER = ("Namespace", "Secret", "ConfigMap", "Hierarchy", "ClusterIssuer", "Issuer")


@dataclass(frozen=True, slots=True)
class _Note:
    """What is known of an object beside itself."""

    place: str = ""
    digest: str = ""
    fault: str = ""


class FolderCluster(ObjectStore):
    """Reads `directory`, and never writes there; keeps everything else under `home`, which only one process may run.

    `claims` are CAs and issuers that another place declares, so that no file here may. `monotonic` gives seconds.
    """

    def __init__(
        self,
        directory: Path,
        home: Path,
        clock: Clock,
        *,
        claims: Claims | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        scan_s: float = _SCAN_S,
    ) -> None:
        super().__init__(clock)
        self._directory, self._home = directory, home
        self._claims = claims or {}
        self._monotonic, self._scan_s = monotonic, scan_s
        self._reader = FolderReader(directory, excluded=home)
        self._deletions = Deletions()
        self._notes: dict[Ref, _Note] = {}
        self._written: dict[Ref, _Note] = {}
        self._loaded = self._running = False
        self._synced = asyncio.Event()
        self._scanning = asyncio.Lock()
        self._warned: set[str] = set()
        self._foreign: set[str] = set()
        self._root = directory
        self._summary: dict[str, object] = {}
        self.faults: tuple[str, ...] = ()
        """Sentences about what in the folder cannot be used, as of the last scan."""

    def has(self, kind: str) -> bool:
        return kind in DECLARABLE

    async def load(self) -> None:
        """Reads state and folder once; `run` does it if nobody has. Raises ConfigurationError if the state cannot be used."""
        for one in await asyncio.to_thread(state.read, self._home):
            ref = Ref(one.item["kind"], one.item["metadata"].get("namespace") or "", one.item["metadata"]["name"])
            self._items[ref] = dict(one.item)
            self._applied[ref] = dict(one.applied)
            self._notes[ref] = self._written[ref] = _Note(one.place, one.digest, one.fault)
        self._version = max((int(one["metadata"]["resourceVersion"]) for one in self._items.values()), default=0)
        requests_folder(self._home).mkdir(mode=0o700, parents=True, exist_ok=True)
        # A kill may have come between the end of an owner and that of what belonged to it.
        await self._alone(self._collect())
        self._loaded = True
        await self.scan()

    async def run(self, stop: asyncio.Event) -> None:
        if not self._loaded:
            await self.load()
        self._running = True
        for ref, item in list(self._items.items()):
            self._tell(Change(ref, item, None))
        self._synced.set()
        while not stop.is_set():
            await self._watch(stop)

    async def synced(self) -> None:
        await self._synced.wait()

    async def scan(self) -> None:
        """Looks at the folder, and makes the objects what it says. Raises Unreachable if the state cannot be written."""
        async with self._scanning:
            await self._scan()

    async def _scan(self) -> None:
        found = without_claimed(await asyncio.to_thread(self._reader.read), self._claims)
        self._root = found.root
        for namespace in sorted({DEFAULT_NAMESPACE, *(ref.namespace for ref in found.declared if ref.namespace)}):
            await self._alone(self._imply(namespace))
        refused = []
        for declared in sorted(found.declared.values(), key=_rank):
            if not self._is_taken(declared):
                await self._alone(self._take(declared))
            refused += [fault] if (fault := self._notes[declared.ref].fault) else []
        self.faults = (*found.faults, *refused)
        self._warn(found.foreign)
        await self._take_requests()
        await self._delete_missing(found)
        await self._restore_data()

    # One object

    def _is_taken(self, declared: Declared) -> bool:
        note = self._notes.get(declared.ref)
        if declared.ref not in self._items or note is None or note.digest != declared.digest:
            return False
        self._notes[declared.ref] = replace(note, place=declared.place)
        return True

    async def _take(self, declared: Declared) -> None:
        """Makes the object what its file says. What is refused leaves it as it was, and a sentence in its note."""
        ref = declared.ref
        before = self._notes.get(ref, _Note())
        self._notes[ref] = _Note(declared.place, declared.digest)
        try:
            await self._apply(declared.item, _APPLIER)
        except Unreachable:
            self._notes[ref] = before
            raise
        except ClusterError as error:
            fault = f"{declared.place}: {error.detail} What was there before goes on to hold."
            self._notes[ref] = _Note(declared.place, declared.digest, fault)
        await self._write_note(ref)

    async def _write_note(self, ref: Ref) -> None:
        if ref in self._items and self._written.get(ref) != self._notes[ref]:
            item = self._items[ref]
            await self._kept(ref, item, item, self._applied[ref])

    async def _imply(self, namespace: str) -> None:
        """A namespace is there as soon as something lies in it."""
        ref = Ref("Namespace", "", namespace)
        if ref not in self._items:
            await self._create(_bare_namespace(namespace))

    async def _kept(self, ref: Ref, new: Object | None, old: Object | None, applied: Mapping[str, Fields]) -> None:
        try:
            if new is None:
                await asyncio.to_thread(state.remove, self._home, ref)
                self._notes.pop(ref, None)
                self._written.pop(ref, None)
                return
            note = self._notes.get(ref, _Note())
            stored = state.Stored(new, applied, note.place, note.digest, note.fault)
            await asyncio.to_thread(state.write, self._home, stored)
            self._written[ref] = note
        except OSError as error:
            raise Unreachable(f"{ref}: its state cannot be written to {self._home}: {error.strerror}.") from error

    def _tell(self, change: Change) -> None:
        if self._running:
            super()._tell(change)

    # What is no longer there

    async def _delete_missing(self, found: Scan) -> None:
        known = {ref: note.place for ref, note in self._notes.items() if note.place and not self._is_going(ref)}
        judged = self._deletions.judge(
            known, found.declared, clean=not found.faults, empty=not found.files, now=self._monotonic()
        )
        for ref in sorted(judged.due):
            log.warning("deleted, because no file declares it any more", object=str(ref), file=known[ref])
            await self._alone(self._forget(ref))
        self._say_frozen(judged)
        await self._summarize(judged)

    async def _forget(self, ref: Ref) -> None:
        if ref.kind != "Namespace":
            await self._delete(ref, None, None)
            return
        # What lies in it may have come from reconcilers, and keys are among it: the labels go, the namespace stays.
        self._notes[ref] = _Note()
        await self._apply(_bare_namespace(ref.name), _APPLIER)
        await self._write_note(ref)

    def _is_going(self, ref: Ref) -> bool:
        return "deletionTimestamp" in self._items[ref]["metadata"]

    async def _restore_data(self) -> None:
        """A Secret whose folder somebody has removed is gone, as if it had been deleted in a cluster."""
        refs = [ref for ref in self._items if ref.kind in DATA_KINDS]
        lost = await asyncio.to_thread(lambda: [ref for ref in refs if not state.is_there(self._home, ref)])
        for ref in lost:
            await self._alone(self._lose(ref))

    async def _lose(self, ref: Ref) -> None:
        # Somebody may have written it anew since it was looked for.
        if ref in self._items and not await asyncio.to_thread(state.is_there, self._home, ref):
            log.warning("its folder was removed, so it counts as deleted", object=str(ref))
            await self._delete(ref, None, None)

    # What people ask

    async def _take_requests(self) -> None:
        for file, request in await asyncio.to_thread(pending, self._home):
            if request is None:
                log.warning("not a request of this program's commands; removed", file=str(file))
            else:
                await self._alone(self._do(request))
            await asyncio.to_thread(file.unlink, missing_ok=True)

    async def _do(self, request: Request) -> None:
        if request.prune:
            self._deletions.confirmed = request.prune
            return
        found = None if request.ref is None else self._items.get(request.ref)
        if found is None:
            log.warning("asked for something that is not there", object=str(request.ref))
            return
        log.info("asked for by a command", object=str(request.ref), annotations=dict(request.annotations))
        await self._annotate(found, request.annotations)

    # What people are told

    def _warn(self, foreign: frozenset[str]) -> None:
        for kind in sorted(foreign - self._foreign):
            log.warning("objects of this kind mean nothing here and are not read", kind=kind)
        for fault in [one for one in self.faults if one not in self._warned]:
            log.error("a file cannot be used; what it said before goes on to hold", detail=fault)
        # A fault that was mended and comes again is said again; a kind is named once.
        self._warned = set(self.faults)
        self._foreign |= foreign

    def _say_frozen(self, judged: Judgement) -> None:
        sentence = f"{judged.frozen}{hash_of(judged.missing)}"
        if not judged.frozen or self._summary.get("said") == sentence:
            return
        prune = f"Put the files back; or, if they are meant to be gone, run `spork prune {hash_of(judged.missing)}`."
        names = [str(ref) for ref in sorted(judged.missing)]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        log.error(
            "nothing is deleted",
            why=judged.frozen,
            missing=f"{', '.join(names[:_SHOWN])}{more}",
            what_to_do="Mend the files that are named above." if self.faults else prune,
        )

    async def _summarize(self, judged: Judgement) -> None:
        summary: dict[str, object] = {
            "directory": str(self._directory),
            "faults": list(self.faults),
            "missing": [str(ref) for ref in sorted(judged.missing)],
            "frozen": judged.frozen,
            "hash": hash_of(judged.missing) if judged.missing else "",
            "said": f"{judged.frozen}{hash_of(judged.missing)}" if judged.frozen else "",
        }
        if summary != self._summary:
            text = json.dumps(summary, indent=2).encode() + b"\n"
            await asyncio.to_thread(write_atomically, summary_file(self._home), text, 0o600)
            self._summary = summary

    # Watching

    async def _watch(self, stop: asyncio.Event) -> None:
        """Scans after each change, and now and then in any case, until the folder's own link leads elsewhere."""
        root = self._root
        changes = awatch(
            root,
            requests_folder(self._home),
            watch_filter=_Filter(self._home),
            stop_event=stop,
            rust_timeout=int(self._scan_s * 1000),
            yield_on_timeout=True,
        )
        try:
            async for _ in changes:
                await self._scan_again()
                if self._root != root:
                    return
        except (OSError, RuntimeError) as error:
            # The folder is away, or the kernel has no watches left. Then there are only the scans.
            log.warning("the folder cannot be watched", folder=str(root), detail=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._scan_s)
            await self._scan_again()

    async def _scan_again(self) -> None:
        try:
            await self.scan()
        except SporkError as error:
            log.error("the folder is looked at again later", code=error.code.value, detail=error.detail)
        except OSError as error:
            log.error("the folder is looked at again later", detail=f"{error.filename}: {error.strerror}")


class _Filter(DefaultFilter):
    """Not what this process writes itself, should the state lie within the folder."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self._home = os.path.realpath(home)
        self._requests = os.path.join(self._home, requests_folder(home).name)

    def __call__(self, change: FileChange, path: str) -> bool:
        if path.startswith(self._home + os.sep):
            return path.startswith(self._requests + os.sep) and path.endswith(".json")
        return super().__call__(change, path)


def _rank(declared: Declared) -> tuple[int, Ref]:
    kind = declared.ref.kind
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER), declared.ref


def _bare_namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


_: type[Cluster] = FolderCluster  # The port, checked by the type checker.
