"""A fleet of Certificates and what must be true of each of them, whatever was killed, cut off or doubled on the way."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from certificate_world import key_and_certificate_fit
from cryptography import x509
from operator_running import Programs, User, is_ready, until
from operator_world import a_resource
from status_world import TREE

from spork.controller.cluster import Ref
from spork.controller.conditions import condition_of
from spork.controller.kubernetes.cluster import open_cluster
from spork.ids import serial_text
from spork.store.database import Database

ISSUER = Ref("ClusterIssuer", "", "fleet")
_LONG_S = 150.0
_ROWS = """
SELECT c.attributes #>> '{kubernetes,namespace}', c.attributes #>> '{kubernetes,name}',
       (c.attributes #>> '{kubernetes,revision}')::int, upper(encode(c.serial, 'hex')), c.state,
       EXISTS (SELECT FROM revocation r WHERE r.certificate_id = c.id AND r.released_at IS NULL)
  FROM certificate c WHERE c.door = 'kubernetes' ORDER BY c.id
"""


@dataclass(frozen=True)
class Row:
    """One certificate in the record."""

    namespace: str
    name: str
    revision: int
    serial: str
    state: str
    revoked: bool

    @property
    def live(self) -> bool:
        return self.state == "issued" and not self.revoked


@dataclass
class Fleet:
    """Certificates of one ClusterIssuer in one namespace."""

    user: User
    """Goes straight to the API server, whatever stands in the operator's way."""
    database: Database
    namespace: str
    names: Sequence[str]
    revisions: dict[str, int] = field(default_factory=dict)
    """Of the Certificates that are not at revision 1."""
    algorithm: str = "ecdsa-p256"

    def ref(self, name: str) -> Ref:
        return Ref("Certificate", self.namespace, name)

    def secret_ref(self, name: str) -> Ref:
        return Ref("Secret", self.namespace, f"{name}-tls")

    async def apply(self, *names: str) -> None:
        """All of them, or the named ones."""
        await self.user.apply(*(self._certificate(name) for name in names or self.names))

    def _certificate(self, name: str) -> dict[str, Any]:
        changes = {
            "metadata/namespace": self.namespace,
            "spec/issuerRef": {"kind": "ClusterIssuer", "name": ISSUER.name},
            "spec/secretName": f"{name}-tls",
            "spec/dnsNames": [f"{name}.test"],
            "spec/privateKey": {"algorithm": self.algorithm},
        }
        return a_resource("Certificate", changes, name=name)

    async def rows(self) -> list[Row]:
        """The record of this namespace, whatever the state."""
        cursor = await self.database.execute(_ROWS)
        return [row for one in await cursor.fetchall() if (row := Row(*one)).namespace == self.namespace]

    async def ready(self) -> bool:
        """Whether all are Ready, with the revision that they should have."""
        return not await self.unready()

    async def unready(self) -> list[str]:
        found = {one["metadata"]["name"]: one for one in await self.user.list("Certificate", self.namespace)}
        return [
            name
            for name in self.names
            if not is_ready(found.get(name)) or found[name]["status"].get("revision") != self.revisions.get(name, 1)
        ]

    async def settled(self) -> None:
        """Waits until all are Ready and no key waits any more, and holds them against the record and each other."""
        try:
            await until(self.ready, "all Certificates are Ready", _LONG_S)
            await until(self._no_pending_keys, "no pending key is left", _LONG_S)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; unready: {[await self._said(name) for name in await self.unready()]}"
            ) from None
        await self.check()

    async def _said(self, name: str) -> object:
        return (await self.user.get(self.ref(name))).get("status")

    async def _no_pending_keys(self) -> bool:
        return sorted(await self._secrets()) == sorted(f"{name}-tls" for name in self.names)

    async def _secrets(self) -> dict[str, dict[str, Any]]:
        return {one["metadata"]["name"]: one for one in await self.user.list("Secret", self.namespace)}

    async def check(self) -> None:
        """Nothing was issued twice, no key is lost, and no condition lies. Raises AssertionError."""
        by_name: defaultdict[str, list[Row]] = defaultdict(list)
        for row in await self.rows():
            by_name[row.name].append(row)
        open_rows = [row for rows in by_name.values() for row in rows if row.state not in ("issued", "abandoned")]
        assert not open_rows
        # Where a signer died with it a signature may exist, so that its serial has to be shown as revoked.
        assert not [row for rows in by_name.values() for row in rows if row.state == "abandoned" and not row.revoked]
        secrets = await self._secrets()
        items = {one["metadata"]["name"]: one for one in await self.user.list("Certificate", self.namespace)}
        for name in self.names:
            revision = self.revisions.get(name, 1)
            issued = Counter(row.revision for row in by_name[name] if row.live)
            assert issued == dict.fromkeys(range(1, revision + 1), 1), f"{name}: {by_name[name]}"
            data = {key: base64.b64decode(text) for key, text in secrets[f"{name}-tls"]["data"].items()}
            assert key_and_certificate_fit(data), name
            leaf = x509.load_pem_x509_certificate(data["tls.crt"])
            serial = serial_text(leaf.serial_number)
            assert items[name]["status"]["serial"] == serial, name
            (last,) = [row for row in by_name[name] if row.live and row.revision == revision]
            assert last.serial == serial, name
            condition = condition_of(items[name], "Issuing")
            assert condition is not None and condition["status"] == "False", (name, condition)
            assert not {"failedAttempts", "nextPrivateKeySecretName"} & set(items[name]["status"]), name


def an_issuer() -> dict[str, Any]:
    """The ClusterIssuer of fleets."""
    changes = {
        "spec/ca": "web",
        "spec/protocols": {},
        "spec/names": {"permit": {"dns": ["**.test"]}},
        "spec/allowedNamespaces": {"names": ["*"]},
    }
    return a_resource("ClusterIssuer", changes, name=ISSUER.name)


async def a_fleet(
    user: User, database: Database, namespace: str, number: int, *, algorithm: str = "ecdsa-p256"
) -> Fleet:
    """Its namespace and issuer; the Certificates are not applied yet."""
    await user.namespace(namespace)
    await user.apply(an_issuer())
    return Fleet(user, database, namespace, [f"c{one}" for one in range(number)], algorithm=algorithm)


async def issuer_ready(user: User) -> None:
    """Waits for the issuer."""

    async def met() -> bool:
        return is_ready(await user.get(ISSUER))

    await until(met, "the issuer is ready", _LONG_S)


@asynccontextmanager
async def a_hand(installation: Programs) -> AsyncIterator[tuple[User, Database]]:
    """A user and a look into the database beside programs, over a built tree and a cluster without anything of SPORK."""
    file = installation.folder / "hierarchy.toml"
    file.write_text(TREE.format(algorithm="ecdsa-p256", web=""))
    installation.spork("pki", "build", str(file))
    database = await Database.open(installation.database_url, min_size=1, max_size=2)
    try:
        async with open_cluster(installation.kube.kubeconfig) as admin:
            user = User(admin)
            await user.clean()
            try:
                yield user, database
            finally:
                for program in installation.started:
                    program.discard()
                await user.clean()
    finally:
        await database.close()


class Writes:
    """The writes of one identity that the API server has answered, counted as they come."""

    def __init__(self, installation: Programs) -> None:
        self._log = installation.kube.kubeconfig.parent / "audit.log"
        self._identity = installation.identity.encode()
        self._at = self._log.stat().st_size
        self._rest = b""
        self.number = 0

    def counted(self) -> int:
        """How many so far."""
        with self._log.open("rb") as stream:
            stream.seek(self._at)
            read = stream.read()
        self._at += len(read)
        *lines, self._rest = (self._rest + read).split(b"\n")
        ours = [line for line in lines if self._identity in line and b'"resource":"leases"' not in line]
        self.number += sum(any(verb in line for verb in _WRITES) for line in ours)
        return self.number


_WRITES = [f'"verb":"{verb}"'.encode() for verb in ("create", "update", "patch", "delete")]
__all__ = ["ISSUER", "Fleet", "Row", "Writes", "a_fleet", "a_hand", "an_issuer", "issuer_ready"]
