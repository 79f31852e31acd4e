"""Real ACME clients, each run as its users run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.e2e.running import RunningCA


def certbot(ca: RunningCA, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """certbot with all its state under `folder`, trusting only this CA's root. Raises CalledProcessError."""
    program = Path(sys.executable).with_name("certbot")
    command = [
        str(program), *arguments, "--non-interactive", "--agree-tos", "--email", "ops@shop.localhost", "--no-eff-email",
        "--server", ca.directory_url, "--config-dir", str(folder / "config"), "--work-dir", str(folder / "work"),
        "--logs-dir", str(folder / "logs"), "--http-01-port", str(ca.ports["http01"]),
    ]  # fmt: skip
    if arguments[0] in ("unregister", "revoke", "renew"):
        drop = {"--email", "ops@shop.localhost", "--no-eff-email"}
        command = [word for word in command if word not in drop]
    environment = {**os.environ, "REQUESTS_CA_BUNDLE": str(ca.root_pem)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=180)


def dehydrated(ca: RunningCA, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """dehydrated with its configuration under `folder`; it answers challenges through files in `folder`/well-known."""
    program = shutil.which("dehydrated")
    assert program is not None, "dehydrated is not installed (Debian package dehydrated)"
    (folder / "well-known").mkdir(exist_ok=True)
    (folder / "config").write_text(
        f'CA="{ca.directory_url}"\nCHALLENGETYPE="http-01"\nWELLKNOWN="{folder}/well-known"\nBASEDIR="{folder}"\n'
        f'CURL_OPTS="--cacert {ca.root_pem}"\nCONTACT_EMAIL=ops@shop.localhost\nIP_VERSION=4\n'
    )
    command = [program, "--config", str(folder / "config"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=180)
