"""`spork migrate`: bring the database schema up to this version, and with `--init` make what an installation starts with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spork.settings import Settings


@click.command()
@click.option("--init", is_flag=True, help="Also make the management CA if it is missing; needs the online passphrase.")
def migrate(init: bool) -> None:
    """Bring the database schema up to this version.

    Works on SPORK_DATABASE_URL, or on the bundled server of SPORK_HOME. Safe to repeat and to run from several machines at once;
    the login must own the database. `spork up` does this by itself. `spork serve` on a new database needs `--init` once: it makes
    the CA of administrators and listeners, whose key is wrapped by the passphrase in SPORK_PASSPHRASE_FILE.
    """
    from spork.services import migrate_database
    from spork.settings import load_settings

    settings = load_settings()
    applied = asyncio.run(migrate_database(settings))
    for name in applied:
        click.echo(f"applied {name}")
    click.echo("The database is up to date." if not applied else f"{len(applied)} migrations applied.")
    if init:
        click.echo(asyncio.run(_initialised(settings)))


async def _initialised(settings: Settings) -> str:
    from spork.bootstrap import ensure_management_ca
    from spork.ids import MANAGEMENT_AUTHORITY
    from spork.services import open_services

    async with open_services(settings, create=True) as services:
        there = any(authority.id == MANAGEMENT_AUTHORITY for authority in await services.authorities.all())
        authority = await ensure_management_ca(services)
    word = "is there" if there else "was made"
    return f"The management CA {word}; it ends on {authority.not_after:%Y-%m-%d}."
