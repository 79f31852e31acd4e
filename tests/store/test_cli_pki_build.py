"""`spork pki` on a real database: build, plan, status, requests and imports, as a person types them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tree_world import TREE
from x509_world import a_signer

from spork.cli.main import run
from spork.clock import SystemClock
from spork.hierarchy.load import load_text
from spork.hierarchy.snapshot import declared_snapshot
from spork.ids import new_serial
from spork.x509.der import sign
from spork.x509.profiles import profile_named
from spork.x509.template import build_tbs

pytestmark = pytest.mark.store
# Small files between the steps of a person at a keyboard; nothing else runs in the loop.
# ruff: noqa: ASYNC240


@pytest.fixture
def file(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for name in ("passphrase", "sealed-passphrase"):
        (home / name).write_text(f"correct horse battery {name}\n")
        (home / name).chmod(0o600)
    monkeypatch.setenv("SPORK_HOME", str(home))
    monkeypatch.setenv("SPORK_DATABASE_URL", database_url)
    path = tmp_path / "hierarchy.toml"
    path.write_text(TREE)
    return path


async def spork(*arguments: str) -> int:
    """The command line in a thread of its own, because it runs an event loop of its own."""
    return await asyncio.to_thread(run, list(arguments))


async def test_build_makes_the_tree_and_a_second_plan_is_empty(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await spork("pki", "build", "--output", "out") == 0
    assert sorted(path.name for path in (file.parent / "out").iterdir()) == [
        "issuing-chain.pem", "issuing.pem", "policy-chain.pem", "policy.pem", "root.pem",
    ]  # fmt: skip
    assert await spork("pki", "plan", "--detailed-exitcode") == 0
    capsys.readouterr()
    assert await spork("pki", "status", "-o", "json") == 0
    assert [one["phase"] for one in json.loads(capsys.readouterr().out)["authorities"]] == ["ready"] * 3


async def test_build_without_changes_asks_for_no_passphrase(file: Path) -> None:
    assert await spork("pki", "build") == 0
    (file.parent / "home" / "sealed-passphrase").unlink()
    assert await spork("pki", "build") == 0


async def test_a_build_that_can_do_nothing_yet_does_not_say_that_all_is_done(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(TREE.replace("[root]", '[root]\nkey_mode = "offline"', 1))
    assert await spork("pki", "build") == 0
    shown = capsys.readouterr().out
    assert "until others sign" in shown
    assert "as declared" not in shown


async def test_a_forbidden_change_is_refused_with_its_reason(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await spork("pki", "build") == 0
    file.write_text(TREE.replace('"Issuing"', '"Renamed"\nid = "issuing"'))
    assert await spork("pki", "build") == 5
    assert "issuing: subject: the name of a CA stands in every certificate" in capsys.readouterr().err


async def test_a_root_that_is_elsewhere_is_imported_and_its_child_requested(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TREE.replace('"Root"', '"Root"\nkey_mode = "offline"')
    file.write_text(text)
    root, policy = load_text(text).authorities[:2]
    signer, now = a_signer(), SystemClock().now()

    def signed(name: str, issuer: x509.Certificate | None, spki: bytes) -> x509.Certificate:
        declared = root if issuer is None else policy
        urls = root.urls_of(1, "http://127.0.0.1:8080")
        authority = declared_snapshot(
            root, generation=1, key_id=None, spki=signer.spki, certificate=issuer, chain=(), urls=urls
        )
        tbs = build_tbs(
            profile=profile_named("root" if issuer is None else "policy-ca"), authority=authority, subject=declared.subject,
            names=(), spki=spki, serial=new_serial(), not_before=now, not_after=declared.validity.end(now),
            signature=signer.algorithm, constraints=declared.constraints,
        )  # fmt: skip
        certificate = x509.load_der_x509_certificate(sign(tbs, signer))
        Path(name).write_bytes(certificate.public_bytes(Encoding.PEM))
        return certificate

    certificate = signed("root.pem", None, signer.spki)
    assert await spork("pki", "import", "root.pem") == 0
    assert await spork("pki", "build") == 0
    assert await spork("pki", "request", "policy", "--output", "policy.csr") == 0
    csr = x509.load_pem_x509_csr(Path("policy.csr").read_bytes())
    assert csr.is_signature_valid
    signed("policy.pem", certificate, csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert await spork("pki", "import", "policy.pem") == 0
    assert await spork("pki", "import", "policy.pem") == 0
    assert await spork("pki", "build", "--output", "out") == 0
    assert await spork("pki", "plan", "--detailed-exitcode") == 0
    assert (file.parent / "out" / "issuing-chain.pem").read_text().count("BEGIN") == 2
    assert await spork("pki", "request", "policy") == 4
    assert await spork("pki", "import", "policy.csr") == 1
    assert "holds no PEM certificate" in capsys.readouterr().err
