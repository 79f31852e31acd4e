"""What would have to happen so that the state matches the declaration. Pure: nothing is read or written here.

Every difference gets one class; docs/hierarchy.md has the table of which key is of which class, and why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.fields import FieldChange, changed_fields
from spork.hierarchy.model import DeclaredAuthority, DeclaredCrossCertificate, DeclaredIssuer, Hierarchy, names_as_json
from spork.hierarchy.ports import AuthorityState, TreeState
from spork.hierarchy.snapshot import stored_certificate
from spork.hierarchy.steps import Action, Plan, Step, Target
from spork.ids import AuthorityId
from spork.policy.issuer import Issuer


def plan(hierarchy: Hierarchy, state: TreeState, *, status_url: str, now: datetime) -> Plan:
    """Compares what is declared with what is stored. `status_url` is the public base of derived URLs."""
    comparison = _Comparison(hierarchy, state, status_url, now)
    return Plan(tuple(comparison.steps()))


class _Comparison:
    """One run of `plan`: the arguments, and which CAs will have a certificate once the steps so far are done."""

    def __init__(self, hierarchy: Hierarchy, state: TreeState, status_url: str, now: datetime) -> None:
        self._hierarchy = hierarchy
        self._state = state
        self._status_url = status_url
        self._now = now
        self._ready: set[AuthorityId] = set()
        self._stored: set[AuthorityId] = set()

    def steps(self) -> Iterator[Step]:
        for authority in self._hierarchy.authorities:
            step = self._authority(authority)
            self._note(authority, step)
            yield step
        yield from (self._cross(cross) for cross in self._hierarchy.cross_certificates)
        # A new default issuer comes after the one that was it has stepped back.
        yield from (self._issuer(issuer) for issuer in sorted(self._hierarchy.issuers, key=lambda one: one.default))
        yield from self._removed()

    def _note(self, authority: DeclaredAuthority, step: Step) -> None:
        state = self._state.authorities.get(authority.id)
        if step.action in (Action.CREATE, Action.ISSUE) or stored_certificate(state) is not None:
            self._ready.add(authority.id)
        if state is not None or step.action in (Action.CREATE, Action.REQUEST):
            self._stored.add(authority.id)

    def _authority(self, authority: DeclaredAuthority) -> Step:
        state = self._state.authorities.get(authority.id)
        if state is None:
            return self._new(authority)
        if state.disabled:
            return self._step(
                authority,
                ChangeClass.FORBIDDEN,
                Action.NOTHING,
                "it was removed before, and ids are not used twice; give the new CA another id.",
            )
        if state.declared_by != authority.declared_by:
            return self._adopted(authority, state)
        if stored_certificate(state) is None:
            return self._unfinished(authority, state)
        return self._existing(authority, state)

    def _adopted(self, authority: DeclaredAuthority, state: AuthorityState) -> Step:
        field = _adoption(state.declared_by, authority.declared_by)
        return self._step(authority, ChangeClass.IN_PLACE, Action.ADOPT, field.reason, (field,))

    def _new(self, authority: DeclaredAuthority) -> Step:
        subject = authority.subject.public_bytes()
        twin = next((one for one in self._state.authorities.values() if one.subject_der == subject), None)
        if twin is not None:
            return self._step(
                authority,
                ChangeClass.FORBIDDEN,
                Action.NOTHING,
                f"its name belongs to {twin.id!r} already; the id of a CA cannot change.",
            )
        if not authority.key_is_here:
            return self._step(authority, ChangeClass.WAITING, Action.NOTHING, self._what_is_missing(authority))
        return self._signed_by_parent(authority, Action.CREATE, "it is not there yet.")

    def _what_is_missing(self, authority: DeclaredAuthority) -> str:
        parent = self._parent(authority)
        if parent is None or not parent.key_is_here:
            return "its key is elsewhere: import its certificate with `spork pki import`."
        return "its key is elsewhere: import its request with `spork pki import-csr`."

    def _unfinished(self, authority: DeclaredAuthority, state: AuthorityState) -> Step:
        pending = state.current is not None and state.current.pending_csr is not None
        parent = self._parent(authority)
        if parent is not None and not parent.key_is_here and pending:
            return self._step(
                authority,
                ChangeClass.WAITING,
                Action.NOTHING,
                f"its request waits to be signed by {parent.id!r}; then `spork pki import`.",
            )
        fields = [
            f
            for f in changed_fields(authority, state, self._status_url)
            if f.change in (ChangeClass.FORBIDDEN, ChangeClass.REKEY)
        ]
        if fields:
            return self._of_fields(authority, state, tuple(fields))
        if parent is not None and not parent.key_is_here and not authority.key_is_here:
            return self._step(authority, ChangeClass.WAITING, Action.NOTHING, self._what_is_missing(authority))
        return self._signed_by_parent(authority, Action.ISSUE, "its key is there and its certificate is not.")

    def _signed_by_parent(self, authority: DeclaredAuthority, action: Action, reason: str) -> Step:
        parent = self._parent(authority)
        if parent is None:
            return self._step(authority, ChangeClass.CREATE, action, reason)
        if parent.id not in self._stored:
            return self._step(
                authority, ChangeClass.WAITING, Action.NOTHING, f"its parent {parent.id!r} is not there yet."
            )
        if not parent.key_is_here:
            return self._step(
                authority,
                ChangeClass.CREATE,
                Action.REQUEST,
                f"{reason[:-1]}; the key of {parent.id!r} is elsewhere, so a request file is written.",
            )
        if parent.id not in self._ready:
            return self._step(
                authority, ChangeClass.WAITING, Action.NOTHING, f"its parent {parent.id!r} has no certificate yet."
            )
        if sentence := self._outlives(authority.validity.end(self._now), parent.id):
            return self._step(authority, ChangeClass.FORBIDDEN, Action.NOTHING, sentence)
        return self._step(authority, ChangeClass.CREATE, action, reason)

    def _outlives(self, end: datetime, issuer_id: AuthorityId) -> str | None:
        certificate = stored_certificate(self._state.authorities.get(issuer_id))
        # Within a day of its issuer's end a certificate is cut to it when it is signed; see `build`.
        if certificate is None or (end - certificate.not_valid_after_utc).total_seconds() <= 86400:
            return None
        return (
            f"it would end on {end:%Y-%m-%d}, after its issuer {issuer_id!r}, which ends on "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}; shorten its validity."
        )

    def _existing(self, authority: DeclaredAuthority, state: AuthorityState) -> Step:
        fields = changed_fields(authority, state, self._status_url)
        if not fields:
            return self._step(authority, ChangeClass.NONE, Action.NOTHING, "it is as declared.")
        return self._of_fields(authority, state, fields)

    def _of_fields(self, authority: DeclaredAuthority, state: AuthorityState, fields: tuple[FieldChange, ...]) -> Step:
        worst = max(fields, key=lambda field: field.change.severity)
        reason = f"{worst.field}: {worst.reason}"
        match worst.change:
            case ChangeClass.FORBIDDEN:
                return self._step(authority, worst.change, Action.NOTHING, reason, fields)
            case ChangeClass.REKEY:
                return self._step(authority, worst.change, Action.NEW_KEY, reason, fields)
            case ChangeClass.REISSUE:
                return self._reissue(authority, state, reason, fields)
            case _:
                return self._step(authority, worst.change, Action.UPDATE, reason, fields)

    def _reissue(
        self, authority: DeclaredAuthority, state: AuthorityState, reason: str, fields: tuple[FieldChange, ...]
    ) -> Step:
        parent = self._parent(authority)
        if (
            parent is not None
            and parent.key_is_here
            and (s := self._outlives(authority.validity.end(self._now), parent.id))
        ):
            return self._step(authority, ChangeClass.FORBIDDEN, Action.NOTHING, s, fields)
        if (parent is None and not authority.key_is_here) or (parent is not None and not parent.key_is_here):
            pending = state.current is not None and state.current.pending_csr is not None
            if pending or not authority.key_is_here:
                return self._step(
                    authority,
                    ChangeClass.WAITING,
                    Action.NOTHING,
                    "a certificate with the new content is to be signed elsewhere; then `spork pki import`.",
                    fields,
                )
            return self._step(authority, ChangeClass.REISSUE, Action.REQUEST, reason, fields)
        return self._step(authority, ChangeClass.REISSUE, Action.ISSUE, reason, fields)

    def _cross(self, cross: DeclaredCrossCertificate) -> Step:
        known = next((one for one in self._state.cross_certificates if one.id == cross.id), None)
        needed = [cross.issuer_id, *([cross.subject_id] if cross.subject_id else [])]
        if missing := [one for one in needed if one not in self._ready]:
            return Step(
                Target.CROSS_CERTIFICATE,
                cross.id,
                ChangeClass.WAITING,
                Action.NOTHING,
                f"{missing[0]!r} has no certificate yet.",
            )
        if known is not None and known.spec == cross.as_json() and known.spki_sha256 == self._cross_key(cross):
            return Step(Target.CROSS_CERTIFICATE, cross.id, ChangeClass.NONE, Action.NOTHING, "it is as declared.")
        if sentence := self._outlives(cross.validity.end(self._now), cross.issuer_id):
            return Step(Target.CROSS_CERTIFICATE, cross.id, ChangeClass.FORBIDDEN, Action.NOTHING, sentence)
        if known is None:
            return Step(Target.CROSS_CERTIFICATE, cross.id, ChangeClass.CREATE, Action.ISSUE, "it is not there yet.")
        return Step(
            Target.CROSS_CERTIFICATE,
            cross.id,
            ChangeClass.REISSUE,
            Action.ISSUE,
            "its declaration has changed; the earlier one stays valid until it is revoked.",
        )

    def _cross_key(self, cross: DeclaredCrossCertificate) -> bytes | None:
        if cross.foreign_spki is not None:
            return hashlib.sha256(cross.foreign_spki).digest()
        state = self._state.authorities.get(cross.subject_id) if cross.subject_id else None
        return hashlib.sha256(state.current.spki).digest() if state is not None and state.current is not None else None

    def _issuer(self, issuer: DeclaredIssuer) -> Step:
        known = next((one for one in self._state.issuers if one.name == issuer.name and not one.namespace), None)
        if known is not None and known.origin != "file":
            return Step(
                Target.ISSUER,
                issuer.name,
                ChangeClass.FORBIDDEN,
                Action.NOTHING,
                f"an issuer of that name is managed elsewhere ({known.origin}).",
            )
        if known is not None and known.declared_by != self._hierarchy.declared_by:
            return self._of_another_declaration(known)
        if issuer.authority_id not in self._stored:
            return Step(
                Target.ISSUER,
                issuer.name,
                ChangeClass.WAITING,
                Action.NOTHING,
                f"its CA {issuer.authority_id!r} is not there yet.",
            )
        if known is None:
            return Step(Target.ISSUER, issuer.name, ChangeClass.CREATE, Action.CREATE, "it is not there yet.")
        before, after = issuer_as_json(known), issuer.as_json()
        fields = tuple(
            FieldChange(key, before[key], after[key], ChangeClass.IN_PLACE, "it holds for requests from now on.")
            for key in after
            if before[key] != after[key]
        )
        if not fields:
            return Step(Target.ISSUER, issuer.name, ChangeClass.NONE, Action.NOTHING, "it is as declared.")
        return Step(
            Target.ISSUER,
            issuer.name,
            ChangeClass.IN_PLACE,
            Action.UPDATE,
            f"{fields[0].field}: {fields[0].reason}",
            fields,
        )

    def _of_another_declaration(self, known: Issuer) -> Step:
        if known.declared_by.startswith("cluster:"):
            reason = "an Issuer or ClusterIssuer resource has that name; delete it, or choose another name."
            return Step(Target.ISSUER, known.name, ChangeClass.FORBIDDEN, Action.NOTHING, reason)
        field = _adoption(known.declared_by, self._hierarchy.declared_by)
        return Step(Target.ISSUER, known.name, ChangeClass.IN_PLACE, Action.ADOPT, field.reason, (field,))

    def _removed(self) -> Iterator[Step]:
        """What was declared here and is so no longer. Other declarations have CAs and issuers of their own."""
        ours = self._hierarchy.declared_by
        declared = {issuer.name for issuer in self._hierarchy.issuers}
        for issuer in self._state.issuers:
            if (issuer.origin, issuer.declared_by) == ("file", ours) and issuer.name not in declared:
                yield Step(
                    Target.ISSUER,
                    issuer.name,
                    ChangeClass.IN_PLACE,
                    Action.DISABLE,
                    "it is no longer declared; its doors are shut.",
                )
        for cross in self._state.cross_certificates:
            signer = self._state.authorities.get(cross.issuer_id)
            if signer is None or signer.declared_by != ours:
                continue
            if cross.id not in {one.id for one in self._hierarchy.cross_certificates}:
                yield Step(
                    Target.CROSS_CERTIFICATE,
                    cross.id,
                    ChangeClass.WAITING,
                    Action.NOTHING,
                    "it is no longer declared and still valid; `spork revoke` ends it.",
                )
        gone = [
            one
            for one in self._state.authorities.values()
            if one.declared_by == ours and one.id not in self._hierarchy.by_id and not one.disabled
        ]
        for state in sorted(gone, key=lambda one: -self._depth(one.id)):
            yield self._gone(state)

    def _gone(self, state: AuthorityState) -> Step:
        live = self._live_below(state.id)
        if live:
            return Step(
                Target.AUTHORITY,
                state.id,
                ChangeClass.FORBIDDEN,
                Action.NOTHING,
                "it is no longer declared, but certificates below it are alive; revoke them or let them expire first.",
                live_certificates=live,
            )
        return Step(
            Target.AUTHORITY,
            state.id,
            ChangeClass.IN_PLACE,
            Action.DISABLE,
            "it is no longer declared, and no certificate below it is alive; it will issue no more.",
        )

    def _parent(self, authority: DeclaredAuthority) -> DeclaredAuthority | None:
        return self._hierarchy.by_id[authority.parent_id] if authority.parent_id is not None else None

    def _step(
        self,
        authority: DeclaredAuthority,
        change: ChangeClass,
        action: Action,
        reason: str,
        fields: tuple[FieldChange, ...] = (),
    ) -> Step:
        return Step(Target.AUTHORITY, authority.id, change, action, reason, fields, self._live_below(authority.id))

    def _live_below(self, authority_id: AuthorityId) -> int:
        """Certificates signed by a CA and by all CAs under it, as the tree is stored."""
        children = [one.id for one in self._state.authorities.values() if one.parent_id == authority_id]
        own = self._state.authorities.get(authority_id)
        return (own.live_certificates if own else 0) + sum(self._live_below(child) for child in children)

    def _depth(self, authority_id: AuthorityId) -> int:
        parent = self._state.authorities[authority_id].parent_id
        return 0 if parent is None else 1 + self._depth(parent)


def _adoption(before: str, after: str) -> FieldChange:
    reason = f"it was declared by {before}, which no longer decides about it then; take it out there first."
    return FieldChange("declared_by", before, after, ChangeClass.IN_PLACE, reason)


def issuer_as_json(issuer: Issuer) -> dict[str, Any]:
    """A stored issuer in the form of `DeclaredIssuer.as_json`."""
    return {
        "authority": issuer.authority_id,
        "profiles": list(issuer.profiles),
        "names": names_as_json(issuer.names),
        "algorithms": list(issuer.keys.algorithms),
        "max_validity_s": int(issuer.max_validity.total_seconds()) if issuer.max_validity else None,
        "protocols": {name: dict(settings) for name, settings in issuer.protocols.items()},
        "default": issuer.default,
        "expressions": [asdict(expression) for expression in issuer.expressions],
    }
