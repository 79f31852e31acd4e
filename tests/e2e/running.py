"""A whole SPORK CA as a user runs it: `spork up` in a folder of its own, on ports of its own, watched from outside."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPORK = [sys.executable, "-m", "spork"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class RunningCA:
    """One state folder with its process. `start` and `stop` may follow each other: the state stays."""

    home: Path
    declarations: Path = ROOT / "examples" / "quickstart"
    extra: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=lambda: [*SPORK, "up"])
    arguments: list[str] | None = None
    """After the command; by default the folder of declarations."""
    log_name: str = ""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.ports = {name: free_port() for name in ("status", "enrol", "admin", "ops", "http01", "tlsalpn01")}

    @property
    def environment(self) -> dict[str, str]:
        listen = {
            f"SPORK_{n.upper()}_LISTEN": f"127.0.0.1:{self.ports[n]}" for n in ("status", "enrol", "admin", "ops")
        }
        ours = {
            "SPORK_HOME": str(self.home),
            "SPORK_ACME_HTTP01_PORT": str(self.ports["http01"]),
            "SPORK_ACME_TLSALPN01_PORT": str(self.ports["tlsalpn01"]),
            **listen,
            **self.extra,
        }
        return {**{k: v for k, v in os.environ.items() if not k.startswith("SPORK_")}, **ours}

    @property
    def status_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['status']}"

    @property
    def directory_url(self) -> str:
        return f"https://localhost:{self.ports['enrol']}/acme/directory"

    @property
    def root_pem(self) -> Path:
        return self.home / "trust" / "root.pem"

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    @property
    def log(self) -> Path:
        return self.home.parent / f"{self.log_name or self.home.name}.out"

    def start(self, wait_s: float = 90) -> RunningCA:
        arguments = [str(self.declarations)] if self.arguments is None else self.arguments
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(
                [*self.command, *arguments],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                # Signals meant for the CA must not reach the tests.
                start_new_session=True,
            )
        deadline = time.monotonic() + wait_s
        while not self.ready():
            if self.process.poll() is not None:
                raise AssertionError(f"spork up ended with {self.process.returncode}:\n{self.output}")
            if time.monotonic() > deadline:
                raise AssertionError(f"spork up was not ready within {wait_s} s:\n{self.output}")
            time.sleep(0.1)
        return self

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['ops']}/readyz", timeout=3) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, number: signal.Signals = signal.SIGINT, wait_s: float = 30) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(wait_s)

    def refused(self) -> subprocess.CompletedProcess[str]:
        """Starts it where it must not start; it has to end by itself."""
        return self.spork("up", str(self.declarations), check=False)

    def discard(self) -> None:
        """Kills what still runs and removes the database, which as root lies outside of the home."""
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)
        record = self.home / "postgres" / "folder"
        if record.exists():
            time.sleep(0.3)  # The database ends at its parent's death, which takes a moment.
            shutil.rmtree(Path("/var/lib/spork") / record.read_text().strip(), ignore_errors=True)

    def spork(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command of the CLI against this CA."""
        return subprocess.run(
            [*SPORK, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=check,
            timeout=120,
            cwd=ROOT,
        )

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.root_pem))


def openssl(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs OpenSSL; a failure shows what it said."""
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert not check or done.returncode == 0, f"openssl {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done
