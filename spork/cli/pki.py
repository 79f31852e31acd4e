"""`spork pki`: validate, preview, plan and build the declared tree; requests and answers of keys that are elsewhere.

These commands bootstrap a host, so they work on the database directly; what they do is audited as done by the host.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from spork.cli.get import approve
from spork.cli.pki_work import work
from spork.cli.presets import preset

if TYPE_CHECKING:
    from spork.hierarchy.build import Built
    from spork.hierarchy.model import Hierarchy
    from spork.hierarchy.ports import TreeState
    from spork.hierarchy.steps import Plan
    from spork.services import Services
    from spork.settings import Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FORMATS = ("table", "json", "yaml")


def _hierarchy_argument(command: _Command) -> _Command:
    return click.argument("file", type=click.Path(path_type=Path), default="hierarchy.toml")(command)


def _hierarchy_option(command: _Command) -> _Command:
    return click.option(
        "--hierarchy", "file", type=click.Path(path_type=Path), default="hierarchy.toml", show_default=True,
        help="The hierarchy file.",
    )(command)  # fmt: skip


def _config_option(command: _Command) -> _Command:
    return click.option(
        "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), envvar="SPORK_CONFIG",
        help="TOML file with settings. Default: spork.toml beside the hierarchy file, if there is one.",
    )(command)  # fmt: skip


def _format_option(command: _Command) -> _Command:
    return click.option(
        "-o", "form", type=click.Choice(_FORMATS), default="table", show_default=True, help="Form of the output."
    )(command)


@click.group()
def pki() -> None:
    """Validate, preview and build the declared hierarchy.

    FILE is a hierarchy file (default: hierarchy.toml), as docs/hierarchy.md describes it.
    """


@pki.command()
@_hierarchy_argument
@_config_option
def validate(file: Path, config: Path | None) -> None:
    """Check FILE, and say all that is wrong with it."""
    hierarchy = _load(file, _settings(file, config))
    kinds = [authority.kind.value for authority in hierarchy.authorities]
    counts = [f"{kinds.count(kind)} {kind}" for kind in ("root", "policy", "issuing") if kind in kinds]
    click.echo(f"{file} is valid: {', '.join(counts)} CAs, {_count(len(hierarchy.issuers), 'issuer')}.")


@pki.command()
@_hierarchy_argument
@_config_option
@click.option("--status-url", help="Public URL that derived CRL and OCSP addresses begin with.  [default: the setting]")
@_format_option
def preview(file: Path, config: Path | None, status_url: str | None, form: str) -> None:
    """Show the tree of FILE with every extension that would be signed. Needs no database and makes no keys."""
    from spork.clock import SystemClock
    from spork.hierarchy.preview import preview as make_preview

    settings = _settings(file, config)
    hierarchy = _load(file, settings)
    base = status_url or settings.url_of_status()
    certificates = make_preview(hierarchy, status_url=base, now=SystemClock().now())
    if form != "table":
        _show({"certificates": [one.as_json() for one in certificates], "issuers": _issuers(hierarchy)}, form)
        return
    from spork.cli.hierarchy_view import console, preview_tree

    console().print(preview_tree(hierarchy, certificates, base))


@pki.command()
@_hierarchy_argument
@_config_option
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 if there are changes to make.")
@_format_option
@click.pass_context
def plan(ctx: click.Context, file: Path, config: Path | None, detailed_exitcode: bool, form: str) -> None:
    """Compare FILE with what is built, and class each change. Changes nothing.

    Classes: none, waiting (somebody elsewhere has to sign), in place, create, re-issue, re-key, forbidden.
    """
    settings = _settings(file, config)
    steps = asyncio.run(_plan(_load(file, settings), settings))
    _show_plan(steps, form)
    if detailed_exitcode and steps.changes:
        ctx.exit(2)


@pki.command()
@_hierarchy_argument
@_config_option
@click.option(
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write certificates, chains and requests there.",
)
@click.option("--approve", metavar="HASH", help="Carry out the plan of this hash although it needs approval.")
@_format_option
def build(file: Path, config: Path | None, folder: Path | None, approve: str | None, form: str) -> None:
    """Carry out the plan for FILE, once, under a lock. May be repeated at any time.

    Makes the database and the keys if they are not there yet. Asks for passphrases that no file holds.
    """
    from spork.hierarchy.output import write_tree
    from spork.keys.process import harden

    settings = _settings(file, config)
    hierarchy = _load(file, settings)
    harden()
    built = asyncio.run(_build(hierarchy, settings, approve))
    paths = write_tree(built.state, folder) if folder is not None else []
    if form != "table":
        _show({**built.plan.as_json(), "files": [str(path) for path in paths]}, form)
        return
    changes, waiting = len(built.plan.changes), [s for s in built.plan.steps if s.change.value == "waiting"]
    idle = "Nothing can be done here until others sign:" if waiting else "Nothing to do: the tree is as declared."
    click.echo(f"{_count(changes, 'change')} made." if changes else idle)
    for step in waiting:
        click.echo(f"{step.id} waits: {step.reason}")
    if paths:
        click.echo(f"{_count(len(paths), 'file')} written to {folder}.")


@pki.command()
@_config_option
@_format_option
def status(config: Path | None, form: str) -> None:
    """List the CAs as they are built."""
    from spork.cli.hierarchy_status import show_status, status_as_json

    state = asyncio.run(_read(_settings(Path("hierarchy.toml"), config)))
    if form == "table":
        show_status(state)
    else:
        _show(status_as_json(state), form)


@pki.command()
@_hierarchy_argument
@_config_option
@click.option(
    "-o", "form", type=click.Choice(("yaml", "json")), default="yaml", show_default=True, help="Form of the output."
)
@click.option("--name", default="hierarchy", show_default=True, help="metadata.name of the resource.")
@click.option("--certificates", "folder", type=click.Path(file_okay=False, path_type=Path),
              help="Instead write the certificates, chains and requests of the built tree into this folder.")  # fmt: skip
def export(file: Path, config: Path | None, form: str, name: str, folder: Path | None) -> None:
    """Print FILE as a Kubernetes Hierarchy resource, or write the built tree's certificates."""
    settings = _settings(file, config)
    if folder is not None:
        from spork.hierarchy.output import write_tree

        paths = write_tree(asyncio.run(_read(settings)), folder)
        click.echo(f"{_count(len(paths), 'file')} written to {folder}.")
        return
    from spork.hierarchy.export import hierarchy_resource

    _load(file, settings)
    _show(hierarchy_resource(file.read_text("utf-8"), str(file), name), form)


@pki.command()
@click.argument("ca")
@_config_option
@click.option(
    "--output",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file.  [default: standard output]",
)
def request(ca: str, config: Path | None, path: Path | None) -> None:
    """Write the certification request of CA, which is to be signed where its parent's key is."""
    from spork.errors import Code, SporkError
    from spork.files import write_atomically
    from spork.hierarchy.output import csr_pem
    from spork.hierarchy.problems import did_you_mean

    state = asyncio.run(_read(_settings(Path("hierarchy.toml"), config)))
    pending = {
        one.id: one.current.pending_csr
        for one in state.authorities.values()
        if one.current is not None and one.current.pending_csr is not None
    }
    csr = next((octets for authority_id, octets in pending.items() if authority_id == ca), None)
    if csr is None:
        hint = did_you_mean(ca, pending) if pending else "; none waits to be signed elsewhere."
        raise SporkError(Code.NOT_FOUND, f"No request of {ca!r} is waiting{hint}")
    if path is None:
        click.echo(csr_pem(csr), nl=False)
    else:
        write_atomically(path, csr_pem(csr).encode("ascii"))


@pki.command(name="import")
@click.argument("certificate", type=click.File("r", encoding="ascii", errors="replace"))
@_hierarchy_option
@_config_option
def import_(certificate: TextIO, file: Path, config: Path | None) -> None:
    """Take in a CERTIFICATE (PEM) that was signed elsewhere; the CA is found by its name.

    It must be what is declared, for the key of the request, signed by the declared parent.
    """
    from spork.hierarchy.offline import import_certificate

    _import(file, config, _text(certificate), import_certificate, "The certificate of {} is stored.")


@pki.command(name="import-csr")
@click.argument("csr", type=click.File("r", encoding="ascii", errors="replace"))
@_hierarchy_option
@_config_option
def import_csr_(csr: TextIO, file: Path, config: Path | None) -> None:
    """Take in the request (CSR, PEM) of a CA whose key is offline; `spork pki build` then signs it."""
    from spork.hierarchy.offline import import_csr

    _import(file, config, _text(csr), import_csr, "The request of {} is stored; `spork pki build` signs it.")


pki.add_command(preset)
pki.add_command(approve)
pki.add_command(work)


def _settings(file: Path, config: Path | None) -> Settings:
    from spork.settings import load_settings

    beside = file.parent / "spork.toml"
    return load_settings(config or (beside if beside.exists() else None))


def _load(file: Path, settings: Settings) -> Hierarchy:
    from spork.hierarchy.load import load_hierarchy

    return load_hierarchy(file, oid_base=settings.oid_base)


def _text(stream: TextIO) -> str:
    """At most a megabyte: what is larger is no certificate, and is refused as none."""
    return stream.read(1 << 20)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _show(data: Any, form: str) -> None:
    from spork.cli.output import show_data

    show_data(data, form)


def _show_plan(steps: Plan, form: str) -> None:
    if form != "table":
        _show(steps.as_json(), form)
        return
    from spork.cli.hierarchy_view import console, plan_table
    from spork.hierarchy.classes import ChangeClass

    console().print(plan_table(steps))
    if not steps.changes:
        click.echo("Nothing to do.")
        return
    click.echo(f"\n{_count(len(steps.changes), 'change')}; plan {steps.hash}")
    if steps.forbidden:
        click.echo(f"It cannot be carried out: {_count(len(steps.forbidden), 'change')} forbidden.")
    elif any(step.change is ChangeClass.REKEY for step in steps.changes):
        click.echo("It cannot be carried out: existing CAs get no new keys in this version; declare a new CA.")
    elif any(step.needs_approval for step in steps.changes):
        click.echo(f"It needs approval: `spork pki build --approve {steps.hash}`.")


def _issuers(hierarchy: Hierarchy) -> list[dict[str, Any]]:
    return [{"name": issuer.name, **issuer.as_json()} for issuer in hierarchy.issuers]


async def _plan(hierarchy: Hierarchy, settings: Settings) -> Plan:
    return _compare(hierarchy, await _read(settings), settings)


def _compare(hierarchy: Hierarchy, state: TreeState, settings: Settings) -> Plan:
    from spork.clock import SystemClock
    from spork.hierarchy.plan import plan as make

    return make(hierarchy, state, status_url=settings.url_of_status(), now=SystemClock().now())


async def _read(settings: Settings) -> TreeState:
    """The tree as it is stored; an empty one on a host where nothing was built yet, which stays untouched."""
    from spork.hierarchy.ports import TreeState
    from spork.services import open_services

    if not settings.database_url and not (settings.home / "postgres").exists():
        return TreeState()
    async with open_services(settings, keys=False) as services:
        return await services.authorities.read_tree()


async def _build(hierarchy: Hierarchy, settings: Settings, approve: str | None) -> Built:
    from spork.api.crl.publication import ensure_crls
    from spork.hierarchy.build import Built
    from spork.hierarchy.build import build as carry_out
    from spork.hierarchy.classes import ChangeClass

    # Where nothing is to be done no passphrase is asked for.
    state = await _read(settings)
    steps = _compare(hierarchy, state, settings)
    if not steps.changes and approve is None:
        return Built(steps, state)
    certifying = (ChangeClass.CREATE, ChangeClass.REISSUE)
    if not settings.status_url and any(step.change in certifying for step in steps.changes):
        _say(
            f"Note: certificates will point to {settings.url_of_status()}, where only this machine finds their CRLs and OCSP. "
            "For others set SPORK_STATUS_URL before building; it cannot be changed in certificates later."
        )
    async with _opened(hierarchy, settings) as services:
        built = await carry_out(hierarchy, services.workshop, approve=approve, progress=_say)
        # Sealed keys are open only here, and a CA without a list leaves its verifiers at a loss.
        await ensure_crls(services)
        return built


@contextlib.asynccontextmanager
async def _opened(hierarchy: Hierarchy, settings: Settings) -> AsyncIterator[Services]:
    """Everything open that building needs: the sealed passphrase only where the tree has sealed keys."""
    from spork.services import open_services
    from spork.x509.authority import KeyMode

    sealed = any(authority.key_mode is KeyMode.SEALED for authority in hierarchy.authorities)
    async with open_services(settings, sealed=sealed, create=True, terminal=True) as services:
        yield services


def _import(file: Path, config: Path | None, pem: str, take_in: Callable[..., Any], done: str) -> None:
    from spork.services import open_services

    settings = _settings(file, config)
    hierarchy = _load(file, settings)

    async def run() -> str:
        async with open_services(settings, create=True, keys=False) as services:
            return str(await take_in(hierarchy, services.workshop, pem))

    click.echo(done.format(asyncio.run(run())))


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)
