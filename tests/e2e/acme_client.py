"""A small ACME client that survives its server: an order that was interrupted anywhere is taken up where it stands.

It signs by hand over httpx and cryptography, so that tests see each request, may send it to another replica than its URL
names, and may send many at once. Source: RFC 8555.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

_POLL_S = 0.1


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Problem(Exception):
    """The server's refusal."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(f"{status} {document.get('type')}: {document.get('detail')}")
        self.status = status
        self.document = document

    @property
    def kind(self) -> str:
        return str(self.document.get("type", "")).rpartition(":")[2]


class Account:
    """An account key; it outlives servers and clients."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        numbers = self.key.public_key().public_numbers()
        self.jwk = {
            "crv": "P-256",
            "kty": "EC",
            "x": b64(numbers.x.to_bytes(32, "big")),
            "y": b64(numbers.y.to_bytes(32, "big")),
        }
        self.kid: str | None = None

    @property
    def thumbprint(self) -> str:
        canonical = json.dumps(self.jwk, sort_keys=True, separators=(",", ":"))
        return b64(hashlib.sha256(canonical.encode()).digest())

    def sign(self, header: dict[str, Any], payload: bytes) -> dict[str, str]:
        protected, body = b64(json.dumps(header).encode()), b64(payload)
        r, s = decode_dss_signature(self.key.sign(f"{protected}.{body}".encode(), ec.ECDSA(SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return {"protected": protected, "payload": body, "signature": b64(signature)}


@dataclass
class Order:
    """One certificate that is wanted, and how far it has come."""

    names: Sequence[str]
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    url: str | None = None
    chain: list[x509.Certificate] = field(default_factory=list)
    _csr: str = ""

    @property
    def csr(self) -> str:
        """The same octets in every attempt, as a client that keeps its files sends them."""
        if not self._csr:
            san = x509.SubjectAlternativeName([x509.DNSName(name) for name in self.names])
            builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(san, False)
            self._csr = b64(builder.sign(self.key, SHA256()).public_bytes(Encoding.DER))
        return self._csr

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]


class ACMEClient:
    """One account at one directory. `route` changes where a request goes, not what is signed: a load balancer, in short."""

    def __init__(
        self, directory_url: str, tls: ssl.SSLContext, account: Account, route: Callable[[str], str] = lambda url: url
    ) -> None:
        self.account = account
        self._directory_url = directory_url
        self._route = route
        self._http = httpx.Client(verify=tls, timeout=20, trust_env=False)
        self._directory: dict[str, Any] = {}
        self._nonces: list[str] = []

    def close(self) -> None:
        self._http.close()

    @property
    def directory(self) -> dict[str, Any]:
        if not self._directory:
            self._directory = self._http.get(self._route(self._directory_url)).raise_for_status().json()
        return self._directory

    def post(self, url: str, payload: Any = None) -> httpx.Response:
        """A signed request; `None` is POST-as-GET. A bad nonce is answered with one more attempt, as clients must.

        Raises Problem for every refusal, and httpx.TransportError when the server is gone.
        """
        body = b"" if payload is None else json.dumps(payload).encode()
        for attempt in range(3):
            response = self.send(url, self.account.sign(self._header(url), body))
            if nonce := response.headers.get("Replay-Nonce"):
                self._nonces.append(nonce)
            if response.is_success:
                return response
            problem = Problem(response.status_code, _document(response))
            if problem.kind != "badNonce" or attempt == 2:
                raise problem
        raise AssertionError("unreachable")

    def send(self, url: str, message: dict[str, str]) -> httpx.Response:
        """Sends what was signed already, whatever comes of it."""
        headers = {"Content-Type": "application/jose+json"}
        return self._http.post(self._route(url), content=json.dumps(message), headers=headers)

    def _header(self, url: str) -> dict[str, Any]:
        who = {"kid": self.account.kid} if self.account.kid else {"jwk": self.account.jwk}
        return {"alg": "ES256", "nonce": self.nonce(), "url": url, **who}

    def nonce(self) -> str:
        if not self._nonces:
            return self._http.head(self._route(self.directory["newNonce"])).headers["Replay-Nonce"]
        return self._nonces.pop()

    def register(self) -> None:
        """Makes the account, or finds it."""
        if self.account.kid is None:
            answer = self.post(self.directory["newAccount"], {"termsOfServiceAgreed": True})
            self.account.kid = answer.headers["Location"]

    def obtain(self, order: Order, wait_s: float = 30) -> x509.Certificate:
        """Goes on with the order from wherever it stands, up to the certificate. May be called again after any failure."""
        self.register()
        deadline = time.monotonic() + wait_s
        while not order.chain:
            state = self.state(order)
            if state["status"] == "pending":
                for url in state["authorizations"]:
                    self.answer(url)
            elif state["status"] == "ready":
                self.finalize(order, state)
            elif state["status"] == "valid":
                self.download(order, state)
            elif state["status"] != "processing":
                raise AssertionError(f"the order ended: {state}")
            assert time.monotonic() < deadline, f"the order is still {state['status']}"
            if not order.chain and state["status"] in ("pending", "processing"):
                time.sleep(_POLL_S)
        return order.leaf

    def state(self, order: Order) -> dict[str, Any]:
        """Places the order if that was not done yet, and tells how it stands."""
        if order.url is None:
            wanted = {"identifiers": [{"type": "dns", "value": name} for name in order.names]}
            answer = self.post(self.directory["newOrder"], wanted)
            order.url = answer.headers["Location"]
            return dict(answer.json())
        return dict(self.post(order.url).json())

    def answer(self, authorization_url: str) -> None:
        """Says that the http-01 challenge may be checked, unless that was said before."""
        authorization = self.post(authorization_url).json()
        challenge = next(c for c in authorization["challenges"] if c["type"] == "http-01")
        if authorization["status"] == "pending" and challenge["status"] == "pending":
            self.post(challenge["url"], {})

    def finalize(self, order: Order, state: dict[str, Any]) -> dict[str, Any]:
        return dict(self.post(state["finalize"], {"csr": order.csr}).json())

    def download(self, order: Order, state: dict[str, Any]) -> None:
        order.chain = x509.load_pem_x509_certificates(self.post(state["certificate"]).content)

    def revoke(self, certificate: x509.Certificate, reason: int = 0) -> None:
        der = certificate.public_bytes(Encoding.DER)
        self.post(self.directory["revokeCert"], {"certificate": b64(der), "reason": reason})


def _document(response: httpx.Response) -> dict[str, Any]:
    try:
        return dict(response.json())
    except ValueError:
        return {"detail": response.text}


@contextmanager
def http01(port: int, account: Account) -> Iterator[None]:
    """Answers every http-01 challenge of the account on loopback: the token in the path is all that is needed."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            token = re.fullmatch(r"/\.well-known/acme-challenge/([A-Za-z0-9_-]+)", self.path)
            body = f"{token[1]}.{account.thumbprint}".encode() if token else b"there is nothing here"
            self.send_response(200 if token else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A validator that was killed breaks off its connection."""

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
