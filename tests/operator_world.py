"""Custom resources as tests need them: a valid one of each kind, and kubectl to apply it with."""

from __future__ import annotations

import copy
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
FINGERPRINT = "0f1e2d3c4b5a69788796a5b4c3d2e1f0" * 2
DROP = object()
"""As a value: the key is taken away."""
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted", "Panic"],
    "omitManagedFields": True,
    "rules": [{"level": "Metadata"}],
}


def audit_flags(folder: Path) -> str:
    """Flags of an API server that writes each request down in FOLDER/audit.log, at the latest when it is answered."""
    policy = folder / "audit-policy.yaml"
    policy.write_text(yaml.safe_dump(AUDIT_POLICY))
    return f"--audit-policy-file={policy} --audit-log-path={folder / 'audit.log'} --audit-log-maxsize=1000"


@dataclass(frozen=True)
class Cluster:
    """A running control plane, and kubectl as its administrator."""

    kubectl_path: Path
    kubeconfig: Path

    def kubectl(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(self.kubectl_path), "--kubeconfig", str(self.kubeconfig), *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)

    def apply(self, *objects: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        return self.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, *words: str) -> dict[str, Any]:
        done = self.kubectl("get", "-o", "yaml", *words)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = yaml.safe_load(done.stdout)
        return found


_SPECS: dict[str, dict[str, Any]] = {
    "Hierarchy": {
        "root": {"id": "root", "commonName": "Root", "algorithm": "ecdsa-p384", "validityYears": 20},
        "policyCAs": [
            {
                "id": "tls",
                "commonName": "TLS",
                "algorithm": "ecdsa-p384",
                "validityYears": 10,
                "issuingCAs": [{"id": "web", "commonName": "Web", "algorithm": "ecdsa-p256", "validityYears": 5}],
            }
        ],
        "issuingCAs": [{"id": "lab", "commonName": "Lab", "algorithm": "ed25519", "validityDays": 900}],
        "crossCertificates": [{"id": "tls-by-lab", "issuer": "root", "subject": "web", "validityYears": 1}],
        "issuers": [
            {"name": "web", "ca": "web", "profiles": ["tls-server"], "default": True},
            {"name": "lab", "ca": "lab", "profiles": ["tls-client"]},
        ],
    },
    "Issuer": {"ca": "web", "profiles": ["tls-server"], "names": {"permit": {"dns": ["**.example.com"]}}},
    "ClusterIssuer": {"ca": "web", "profiles": ["tls-server"], "protocols": {"acme": {"ports": {"http-01": 8080}}}},
    "Certificate": {
        "secretName": "web-tls",
        "dnsNames": ["www.example.com", "*.example.com"],
        "issuerRef": {"name": "web"},
        "duration": "2160h",
        "renewBefore": "720h",
    },
    "Ceremony": {
        "hierarchy": "main",
        "purpose": "The first signatures.",
        "quorum": 1,
        "custodians": [{"name": "ada", "certificateFingerprint": FINGERPRINT}],
        "actions": [{"name": "sign", "kind": "SignCRL", "authority": "root"}],
    },
}
CLUSTER_KINDS = {"Hierarchy", "ClusterIssuer", "Ceremony"}


def a_resource(kind: str, changes: dict[str, Any] | None = None, *, name: str = "one") -> dict[str, Any]:
    """A valid object with changes, given by path: `{"spec.policyCAs.0.id": "other"}`."""
    resource: dict[str, Any] = {
        "apiVersion": "spork-ca.org/v1alpha1",
        "kind": kind,
        "metadata": {"name": name} | ({} if kind in CLUSTER_KINDS else {"namespace": "default"}),
        "spec": copy.deepcopy(_SPECS[kind]),
    }
    for path, value in (changes or {}).items():
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
        target: Any = resource
        for part in parents:
            target = target[part] if isinstance(part, int) else target.setdefault(part, {})
        if value is DROP:
            del target[last]
        else:
            target[last] = value
    return resource
