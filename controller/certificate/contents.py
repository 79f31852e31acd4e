"""The target Secret, whole: what is written into it, and whether what is there is that."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spork.controller import reasons
from spork.controller.certificate import marks
from spork.controller.certificate.keystores import key_store, trust_store
from spork.controller.certificate.snapshot import Finding, Snapshot
from spork.controller.certificate.stored import octets
from spork.controller.certificate.wanted import Wanted
from spork.controller.cluster import LABEL_MANAGED, Object
from spork.controller.models.schema import GROUP
from spork.ids import serial_text
from spork.keys.ephemeral import EphemeralKey
from spork.x509.authority import Authority

_STORES = ("keystore.p12", "truststore.p12")


@dataclass(frozen=True, slots=True)
class Password:
    """The password of the keystores, and the version of the Secret that it was read from."""

    value: bytes
    version: str

    def __repr__(self) -> str:
        return f"Password(version={self.version})"


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into the Secret: a key, its certificate, and the CA that signed it."""

    key: EphemeralKey
    der: bytes
    authority: Authority
    revision: int
    password: Password | None
    handled_renewal: str


def chain_of(authority: Authority) -> tuple[list[x509.Certificate], x509.Certificate]:
    """The certificates between leaf and root, and the root."""
    assert authority.certificate is not None, "a CA that has signed has a certificate"
    path = [authority.certificate, *authority.chain]
    return path[:-1], path[-1]


def secret_of(snapshot: Snapshot, wanted: Wanted, contents: Contents) -> dict[str, Any]:
    """The Secret to create, or to put in the place of the one that the snapshot has, with its version."""
    found = snapshot.target.item if snapshot.target is not None else None
    leaf = x509.load_der_x509_certificate(contents.der)
    data = {"tls.key": contents.key.pkcs8_pem(), **_certificates(leaf, contents.authority)}
    stores = _stores(snapshot, contents, leaf)
    said = {
        **_annotations(snapshot, wanted, contents.authority, contents.revision),
        marks.SERIAL: serial_text(leaf.serial_number),
        marks.HANDLED_RENEWAL: contents.handled_renewal,
        marks.KEYSTORES: _stores_digest(snapshot, stores),
        marks.PASSWORD_VERSION: contents.password.version if contents.password is not None else "",
    }
    metadata: dict[str, Any] = copy.deepcopy(dict(found["metadata"])) if found is not None else {}
    metadata |= {"name": snapshot.spec.secret_name, "namespace": snapshot.owner.namespace}
    _mark(metadata, "labels", _labels(snapshot), found)
    _mark(metadata, "annotations", {key: value for key, value in said.items() if value}, found)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(value).decode("ascii") for key, value in {**data, **stores}.items()},
    }


def secret_is_as_written(snapshot: Snapshot) -> Finding | None:
    """Whether labels, annotations, chain, roots and keystores are what would be written now for this certificate."""
    target, wanted = snapshot.target, snapshot.wanted
    if target is None or target.leaf is None or wanted is None:
        return None
    item = target.item
    for key, due in _certificates(target.leaf, wanted.authority).items():
        if octets(item, key) != due:
            return Finding(reasons.SECRET_EDITED, f"{key} in the Secret is not as it should be.")
    expected = _annotations(snapshot, wanted, wanted.authority, target.revision)
    missing = [f"annotation {key}" for key, value in expected.items() if target.said(key) != value]
    labels = item["metadata"].get("labels") or {}
    missing += [f"label {key}" for key, value in _labels(snapshot).items() if labels.get(key) != value]
    if missing:
        return Finding(reasons.SECRET_EDITED, f"The {missing[0]} of the Secret is not as it should be.")
    # What cannot be read is there all the same.
    stores = {key: octets(item, key) or b"" for key in _STORES if key in (item.get("data") or {})}
    if target.said(marks.KEYSTORES) != _stores_digest(snapshot, stores):
        return Finding(reasons.SECRET_EDITED, "The keystores in the Secret are not as they should be.")
    if snapshot.password_version not in (None, target.said(marks.PASSWORD_VERSION)):
        return Finding(reasons.SECRET_EDITED, "The password of the keystores was changed.")
    return None


def _certificates(leaf: x509.Certificate, authority: Authority) -> dict[str, bytes]:
    between, root = chain_of(authority)
    return {
        "tls.crt": b"".join(one.public_bytes(Encoding.PEM) for one in (leaf, *between)),
        "ca.crt": root.public_bytes(Encoding.PEM),
    }


def _annotations(snapshot: Snapshot, wanted: Wanted, authority: Authority, revision: int) -> dict[str, str]:
    """What can be told without key and certificate. Ours come last, so that a template cannot change them."""
    spec, template = snapshot.spec, snapshot.spec.secret_template
    own = {
        marks.CERTIFICATE_NAME: snapshot.owner.name,
        marks.CERTIFICATE_UID: snapshot.owner.uid,
        marks.REVISION: str(revision),
        marks.ISSUER: f"{spec.issuer_ref.kind}/{spec.issuer_ref.name}",
        marks.AUTHORITY: f"{authority.id}/{authority.generation}",
        marks.PROFILE: wanted.profile.name,
        marks.DURATION: wanted.duration_text,
    }
    if template is None:
        return own
    foreign = {key: value for key, value in template.annotations.items() if not _is_ours(key)}
    keys = {"annotations": sorted(foreign), "labels": sorted(key for key in template.labels if not _is_ours(key))}
    return {**foreign, **own, marks.TEMPLATE: json.dumps(keys, separators=(",", ":"))}


def _labels(snapshot: Snapshot) -> dict[str, str]:
    template = snapshot.spec.secret_template
    foreign = {key: value for key, value in template.labels.items() if not _is_ours(key)} if template else {}
    return {**foreign, LABEL_MANAGED: "true"}


def _is_ours(key: str) -> bool:
    return key.partition("/")[0] == GROUP


def _mark(metadata: dict[str, Any], where: str, wanted: Mapping[str, str], found: Object | None) -> None:
    """Puts labels or annotations in; those of others stay, and those that an earlier template gave go."""
    kept = {key: value for key, value in (metadata.get(where) or {}).items() if where == "labels" or not _is_ours(key)}
    for key in _templated(found, where):
        kept.pop(key, None)
    metadata[where] = {**kept, **wanted}


def _templated(found: Object | None, where: str) -> list[str]:
    text = ((found or {"metadata": {}})["metadata"].get("annotations") or {}).get(marks.TEMPLATE)
    try:
        keys = json.loads(text).get(where) if text else None
    except (ValueError, AttributeError):
        # Somebody has edited it. Then what it listed stays, which harms nobody.
        return []
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []


def _stores(snapshot: Snapshot, contents: Contents, leaf: x509.Certificate) -> dict[str, bytes]:
    asked = snapshot.spec.keystores.pkcs12 if snapshot.spec.keystores is not None else None
    if asked is None or contents.password is None:
        return {}
    between, root = chain_of(contents.authority)
    password = contents.password.value
    stores: dict[str, bytes] = {}
    if asked.create:
        stores["keystore.p12"] = key_store(snapshot.owner.name, contents.key, leaf, between, password, asked.profile)
    if asked.trust_store:
        stores["truststore.p12"] = trust_store([root], password, asked.profile)
    return stores


def _stores_digest(snapshot: Snapshot, stores: Mapping[str, bytes]) -> str:
    """Empty where none are asked for and none are there. The stores differ at each making, so their digest is remembered."""
    asked = snapshot.spec.keystores.pkcs12 if snapshot.spec.keystores is not None else None
    wanted = asked is not None and (asked.create or asked.trust_store)
    if not wanted and not stores:
        return ""
    text = asked.model_dump_json() if asked is not None else ""
    parts = [text.encode(), *(stores.get(key, b"") for key in _STORES)]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
