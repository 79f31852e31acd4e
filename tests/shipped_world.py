"""What the project ships for clusters: the folders of manifests/, how they are rendered, and how a test installs them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from operator_world import Cluster

ROOT = Path(__file__).resolve().parents[1]
MANIFESTS = ROOT / "manifests"
NAMESPACE = "spork-system"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:spork-controller"
API = f"system:serviceaccount:{NAMESPACE}:spork-api"
LIMIT_S = 60
"""How long a test waits for what comes by itself; machines of CI are slow."""


def rendered(kubectl: Path, folder: Path) -> list[dict[str, Any]]:
    """What `kubectl kustomize` makes of a folder."""
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one is not None]


def as_operator(*, everything: bool = False) -> tuple[str, ...]:
    """Impersonates the operator; with `everything` roles allow it all, so that only admission can refuse."""
    return (f"--as={OPERATOR}", *(("--as-group=system:masters",) if everything else ()))


def applied(cluster: Cluster, *words: str) -> None:
    done = cluster.kubectl("apply", "--server-side", *words)
    assert done.returncode == 0, done.stderr


def until(met: Callable[[], bool], what: str) -> None:
    """Waits for something that the API server or its controllers do by themselves."""
    end = time.monotonic() + LIMIT_S
    while not met():
        assert time.monotonic() < end, f"{what}: not so after {LIMIT_S} s"
        time.sleep(0.1)


def install(cluster: Cluster) -> None:
    """crds/ and manifests/base, and then waits until every admission policy is in force."""
    applied(cluster, "-f", str(ROOT / "crds"))
    waited = cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(ROOT / "crds"))
    assert waited.returncode == 0, waited.stderr
    applied(cluster, "-k", str(MANIFESTS / "base"))
    probes = {
        "deletion": (["delete", "crd", "ceremonies.spork-ca.org", "--dry-run=server"], "confirm-delete"),
        "writes": (
            [
                "create",
                "secret",
                "generic",
                "probe",
                "--dry-run=server",
                "-n",
                NAMESPACE,
                *as_operator(everything=True),
            ],
            "own namespace",
        ),
    }
    for name, (words, answer) in probes.items():
        until(lambda w=words, a=answer: a in cluster.kubectl(*w).stderr, f"the policy of {name} is in force")  # type: ignore[misc]
