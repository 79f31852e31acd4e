"""Runs `spork` with places of the program made deadly: reaching the armed one sends SIGKILL to the whole process.

Usage: kill_launcher.py PLACES ARMED_FILE ARGUMENTS...   PLACES is a list of `before|after:module:qualified.name`, joined by
commas. All are harmless until ARMED_FILE exists; then the one whose text stands in it is deadly. The program itself has no such
hooks. SPORK_TEST_LEASE_S shortens the leases, so that a test need not wait for what a dead process held, and
SPORK_TEST_JOB_LEASE_S those of a signer's jobs. With
SPORK_TEST_STRIKE=pause the armed place is not deadly: who reaches it makes ARMED_FILE.reached and waits until ARMED_FILE is gone.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LEASES = ("spork.issuance.pipeline", "spork.api.acme.validation")


def make_deadly(place: str, armed: Path) -> None:
    _, module, qualified = place.split(":")
    owner: Any = importlib.import_module(module)
    *path, name = qualified.split(".")
    for part in path:
        owner = getattr(owner, part)
    setattr(owner, name, _wrapped(getattr(owner, name), place, armed))


def _wrapped(function: Callable[..., Any], place: str, armed: Path) -> Callable[..., Any]:
    when = place.partition(":")[0]

    def strikes(now: str) -> bool:
        if now != when or not armed.exists() or armed.read_text() != place:
            return False
        if os.environ.get("SPORK_TEST_STRIKE") != "pause":
            os.kill(os.getpid(), signal.SIGKILL)
        armed.with_suffix(".reached").touch()
        return True

    async def strike(now: str) -> None:
        # Files on purpose: the whole point is that somebody else decides how long this takes.
        while strikes(now):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def asynchronous(*arguments: Any, **options: Any) -> Any:
            await strike("before")
            result = await function(*arguments, **options)
            # A worker that looks for work all the time has reached its place only when it found some.
            if result != []:
                await strike("after")
            return result

        return asynchronous

    @functools.wraps(function)
    def synchronous(*arguments: Any, **options: Any) -> Any:
        while strikes("before"):
            time.sleep(0.02)
        result = function(*arguments, **options)
        while strikes("after"):
            time.sleep(0.02)
        return result

    return synchronous


def shorten_leases(seconds: int) -> None:
    for module in LEASES:
        constants: Any = importlib.import_module(module)
        constants.LEASE_S = seconds


if __name__ == "__main__":
    if lease := os.environ.get("SPORK_TEST_LEASE_S"):
        shorten_leases(int(lease))
    if lease := os.environ.get("SPORK_TEST_JOB_LEASE_S"):
        signing: Any = importlib.import_module("spork.issuance.signing")
        signing.JOB_LEASE_S = int(lease)
    for deadly in filter(None, sys.argv[1].split(",")):
        make_deadly(deadly, Path(sys.argv[2]))
    from spork.cli.main import main

    main(sys.argv[3:])
