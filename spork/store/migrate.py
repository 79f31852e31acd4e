"""Migrations: numbered SQL files, forward only, each applied once and never edited afterwards.

A database remembers the number and the SHA-256 of each applied file. All pending files are applied in one transaction under an
advisory lock, so that a failure leaves the database as it was, and a second migration waits and then finds nothing to do.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

import psycopg

from spork.errors import Code, SporkError
from spork.store.database import Database, check_url, connection_options, unavailable

# Any number will do, as long as nobody else uses it in the same database: the octets of "sporkdbm".
_LOCK = 0x73706F726B64626D
_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
    number integer PRIMARY KEY, name text NOT NULL, sha256 bytea NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())
"""
_APPLIED = "SELECT number, name, sha256 FROM schema_migration ORDER BY number"
_INSERT = "INSERT INTO schema_migration (number, name, sha256) VALUES (%s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered SQL file of the program."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.sql.encode()).digest()


def migrations() -> list[Migration]:
    """The program's migrations in order. Their numbers rise by one from 1 on."""
    folder = resources.files("spork.store") / "migrations"
    found = []
    for file in folder.iterdir():
        if match := _NAME.fullmatch(file.name):
            found.append(Migration(int(match[1]), file.name, file.read_text("utf-8")))
    return sorted(found, key=lambda migration: migration.number)


def pending(known: list[Migration], applied: list[tuple[int, str, bytes]]) -> list[Migration]:
    """What is still to be applied. Raises SporkError(CONFIGURATION) where database and program do not belong together."""
    by_number = {migration.number: migration for migration in known}
    if len(by_number) != len(known):
        raise SporkError(
            Code.CONFIGURATION, "Two migrations have the same number; this program is broken, reinstall it."
        )
    for number, name, sha256 in applied:
        migration = by_number.get(number)
        if migration is None:
            raise SporkError(
                Code.CONFIGURATION,
                f"The database was migrated by a newer SPORK (it has {name}); install that version, there is no way back.",
            )
        if migration.sha256 != bytes(sha256):
            raise SporkError(
                Code.CONFIGURATION,
                f"Migration {name} was applied to this database in another form than this program has; "
                "applied migrations must not be edited. Install the version that applied it.",
            )
    done = {number for number, _, _ in applied}
    return [migration for migration in known if migration.number not in done]


async def migrate(url: str) -> list[str]:
    """Brings the database to this program's schema; returns the names of the files that were applied now.

    The login must own the database (or the schema `public`). Waits while another process migrates.
    Raises SporkError(CONFIGURATION) as `pending` does or where the login may not change the schema; DatabaseUnavailable.
    """
    check_url(url)
    options = connection_options("spork-migrate")
    try:
        async with await psycopg.AsyncConnection.connect(url, **options) as connection:
            # Waiting for another migration may take long; waiting for a table in use may not, since others queue behind us.
            await connection.execute(
                "SET statement_timeout = 0; SET lock_timeout = 0; SET client_min_messages = warning"
            )
            await connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            await connection.execute("SET lock_timeout = '4s'")
            async with connection.transaction():
                return await _apply(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SporkError(
            Code.CONFIGURATION,
            f"The login may not change the schema ({error.diag.message_primary}); migrate with the login that owns the database.",
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise SporkError(
            Code.UNAVAILABLE, "A table that has to change is in use; nothing was changed, try again.", retry_after_s=5
        ) from error
    except psycopg.OperationalError as error:
        raise unavailable(error) from error


async def _apply(connection: psycopg.AsyncConnection) -> list[str]:
    await connection.execute(_CREATE_TABLE)
    rows = await (await connection.execute(_APPLIED)).fetchall()
    to_apply = pending(migrations(), rows)
    for migration in to_apply:
        # The text comes from the program's own package; without parameters it may hold several statements.
        await connection.execute(migration.sql.encode())
        await connection.execute(_INSERT, [migration.number, migration.name, migration.sha256])
    await connection.execute(_roles())
    return [migration.name for migration in to_apply]


def _roles() -> bytes:
    """Grants to the runtime role: applied at every migration, since each may bring new tables, and idempotent."""
    return (resources.files("spork.store") / "migrations" / "roles.sql").read_bytes()


async def check_migrated(database: Database) -> None:
    """Raises SporkError(CONFIGURATION) unless the database has exactly this program's schema."""
    try:
        rows = await (await database.execute(_APPLIED)).fetchall()
    except psycopg.errors.UndefinedTable:
        rows = []
    if missing := pending(migrations(), rows):
        names = ", ".join(migration.name for migration in missing)
        raise SporkError(Code.CONFIGURATION, f"The database lacks {names}; run `spork migrate` first.")
