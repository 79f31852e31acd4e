"""Processes as /proc shows them: who descends from whom, what they have cost, and whether they still live."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One process at one instant. Its id alone proves nothing, since ids are used again; with the start time it is unique."""

    pid: int
    parent: int
    name: str
    started: int
    cpu_s: float
    """Its own time and that of its children that have ended."""
    state: str

    @property
    def alive(self) -> bool:
        now = look(self.pid)
        return now is not None and now.started == self.started and now.state != "Z"


def look(pid: int) -> Process | None:
    """The process, None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name stands in brackets and may itself hold brackets and spaces.
    name, rest = text[text.index("(") + 1 :].rsplit(")", 1)
    fields = rest.split()
    cpu = sum(int(value) for value in fields[11:15]) / _TICKS
    return Process(pid, int(fields[1]), name, int(fields[19]), cpu, fields[0])


def tree(pid: int) -> list[Process]:
    """The process and all that descend from it."""
    every = [found for entry in os.listdir("/proc") if entry.isdigit() and (found := look(int(entry)))]
    wanted = {pid}
    while more := {p.pid for p in every if p.parent in wanted} - wanted:
        wanted |= more
    return [process for process in every if process.pid in wanted]


def postmaster(pid: int) -> int:
    """The id of the bundled PostgreSQL that this `spork up` runs."""
    members = {process.pid: process for process in tree(pid)}
    for process in members.values():
        parent = members.get(process.parent)
        if process.name == "postgres" and parent is not None and parent.name != "postgres":
            return process.pid
    raise AssertionError(f"there is no PostgreSQL below process {pid}")


def cpu_s(pid: int) -> tuple[float, float]:
    """Seconds of CPU so far of the process's tree: (SPORK's, PostgreSQL's)."""
    members = tree(pid)
    database = sum(process.cpu_s for process in members if process.name == "postgres")
    return sum(process.cpu_s for process in members) - database, database


def eventually(condition: Callable[[], object], what: str, within_s: float = 30) -> None:
    """Waits for something that must come. The limit is only there so that a fault does not hang."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s} s"
        time.sleep(0.1)
