"""The administration API behind real mutual TLS in a thread, for tests of the command line."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from admin_world import TREE, AdminWorld, an_admin_world
from cryptography.hazmat.primitives.serialization import Encoding

from spork.api.listeners import Listener, bind, serve, tls_context
from spork.cli.context import write_context
from spork.ids import MANAGEMENT_AUTHORITY, AuthorityId
from spork.listener import ListenerCertificate
from spork.policy.levels import AdminLevel
from spork.settings import Address
from spork.store.database import Database


@dataclass
class LiveAdmin:
    """A running server; `call` runs a coroutine in its event loop."""

    world: AdminWorld
    url: str
    home: Path
    ca_file: Path
    loop: asyncio.AbstractEventLoop

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def become(self, level: AdminLevel, issuers: tuple[str, ...] | None = None) -> None:
        """Writes the context file for an administrator."""
        who = self.call(self.world.administrator(level, issuers=issuers))
        write_context(self.home, self.url, *who.write(self.home), self.ca_file)


@contextmanager
def live_admin(database_url: str, home: Path, tree: str = TREE, **settings: Any) -> Iterator[LiveAdmin]:
    """Serves until the block ends."""
    started = threading.Event()
    found: dict[str, Any] = {}

    async def run() -> None:
        database = await Database.open(database_url, min_size=1, max_size=4)
        try:
            world = await an_admin_world(database, home, tree, **settings)
            management = await world.services.authorities.authority(MANAGEMENT_AUTHORITY)
            assert management.certificate is not None
            tls = tls_context(management.certificate.public_bytes(Encoding.PEM).decode())
            listener = Listener("admin", Address("127.0.0.1", 0), world.app, tls)
            bound = bind(listener)
            await ListenerCertificate(world.services, [tls]).ensure()
            root = await world.services.authorities.authority(AuthorityId("test-root-ca"))
            assert root.certificate is not None
            anchors = [root.certificate, management.certificate]
            ca_file = home / "listeners.pem"
            ca_file.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in anchors))
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            url = f"https://localhost:{bound.getsockname()[1]}"
            found.update(
                live=LiveAdmin(world, url, home, ca_file, loop), stop=lambda: loop.call_soon_threadsafe(stop.set)
            )
            started.set()
            await serve([listener], [bound], stop)
        finally:
            await database.close()

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            found["error"] = error
            started.set()

    thread = threading.Thread(target=main, name="live-admin", daemon=True)
    thread.start()
    started.wait(60)
    if "error" in found:
        raise found["error"]
    try:
        yield found["live"]
    finally:
        found["stop"]()
        thread.join(30)
        if "error" in found:
            raise found["error"]
