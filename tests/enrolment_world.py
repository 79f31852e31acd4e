"""The admin listener with issuers that take tokens, and whoever comes there without a certificate."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

import httpx
from admin_world import TREE, csr_pem
from live_admin import LiveAdmin

from spork.policy.levels import AdminLevel
from spork.x509.names import NameKind, SubjectName, dns

TOKEN_TREE = (
    TREE
    + """
[[issuers]]
name = "mesh"
ca = "test-web-issuing-ca"
profiles = ["tls-client", "tls-server", "code-signing"]
names.permit.dns = ["**.svc", "**.test"]
names.permit.uri = ["spiffe://cluster.local/ns"]
max_validity_days = 30
[issuers.protocols.token]
subjects = ["shop:*", "team-*:web"]
names = ["spiffe://cluster.local/ns/{namespace}/sa/{serviceaccount}", "{serviceaccount}.{namespace}.svc"]
[[issuers]]
name = "other"
ca = "test-web-issuing-ca"
profiles = ["tls-server"]
names.permit.dns = ["**.test"]
[issuers.protocols.token]
audiences = ["other-audience"]
subjects = ["*:*"]
names = ["{serviceaccount}.{namespace}.test"]
"""
)


def spiffe(namespace: str, account: str) -> SubjectName:
    return SubjectName(NameKind.URI, f"spiffe://cluster.local/ns/{namespace}/sa/{account}")


@dataclass
class Enrolment:
    """Calls of the API over TLS, with and without a certificate."""

    live: LiveAdmin

    def enrol(self, token: str | None, csr: str, issuer: str = "mesh", **more: Any) -> httpx.Response:
        """As a workload does: no client certificate, a token in the header."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        with httpx.Client(verify=self.tls(), trust_env=False) as http:
            body = {"csr": csr, "issuer": issuer, **more}
            return http.post(f"{self.live.url}/api/v1/enrolments", json=body, headers=headers)

    def send(self, headers: dict[Any, Any], content: bytes, method: str = "POST") -> httpx.Response:
        """Anything at all."""
        with httpx.Client(verify=self.tls(), trust_env=False) as http:
            return http.request(method, f"{self.live.url}/api/v1/enrolments", content=content, headers=headers)

    def administrator(
        self, method: str, path: str, body: Any = None, level: AdminLevel = AdminLevel.OPERATOR, **limits: Any
    ) -> httpx.Response:
        """A call with an administrator's certificate."""
        who = self.live.call(self.live.world.administrator(level, **limits))
        tls = self.tls()
        tls.load_cert_chain(*who.write(self.live.home))
        with httpx.Client(verify=tls, trust_env=False) as http:
            return http.request(method, f"{self.live.url}/api/v1{path}", json=body)

    def token(self, *names: str, issuer: str = "mesh", **more: Any) -> dict[str, Any]:
        """A fresh one-time token."""
        wanted = [str(dns(name)) for name in names or ("web.test",)]
        answer = self.administrator("POST", "/enrolment-tokens", {"issuer": issuer, "names": wanted, **more})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def tls(self) -> ssl.SSLContext:
        """Trusts the listener."""
        return ssl.create_default_context(cafile=str(self.live.ca_file))


__all__ = ["TOKEN_TREE", "Enrolment", "csr_pem", "spiffe"]
