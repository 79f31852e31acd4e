"""PostgreSQL away for a while: nothing is claimed that is not so, and afterwards all goes on by itself."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from adversity_world import ISSUER, Fleet, a_fleet, a_hand, issuer_ready
from operator_running import Programs, is_ready, programs, until
from operator_world import Cluster

from spork.controller.conditions import condition_of
from spork.store.embedded import EmbeddedPostgres

pytestmark = [pytest.mark.operator, pytest.mark.store, pytest.mark.slow, pytest.mark.timeout(600)]


class Server:
    """A PostgreSQL server of this test alone, whose address stays the same."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._home, self._folder = home, folder
        self.running = self._start()

    def _start(self) -> EmbeddedPostgres:
        return EmbeddedPostgres.start(self._home, folder=self._folder, settings={"shared_buffers": "32MB"})

    def stop(self) -> None:
        self.running.stop()

    def start(self) -> None:
        self.running = self._start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
    folder = memory / f"spork-adversity-{os.getpid()}-{secrets.token_hex(4)}"
    made = Server(tmp_path / "server", folder)
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.fixture
def own_installation(kube: Cluster, server: Server, tmp_path: Path) -> Iterator[Programs]:
    with programs(kube, server.running.url, tmp_path) as made:
        yield made


async def test_postgresql_away_for_a_while(own_installation: Programs, server: Server) -> None:
    async with a_hand(own_installation) as (user, database):
        fleet = await a_fleet(user, database, "adversity-database", 40)
        serve, operator = own_installation.serve(), own_installation.controller("--no-leader-election")
        for program in (serve, operator):
            await until(program.ready, f"{program.words[0]} is ready", 120)
        await issuer_ready(user)
        old, new = list(fleet.names[:10]), list(fleet.names[10:])
        await fleet.apply(*old)
        await until(lambda: _all_ready(fleet, old), "the first ones are Ready")
        await asyncio.to_thread(server.stop)

        await fleet.apply(*new)
        await user.delete(fleet.secret_ref("c0"))
        # One that was Ready and has lost its Secret cannot be mended now, and says so; the new ones say what they wait for.
        await until(lambda: _says(fleet, ["c0", *new], "Unavailable"), "what cannot be issued says why")
        assert await _all_ready(fleet, old[1:])
        assert is_ready(await user.get(ISSUER))
        assert not await asyncio.to_thread(operator.ready)

        await asyncio.to_thread(server.start)
        fleet.revisions = {"c0": 2}
        await fleet.settled()
        for program in (serve, operator):
            await until(program.ready, f"{program.words[0]} is ready again", 120)


async def _all_ready(fleet: Fleet, names: list[str]) -> bool:
    return all([is_ready(await fleet.user.get(fleet.ref(name))) for name in names])


async def _says(fleet: Fleet, names: list[str], reason: str) -> bool:
    for name in names:
        said = condition_of(await fleet.user.get(fleet.ref(name)), "Ready")
        if said is None or (said["status"], said["reason"]) != ("False", reason):
            return False
    return True
