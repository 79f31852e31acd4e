"""Which Certificates a change may concern, without looking at all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from spork.controller.certificate import marks
from spork.controller.cluster import Change, Cluster, Object, Ref, annotation, controller_of, ref_of

KIND = "Certificate"
WATCHES = frozenset({KIND, "Secret", "Issuer", "ClusterIssuer", "Namespace", "Hierarchy"})
_Key = tuple[str, ...]


class Index:
    """Certificates by what they refer to, and issuers by their CA. Follows the copy from the moment it is made."""

    def __init__(self, cluster: Cluster) -> None:
        self._keys: dict[Ref, frozenset[_Key]] = {}
        self._refs: defaultdict[_Key, set[Ref]] = defaultdict(set)
        for kind in (KIND, "Issuer", "ClusterIssuer", "Secret"):
            for item in cluster.all(kind):
                self._put(ref_of(item), item)
        cluster.subscribe(self.follow)

    def follow(self, change: Change) -> None:
        """Takes in a change; twice the same one does no harm."""
        self._put(change.ref, change.new)

    def with_secret(self, namespace: str, name: str) -> frozenset[Ref]:
        """The Certificates whose target Secret has that name."""
        return self._of("secret", namespace, name)

    def with_serial(self, authority: str, serial: str) -> Iterator[Ref]:
        """The Certificates whose Secret says that it holds the certificate."""
        for secret in self._of("serial", authority, serial):
            yield from self.with_secret(secret.namespace, secret.name)

    def serials(self, authority: str) -> Iterator[str]:
        """The serials of the CA's certificates in all Secrets, as their annotations have them."""
        return (key[2] for key in self._keys_of("serials", authority))

    def concerned(self, change: Change) -> Iterator[Ref]:
        """The Certificates that have to be looked at after the change; some of them more than once."""
        self.follow(change)
        ref = change.ref
        if ref.kind == KIND:
            yield from self._after_certificate(change)
        elif ref.kind == "Secret":
            yield from self._after_secret(change)
        elif ref.kind in ("Issuer", "ClusterIssuer") and _issuer_facts(change.old) != _issuer_facts(change.new):
            yield from self._of("issuer", ref.kind, ref.namespace, ref.name)
        elif ref.kind == "Namespace" and _labels(change.old) != _labels(change.new):
            yield from self._of("namespace", ref.name)
        elif ref.kind == "Hierarchy" and _authorities(change.old) != _authorities(change.new):
            for authority in {name for name, _ in _authorities(change.old) | _authorities(change.new)}:
                for issuer in self._of("ca", authority):
                    yield from self._of("issuer", issuer.kind, issuer.namespace, issuer.name)

    def _after_certificate(self, change: Change) -> Iterator[Ref]:
        yield change.ref
        # Who waits for the name of a Secret hears that its owner has gone, or wants another one.
        for item in (change.old, change.new):
            if item is not None and (
                change.old is None or change.new is None or _spec(change.old) != _spec(change.new)
            ):
                yield from self.with_secret(change.ref.namespace, str(_spec(item).get("secretName")))

    def _after_secret(self, change: Change) -> Iterator[Ref]:
        ref = change.ref
        yield from self.with_secret(ref.namespace, ref.name)
        yield from self._of("password", ref.namespace, ref.name)
        for item in (change.old, change.new):
            owner = controller_of(item) if item is not None else None
            if owner is not None and owner.get("kind") == KIND:
                yield Ref(KIND, ref.namespace, owner["name"])

    def _of(self, *key: str) -> frozenset[Ref]:
        return frozenset(self._refs.get(key, ()))

    def _keys_of(self, kind: str, authority: str) -> Iterator[_Key]:
        for secret in self._of(kind, authority):
            yield from (key for key in self._keys.get(secret, ()) if key[:2] == ("serial", authority))

    def _put(self, ref: Ref, item: Object | None) -> None:
        new = frozenset(_keys_of(ref, item)) if item is not None else frozenset()
        old = self._keys.get(ref, frozenset())
        for key in old - new:
            self._refs[key].discard(ref)
            if not self._refs[key]:
                del self._refs[key]
        for key in new - old:
            self._refs[key].add(ref)
        if new:
            self._keys[ref] = new
        else:
            self._keys.pop(ref, None)


def _keys_of(ref: Ref, item: Object) -> Iterator[_Key]:
    spec = _spec(item)
    if ref.kind == KIND:
        reference = _mapping(spec.get("issuerRef"))
        kind, name = str(reference.get("kind") or "Issuer"), str(reference.get("name"))
        yield ("issuer", kind, ref.namespace if kind == "Issuer" else "", name)
        yield ("secret", ref.namespace, str(spec.get("secretName")))
        yield ("namespace", ref.namespace)
        password = _mapping(_mapping(_mapping(spec.get("keystores")).get("pkcs12")).get("passwordSecretRef"))
        if password:
            yield ("password", ref.namespace, str(password.get("name")))
    elif ref.kind in ("Issuer", "ClusterIssuer"):
        yield ("ca", str(spec.get("ca")))
    elif ref.kind == "Secret" and (serial := annotation(item, marks.SERIAL)):
        authority = (annotation(item, marks.AUTHORITY) or "").partition("/")[0]
        yield ("serial", authority, serial)
        yield ("serials", authority)


def _spec(item: Object) -> Mapping[str, Any]:
    return _mapping(item.get("spec"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _issuer_facts(item: Object | None) -> object:
    """What of an issuer says whether and how it issues; its counters do not."""
    if item is None:
        return None
    status, metadata = _mapping(item.get("status")), item["metadata"]
    ready: Mapping[str, Any] = next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), {})
    said = (ready.get("status"), ready.get("reason"), ready.get("observedGeneration"))
    return metadata["uid"], metadata.get("generation"), metadata.get("deletionTimestamp"), said, status.get("notAfter")


def _labels(item: Object | None) -> object:
    return None if item is None else item["metadata"].get("labels") or {}


def _authorities(item: Object | None) -> frozenset[tuple[str, str]]:
    """The CAs of a tree with what a change of them means to those below; numbers of live certificates mean nothing."""
    if item is None:
        return frozenset()
    generation = str(item["metadata"].get("generation"))
    states = _mapping(item.get("status")).get("authorities") or ()
    return frozenset(
        (str(one.get("id")), f"{generation} {one.get('phase')} {one.get('serial')} {one.get('notAfter')}")
        for one in states
    )
