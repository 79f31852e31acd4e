"""How an API server is found, and what is said when it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from spork.controller.cluster import Ref, Unreachable
from spork.controller.kubernetes.connection import connect
from spork.errors import ConfigurationError

# Nobody listens on port 1 of loopback.
SERVER = "http://127.0.0.1:1"


def a_kubeconfig(folder: Path, server: str = SERVER, **user: Any) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "one",
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)


async def test_a_server_that_is_away_is_unreachable(tmp_path: Path) -> None:
    connection = await connect(a_kubeconfig(tmp_path))
    assert connection.host == SERVER
    with pytest.raises(Unreachable, match="cannot be reached") as caught:
        await connection.request("GET", "/version", Ref("Version", "", ""))
    assert caught.value.retry_after_s == 1
    await connection.close()


async def test_the_environment_names_the_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(a_kubeconfig(tmp_path)))
    connection = await connect()
    assert connection.host == SERVER
    await connection.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(None, "not configured", id="no file"),
        pytest.param("", "not configured", id="an empty file"),
        pytest.param("a: [", "not configured", id="no YAML"),
        pytest.param("- a", "not configured", id="no kubeconfig"),
        pytest.param("current-context: x\ncontexts: []\nclusters: []\n", "not configured", id="a context of no name"),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "kubeconfig"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        await connect(file)


async def test_a_context_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        await connect(a_kubeconfig(tmp_path), "nowhere")


async def test_a_key_that_is_none_is_refused_without_being_quoted(tmp_path: Path) -> None:
    for name in ("crt", "key"):
        (tmp_path / name).write_text("hunter2")
    user = {"client-certificate": str(tmp_path / "crt"), "client-key": str(tmp_path / "key")}
    with pytest.raises(ConfigurationError) as caught:
        await connect(a_kubeconfig(tmp_path, SERVER.replace("http", "https"), **user))
    assert "hunter2" not in caught.value.detail


async def test_a_pod_without_its_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ConfigurationError, match="token file does not exist"):
        await connect()
