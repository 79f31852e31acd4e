"""`spork serve`: the doors and their workers on a database that exists already."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from spork.settings import Settings


@click.command()
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML file with settings.")
@click.option("--replica", is_flag=True, hidden=True)
def serve(config: Path | None, replica: bool) -> None:
    """Run the HTTP doors and their workers.

    Needs a migrated database (SPORK_DATABASE_URL) with a built tree, and the passphrase of the online keys
    (SPORK_PASSPHRASE_FILE). Any number of these may run on one database; each is a full replica.
    """
    from spork.cli.logs import configure_logging
    from spork.cli.runtime import run_loop
    from spork.keys.process import harden
    from spork.settings import load_settings

    settings = load_settings(config)
    configure_logging(settings)
    harden()
    run_loop(_serve(settings, replica))


async def _serve(settings: Settings, replica: bool) -> None:
    from spork.cli.replicas import parent_gone
    from spork.cli.runtime import log, run, stop_on_signals
    from spork.services import open_services

    stop = stop_on_signals()
    watching = asyncio.create_task(parent_gone()) if replica else None
    if watching is not None:
        watching.add_done_callback(lambda _: stop.set())

    async def ready() -> None:
        log.info(
            "serving", status=settings.url_of_status(), enrol=settings.url_of_enrol(), admin=settings.url_of_admin()
        )

    async with open_services(settings) as services:
        await run(services, stop, ready, replica=replica)
