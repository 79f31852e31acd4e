"""A real PostgreSQL for tests: one server for the session, one fresh migrated database for each test that asks.

SPORK_TEST_DATABASE_URL names another server's maintenance database; its login must be allowed to make databases and roles.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from spork.store.database import Database
from spork.store.embedded import EmbeddedPostgres
from spork.store.migrate import migrate

_TEMPLATE = f"spork_template_{os.getpid()}"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class PostgresServer:
    """Where tests make their databases."""

    admin_url: str
    owner_url: str
    embedded: EmbeddedPostgres | None

    def url_of(self, database: str, *, admin: bool = False) -> str:
        parts = urlsplit(self.admin_url if admin else self.owner_url)
        return urlunsplit(parts._replace(path=f"/{database}"))

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.url_of("postgres", admin=True), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]  # Names made here, from numbers only.

    def create(self, name: str, template: str = "template0") -> str:
        """Makes a database, owned by the login of `owner_url`; returns that login's URL of it."""
        owner = urlsplit(self.owner_url).username
        self.run(f'CREATE DATABASE {name} OWNER "{owner}" TEMPLATE {template} STRATEGY FILE_COPY')
        return self.url_of(name)

    def drop(self, name: str) -> None:
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The server of this test session."""
    if url := os.environ.get("SPORK_TEST_DATABASE_URL"):
        yield PostgresServer(url, url, None)
        return
    # Nothing here needs to survive a crash of the machine; the tests about crashes start servers of their own. A new database is
    # some 300 files, which a file system in memory makes fifty times faster.
    settings = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB", "wal_level": "minimal"}
    memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
    folder = memory / f"spork-test-{os.getpid()}-{secrets.token_hex(4)}"
    server = EmbeddedPostgres.start(
        tmp_path_factory.mktemp("postgres"), settings={**settings, "max_wal_senders": "0"}, folder=folder
    )
    try:
        yield PostgresServer(server.superuser_url, server.url, server)
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> Iterator[str]:
    """Name of a migrated database that others are copied from."""
    asyncio.run(migrate(postgres_server.create(_TEMPLATE)))
    yield _TEMPLATE
    postgres_server.drop(_TEMPLATE)


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a fresh database without any table."""
    name = f"spork_test_{os.getpid()}_{next(_numbers)}"
    yield postgres_server.create(name)
    postgres_server.drop(name)


@pytest.fixture
def database_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """URL of a fresh migrated database, with the owner's login; `Database.open` steps down to the runtime role."""
    name = f"spork_test_{os.getpid()}_{next(_numbers)}"
    yield postgres_server.create(name, migrated_template)
    postgres_server.drop(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh migrated database."""
    opened = await Database.open(database_url, min_size=1, max_size=8)
    yield opened
    await opened.close()
