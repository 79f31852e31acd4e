"""An unmodified dehydrated, which is bash, curl and openssl, against `spork up`."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import dehydrated
from tests.e2e.running import RunningCA, openssl

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        shutil.which("dehydrated") is None, reason="dehydrated is not installed (Debian package dehydrated)"
    ),
]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def well_known(ca: RunningCA, tmp_path: Path) -> Iterator[Path]:
    """Serves the challenge files of dehydrated at the port where the CA validates http-01."""
    folder = tmp_path / "web"
    (folder / ".well-known").mkdir(parents=True)
    (folder / ".well-known" / "acme-challenge").symlink_to(tmp_path / "well-known")
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", ca.ports["http01"]), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path
    server.shutdown()
    thread.join()
    server.server_close()


def test_dehydrated_registers_issues_and_revokes(ca: RunningCA, well_known: Path) -> None:
    dehydrated(ca, well_known, "--register", "--accept-terms")
    dehydrated(ca, well_known, "--cron", "--domain", "bash.localhost")
    folder = well_known / "certs" / "bash.localhost"
    openssl("verify", "-CAfile", str(ca.root_pem), "-untrusted", str(folder / "chain.pem"), str(folder / "cert.pem"))
    dehydrated(ca, well_known, "--revoke", str((folder / "cert.pem").resolve()))
    serial = (
        openssl("x509", "-in", str(folder / "fullchain.pem"), "-noout", "-serial")
        .stdout.strip()
        .removeprefix("serial=")
    )
    assert "revoked" in ca.spork("cert", "show", serial).stdout.lower()
