"""The operator as it runs in a cluster: a real API server, PostgreSQL, a built tree, a signer, and all reconcilers.

`an_operator` runs everything in this process: what tests look at and stop. `Programs` runs `spork serve` and `spork controller` as
programs of their own: what tests kill. Both have an identity of their own at the API server, whose requests `requests_of` gives.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from operator_world import Cluster
from status_world import PASSPHRASES, StatusWorld, a_status_world

from spork.cli import building, signing_worker
from spork.controller.cluster import KINDS, Object, Ref, Unreachable
from spork.controller.kubernetes import paths
from spork.controller.kubernetes.cluster import KubernetesCluster, open_cluster
from spork.controller.kubernetes.reviews import AccessReviews
from spork.controller.operator import RECONCILERS, Factory, Operator
from spork.controller.reconciler import Context
from spork.services import Services, wire
from spork.store.database import OPERATOR_ROLE, Database

LIMIT_S = 60.0
_OURS = ("Certificate", "Issuer", "ClusterIssuer", "Hierarchy", "Ceremony")
_PASSPHRASES = {"passphrase": b"only for these tests: online\n", "sealed-passphrase": b"only for these tests: sealed\n"}


@dataclass(frozen=True)
class Request:
    """One request that the API server has answered."""

    verb: str
    """get, list, watch, create, update, patch, delete."""
    resource: str
    """Plural, with the subresource, such as `certificates/status`."""
    namespace: str
    name: str
    status: int

    @property
    def writes(self) -> bool:
        return self.verb not in ("get", "list", "watch")


def an_identity(folder: Path, name: str, *groups: str, known: bool = True) -> Path:
    """A kubeconfig of a new user of the control plane that runs in `folder`; by default one who may do everything.

    One who is not `known` has a certificate that the API server does not accept.
    """
    admin = yaml.safe_load((folder / "kubeconfig").read_text())
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    names += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups or ("system:masters",)]
    ca = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    ca_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(ca_key if known else key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    # A colon separates files in KUBECONFIG.
    name = name.replace(":", "-")
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(encoding))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    user = {"client-certificate": str(folder / f"{name}.crt"), "client-key": str(folder / f"{name}.key")}
    admin["users"] = [{"name": "admin", "user": user}]
    file = folder / f"{name}.kubeconfig"
    file.write_text(yaml.safe_dump(admin))
    return file


_read_so_far: dict[tuple[Path, str], tuple[int, list[Request]]] = {}


def requests_of(kube: Cluster, identity: str, *, since: int = 0) -> list[Request]:
    """What that user has asked the API server, without watches and leases; `since` leaves the first ones out."""
    log = kube.kubeconfig.parent / "audit.log"
    # The log of a whole session is long, and tests look often.
    offset, found = _read_so_far.get((log, identity), (0, []))
    with log.open("rb") as file:
        file.seek(offset)
        new = file.read()
    # The last line may still be being written.
    new = new[: new.rfind(b"\n") + 1]
    found += (request for line in new.splitlines() if (request := _request(line, identity)) is not None)
    _read_so_far[log, identity] = offset + len(new), found
    return found[since:]


def _request(line: bytes, identity: str) -> Request | None:
    if identity.encode() not in line:
        return None
    event = json.loads(line)
    about = event.get("objectRef") or {}
    if event["user"]["username"] != identity or event["verb"] == "watch" or about.get("resource") == "leases":
        return None
    resource = "/".join(filter(None, (about.get("resource"), about.get("subresource"))))
    status = event.get("responseStatus", {}).get("code", 0)
    return Request(event["verb"], resource, about.get("namespace", ""), about.get("name", ""), status)


async def until(met: Callable[[], Any], what: str, within_s: float = LIMIT_S) -> Any:
    """Waits for what must come, and returns it. The limit is only there so that a fault does not hang."""
    end = time.monotonic() + within_s
    while True:
        result = met()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        assert time.monotonic() < end, f"not so after {within_s} s: {what}"
        await asyncio.sleep(0.05)


def is_ready(item: Object | None, kind: str = "Ready") -> bool:
    """Whether the condition is True, of the spec as it is now."""
    conditions = ((item or {}).get("status") or {}).get("conditions") or ()
    generation = item["metadata"].get("generation") if item else None
    return any(
        one["type"] == kind and one["status"] == "True" and one.get("observedGeneration", generation) == generation
        for one in conditions
    )


class User:
    """The hand of an administrator, without kubectl's 50 ms of start: objects as JSON, straight to the API server."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        self._connection = cluster.connection

    async def apply(self, *items: dict[str, Any]) -> list[dict[str, Any]]:
        """Server-side apply as `kubectl`, forced."""
        query = {"fieldManager": "kubectl", "force": "true"}
        return [await self._one("PATCH", item, query, "application/apply-patch+yaml") for item in items]

    async def patch(self, ref: Ref, changes: dict[str, Any]) -> dict[str, Any]:
        """A JSON merge patch."""
        path = paths.one(KINDS[ref.kind], ref)
        return await self._connection.request(
            "PATCH", path, ref, body=changes, content_type="application/merge-patch+json"
        )

    async def get(self, ref: Ref) -> dict[str, Any]:
        return await self._connection.request("GET", paths.one(KINDS[ref.kind], ref), ref)

    async def list(self, kind: str, namespace: str | None = None) -> list[dict[str, Any]]:
        """All of a kind, with `apiVersion` and `kind`."""
        answer = await self._connection.request("GET", paths.collection(KINDS[kind], namespace), Ref(kind, "", ""))
        return [{**one, "apiVersion": KINDS[kind].api_version, "kind": kind} for one in answer.get("items") or ()]

    async def delete(self, ref: Ref) -> None:
        await self._connection.request("DELETE", paths.one(KINDS[ref.kind], ref), ref)

    async def namespace(self, name: str, **labels: str) -> str:
        await self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        return name

    async def _one(self, method: str, item: dict[str, Any], query: dict[str, str], content_type: str) -> dict[str, Any]:
        kind, metadata = KINDS[item["kind"]], item["metadata"]
        ref = Ref(kind.name, metadata.get("namespace", "") if kind.namespaced else "", metadata["name"])
        return await self._connection.request(
            method, paths.one(kind, ref), ref, query=query, body=item, content_type=content_type
        )

    async def clean(self) -> None:
        """Takes everything of SPORK away, whoever holds it, and the namespaces that tests have made."""
        for kind in _OURS:
            for item in await self.list(kind):
                metadata = item["metadata"]
                ref = Ref(kind, metadata.get("namespace", ""), metadata["name"])
                with suppress(Exception):
                    if metadata.get("finalizers"):
                        await self.patch(ref, {"metadata": {"finalizers": None}})
                    await self.delete(ref)
        for item in await self.list("Secret") + await self.list("ConfigMap"):
            metadata = item["metadata"]
            if metadata.get("labels", {}).get("spork-ca.org/managed") == "true":
                await self.delete(Ref(item["kind"], metadata["namespace"], metadata["name"]))


@dataclass
class RunningOperator:
    """The operator in this process. `stop` and `start` may follow each other: the database and the cluster stay."""

    kube: Cluster
    world: StatusWorld
    """The signer's side: its services have all keys. Its tree has the CAs `web` and `other`."""
    database: Database
    user: User
    identity: str
    kubeconfig: Path
    factories: Sequence[Factory] = RECONCILERS
    namespaces: Collection[str] = ()
    services: Services = field(init=False)
    """The operator's: without any key."""
    cluster: KubernetesCluster = field(init=False)
    context: Context = field(init=False)
    operator: Operator = field(init=False)
    _stop: asyncio.Event | None = None
    _task: asyncio.Task[None] | None = None

    async def start(self) -> RunningOperator:
        """Runs it, and returns when it reconciles."""
        started = asyncio.Event()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run(started, self._stop))
        first = asyncio.create_task(started.wait())
        await asyncio.wait({first, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            first.cancel()
            await self._task
        await until(lambda: self.operator.leading, "the operator reconciles")
        return self

    async def _run(self, started: asyncio.Event, stop: asyncio.Event) -> None:
        settings = self.world.services.settings
        self.services = await wire(settings, self.database, {}, clock=self.world.clock)
        async with open_cluster(self.kubeconfig, namespaces=self.namespaces) as cluster:
            self.cluster = cluster
            self.context = Context(cluster, self.services, AccessReviews(cluster.connection))
            self.operator = Operator(self.context, factories=self.factories)
            started.set()
            await self.operator.run(stop)

    async def stop(self) -> None:
        """Ends it as SIGTERM does."""
        assert self._stop is not None and self._task is not None
        self._stop.set()
        await self._task

    async def kill(self) -> None:
        """Ends it wherever it is, between any two of its steps."""
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def requests(self, *, since: int = 0) -> list[Request]:
        """What the operator has asked the API server so far. See `requests_of`."""
        return requests_of(self.kube, self.identity, since=since)

    def counted(self, *, since: int = 0) -> Counter[str]:
        """The same as counts of `verb resource`."""
        return Counter(f"{one.verb} {one.resource}" for one in self.requests(since=since))

    async def quiet(self, for_s: float = 1.0) -> None:
        """Waits until the operator has asked nothing for a while."""
        seen, since = -1, time.monotonic()
        end = time.monotonic() + LIMIT_S
        while time.monotonic() - since < for_s:
            assert time.monotonic() < end, f"the operator does not come to rest: {self.counted(since=seen)}"
            now = len(self.requests())
            if now != seen:
                seen, since = now, time.monotonic()
            await asyncio.sleep(0.1)


@asynccontextmanager
async def an_operator(
    kube: Cluster,
    database_url: str,
    folder: Path,
    *,
    factories: Sequence[Factory] = RECONCILERS,
    namespaces: Collection[str] = (),
    start: bool = True,
) -> AsyncIterator[RunningOperator]:
    """A fresh database with a built tree, a signer that takes all jobs, and the operator, all in this process."""
    identity = f"operator-{os.getpid()}-{time.monotonic_ns()}"
    kubeconfig = an_identity(kube.kubeconfig.parent, identity)
    (folder / "home").mkdir(exist_ok=True)
    for name, text in _PASSPHRASES.items():
        (folder / "home" / name).write_bytes(text)
    keeping = await Database.open(database_url, min_size=1, max_size=6)
    operating = await Database.open(database_url, min_size=1, max_size=10, role=OPERATOR_ROLE)
    try:
        async with (
            open_cluster(kube.kubeconfig) as admin,
            a_status_world(keeping, home=folder / "home") as world,
            signing(world.services),
        ):
            user = User(admin)
            await _cleaned(user)
            running = RunningOperator(
                kube, world, operating, user, identity, kubeconfig, factories=factories, namespaces=namespaces
            )
            if start:
                await running.start()
            try:
                yield running
            finally:
                if running._task is not None and not running._task.done():
                    await running.stop()
                await user.clean()
    finally:
        await operating.close()
        await keeping.close()


async def _cleaned(user: User) -> None:
    """A new kind is Established a moment before its storage is there; until then the API server answers 429."""
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            return await user.clean()
        except Unreachable:
            assert time.monotonic() < end, "the API server does not answer"
            await asyncio.sleep(0.1)


@asynccontextmanager
async def signing(services: Services) -> AsyncIterator[None]:
    stop = asyncio.Event()
    await services.keys.unlock("sealed", PASSPHRASES["sealed"])
    tasks = [
        asyncio.create_task(signing_worker.run(services, stop)),
        asyncio.create_task(building.run(services, stop, sealed=True)),
    ]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Program:
    """One `spork` program with its log; ready when its ops address says so."""

    words: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def ops(self) -> str:
        return self.environment["SPORK_OPS_LISTEN"]

    def start(self) -> Program:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "spork", *self.words],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.words[0]} has ended:\n{self.log.read_text()}"
        try:
            with urllib.request.urlopen(f"http://{self.ops}/readyz", timeout=3) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.ops}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def discard(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)


@dataclass
class Programs:
    """An installation whose programs a test starts, kills and starts again. Made by `programs`."""

    kube: Cluster
    folder: Path
    database_url: str
    identity: str
    kubeconfig: Path
    started: list[Program] = field(default_factory=list)

    def _environment(self) -> dict[str, str]:
        listen = {f"SPORK_{name}_LISTEN": f"127.0.0.1:{_free_port()}" for name in ("STATUS", "ENROL", "ADMIN", "OPS")}
        # URLs in certificates derive from it, and all programs of an installation must agree on them.
        listen["SPORK_STATUS_URL"] = "http://status.test"
        ours = {"SPORK_HOME": str(self.folder / "home"), "SPORK_DATABASE_URL": self.database_url, **listen}
        return {key: value for key, value in os.environ.items() if not key.startswith("SPORK_")} | ours

    def program(self, *words: str) -> Program:
        """A program of this installation, not started yet."""
        log = self.folder / f"{words[0]}-{len(self.started)}.log"
        program = Program(list(words), self._environment(), log)
        self.started.append(program)
        return program

    def controller(self, *words: str) -> Program:
        """`spork controller`; a second one stands by."""
        return self.program("controller", "--kubeconfig", str(self.kubeconfig), *words).start()

    def serve(self) -> Program:
        return self.program("serve").start()

    def spork(self, *words: str) -> str:
        """Runs a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "spork", *words],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def requests(self, *, since: int = 0) -> list[Request]:
        return requests_of(self.kube, self.identity, since=since)


@contextmanager
def programs(kube: Cluster, database_url: str, folder: Path) -> Iterator[Programs]:
    """A migrated database with its management CA and passphrases; nothing runs yet, and no tree is built."""
    identity = f"operator-{os.getpid()}-{time.monotonic_ns()}"
    home = folder / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    for name, text in _PASSPHRASES.items():
        (home / name).write_bytes(text)
        (home / name).chmod(0o600)
    installation = Programs(kube, folder, database_url, identity, an_identity(kube.kubeconfig.parent, identity))
    installation.spork("migrate", "--init")
    try:
        yield installation
    finally:
        for program in installation.started:
            program.discard()
