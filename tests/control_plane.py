"""A real Kubernetes control plane for the session: API server, etcd, controller manager, and kubectl.

KUBEBUILDER_ASSETS names the folder of the binaries. Without it, build/kube-assets is used, where `make kube-assets` puts them,
or they are unpacked there from an archive beside the checkout. Without all three the tests are left out by name.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from operator_world import Cluster, audit_flags

_ROOT = Path(__file__).resolve().parents[1]
_BUILT = _ROOT / "build" / "kube-assets"
_ARCHIVES = _ROOT.parent / "shared" / "kube"
_PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")


def _is_complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in _PROGRAMS)


def _unpacked(archive: Path) -> Path:
    sums = dict(reversed(line.split()) for line in (archive.parent / "SHA256SUMS").read_text().splitlines())
    with archive.open("rb") as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() == sums[archive.name], f"{archive.name} is damaged"
    _BUILT.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_BUILT.parent) as folder:
        subprocess.run(["tar", "--extract", "--xz", "--file", archive, "--directory", folder], check=True, timeout=120)
        _BUILT.mkdir(exist_ok=True)
        for name in _PROGRAMS:
            (Path(folder) / name).replace(_BUILT / name)
    return _BUILT


@pytest.fixture(scope="session")
def kube_assets() -> Path:
    """The folder of the binaries."""
    if named := os.environ.get("KUBEBUILDER_ASSETS"):
        assert _is_complete(Path(named)), f"KUBEBUILDER_ASSETS lacks one of {', '.join(_PROGRAMS)}"
        return Path(named)
    if _is_complete(_BUILT):
        return _BUILT
    archives = sorted(_ARCHIVES.glob("kube-assets-*-linux-amd64.tar.xz"))
    if not archives:
        pytest.skip("there is no Kubernetes control plane: set KUBEBUILDER_ASSETS or run `make kube-assets`")
    return _unpacked(archives[-1])


@contextmanager
def control_plane(assets: Path, folder: Path, **environment: str) -> Iterator[Cluster]:
    """A control plane of its own, which keeps everything in `folder`. It writes each request to audit.log there."""
    flags = f"{audit_flags(folder)} {environment.pop('KUBE_APISERVER_FLAGS', '')}"
    environment["KUBE_APISERVER_FLAGS"] = flags
    process = subprocess.Popen(
        [_ROOT / "scripts" / "kube-up", folder],
        env={**os.environ, "KUBEBUILDER_ASSETS": str(assets), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready"), f"the control plane does not start: {line}{process.stdout.read()}"
        yield Cluster(assets / "kubectl", folder / "kubeconfig")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture(scope="session")
def empty_kube(kube_assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane as it starts, stopped at the end of the session."""
    with control_plane(kube_assets, tmp_path_factory.mktemp("kube")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kube(empty_kube: Cluster) -> Cluster:
    """A control plane that knows the resources of crds/."""
    with_resources(empty_kube)
    return empty_kube


def with_resources(cluster: Cluster) -> None:
    """Applies crds/, and waits until all of it can be used."""
    done = cluster.kubectl("apply", "--server-side", "-f", str(_ROOT / "crds"))
    assert done.returncode == 0, done.stderr
    waited = cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(_ROOT / "crds"))
    assert waited.returncode == 0, waited.stderr
    # A new resource is established some moments before it can be listed.
    end = time.monotonic() + 60
    while (got := cluster.kubectl("get", "spork", "-A")).returncode != 0:
        assert time.monotonic() < end, got.stderr
        time.sleep(0.1)
