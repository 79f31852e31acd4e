"""`spork trust bootstrap`: the fingerprint decides, and nothing is written for any other certificate."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from x509_world import a_root

from spork.cli.main import run
from spork.cli.pinning import read_fingerprint, root_url
from spork.errors import ConfigurationError

ROOT = a_root("Test Root").certificate
OTHER = a_root("Other Root").certificate
LEAF = a_root("Leaf Root").certify()


def _fingerprint(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


FILES = {
    "/ca/test-root/1.pem": ROOT.public_bytes(Encoding.PEM),
    "/ca/test-root/1.cer": ROOT.public_bytes(Encoding.DER),
    "/bundle.pem": OTHER.public_bytes(Encoding.PEM) + ROOT.public_bytes(Encoding.PEM),
    "/leaf.pem": LEAF.public_bytes(Encoding.PEM),
    "/huge.pem": b"x" * 100_000,
    "/empty.pem": b"",
    "/broken.pem": b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n",
}


class _Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = FILES.get(self.path)
        self.send_response(404 if content is None else 200)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Files) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join(10)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPORK_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("path", ["/ca/test-root/1.pem", "/ca/test-root/1.cer", "/bundle.pem"])
def test_the_right_root_is_pinned(server: str, home: Path, path: str) -> None:
    assert run(["trust", "bootstrap", "--url", server + path, "--fingerprint", _fingerprint(ROOT)]) == 0
    pinned = home / "trust" / "root.pem"
    assert x509.load_pem_x509_certificate(pinned.read_bytes()) == ROOT
    assert pinned.stat().st_mode & 0o777 == 0o644
    assert run(["trust", "show"]) == 0


def test_the_base_url_and_the_id_of_the_root_are_enough(server: str, home: Path) -> None:
    arguments = ["trust", "bootstrap", "--url", server, "--ca", "test-root", "--fingerprint", _fingerprint(ROOT)]
    assert run(arguments) == 0
    assert run(arguments) == 0, "the same root again is no conflict"
    (home / "trust" / "root.pem").write_bytes(OTHER.public_bytes(Encoding.PEM))
    assert run(arguments) == 1
    assert run([*arguments, "--force"]) == 0


@pytest.mark.parametrize(
    ("path", "fingerprint", "code"),
    [
        ("/ca/test-root/1.pem", _fingerprint(OTHER), 3),
        ("/leaf.pem", _fingerprint(LEAF), 3),
        ("/huge.pem", _fingerprint(ROOT), 1),
        ("/empty.pem", _fingerprint(ROOT), 3),
        ("/broken.pem", hashlib.sha256(b"\0").hexdigest(), 3),
        ("/missing.pem", _fingerprint(ROOT), 4),
        ("/ca/test-root/1.pem", "ab", 1),
        ("", _fingerprint(ROOT), 1),
    ],
)
def test_everything_else_is_refused_and_nothing_written(
    server: str, home: Path, path: str, fingerprint: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["trust", "bootstrap", "--url", server + path, "--fingerprint", fingerprint]) == code
    assert not (home / "trust").exists()
    assert capsys.readouterr().err.startswith("spork: ")


def test_nobody_there_is_unavailable() -> None:
    assert run(["trust", "bootstrap", "--url", "http://127.0.0.1:9/x.pem", "--fingerprint", "ab" * 32]) == 6


@pytest.mark.parametrize("form", ["{}", "SHA256:{}", "sha256 {}", " sha-256={}"])
def test_fingerprints_are_read_as_tools_print_them(form: str) -> None:
    digits = "AB" * 32
    assert read_fingerprint(form.format(digits)) == bytes.fromhex(digits)
    assert read_fingerprint(form.format(":".join(["ab"] * 32))) == bytes.fromhex(digits)


@pytest.mark.parametrize("text", ["", "AB" * 20, "AB" * 33, "XY" * 32])
def test_other_fingerprints_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="64 digits"):
        read_fingerprint(text)


@pytest.mark.parametrize("url", ["ftp://x/a.pem", "x", "http://", "file:///etc/passwd"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        root_url(url, None, 1)


def test_an_id_cannot_step_out_of_its_path() -> None:
    with pytest.raises(ConfigurationError):
        root_url("http://x", "../x", 1)
