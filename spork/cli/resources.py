"""Resources of a folder for people without kubectl: finding and showing what `spork up` keeps of them, and asking it for things."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from spork.cli.output import left
from spork.controller.annotations import APPROVE, RENEW
from spork.controller.cluster import KINDS, Object, Ref, ref_of
from spork.controller.folder import state
from spork.controller.folder.declared import DECLARABLE
from spork.controller.folder.places import DATA_KINDS, data_folder, status_file, summary_file
from spork.controller.folder.requests import Request, leave
from spork.controller.models import KINDS as MODELS
from spork.controller.models.schema import GROUP, Column
from spork.errors import Code, SporkError
from spork.hierarchy.problems import did_you_mean

_TAKEN_S = 15.0
_STEP = re.compile(r"\.(\w+)|\[\?\(@\.(\w+)==\"(\w+)\"\)\]")
_PLAIN_COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "Secret": (Column("Type", ".type", ""), Column("Keys", ".keys", ""), Column("Folder", ".folder", "")),
    "ConfigMap": (Column("Keys", ".keys", ""), Column("Folder", ".folder", "")),
}
_AGE = Column("Age", ".metadata.creationTimestamp", "", "date")


def kind_called(word: str) -> str:
    """A kind by its name, plural or short name, as kubectl takes them. Raises click.UsageError."""
    words = {name.lower(): name for name in DECLARABLE} | {KINDS[name].plural: name for name in DECLARABLE}
    words |= {short: name for name, model in MODELS.items() for short in model.names.short}
    words |= {"ns": "Namespace", "cm": "ConfigMap", "ing": "Ingress"}
    found = words.get(word.lower())
    if found is None:
        raise click.UsageError(f"Unknown kind {word!r}{did_you_mean(word.lower(), words)}")
    return found


def found_in(home: Path, kind: str, name: str | None, namespace: str | None) -> list[Object]:
    """The objects that fit, by namespace and name. Of a Secret not its content, but where it lies."""
    objects = [_shown(home, one.item, one) for one in state.look(home, kind)]
    fitting = [
        one
        for one in objects
        if name in (None, one["metadata"]["name"]) and namespace in (None, one["metadata"].get("namespace"))
    ]
    return sorted(fitting, key=ref_of)


def _shown(home: Path, item: Object, stored: state.Stored) -> Object:
    shown = dict(item)
    if item["kind"] in DATA_KINDS:
        keys = sorted({*(shown.pop("data", None) or {}), *(shown.pop("binaryData", None) or {})})
        shown |= {"keys": keys, "folder": str(data_folder(home, ref_of(item)))}
    if stored.fault:
        shown["fault"] = stored.fault
    return shown


def columns_of(kind: str) -> tuple[Column, ...]:
    """The columns of `kubectl get`."""
    return MODELS[kind].names.columns if kind in MODELS else (*_PLAIN_COLUMNS.get(kind, ()), _AGE)


def value_at(item: Object, column: Column) -> Any:
    """What a column shows of an object: a JSON path of names, and of entries found by one of their keys."""
    value: Any = item
    for name, key, wanted in _STEP.findall(column.path):
        if name:
            value = value.get(name) if isinstance(value, Mapping) else None
        else:
            value = next((one for one in value or () if one.get(key) == wanted), None)
    if column.kind == "date" and isinstance(value, str):
        return _age(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _age(text: str) -> str:
    # The other way round it is how long something has been there.
    past = datetime.now(UTC) - datetime.fromisoformat(text)
    return left((datetime.now(UTC) + past).isoformat())


def complaints(home: Path) -> Iterator[str]:
    """Sentences about what is wrong with the folder, as of its last scan."""
    summary = state.summary(home)
    yield from (f"{fault}" for fault in summary.get("faults", ()))
    if summary.get("frozen") and not summary["faults"]:
        yield (
            f"{summary['frozen']} Nothing is deleted: {', '.join(summary['missing'])}. Put the files back; or, if they are "
            f"meant to be gone: `spork prune {summary['hash']}`."
        )
    elif summary.get("frozen"):
        yield str(summary["frozen"])


def require(home: Path, ref: Ref) -> Object:
    """The object. Raises SporkError(NOT_FOUND)."""
    if status_file(home, ref).is_file():
        found = [one for one in state.look(home, ref.kind) if ref_of(one.item) == ref]
        if found:
            return found[0].item
    names = [one["metadata"]["name"] for one in found_in(home, ref.kind, None, ref.namespace or None)]
    hint = did_you_mean(ref.name, names) if names else "."
    raise SporkError(Code.NOT_FOUND, f"{summary_file(home).parent} knows no {ref}{hint}")


def annotate(home: Path, ref: Ref, annotations: Mapping[str, str]) -> None:
    """Has the running `spork up` set them. Raises SporkError(NOT_FOUND)."""
    require(home, ref)
    ask(home, Request(ref, dict(annotations)))


def ask(home: Path, request: Request) -> None:
    """Leaves a request, and waits a moment for it to be taken in."""
    file = leave(home, request)
    deadline = time.monotonic() + _TAKEN_S
    while file.exists():
        if time.monotonic() > deadline:
            click.echo(f"No `spork up` on {home} has taken it in yet; the next one does.", err=True)
            return
        time.sleep(0.05)


def renew(text: str, kubeconfig: Path | None = None) -> bool:
    """Renews the Certificate NAMESPACE/NAME, if that is what the text means: it may also be a file, or CA/SERIAL.

    With a kubeconfig it is looked for in that cluster, else in the folder of SPORK_HOME. Raises SporkError(NOT_FOUND) where it
    can mean nothing else and there is none.
    """
    found = re.fullmatch(r"([a-z0-9-]{1,63})/([a-z0-9][a-z0-9.-]*)", text)
    if found is None or Path(text).exists():
        return False
    ref, home = Ref("Certificate", found[1], found[2]), Path(os.environ.get("SPORK_HOME", ".spork")).expanduser()
    if kubeconfig is not None:
        asyncio.run(_renew_in_cluster(ref, kubeconfig))
        click.echo(
            f"{ref} is being renewed; `kubectl get certificates.{GROUP} -n {ref.namespace} {ref.name}` shows it."
        )
        return True
    if not status_file(home, ref).is_file():
        if re.fullmatch("[0-9a-f]+", ref.name):
            return False
        raise SporkError(
            Code.NOT_FOUND,
            f"There is no file {text}, and no {ref} in {home}. In a cluster, with --kubeconfig, or: `kubectl annotate --overwrite "
            f"certificates.{GROUP} -n {ref.namespace} {ref.name} {RENEW}={_now()}`.",
        )
    annotate(home, ref, {RENEW: _now()})
    click.echo(f"{ref} is being renewed; `spork get certificate {ref.name} -n {ref.namespace}` shows it.")
    return True


async def _renew_in_cluster(ref: Ref, kubeconfig: Path) -> None:
    from spork.controller.kubernetes.cluster import open_cluster

    async with open_cluster(kubeconfig) as cluster:
        item = await cluster.read(ref)
        if item is None:
            raise SporkError(Code.NOT_FOUND, f"There is no {ref} in the cluster of {kubeconfig}.")
        await cluster.annotate(item, {RENEW: _now()})


def approve(home: Path, name: str, digest: str) -> None:
    """Lets the plan of that hash, which stands in the Hierarchy's status, be carried out.

    Raises SporkError: NOT_FOUND, PRECONDITION_FAILED where another plan stands there.
    """
    ref = Ref("Hierarchy", "", name)
    plan = (require(home, ref).get("status") or {}).get("plan")
    if plan is None:
        raise SporkError(Code.PRECONDITION_FAILED, f"{ref} has no plan that waits.")
    if plan["hash"] != digest:
        changes = "; ".join(f"{one['subject']}: {one['message']}" for one in plan.get("changes", ()))
        raise SporkError(Code.PRECONDITION_FAILED, f"The plan of {ref} is {plan['hash']} now: {changes}")
    annotate(home, ref, {APPROVE: digest})


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def namespaced(kind: str, text: str, namespace: str | None) -> Ref:
    """The object that `NAME` or `NAMESPACE/NAME` means."""
    space, _, name = text.rpartition("/")
    if not KINDS[kind].namespaced:
        return Ref(kind, "", text)
    return replace(Ref(kind, "default", name), namespace=space or namespace or "default")


def headings(kind: str, wide: bool) -> Sequence[Column]:
    """The columns that are shown, the wide ones among them or not."""
    return [one for one in columns_of(kind) if wide or not one.priority]
