"""`spork get`, `annotate`, `prune` and `pki approve`: what kubectl is in a cluster, for the resources of a folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spork.cli.output import output_option

if TYPE_CHECKING:
    from spork.controller.cluster import Object

_config = click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML file with settings."
)


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("-n", "--namespace", help="Only of this namespace. Default: all.")
@output_option
@_config
def get(kind: str | None, name: str | None, namespace: str | None, output: str, config: Path | None) -> None:
    """Show the resources of the folder that `spork up` runs, and what became of them.

    KIND is as with kubectl: certificates, spc, hierarchy, secrets, ..., and KIND/NAME is one object. Default: all kinds of SPORK.
    Of a Secret it says where it lies, and not what is in it.
    """
    from spork.cli.resources import complaints, found_in, kind_called
    from spork.controller.models import KINDS
    from spork.errors import Code, SporkError
    from spork.settings import load_settings

    home = load_settings(config).home
    if kind is not None and name is None and "/" in kind:
        kind, name = kind.split("/", 1)
    kinds = list(KINDS) if kind is None else [kind_called(kind)]
    found = {one: found_in(home, one, name, namespace) for one in kinds}
    if name is not None and not any(found.values()):
        raise SporkError(Code.NOT_FOUND, f"There is no {kinds[0]} called {name!r} in {home}.")
    if output in ("json", "yaml"):
        from spork.cli.output import show_data

        objects = [one for group in found.values() for one in group]
        show_data(objects[0] if name is not None and len(objects) == 1 else objects, output)
        return
    shown = [one for one in kinds if found[one]] or kinds[:1]
    for number, one in enumerate(shown):
        if number:
            click.echo()
        _show(one, found[one], output, several=kind is None)
    for fault in (item["fault"] for group in found.values() for item in group if "fault" in item):
        click.echo(f"spork: {fault}", err=True)
    known = {item.get("fault") for group in found.values() for item in group}
    for complaint in complaints(home):
        if complaint not in known:
            click.echo(f"spork: {complaint}", err=True)


def _show(kind: str, objects: list[Object], output: str, *, several: bool) -> None:
    from spork.cli.output import Column, show_list
    from spork.cli.resources import headings, value_at
    from spork.controller.cluster import KINDS

    columns: list[Column] = []
    if KINDS[kind].namespaced:
        columns.append(("NAMESPACE", lambda one: one["metadata"].get("namespace")))
    columns.append((kind.upper() if several else "NAME", lambda one: one["metadata"]["name"]))
    columns += [(one.name.upper(), partial(value_at, column=one)) for one in headings(kind, output == "wide")]
    show_list(objects, "table", columns, empty="No resources found." if several else f"No {kind} found.")


@click.command()
@click.argument("kind")
@click.argument("name", metavar="[NAMESPACE/]NAME")
@click.argument("annotations", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option("-n", "--namespace", help="Of the object. Default: default.")
@_config
def annotate(kind: str, name: str, annotations: tuple[str, ...], namespace: str | None, config: Path | None) -> None:
    """Set annotations of SPORK on a resource of the folder, such as confirm-delete.

    KEY may leave out the part before the slash, which is spork-ca.org. An annotation that stands in the file itself is better
    changed there.
    """
    from spork.cli.resources import annotate as set_annotations
    from spork.cli.resources import kind_called, namespaced
    from spork.controller.models.schema import GROUP
    from spork.settings import load_settings

    pairs = dict(one.partition("=")[::2] for one in annotations)
    if any("=" not in one for one in annotations):
        raise click.UsageError("An annotation is KEY=VALUE.")
    full = {key if "/" in key else f"{GROUP}/{key}": value for key, value in pairs.items()}
    if foreign := [key for key in full if not key.startswith(f"{GROUP}/")]:
        raise click.UsageError(f"{foreign[0]} is none of SPORK's annotations; put it into the file.")
    ref = namespaced(kind_called(kind), name, namespace)
    set_annotations(load_settings(config).home, ref, full)
    click.echo(f"{ref} is annotated.")


@click.command()
@click.argument("digest", metavar="HASH")
@_config
def prune(digest: str, config: Path | None) -> None:
    """Delete the resources whose files are gone, although so many are gone at once.

    HASH names exactly what is missing; `spork up` says it, and so does `spork get`.
    """
    from spork.cli.resources import ask
    from spork.controller.folder import state
    from spork.controller.folder.requests import Request
    from spork.errors import Code, SporkError
    from spork.settings import load_settings

    home = load_settings(config).home
    summary = state.summary(home)
    if not summary.get("missing"):
        raise SporkError(Code.NOT_FOUND, "Nothing is missing in the folder.")
    if digest != summary["hash"]:
        raise SporkError(
            Code.PRECONDITION_FAILED,
            f"What is missing now is something else: {', '.join(summary['missing'])} ({summary['hash']}).",
        )
    if summary["faults"]:
        raise SporkError(Code.PRECONDITION_FAILED, f"First mend what is wrong in the folder: {summary['faults'][0]}")
    ask(home, Request(prune=digest))
    for name in summary["missing"]:
        click.echo(f"{name} is deleted.")


@click.command()
@click.argument("name")
@click.argument("digest", metavar="HASH")
@_config
def approve(name: str, digest: str, config: Path | None) -> None:
    """Let the plan of the Hierarchy NAME be carried out, of which HASH is what `spork get hierarchy NAME -o yaml` shows."""
    from spork.cli.resources import approve as let
    from spork.settings import load_settings

    let(load_settings(config).home, name, digest)
    click.echo(f"Plan {digest} of Hierarchy {name} is approved; `spork get hierarchy {name}` shows what becomes of it.")
