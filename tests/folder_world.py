"""A folder of manifests with its state, and a clock that tests turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from operator_world import a_resource

from spork.clock import FixedClock
from spork.controller.cluster import Object, Ref
from spork.controller.folder.claims import Claims
from spork.controller.folder.cluster import FolderCluster

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def a_secret(name: str = "web-tls", *, managed: bool = True, **data: str) -> dict[str, Any]:
    """A Secret of the operator's; values are base64."""
    labels = {"labels": {"spork-ca.org/managed": "true"}} if managed else {}
    data = data or {"tls.crt": "Y2VydA==", "tls.key": "a2V5"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": name, "namespace": "default", **labels},
        "data": data,
    }


def ref_to(kind: str, name: str = "one", namespace: str = "default") -> Ref:
    return Ref(kind, namespace if kind in ("Certificate", "Issuer", "Secret", "ConfigMap", "Ingress") else "", name)


@dataclass
class Folder:
    """One DIR and one SPORK_HOME. `open` is a start of the process on what is there."""

    path: Path
    home: Path
    seconds: float = 1000.0
    claims: Claims = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path.mkdir(exist_ok=True)

    async def open(self) -> FolderCluster:
        cluster = FolderCluster(
            self.path, self.home, FixedClock(NOW), claims=self.claims, monotonic=lambda: self.seconds, scan_s=0.2
        )
        await cluster.load()
        return cluster

    def write(self, name: str, *objects: dict[str, Any], text: str | None = None) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump_all(objects) if text is None else text)
        return file

    def certificates(self, count: int) -> list[Path]:
        """So many files with a Certificate each: c0.yaml declares c0."""
        return [self.write(f"c{n}.yaml", a_resource("Certificate", name=f"c{n}")) for n in range(count)]

    async def wait(self, cluster: FolderCluster, seconds: float) -> None:
        self.seconds += seconds
        await cluster.scan()


def there(cluster: FolderCluster, ref: Ref) -> Object:
    found = cluster.get(ref)
    assert found is not None, f"{ref} is not there"
    return found
