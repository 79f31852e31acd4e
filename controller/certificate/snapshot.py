"""All that a decision about one Certificate rests on, read once and then frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from spork.controller.annotations import RENEW
from spork.controller.certificate import marks
from spork.controller.certificate.renewal import renewal_time
from spork.controller.certificate.stored import Stored
from spork.controller.certificate.wanted import Owner, Wanted
from spork.controller.cluster import Object, annotation
from spork.controller.conditions import time_of
from spork.controller.models.certificate import CertificateSpec
from spork.controller.models.names import seconds
from spork.controller.reasons import Reason


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: one word, and a sentence for people."""

    reason: Reason
    message: str = ""

    @property
    def sentence(self) -> str:
        return self.message or self.reason.sentence


@dataclass(frozen=True, slots=True)
class Past:
    """What the status says of earlier reconciliations."""

    revision: int = 0
    serial: str = ""
    failed_attempts: int = 0
    last_failure: datetime | None = None
    next_attempt: datetime | None = None
    failed_request: str = ""
    """The digest of spec and issuer that the failures are about."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One Certificate and everything around it."""

    item: Object
    spec: CertificateSpec
    owner: Owner
    past: Past
    wanted: Wanted | None
    """None while the issuer cannot be used."""
    obstacle: Finding | None = None
    """Why nothing could be issued now, were it necessary."""
    rival: str | None = None
    """Another Certificate of the namespace that has the same Secret by right."""
    target: Stored | None = None
    pending: Object | None = None
    """The Secret with the key of the revision that is being issued, or was issued last."""
    revoked: int | None = None
    """The CRLReason of the certificate in the Secret."""
    password_version: str | None = None
    """The version of the keystore's password, where its Secret is watched."""

    @property
    def ours(self) -> bool:
        """Whether the target Secret is that of this Certificate, or of one of this name before it."""
        return self.target is not None and self.target.owner_name == self.owner.name

    @property
    def revision(self) -> int:
        """The revision that was issued last; 0 before the first."""
        written = self.target.revision if self.target is not None and self.ours else 0
        return max(self.past.revision, written)

    @property
    def recorded_serial(self) -> str:
        """The serial of the certificate that belongs into the Secret; empty where none was issued."""
        if self.target is not None and self.ours and self.target.revision >= self.past.revision:
            return self.target.said(marks.SERIAL) or self.past.serial
        return self.past.serial

    @property
    def renewal_requested(self) -> str:
        """The value of the annotation that asks for a renewal; empty where nobody asks."""
        return annotation(self.item, RENEW) or ""

    @property
    def renewal_time(self) -> datetime | None:
        """When the certificate in the Secret is to be renewed."""
        if self.target is None or self.target.leaf is None:
            return None
        leaf, asked = self.target.leaf, self.spec.renew_before
        before = None if asked is None else timedelta(seconds=seconds(asked))
        return renewal_time(
            leaf.not_valid_before_utc, leaf.not_valid_after_utc, before, self.owner.uid, self.target.revision
        )


def owner_of(item: Object) -> Owner:
    metadata = item["metadata"]
    return Owner(metadata.get("namespace") or "", metadata["name"], metadata["uid"])


def past_of(item: Object) -> Past:
    """Reads a status; one that somebody has spoilt counts as none."""
    status: Mapping[str, Any] = item.get("status") or {}
    try:
        return Past(
            revision=int(status.get("revision") or 0),
            serial=str(status.get("serial") or ""),
            failed_attempts=int(status.get("failedAttempts") or 0),
            last_failure=_time(status.get("lastFailureTime")),
            next_attempt=_time(status.get("nextAttemptTime")),
            failed_request=str(status.get("failedRequest") or ""),
        )
    except (TypeError, ValueError):
        return Past()


def _time(text: object) -> datetime | None:
    return time_of(text) if isinstance(text, str) else None
