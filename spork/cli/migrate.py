"""`spork migrate`: bring the database schema up to this version."""

from __future__ import annotations

import asyncio

import click


@click.command()
def migrate() -> None:
    """Bring the database schema up to this version.

    Works on SPORK_DATABASE_URL, or on the bundled server of SPORK_HOME. Safe to repeat and to run from several machines at once;
    the login must own the database. `spork up` does this by itself.
    """
    from spork.services import migrate_database
    from spork.settings import load_settings

    applied = asyncio.run(migrate_database(load_settings()))
    for name in applied:
        click.echo(f"applied {name}")
    click.echo("The database is up to date." if not applied else f"{len(applied)} migrations applied.")
