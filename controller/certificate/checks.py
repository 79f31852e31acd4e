"""The questions that are asked of a certificate in its Secret, in order. All of them are pure, and none writes anything.

The same list answers both "must it be issued anew?" and "is it ready?".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from spork.controller import reasons
from spork.controller.certificate import marks
from spork.controller.certificate.snapshot import Finding, Snapshot
from spork.controller.certificate.stored import Stored, algorithm_name, is_signed_by
from spork.controller.conditions import time_text
from spork.ids import serial_text
from spork.issuance.revoke import Reason as RevocationReason


@dataclass(frozen=True, slots=True)
class Check:
    """One question. `find` gives what is wrong, or None; also where an earlier check has found what it would ask about missing."""

    find: Callable[[Snapshot, datetime], Finding | None]
    reissue: bool = True
    """Whether a new certificate mends it."""
    ready: bool = False
    """Whether the certificate is good for use all the same."""


def _secret_is_there(snapshot: Snapshot, now: datetime) -> Finding | None:
    if snapshot.target is not None:
        return None
    return Finding(reasons.SECRET_MISSING, f"The Secret {snapshot.spec.secret_name!r} does not exist.")


def _secret_is_readable(snapshot: Snapshot, now: datetime) -> Finding | None:
    target = snapshot.target
    if target is None or (target.key_spki is not None and target.leaf is not None):
        return None
    what = "key in tls.key" if target.key_spki is None else "certificate in tls.crt"
    return Finding(reasons.SECRET_DAMAGED, f"The Secret {snapshot.spec.secret_name!r} has no readable {what}.")


def _key_fits(snapshot: Snapshot, now: datetime) -> Finding | None:
    target = _whole(snapshot)
    return Finding(reasons.KEY_MISMATCH) if target is not None and target.key_spki != target.leaf_spki else None


def _is_the_issued_one(snapshot: Snapshot, now: datetime) -> Finding | None:
    target = _whole(snapshot)
    if target is None or not snapshot.recorded_serial:
        return None
    serial = _serial(target)
    if serial == snapshot.recorded_serial:
        return None
    return Finding(
        reasons.CERTIFICATE_REPLACED,
        f"The Secret holds a certificate with the serial {serial}; issued for it was {snapshot.recorded_serial}.",
    )


def _issuer_is_the_same(snapshot: Snapshot, now: datetime) -> Finding | None:
    target, reference = snapshot.target, snapshot.spec.issuer_ref
    if target is None or not target.said(marks.ISSUER):
        return None
    said, wanted = target.said(marks.ISSUER), f"{reference.kind}/{reference.name}"
    if said == wanted:
        return None
    return Finding(reasons.ISSUER_CHANGED, f"The certificate was issued through {said}; the spec names {wanted}.")


def _ca_is_the_same(snapshot: Snapshot, now: datetime) -> Finding | None:
    target, wanted = _whole(snapshot), snapshot.wanted
    if target is None or wanted is None or is_signed_by(target, wanted.authority):
        return None
    authority = wanted.authority
    return Finding(
        reasons.CA_CHANGED,
        f"The certificate is not signed by the CA {authority.id}, generation {authority.generation}, of the issuer.",
    )


def _names_are_the_same(snapshot: Snapshot, now: datetime) -> Finding | None:
    target, wanted = _whole(snapshot), snapshot.wanted
    if target is None or wanted is None or target.names == frozenset(wanted.names):
        return None
    missing = sorted(set(wanted.names) - target.names)
    extra = sorted(target.names - set(wanted.names))
    parts = [f"without {_listed(missing)}"] if missing else []
    parts += [f"with {_listed(extra)}, which the spec does not name"] if extra else []
    return Finding(reasons.NAMES_CHANGED, f"The certificate is {' and '.join(parts)}.")


def _subject_is_the_same(snapshot: Snapshot, now: datetime) -> Finding | None:
    target, wanted = _whole(snapshot), snapshot.wanted
    if target is None or wanted is None or target.leaf is None:
        return None
    subject = wanted.subject(snapshot.owner)
    if target.leaf.subject.public_bytes() == subject.public_bytes():
        return None
    found = target.leaf.subject.rfc4514_string() or "empty"
    return Finding(
        reasons.SUBJECT_CHANGED,
        f"The subject of the certificate is {found}; the spec asks for {subject.rfc4514_string() or 'none'}.",
    )


def _profile_is_the_same(snapshot: Snapshot, now: datetime) -> Finding | None:
    target, wanted = _whole(snapshot), snapshot.wanted
    if target is None or wanted is None:
        return None
    said, name = target.said(marks.PROFILE), wanted.profile.name
    if said in ("", name) and target.purposes == frozenset(wanted.profile.extended_key_usage):
        return None
    return Finding(
        reasons.PROFILE_CHANGED, f"The certificate is of the profile {said or '(unknown)'}, and should be of {name}."
    )


def _key_algorithm_is_the_same(snapshot: Snapshot, now: datetime) -> Finding | None:
    target, asked = _whole(snapshot), snapshot.spec.private_key.algorithm
    if target is None or target.leaf_spki is None:
        return None
    found = algorithm_name(target.leaf_spki)
    if found == asked:
        return None
    return Finding(
        reasons.KEY_ALGORITHM_CHANGED, f"The key is {found or 'of another kind'}; the spec asks for {asked}."
    )


def _duration_is_the_same(snapshot: Snapshot, now: datetime) -> Finding | None:
    target, wanted = _whole(snapshot), snapshot.wanted
    if target is None or wanted is None or not target.said(marks.PROFILE):
        return None
    said = target.said(marks.DURATION)
    if said == wanted.duration_text:
        return None
    spoken = [f"{text} seconds" if text else "the duration of its profile" for text in (said, wanted.duration_text)]
    return Finding(
        reasons.DURATION_CHANGED, f"The certificate was issued for {spoken[0]}; the spec asks for {spoken[1]}."
    )


def _is_not_revoked(snapshot: Snapshot, now: datetime) -> Finding | None:
    if snapshot.revoked is None or snapshot.revoked == RevocationReason.certificateHold:
        return None
    reason = RevocationReason(snapshot.revoked).name
    return Finding(reasons.CERTIFICATE_REVOKED, f"The certificate {snapshot.recorded_serial} is revoked ({reason}).")


def _is_not_on_hold(snapshot: Snapshot, now: datetime) -> Finding | None:
    if snapshot.revoked != RevocationReason.certificateHold:
        return None
    return Finding(
        reasons.CERTIFICATE_ON_HOLD,
        f"The certificate {snapshot.recorded_serial} is on hold; it is replaced once the hold becomes a revocation.",
    )


def _is_not_expired(snapshot: Snapshot, now: datetime) -> Finding | None:
    target = _whole(snapshot)
    if target is None or target.leaf is None or now <= target.leaf.not_valid_after_utc:
        return None
    return Finding(
        reasons.CERTIFICATE_EXPIRED, f"The certificate expired at {time_text(target.leaf.not_valid_after_utc)}."
    )


def _has_begun(snapshot: Snapshot, now: datetime) -> Finding | None:
    target = _whole(snapshot)
    if target is None or target.leaf is None or now + _CLOCKS_DIFFER >= target.leaf.not_valid_before_utc:
        return None
    begin = time_text(target.leaf.not_valid_before_utc)
    return Finding(
        reasons.NOT_YET_VALID, f"The certificate begins at {begin}, later than now; the clock seems to have gone back."
    )


def _renewal_is_not_due(snapshot: Snapshot, now: datetime) -> Finding | None:
    due = snapshot.renewal_time
    if due is None or now < due:
        return None
    return Finding(reasons.RENEWAL_DUE, f"The certificate is due for renewal since {time_text(due)}.")


def _no_renewal_is_requested(snapshot: Snapshot, now: datetime) -> Finding | None:
    asked = snapshot.renewal_requested
    if not asked or snapshot.target is None or asked == snapshot.target.said(marks.HANDLED_RENEWAL):
        return None
    return Finding(reasons.RENEWAL_REQUESTED)


_CLOCKS_DIFFER = timedelta(minutes=1)
CHECKS: tuple[Check, ...] = (
    Check(_secret_is_there),
    Check(_secret_is_readable),
    Check(_key_fits),
    Check(_is_the_issued_one),
    Check(_issuer_is_the_same),
    Check(_ca_is_the_same),
    Check(_names_are_the_same),
    Check(_subject_is_the_same),
    Check(_profile_is_the_same),
    Check(_key_algorithm_is_the_same),
    Check(_duration_is_the_same),
    Check(_is_not_revoked),
    Check(_is_not_expired),
    # A hold may be released, and a clock be set right: another certificate would be no answer to either.
    Check(_is_not_on_hold, reissue=False),
    Check(_has_begun, reissue=False),
    Check(_renewal_is_not_due, ready=True),
    Check(_no_renewal_is_requested, ready=True),
)


def _whole(snapshot: Snapshot) -> Stored | None:
    """The Secret, if it has a key and a certificate that can be read."""
    target = snapshot.target
    return target if target is not None and target.key_spki is not None and target.leaf is not None else None


def _serial(target: Stored) -> str:
    return serial_text(target.leaf.serial_number) if target.leaf is not None else ""


def _listed(names: Sequence[object]) -> str:
    shown = ", ".join(str(name) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
