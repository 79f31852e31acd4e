"""One-time tokens on the command line: made by an administrator, spent by somebody who has nothing else."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from enrolment_world import TOKEN_TREE
from live_admin import LiveAdmin, live_admin
from postgres import PostgresServer

from spork.cli.client import AdminClient
from spork.cli.enrolment import token_from
from spork.cli.main import run
from spork.errors import Code, ConfigurationError, SporkError
from spork.policy.levels import AdminLevel

pytestmark = pytest.mark.store

Spork = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def live(
    postgres_server: PostgresServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveAdmin]:
    name = f"spork_test_cli_enrol_{os.getpid()}"
    url = postgres_server.create(name, migrated_template)
    with live_admin(url, tmp_path_factory.mktemp("home"), TOKEN_TREE) as running:
        running.become(AdminLevel.OPERATOR)
        yield running
    postgres_server.drop(name)


@pytest.fixture
def spork(live: LiveAdmin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Spork:
    """Runs a command in an empty folder: as an operator, or with --server alone as nobody."""
    for variable in list(os.environ):
        if variable.startswith("SPORK_") and not variable.startswith("SPORK_TEST"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, nobody: bool = False) -> tuple[int, str, str]:
        monkeypatch.setenv("SPORK_HOME", str(tmp_path / "empty" if nobody else live.home))
        place = ("--server", live.url, "--ca-file", str(live.ca_file)) if nobody else ()
        capfd.readouterr()
        code = run((*arguments, *place))
        out, err = capfd.readouterr()
        return code, out, err

    return command


def _create(spork: Spork, *more: str) -> str:
    code, out, err = spork("admin", "token", "create", "--issuer", "mesh", "--name", "web.test", *more)
    assert code == 0, err
    return out.strip()


def test_a_token_becomes_a_key_and_a_certificate(spork: Spork) -> None:
    _create(spork, "--out", "token", "--profile", "tls-server", "--note", "for web")
    assert stat.S_IMODE(Path("token").stat().st_mode) == 0o600
    enrol = ("cert", "enrol", "--token-file", "token", "--issuer", "mesh", "--out", "web.pem")
    code, out, err = spork(*enrol, "--san", "web.test", nobody=True)
    assert code == 0, err
    chain = x509.load_pem_x509_certificates(Path("web.pem").read_bytes())
    key = load_pem_private_key(Path("web.key").read_bytes(), None)
    assert chain[0].public_key() == key.public_key()
    assert len(chain) == 3
    assert stat.S_IMODE(Path("web.key").stat().st_mode) == 0o600
    assert not Path("web.csr").exists()
    assert Path("token").read_text().strip() not in out + err
    _, listed, _ = spork("admin", "token", "list", "-o", "json")
    assert next(one for one in json.loads(listed) if one["note"] == "for web")["state"] == "used"


def test_a_token_comes_from_standard_input_too_and_names_follow_from_it(
    spork: Spork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(_create(spork) + "\n"))
    code, _, err = spork("cert", "enrol", "--token-file", "-", "--issuer", "mesh", "--out", "web.pem", nobody=True)
    assert code == 0, err
    names = x509.load_pem_x509_certificate(Path("web.pem").read_bytes()).extensions
    san = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == ["web.test"]


def test_a_refusal_leaves_nothing_behind_and_the_token_unspent(spork: Spork) -> None:
    _create(spork, "--out", "token")
    enrol = ("cert", "enrol", "--token-file", "token", "--issuer", "mesh", "--out", "web.pem")
    code, _, err = spork(*enrol, "--san", "other.test", nobody=True)
    assert code == 3
    assert "other.test" in err
    assert sorted(path.name for path in Path().iterdir()) == ["token"]
    assert spork(*enrol, nobody=True)[0] == 0


def test_after_a_broken_connection_the_same_certificate_can_be_had(
    spork: Spork, monkeypatch: pytest.MonkeyPatch
) -> None:
    _create(spork, "--out", "token")
    enrol = ("cert", "enrol", "--token-file", "token", "--issuer", "mesh", "--out", "web.pem")
    post = AdminClient.post

    def broken(self: AdminClient, *arguments: object, **options: object) -> object:
        post(self, *arguments, **options)  # type: ignore[arg-type]
        raise SporkError(Code.UNAVAILABLE, "The connection broke.")

    with monkeypatch.context() as patched:
        patched.setattr(AdminClient, "post", broken)
        code, _, err = spork(*enrol, nobody=True)
    assert code == 6
    assert "--csr web.csr" in err
    assert Path("web.key").exists() and not Path("web.pem").exists()
    assert spork(*enrol, "--csr", "web.csr", nobody=True)[0] == 0
    key = load_pem_private_key(Path("web.key").read_bytes(), None)
    assert x509.load_pem_x509_certificate(Path("web.pem").read_bytes()).public_key() == key.public_key()


def test_a_used_or_revoked_token_is_refused_with_its_exit_code(spork: Spork) -> None:
    _create(spork, "--out", "token")
    _create(spork, "--out", "revoked")
    enrol = ("cert", "enrol", "--issuer", "mesh", "--out", "web.pem", "--force", "--token-file")
    assert spork(*enrol, "token", nobody=True)[0] == 0
    assert spork(*enrol, "token", nobody=True)[0] == 5
    code, out, err = spork("admin", "token", "revoke", Path("revoked").read_text().split("_")[1])
    assert (code, out.endswith("is revoked.\n")) == (0, True), err
    assert spork(*enrol, "revoked", nobody=True)[0] == 3


def test_files_that_are_there_are_kept(spork: Spork) -> None:
    _create(spork, "--out", "token")
    Path("web.key").write_text("mine")
    code, _, _ = spork("cert", "enrol", "--token-file", "token", "--issuer", "mesh", "--out", "web.pem", nobody=True)
    assert code != 0
    assert Path("web.key").read_text() == "mine"
    assert not Path("web.csr").exists()


def test_without_a_server_or_with_a_plain_url_nothing_is_sent(spork: Spork) -> None:
    Path("token").write_text("spork1_x")
    enrol = ("cert", "enrol", "--token-file", "token", "--issuer", "mesh", "--out", "web.pem")
    code, _, err = spork(*enrol, "--server", "http://localhost:1")
    assert (code != 0, "TLS only" in err) == (True, True)


@pytest.mark.parametrize("content", ["", "\n", "two words", "ümlaut", "-----BEGIN PRIVATE KEY-----\nAA=="])
def test_what_is_no_token_is_not_repeated(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content, "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        token_from(str(file))
    assert not content.strip() or content not in caught.value.detail
    with pytest.raises(ConfigurationError):
        token_from(str(tmp_path / "missing"))


def test_a_token_is_never_an_argument(spork: Spork) -> None:
    code, _, err = spork("cert", "enrol", "--token", "spork1_x", "--issuer", "mesh", "--out", "web.pem")
    assert code == 2
    assert "--token-file" in err
