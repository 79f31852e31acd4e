"""The key of a revision that is being issued: in a Secret of its own, which goes with the Certificate."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from spork.controller.certificate import marks
from spork.controller.certificate.snapshot import Snapshot
from spork.controller.certificate.stored import algorithm_name, key_of
from spork.controller.certificate.wanted import Wanted
from spork.controller.cluster import LABEL_MANAGED, AlreadyExists, Cluster, Object, Ref, annotation, owner_reference
from spork.controller.models.schema import GROUP
from spork.keys.ephemeral import EphemeralKey
from spork.x509.der import KeyPurpose

_SLOW_TO_MAKE = "rsa"


def pending_ref(snapshot: Snapshot, revision: int) -> Ref:
    owner = snapshot.owner
    return Ref("Secret", owner.namespace, marks.pending_name(owner.name, owner.uid, revision))


async def pending_key(cluster: Cluster, snapshot: Snapshot, wanted: Wanted, revision: int) -> EphemeralKey:
    """The key for this revision and request: the one that waits already, or a new one, durable when this returns.

    A key that was made for another request is replaced: the same key with another request would be a conflict to the
    idempotency of issuing. Raises ClusterError.
    """
    ref = pending_ref(snapshot, revision)
    found = cluster.get(ref)
    if found is not None and (key := _fitting(found, wanted)) is not None:
        return key
    key = await new_key(wanted)
    if found is not None:
        await cluster.replace(_secret(snapshot, wanted, revision, key, found))
        return key
    try:
        await cluster.create(_secret(snapshot, wanted, revision, key, None))
    except AlreadyExists:
        # Another operator was faster, or the label by which it is watched was taken away. Its key is as good as this one.
        there = await cluster.read(ref)
        if there is not None and (kept := _fitting(there, wanted)) is not None:
            return kept
        raise
    return key


async def new_key(wanted: Wanted) -> EphemeralKey:
    """A fresh key; RSA's take up to seconds, and are made off the event loop."""
    if wanted.algorithm.family == _SLOW_TO_MAKE:
        return await asyncio.to_thread(EphemeralKey.generate, wanted.algorithm, KeyPurpose.LEAF)
    return EphemeralKey.generate(wanted.algorithm, KeyPurpose.LEAF)


def _fitting(secret: Object, wanted: Wanted) -> EphemeralKey | None:
    if annotation(secret, marks.REQUEST) != _digest(wanted):
        return None
    key = key_of(secret)
    return key if key is not None and algorithm_name(key.spki) == wanted.algorithm.name else None


def _digest(wanted: Wanted) -> str:
    """Of the request and of the issuer that it goes to."""
    return f"{wanted.issuer.id}:{wanted.digest.hex()}"


def _secret(
    snapshot: Snapshot, wanted: Wanted, revision: int, key: EphemeralKey, found: Object | None
) -> dict[str, Any]:
    ref, owner = pending_ref(snapshot, revision), snapshot.owner
    version = {"resourceVersion": found["metadata"]["resourceVersion"]} if found is not None else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": ref.name,
            "namespace": ref.namespace,
            **version,
            "labels": {LABEL_MANAGED: "true", f"{GROUP}/pending-key": "true"},
            "annotations": {
                marks.CERTIFICATE_NAME: owner.name,
                marks.CERTIFICATE_UID: owner.uid,
                marks.REVISION: str(revision),
                marks.REQUEST: _digest(wanted),
            },
            "ownerReferences": [owner_reference(snapshot.item)],
        },
        "type": "Opaque",
        "data": {"tls.key": base64.b64encode(key.pkcs8_pem()).decode("ascii")},
    }
