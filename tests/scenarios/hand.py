"""Scenarios: what people do and what must come of it, in files that run on a Kubernetes API server and on a folder alike.

A scenario is a list of steps. `apply` holds objects, `delete` names of objects, and `expect` what must be true after a while:
conditions by type (`status`, and a `reason` where it matters), fields of the status, the keys of a Secret, or `absent`.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Protocol

import yaml

PATIENCE_S = 120
"""How long an expectation may take. Long, since the machine may be busy; what comes, comes within a second or two."""
FOLDER = Path(__file__).parent


class Hand(Protocol):
    """The hand of a user: kubectl, or an editor in a folder."""

    async def apply(self, items: list[dict[str, Any]]) -> None: ...

    async def delete(self, kind: str, namespace: str, name: str) -> None: ...

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The object with its status."""
        ...

    async def secret(self, namespace: str, name: str) -> dict[str, bytes] | None: ...


def scenarios() -> list[str]:
    """The names of all scenarios."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


async def play(name: str, hand: Hand) -> None:
    """Plays one scenario. Raises AssertionError with the step, and what was seen instead."""
    remembered: dict[str, Any] = {}
    for number, step in enumerate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()), 1):
        ((verb, content),) = step.items()
        match verb:
            case "apply":
                await hand.apply(content)
            case "delete":
                for target in content:
                    await hand.delete(*_named(target))
            case "expect":
                for wanted in content:
                    await _wait(f"{name}, step {number}", hand, wanted, remembered)
            case _:
                raise AssertionError(f"{name}, step {number}: {verb} is no verb of scenarios")


def _named(target: dict[str, Any]) -> tuple[str, str, str]:
    return target["kind"], target.get("namespace", ""), target["name"]


async def _wait(where: str, hand: Hand, wanted: dict[str, Any], remembered: dict[str, Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (missing := await _missing(hand, wanted, remembered)) is not None:
        assert time.monotonic() < deadline, f"{where}: {wanted}\n{missing}"
        await asyncio.sleep(0.2)


async def _missing(hand: Hand, wanted: dict[str, Any], remembered: dict[str, Any]) -> str | None:
    """What is not yet as wanted, or None."""
    kind, namespace, name = _named(wanted)
    if kind == "Secret":
        return await _missing_in_secret(hand, wanted, namespace, name)
    found = await hand.get(kind, namespace, name)
    if wanted.get("absent"):
        return None if found is None else "it is still there"
    if found is None:
        return "it is not there"
    status = found.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    for condition, value in wanted.get("conditions", {}).items():
        seen = conditions.get(condition)
        for key, text in value.items():
            if seen is None or (text not in seen["message"] if key == "message" else seen[key] != text):
                return f"{condition} is {seen}"
    for key, value in wanted.get("status", {}).items():
        if status.get(key) != value:
            return f"{key} is {status.get(key)!r} in {status}"
    return _compare(status, wanted, remembered)


def _compare(status: dict[str, Any], wanted: dict[str, Any], remembered: dict[str, Any]) -> str | None:
    """`remember` keeps a field under a name; `same` and `differs` compare with what was kept."""
    for key, name in wanted.get("same", {}).items():
        if status.get(key) != remembered[name]:
            return f"{key} is {status.get(key)!r} and was {remembered[name]!r}"
    for key, name in wanted.get("differs", {}).items():
        if status.get(key) in (None, remembered[name]):
            return f"{key} is still {status.get(key)!r}"
    remembered.update({name: status.get(key) for key, name in wanted.get("remember", {}).items()})
    return None


async def _missing_in_secret(hand: Hand, wanted: dict[str, Any], namespace: str, name: str) -> str | None:
    secret = await hand.secret(namespace, name)
    if wanted.get("absent"):
        return None if secret is None else "it is still there"
    if secret is None:
        return "it is not there"
    lacking = [key for key in wanted.get("keys", ()) if not secret.get(key)]
    return f"it lacks {lacking}" if lacking else None
