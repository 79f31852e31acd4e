"""Reads everything that a decision about one Certificate needs, from the copy and from what the services know."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

from spork.controller import reasons
from spork.controller.certificate import marks
from spork.controller.certificate.index import Index
from spork.controller.certificate.keystores import can_hold
from spork.controller.certificate.snapshot import Finding, Snapshot, owner_of, past_of
from spork.controller.certificate.statuses import Statuses
from spork.controller.certificate.stored import Stored, is_signed_by, stored_of
from spork.controller.certificate.wanted import Wanted, wanted_of
from spork.controller.cluster import Change, Object, Ref, ref_of
from spork.controller.issuer.usable import NotUsable, usable_issuer
from spork.controller.models.certificate import CertificateSpec
from spork.controller.reconciler import Context
from spork.controller.requests.usages import usages_missing
from spork.errors import ConfigurationError
from spork.ids import AuthorityId, Serial
from spork.policy.issuer import Issuer

UsableIssuer = Callable[[Context, str, str, str], Awaitable[Issuer]]
# Kubernetes, "Labels and Selectors", section "Syntax and character set"; keys of annotations are alike.
_KEY_NAME = re.compile(r"(?=.{1,63}\Z)[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_KEY_PREFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_LONG_KEY = 600
"""Characters of a key in base64 above which it is one of RSA or ML-DSA, whose checks take their time."""


class Reader:
    """Makes snapshots. What a Secret holds is read again only when the Secret has changed."""

    def __init__(
        self, context: Context, index: Index, statuses: Statuses, usable: UsableIssuer = usable_issuer
    ) -> None:
        self._context = context
        self._index = index
        self._statuses = statuses
        self._usable = usable
        self._read: dict[Ref, Stored] = {}
        context.cluster.subscribe(self._forget)

    def _forget(self, change: Change) -> None:
        """A key that has left the cluster leaves this memory too, whether or not anybody looks for it again."""
        if change.new is None:
            self._read.pop(change.ref, None)

    async def snapshot(self, item: Object) -> Snapshot:
        """Raises ValidationError for a spec that the schema would have refused; DatabaseUnavailable if nothing is known yet."""
        spec = CertificateSpec.model_validate(item.get("spec"))
        owner, past = owner_of(item), past_of(item)
        wanted, obstacle = await self._wanted(spec, owner.namespace)
        snapshot = Snapshot(item=item, spec=spec, owner=owner, past=past, wanted=wanted, obstacle=obstacle)
        target = self._context.cluster.get(Ref("Secret", owner.namespace, spec.secret_name))
        snapshot = replace(
            snapshot, rival=self._rival(item, spec, target), password_version=self._password_version(snapshot)
        )
        if target is not None:
            return await self.with_target(snapshot, target)
        self._read.pop(Ref("Secret", owner.namespace, spec.secret_name), None)
        return replace(snapshot, pending=self._pending(snapshot))

    async def with_target(self, snapshot: Snapshot, secret: Object) -> Snapshot:
        """The same with this Secret as the target."""
        target = await self._stored(secret)
        snapshot = replace(snapshot, target=target, revoked=None)
        if snapshot.ours and target.leaf is not None:
            snapshot = replace(snapshot, revoked=await self._revoked(snapshot, target))
        return replace(snapshot, pending=self._pending(snapshot))

    async def _wanted(self, spec: CertificateSpec, namespace: str) -> tuple[Wanted | None, Finding | None]:
        reference = spec.issuer_ref
        try:
            issuer = await self._usable(self._context, reference.kind, reference.name, namespace)
            authority = await self._context.services.authorities.authority(issuer.authority_id)
            wanted = wanted_of(spec, issuer, authority)
        except NotUsable as error:
            return None, Finding(error.reason, error.detail)
        except ConfigurationError as error:
            return None, Finding(reasons.INVALID, error.detail)
        if authority.certificate is None:
            return None, Finding(reasons.CA_NOT_READY, f"The CA {authority.id!r} has no certificate yet.")
        return wanted, _impossible(spec, wanted)

    def _rival(self, item: Object, spec: CertificateSpec, target: Object | None) -> str | None:
        """Whose the Secret is, if not this one's: whoever it was written for; before that the oldest."""
        namespace = item["metadata"].get("namespace") or ""
        others = [self._context.cluster.get(ref) for ref in self._index.with_secret(namespace, spec.secret_name)]
        alive = [one for one in others if one is not None and one["metadata"]["name"] != item["metadata"]["name"]]
        if not alive:
            return None
        alive.append(item)
        owner = (target["metadata"].get("annotations") or {}).get(marks.CERTIFICATE_NAME) if target else None
        written_for = [one for one in alive if one["metadata"]["name"] == owner]
        first = min(
            written_for or alive, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["uid"])
        )
        name: str = first["metadata"]["name"]
        return None if name == item["metadata"]["name"] else name

    def _pending(self, snapshot: Snapshot) -> Object | None:
        """The key of the next revision, or what is left of the last one's."""
        owner = snapshot.owner
        for revision in (snapshot.revision + 1, snapshot.revision):
            name = marks.pending_name(owner.name, owner.uid, revision)
            if (found := self._context.cluster.get(Ref("Secret", owner.namespace, name))) is not None:
                return found
        return None

    def _password_version(self, snapshot: Snapshot) -> str | None:
        stores = snapshot.spec.keystores.pkcs12 if snapshot.spec.keystores is not None else None
        if stores is None:
            return None
        found = self._context.cluster.get(Ref("Secret", snapshot.owner.namespace, stores.password_secret_ref.name))
        return password_version(found) if found is not None else None

    async def _stored(self, secret: Object) -> Stored:
        ref = ref_of(secret)
        known = self._read.get(ref)
        if known is None or known.item["metadata"]["resourceVersion"] != secret["metadata"]["resourceVersion"]:
            long = len((secret.get("data") or {}).get("tls.key") or "") > _LONG_KEY
            known = await asyncio.to_thread(stored_of, secret) if long else stored_of(secret)
            self._read[ref] = known
        return known

    async def _revoked(self, snapshot: Snapshot, target: Stored) -> int | None:
        wanted, authority = snapshot.wanted, AuthorityId(target.said(marks.AUTHORITY).partition("/")[0])
        if wanted is not None and is_signed_by(target, wanted.authority):
            authority = wanted.authority.id
        if not authority or target.leaf is None:
            return None
        return await self._statuses.reason(authority, Serial(target.leaf.serial_number))


def password_version(secret: Object) -> str:
    """What changes when the Secret of a password changes."""
    metadata = secret["metadata"]
    return f"{metadata['uid']}/{metadata['resourceVersion']}"


def secret_ref(namespace: str, name: str) -> Ref:
    return Ref("Secret", namespace, name)


def _template_fault(spec: CertificateSpec) -> str | None:
    """What the API server would refuse in the Secret, found before anything is issued for it."""
    template = spec.secret_template
    if template is None:
        return None
    for where, found in (("labels", template.labels), ("annotations", template.annotations)):
        for key in found:
            prefix, slash, name = key.rpartition("/")
            if _KEY_NAME.fullmatch(name) is None or (slash and _KEY_PREFIX.fullmatch(prefix) is None):
                return f"secretTemplate.{where}: {key[:320]!r} cannot be a key of {where}."
    for key, value in template.labels.items():
        if value and _KEY_NAME.fullmatch(value) is None:
            return f"secretTemplate.labels: the label {key!r} cannot have the value {value!r}."
    return None


def _impossible(spec: CertificateSpec, wanted: Wanted) -> Finding | None:
    """What no attempt could mend: only another spec or another issuer can."""
    if (fault := _template_fault(spec)) is not None:
        return Finding(reasons.INVALID, fault)
    stores = spec.keystores.pkcs12 if spec.keystores is not None else None
    if stores is not None and stores.create and not can_hold(wanted.algorithm.name):
        return Finding(
            reasons.KEYSTORE_IMPOSSIBLE,
            f"A PKCS #12 keystore cannot hold a key of the algorithm {wanted.algorithm.name}; leave keystores.pkcs12.create "
            "out, or choose another privateKey.algorithm.",
        )
    missing = usages_missing(wanted.profile, spec.usages, wanted.algorithm.family)
    if missing:
        return Finding(
            reasons.USAGES_NOT_ASSERTED,
            f"Certificates of the profile {wanted.profile.name} are not for {', '.join(missing)}; name another profile, or "
            "leave it out of usages.",
        )
    return None
