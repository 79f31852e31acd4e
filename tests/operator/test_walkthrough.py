"""docs/walkthrough.md, command by command, in one shell, as its reader would type them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control_plane import control_plane
from tests.e2e.running import ROOT, RunningCA, free_port
from tests.operator_world import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.operator]
_BLOCK = re.compile(r"```(sh|text)\n(.*?)```", re.DOTALL)
_END = "---- end of the block ----"


class Shell:
    """One bash for the whole page."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "-euo", "pipefail"], env=environment, cwd=ROOT, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(self, block: str) -> str:
        """The output of a block. Raises AssertionError if a command of it fails."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{block}\necho '{_END}'\n")
        lines = []
        for line in self._process.stdout:
            if line.strip() == _END:
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"a command failed:\n{block}\n{''.join(lines)}")

    def close(self) -> None:
        """Ends what the page has started."""
        subprocess.run(["pkill", "-TERM", "-s", str(self._process.pid)], check=False)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)


def blocks() -> list[tuple[str, str]]:
    """Each block of commands with the output that is shown below it, if any."""
    found: list[tuple[str, str]] = []
    for language, text in _BLOCK.findall((ROOT / "docs" / "walkthrough.md").read_text()):
        if language == "sh":
            found.append((text, ""))
        else:
            found[-1] = (found[-1][0], text)
    return found


@pytest.fixture
def shell(kube_assets: Path, tmp_path: Path) -> Iterator[Shell]:
    """A control plane without resources, and a state folder of its own."""
    (tmp_path / "kube").mkdir()
    with control_plane(kube_assets, tmp_path / "kube") as own_kube:
        yield from _shell(own_kube, tmp_path)


def _shell(own_kube: Cluster, tmp_path: Path) -> Iterator[Shell]:
    ports = {name: str(free_port()) for name in ("SERVE_PORT", "CONTROLLER_OPS_PORT")}
    ca = RunningCA(tmp_path / "home", extra={**ports, "KUBECONFIG": str(own_kube.kubeconfig)})
    path = f"{Path(sys.executable).parent}:{own_kube.kubectl_path.parent}:{os.environ['PATH']}"
    shell = Shell({**ca.environment, "PATH": path})
    try:
        yield shell
    finally:
        shell.close()
        ca.discard()


@pytest.mark.timeout(600)
def test_every_command_of_the_walkthrough_works(shell: Shell) -> None:
    for block, expected in blocks():
        output = shell.run(block)
        pattern = "".join(".*" if part == "…" else re.escape(part) for part in re.split("(…)", expected.strip()))
        flexible = re.sub(r"(\\ )+", r"\\s+", pattern)
        assert not expected or re.search(flexible, output, re.DOTALL), (
            f"{block}\nshows\n{output}\ninstead of\n{expected}"
        )
