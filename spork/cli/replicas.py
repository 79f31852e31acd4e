"""Further processes that serve the same addresses: `SPORK_WORKERS=4` is this process and three replicas.

A replica is `spork serve --replica`: it shares the listening ports (SO_REUSEPORT), has no ops address, and ends when its
parent does, because its standard input, a pipe that the parent holds, ends then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import fields

import structlog

from spork.settings import Settings

log = structlog.get_logger("spork")

_GRACE_S = 10.0
_RESTART_S = 1.0


async def keep_replicas(settings: Settings, stop: asyncio.Event) -> None:
    """Runs `settings.workers - 1` replicas, starting those again that end, until `stop` is set."""
    async with asyncio.TaskGroup() as group:
        for number in range(1, settings.workers):
            group.create_task(_keep_one(number, settings, stop))


async def _keep_one(number: int, settings: Settings, stop: asyncio.Event) -> None:
    while not stop.is_set():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "spork", "serve", "--replica",
            stdin=asyncio.subprocess.PIPE,
            env=replica_environment(settings),
            # Ctrl-C in a terminal reaches the whole group; a replica ends when its parent says so.
            start_new_session=True,
        )  # fmt: skip
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if stop.is_set():
            await _end(process, ended)
            return
        log.warning("a replica ended and starts again", replica=number, code=process.returncode)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _RESTART_S)


async def _end(process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(asyncio.shield(ended), _GRACE_S)
    except TimeoutError:
        process.kill()
        await ended


def replica_environment(settings: Settings) -> dict[str, str]:
    """The parent's settings as variables, so that a replica needs no file.

    A database URL may hold a password: the environment is closed to other users, the arguments are not.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPORK_")}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, tuple):
            value = ",".join(str(item) for item in value)
        elif isinstance(value, bool):
            value = "on" if value else "off"
        if value not in ("", None):
            environment[f"SPORK_{field.name.upper()}"] = str(value)
    return environment | {"SPORK_WORKERS": "1"}


async def parent_gone() -> None:
    """Returns when standard input ends: in a replica, when the parent closed it or died."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass
