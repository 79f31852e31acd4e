"""The command line against a live administration API: mutual TLS, files, output and exit codes."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12
from live_admin import LiveAdmin, live_admin
from postgres import PostgresServer

from spork.cli.client import AdminClient
from spork.cli.main import run
from spork.errors import DatabaseUnavailable
from spork.policy.levels import AdminLevel

pytestmark = pytest.mark.store


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


Spork = Callable[..., Result]


@pytest.fixture(scope="module")
def live(
    postgres_server: PostgresServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveAdmin]:
    name = f"spork_test_cli_{os.getpid()}"
    url = postgres_server.create(name, migrated_template)
    with live_admin(url, tmp_path_factory.mktemp("home")) as running:
        yield running
    postgres_server.drop(name)


@pytest.fixture
def spork(live: LiveAdmin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Spork:
    """Runs a command as the superadmin, in an empty folder."""
    for variable in list(os.environ):
        if variable.startswith("SPORK_") and not variable.startswith("SPORK_TEST"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("SPORK_HOME", str(live.home))
    monkeypatch.chdir(tmp_path)
    live.become(AdminLevel.SUPERADMIN)

    def command(*arguments: str) -> Result:
        capfd.readouterr()
        code = run(arguments)
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return command


def _mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def test_issue_writes_a_private_key_and_the_chain(spork: Spork) -> None:
    done = spork("cert", "issue", "--ca", "Test Web Issuing CA", "--cn", "server.test", "--type", "tls-server")
    assert done.code == 0, done.err
    chain = x509.load_pem_x509_certificates(Path("server.test.pem").read_bytes())
    assert [c.subject.rfc4514_string() for c in chain] == [
        "CN=server.test",
        "CN=Test Web Issuing CA",
        "CN=Test Policy CA",
    ]
    key = load_pem_private_key(Path("server.test.key").read_bytes(), None)
    assert key.public_key() == chain[0].public_key()
    assert (_mode("server.test.key"), _mode("server.test.pem")) == (0o600, 0o644)
    assert [line.split()[0] for line in done.out.splitlines()] == ["Certificate", "Private", "CA", "Serial", "Expires"]


@pytest.mark.parametrize("algorithm", ["ecdsa-p384", "ed25519", "ml-dsa-65", "rsa-2048"])
def test_issue_with_other_algorithms(spork: Spork, algorithm: str) -> None:
    done = spork("cert", "issue", "--san", "a.test", "--algorithm", algorithm, "-o", "json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert Path(answer["certificateFile"]).name == "a.test.pem"
    shown = spork("cert", "show", answer["serial"])
    assert algorithm in shown.out


def test_nothing_is_overwritten_without_force(spork: Spork) -> None:
    assert spork("cert", "issue", "--cn", "a.test").code == 0
    before = (Path("a.test.pem").read_bytes(), Path("a.test.key").read_bytes())
    again = spork("cert", "issue", "--cn", "a.test")
    assert (again.code, "--force" in again.err) == (1, True)
    assert before == (Path("a.test.pem").read_bytes(), Path("a.test.key").read_bytes())
    assert spork("cert", "issue", "--cn", "a.test", "--force").code == 0
    assert before[1] != Path("a.test.key").read_bytes()


def test_a_refusal_leaves_no_files_and_says_which_name(spork: Spork, tmp_path: Path) -> None:
    done = spork("cert", "issue", "--cn", "www.example.org")
    assert done.code == 3
    assert "www.example.org" in done.err
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_brings_back_the_key_that_force_replaced(spork: Spork) -> None:
    Path("k.key").write_bytes(b"precious")
    done = spork("cert", "issue", "--cn", "www.example.org", "--out", "k.pem", "--key", "k.key", "--force")
    assert done.code == 3
    assert Path("k.key").read_bytes() == b"precious"


def test_dry_run_shows_the_verdict_of_each_rule(spork: Spork, tmp_path: Path) -> None:
    good = spork("cert", "issue", "--cn", "a.test", "--dry-run")
    bad = spork("cert", "issue", "--cn", "a.org", "--dry-run")
    assert (good.code, bad.code) == (0, 3)
    assert "NO  names_permitted" in bad.out
    assert list(tmp_path.iterdir()) == []


def test_a_csr_made_elsewhere_is_used_as_it_is(spork: Spork) -> None:
    import subprocess

    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "o.key",
         "-out", "o.csr", "-subj", "/CN=o.test", "-addext", "subjectAltName=DNS:o.test"],
        check=True, capture_output=True,
    )  # fmt: skip
    done = spork("cert", "issue", "--csr", "o.csr", "--out", "o.pem")
    assert done.code == 0, done.err
    assert not Path("o.pem").with_suffix(".key").read_bytes().startswith(b"nothing")
    text = subprocess.run(["openssl", "x509", "-in", "o.pem", "-noout", "-subject"], check=True, capture_output=True)
    assert b"o.test" in text.stdout


def test_international_names_become_a_labels(spork: Spork) -> None:
    done = spork("cert", "issue", "--san", "bücher.test", "-o", "json")
    assert done.code == 0, done.err
    assert "xn--bcher-kva.test" in spork("cert", "show", json.loads(done.out)["serial"]).out


def test_renew_by_file_with_a_new_key_and_with_the_old_one(spork: Spork) -> None:
    assert spork("cert", "issue", "--cn", "r.test", "--san", "s.test").code == 0
    old = x509.load_pem_x509_certificate(Path("r.test.pem").read_bytes())
    done = spork("cert", "renew", "r.test.pem", "--out", "new.pem")
    assert done.code == 0, done.err
    new = x509.load_pem_x509_certificate(Path("new.pem").read_bytes())
    assert new.public_key() != old.public_key()
    assert new.subject == old.subject
    kept = spork("cert", "renew", "r.test.pem", "--reuse-key", "r.test.key", "--out", "kept.pem")
    assert kept.code == 0, kept.err
    assert x509.load_pem_x509_certificate(Path("kept.pem").read_bytes()).public_key() == old.public_key()


def test_list_show_and_export(spork: Spork) -> None:
    assert spork("cert", "issue", "--cn", "listed.test").code == 0
    table = spork("cert", "list", "--name", "listed.test")
    assert table.out.splitlines()[0].split() == ["SERIAL", "STATE", "EXPIRES", "PROFILE", "SUBJECT"]
    items = json.loads(spork("cert", "list", "--name", "listed.test", "-o", "json").out)
    assert [item["subject"] for item in items] == ["CN=listed.test"]
    assert yaml.safe_load(spork("cert", "list", "--name", "listed.test", "-o", "yaml").out) == items
    serial = items[0]["serial"]
    for which in (serial, serial.lower(), f"test-web-issuing-ca/{serial}", "listed.test.pem"):
        shown = spork("cert", "show", which)
        assert shown.code == 0, shown.err
        assert "dns:listed.test" in shown.out
        assert "rules agreed" in shown.out
        assert "ok  names_permitted" in spork("cert", "show", which, "-o", "wide").out
    assert yaml.safe_load(spork("cert", "show", serial, "-o", "yaml").out) == json.loads(
        spork("cert", "show", serial, "-o", "json").out
    )
    pem = spork("cert", "export", serial).out
    assert pem == Path("listed.test.pem").read_text().partition("-----END CERTIFICATE-----\n")[0] + (
        "-----END CERTIFICATE-----\n"
    )
    assert spork("cert", "export", serial, "--format", "der", "--out", "x.der").code == 0
    assert x509.load_der_x509_certificate(Path("x.der").read_bytes()) == x509.load_pem_x509_certificate(pem.encode())
    assert spork("cert", "export", serial, "--format", "full").out.count("BEGIN CERTIFICATE") == 4
    assert spork("cert", "show", "listed.test.pem", "--offline").out.startswith("Subject")


def test_revoke_hold_and_release(spork: Spork) -> None:
    assert spork("cert", "issue", "--cn", "v.test").code == 0
    held = spork("revoke", "v.test.pem", "--hold")
    assert (held.code, "is on hold" in held.out) == (0, True)
    released = spork("revoke", "--cert", "v.test.pem", "--release")
    assert (released.code, "valid again" in released.out) == (0, True)
    revoked = spork("revoke", "v.test.pem", "--reason", "keycompromise", "--invalid-since", "2026-01-01")
    assert (revoked.code, "is revoked" in revoked.out) == (0, True), revoked.err
    again = spork("revoke", "v.test.pem")
    assert again.code == 5
    assert "keyCompromise" in spork("cert", "show", "v.test.pem").out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("revoke",), 2),
        (("revoke", "1A", "--cert", "1A"), 2),
        (("revoke", "1A", "--hold", "--release"), 2),
        (("revoke", "1A", "--reason", "because"), 2),
        (("revoke", "nothing-like-a-serial"), 1),
        (("revoke", "1A"), 4),
        (("cert", "show", "test-web-issuing-ca/1A"), 4),
        (("cert", "issue"), 2),
        (("cert", "issue", "--cn", "a.test", "--subject", "CN=a.test"), 2),
        (("cert", "issue", "--cn", "a.test", "--validity", "soon"), 2),
        (("cert", "issue", "--cn", "a.test", "--algorithm", "des"), 1),
        (("cert", "issue", "--cn", "a.test", "--issuer", "nope"), 4),
        (("cert", "issue", "--csr", "missing.csr"), 2),
        (("cert", "list", "--name", "ab"), 1),
        (("admin", "issue", "x", "--level", "god"), 2),
    ],
)
def test_mistakes_end_in_one_sentence_and_their_code(spork: Spork, arguments: tuple[str, ...], code: int) -> None:
    done = spork(*arguments)
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith("spork: ") or code == 2


def test_administrators_are_made_listed_and_revoked(spork: Spork, live: LiveAdmin) -> None:
    Path("password").write_text("correct horse\n")
    made = spork(
        "admin",
        "issue",
        "Bob",
        "--level",
        "operator",
        "--issuer",
        "lab",
        "--p12-password-file",
        "password",
        "-o",
        "json",
    )
    assert made.code == 0, made.err
    key, certificate, _ = pkcs12.load_key_and_certificates(Path("Bob.p12").read_bytes(), b"correct horse")
    assert certificate is not None
    assert key is not None
    assert certificate.subject.rfc4514_string() == "CN=Bob"
    assert (_mode("Bob.key"), _mode("Bob.p12"), _mode("Bob.pem")) == (0o600, 0o600, 0o644)
    as_bob = ("--server", live.url, "--ca-file", str(live.ca_file), "--admin-cert", "Bob.pem", "--admin-key", "Bob.key")
    assert spork("cert", "issue", "--cn", "bob.lab", "--issuer", "lab", *as_bob).code == 0
    refused = spork("cert", "issue", "--cn", "bob.test", "--issuer", "web", *as_bob)
    assert (refused.code, "yours are lab" in refused.err) == (4, True)
    listed = json.loads(spork("admin", "list", "-o", "json").out)
    assert [a["issuers"] for a in listed if a["name"] == "Bob"] == [["lab"]]
    assert spork("admin", "revoke", "Bob.pem").code == 0
    locked_out = spork("cert", "list", *as_bob)
    assert (locked_out.code, "revoked" in locked_out.err) == (3, True)


def test_the_audit_log_is_listed(spork: Spork) -> None:
    assert spork("cert", "issue", "--cn", "audited.test").code == 0
    table = spork("audit", "list", "--action", "certificate.", "--limit", "1", "-o", "wide")
    assert "certificate.issue" in table.out
    assert "names=dns:audited.test" in table.out
    events = json.loads(spork("audit", "list", "--action", "certificate.issue", "-o", "json").out)
    assert events[0]["detail"]["names"] == ["dns:audited.test"]
    assert spork("audit", "list", "--since", "2999-01-01").out == ""


def test_a_viewer_may_look_and_nothing_else(spork: Spork, live: LiveAdmin, tmp_path: Path) -> None:
    live.become(AdminLevel.VIEWER)
    assert spork("cert", "list").code == 0
    done = spork("cert", "issue", "--cn", "a.test")
    assert (done.code, "needs the level operator" in done.err) == (3, True)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_client_certificate_and_a_foreign_server_are_told_apart(spork: Spork, live: LiveAdmin) -> None:
    assert spork("cert", "issue", "--cn", "foreign.test", "--type", "tls-client", "--out", "f.pem").code == 0
    foreign = spork("cert", "list", "--admin-cert", "f.pem", "--admin-key", "f.key")
    assert (foreign.code, "does not accept" in foreign.err) == (6, True), foreign.err
    untrusting = spork("cert", "list", "--ca-file", "f.pem")
    assert (untrusting.code, "--ca-file" in untrusting.err) == (6, True), untrusting.err
    nobody = spork("cert", "list", "--server", "https://localhost:9")
    assert (nobody.code, "cannot be reached" in nobody.err) == (6, True), nobody.err
    assert spork("cert", "issue", "--cn", "lost.test", "--server", "https://localhost:9").code == 6
    assert not Path("lost.test.key").exists(), "what was never asked for leaves no key"
    mixed = spork("cert", "list", "--admin-cert", "f.pem")
    assert (mixed.code, "not a certificate and its key" in mixed.err) == (1, True)


def test_a_key_whose_certificate_may_exist_stays_and_the_user_is_told(
    spork: Spork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(AdminClient, "post", away)
    done = spork("cert", "issue", "--cn", "perhaps.test")
    assert (done.code, "--force" in done.err, Path("perhaps.test.key").exists()) == (6, True, True), done.err


def test_plain_http_is_refused(spork: Spork, live: LiveAdmin) -> None:
    done = spork("cert", "list", "--server", live.url.replace("https", "http"))
    assert (done.code, "https" in done.err) == (1, True)


def test_crl_show_lists_what_is_published(spork: Spork) -> None:
    assert spork("crl", "publish", "--ca", "test-web-issuing-ca").code == 0
    done = spork("crl", "show")
    assert done.code == 0, done.err
    assert "test-web-issuing-ca" in done.out
    assert "full" in done.out
