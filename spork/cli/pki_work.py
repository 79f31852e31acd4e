"""`spork pki work`: what others have left for the keys of this host."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spork.services import Services
    from spork.settings import Settings

_LOOK_S = 2.0
_LISTS_EVERY = 30
"""Looks; a tree that was just built has its lists from that."""


@click.command(name="work")
@click.option("--once", is_flag=True, help="End when nothing is left to do, instead of waiting for more.")
@click.option("--sealed", is_flag=True, help="Open the sealed keys too, for plans and CRLs of root and policy CAs.")
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), envvar="SPORK_CONFIG",
    help="TOML file with settings.",
)  # fmt: skip
def work(once: bool, sealed: bool, config: Path | None) -> None:
    """Carry out the plans that wait for keys of this host, and publish the CRLs that are due.

    The operator has no keys: what a Hierarchy needs is left in the database. `spork serve` carries out what online keys suffice
    for; a plan that needs sealed keys waits for this command, run with --sealed where their passphrase is
    (SPORK_SEALED_PASSPHRASE_FILE, or the terminal). With --once the exit code is 0 if nothing is left, and 1 if a plan failed;
    its error is also in the status of the Hierarchy.
    """
    from spork.keys.process import harden
    from spork.settings import load_settings

    settings = load_settings(config)
    harden()
    failed = asyncio.run(_work(settings, once=once, sealed=sealed))
    if failed:
        raise click.ClickException("not every plan was carried out.")


async def _work(settings: Settings, *, once: bool, sealed: bool) -> bool:
    """Whether one of the plans was not carried out."""
    from spork.cli.runtime import stop_on_signals
    from spork.services import open_services

    async with open_services(settings, sealed=sealed, first_keys=True, terminal=True) as services:
        if once:
            return await _all(services, sealed=sealed)
        stop, looks = stop_on_signals(), 0
        while not stop.is_set():
            await _all(services, sealed=sealed, lists=looks % _LISTS_EVERY == 0)
            looks += 1
            await _pause(stop)
    return False


async def _all(services: Services, *, sealed: bool, lists: bool = True) -> bool:
    """Everything that can be done now; whether a plan failed."""
    from spork.api.crl.publication import ensure_crls
    from spork.cli.building import Outcome, work
    from spork.store.building import KEYLESS, KINDS

    failed = False
    kinds = (*KEYLESS, *(KINDS if sealed else KINDS[:1]))
    while (outcome := await work(services, *kinds, progress=_say)) is not Outcome.NONE:
        failed = failed or outcome is Outcome.FAILED
    for published in await ensure_crls(services) if lists else ():
        _say(f"CRL {published.number} of {published.scope} published, {published.entries} entries")
    return failed


async def _pause(stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), _LOOK_S)


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)
