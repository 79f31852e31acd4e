"""Runs `spork up` with one place of the program made deadly: reaching it sends SIGKILL to the whole process.

Usage: kill_launcher.py PLACE ARMED_FILE ARGUMENTS...   PLACE is `before|after:module:qualified.name`.
The place is harmless until ARMED_FILE exists, so that the first start can finish; the program itself has no such hooks.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def make_deadly(place: str, armed: Path) -> None:
    when, module, qualified = place.split(":")
    owner: Any = importlib.import_module(module)
    *path, name = qualified.split(".")
    for part in path:
        owner = getattr(owner, part)
    setattr(owner, name, _wrapped(getattr(owner, name), when, armed))


def _wrapped(function: Callable[..., Any], when: str, armed: Path) -> Callable[..., Any]:
    def strike(now: str) -> None:
        if now == when and armed.exists():
            os.kill(os.getpid(), signal.SIGKILL)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def asynchronous(*arguments: Any, **options: Any) -> Any:
            strike("before")
            result = await function(*arguments, **options)
            strike("after")
            return result

        return asynchronous

    @functools.wraps(function)
    def synchronous(*arguments: Any, **options: Any) -> Any:
        strike("before")
        result = function(*arguments, **options)
        strike("after")
        return result

    return synchronous


if __name__ == "__main__":
    make_deadly(sys.argv[1], Path(sys.argv[2]))
    from spork.cli.main import main

    main(sys.argv[3:])
