"""A built CA without listeners: the services of one process on the bundled PostgreSQL, as durable as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from spork.cli.first_start import make_passphrases, prepare
from spork.hierarchy.load import load_hierarchy
from spork.services import Services, open_services
from spork.settings import load_settings

HIERARCHY = Path(__file__).with_name("hierarchy.toml")


@asynccontextmanager
async def services_of(home: Path, *, build: bool = False) -> AsyncIterator[Services]:
    """Opens the home; `build` makes it first."""
    settings = load_settings(None, {"SPORK_HOME": str(home)})
    if build:
        make_passphrases(settings)
    async with open_services(settings, sealed=build, create=build, exclusive=True) as services:
        if build:
            await prepare(services, load_hierarchy(HIERARCHY, oid_base=settings.oid_base))
            services.keys.close("sealed")
        yield services
