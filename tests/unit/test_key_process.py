"""Listener keys without files, processes that cannot be dumped, and the truth about FIPS."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from spork.errors import Code, ConfigurationError, SporkError
from spork.keys.ephemeral import EphemeralKey
from spork.keys.fips import fips_report
from spork.keys.memfd import load_cert_chain
from spork.x509.algorithms import ALGORITHMS
from spork.x509.der import KeyPurpose


def certificate_of(key: EphemeralKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    private = key.private_key
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=private.public_key(), serial_number=1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(private, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def shake_hands(server: ssl.SSLContext, anchor: bytes) -> str | None:
    """A TLS handshake in memory; the negotiated version."""
    client = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(anchor))
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return near.version()


def test_a_listener_key_is_loaded_without_a_file() -> None:
    key = EphemeralKey.generate("ecdsa-p256", KeyPurpose.LISTENER)
    certificate = certificate_of(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    opened: list[str] = []
    listening = [True]  # A hook cannot be taken away again.
    sys.addaudithook(
        lambda event, arguments: opened.append(str(arguments[0])) if event == "open" and listening[0] else None
    )
    before = set(os.listdir("/proc/self/fd"))
    load_cert_chain(context, key.signer, [certificate, certificate])
    listening[0] = False
    assert set(os.listdir("/proc/self/fd")) == before
    assert not [path for path in opened if not path.startswith("/proc/self/fd")]
    assert shake_hands(context, certificate) == "TLSv1.3"


def test_a_key_that_does_not_fit_its_certificate_is_refused_and_nothing_stays_open() -> None:
    certificate = certificate_of(EphemeralKey.generate("ecdsa-p256", KeyPurpose.LISTENER))
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(ssl.SSLError):
        load_cert_chain(
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
            EphemeralKey.generate("ecdsa-p256", KeyPurpose.LISTENER).signer,
            [certificate],
        )
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("purpose", [purpose for purpose in KeyPurpose if purpose is not KeyPurpose.LISTENER])
def test_no_other_key_is_handed_out(purpose: KeyPurpose) -> None:
    with pytest.raises(SporkError) as caught:
        load_cert_chain(
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), EphemeralKey.generate("ecdsa-p256", purpose).signer, []
        )
    assert caught.value.code is Code.FORBIDDEN


def test_without_memfd_nothing_falls_back_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    key = EphemeralKey.generate("ecdsa-p256", KeyPurpose.LISTENER)
    with pytest.raises(ConfigurationError, match="memfd"):
        load_cert_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), key.signer, [certificate_of(key)])


def run_python(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        **options,  # type: ignore[call-overload]
    )


def test_a_hardened_process_leaves_no_core_and_still_loads_its_listener_key(tmp_path: Path) -> None:
    code = """
        import os, resource, ssl, sys
        sys.path.insert(0, os.environ["TESTS"])
        from test_key_process import certificate_of
        from spork.keys.ephemeral import EphemeralKey
        from spork.keys.memfd import load_cert_chain
        from spork.keys.process import harden, is_hardened
        from spork.x509.der import KeyPurpose
        assert not is_hardened() or resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
        if os.geteuid() == 0:
            os.setuid(65534)
        harden()
        assert is_hardened()
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        key = EphemeralKey.generate("ecdsa-p256", KeyPurpose.LISTENER)
        load_cert_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), key.signer, [certificate_of(key)])
        os.abort()
    """
    done = run_python(code, cwd=tmp_path, env={**os.environ, "TESTS": str(Path(__file__).parent)})
    assert done.returncode == -6, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_report_says_what_runs_and_claims_no_validation() -> None:
    report = fips_report(policy_switch=True)
    assert report.backend_kind in report.backend
    assert report.validated is False
    assert report.fips_provider_enabled is False
    assert "not validated" in report.note
    assert set(report.approved_algorithms) | set(report.other_algorithms) == {row.name for row in ALGORITHMS}
    assert "switch is off" in fips_report(policy_switch=False).note
