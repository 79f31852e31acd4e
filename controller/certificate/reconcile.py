"""The reconciler of Certificates: read, decide, act, say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from pydantic import ValidationError

from spork.controller import reasons
from spork.controller.certificate.attempts import failure_of
from spork.controller.certificate.decide import Action, Decision, decide
from spork.controller.certificate.deletion import GRACE, Deletion, waiting
from spork.controller.certificate.delivery import Obstacle
from spork.controller.certificate.index import KIND, WATCHES, Index
from spork.controller.certificate.issuing import Issuer, Issuing, Progress, Refusal
from spork.controller.certificate.reading import Reader, UsableIssuer
from spork.controller.certificate.snapshot import Finding, Snapshot
from spork.controller.certificate.statement import READY, Failure, kept, statement_of
from spork.controller.certificate.statuses import Statuses
from spork.controller.cluster import Change, ClusterError, Object, Ref, Refused
from spork.controller.conditions import Condition, write_status
from spork.controller.issuer.usable import usable_issuer
from spork.controller.reconciler import Context, Reconciler
from spork.errors import Code, DatabaseUnavailable, SporkError
from spork.ids import serial_text
from spork.issuance.revoke import Reason as RevocationReason

LONGEST_WAIT_S = 3600.0
"""Timers do not notice when the clock is set; each certificate is looked at this often, which costs no request."""
_SIGNING_WAIT_S = 2.0
_UNAVAILABLE_WAIT_S = 10.0
_REFUSED_FOR_GOOD = frozenset({Code.FORBIDDEN, Code.MALFORMED, Code.TOO_LARGE})
_OBSTACLE_WAIT_S = 60.0
"""For obstacles that no change in the copy ends, such as the Secret of a password, or a Secret that is not ours."""


class CertificateReconciler:
    """Makes Certificates true. Implements `Reconciler`."""

    kind = KIND
    watches = WATCHES

    def __init__(
        self,
        context: Context,
        *,
        issuing: Issuing | None = None,
        usable: UsableIssuer = usable_issuer,
        grace: timedelta = GRACE,
    ) -> None:
        self._cluster = context.cluster
        self._clock = context.clock
        self._services = context.services
        self._index = Index(context.cluster)
        self._statuses = Statuses(context.services, self._index)
        self._reader = Reader(context, self._index, self._statuses, usable)
        self._issuer = Issuer(context, self._reader, self._statuses, issuing)
        self._deletion = Deletion(context, self._statuses, grace)

    def concerned(self, change: Change) -> Iterable[Ref]:
        """See `Reconciler`."""
        return dict.fromkeys(self._index.concerned(change))

    async def follow(self, wake: Callable[[Ref], None], stop: asyncio.Event) -> None:
        """Wakes those whose certificate was revoked or released by anybody, until `stop` is set."""
        await self._statuses.follow(wake, stop)

    async def reconcile(self, ref: Ref) -> float | None:
        """See `Reconciler`."""
        item = self._cluster.get(ref)
        if item is None:
            return None
        if "deletionTimestamp" in item["metadata"]:
            return await self._finish(item)
        item = await self._deletion.guarded(item)
        try:
            snapshot = await self._reader.snapshot(item)
        except ValidationError as error:
            await self._invalid(item, error)
            return None
        if snapshot.revoked == RevocationReason.certificateHold and await self._deletion.came_back(snapshot):
            snapshot = await self._reader.snapshot(item)
        return await self._acted(snapshot)

    async def _acted(self, snapshot: Snapshot) -> float | None:
        progress, failure = await self._attempt(snapshot)
        now, after = self._clock.now(), progress.snapshot
        decision = decide(after, now, restorable=False)
        if decision.action is Action.NOTHING:
            after = await self._issuer.tidy(after)
        said = statement_of(after, decision, now, failure=failure, waiting_for=progress.waiting_for)
        await write_status(self._cluster, after.item, said.conditions, said.fields, self._clock)
        await self._tell(after, progress, failure)
        return _wait(after, decision, now, said.next_attempt, failure, progress.waiting_for)

    async def _attempt(self, snapshot: Snapshot) -> tuple[Progress, Failure | None]:
        """What was done. Only what looking again mends is raised, as the queue does that."""
        try:
            return await self._issuer.act(snapshot), None
        except Obstacle as error:
            return Progress(snapshot), Failure(error.finding, counts=False)
        except Refusal as refusal:
            return Progress(snapshot), await failure_of(refusal.error, refusal.request, self._services)
        except Refused as error:
            if error.code not in _REFUSED_FOR_GOOD:
                raise
            # A role that is missing, or a spec that makes a Secret which cannot be: only people mend that, so it is told.
            return Progress(snapshot), Failure(Finding(reasons.REFUSED, error.detail), counts=False)
        except ClusterError:
            raise
        except SporkError as error:
            return Progress(snapshot), await failure_of(error, None, self._services)

    async def _tell(self, snapshot: Snapshot, progress: Progress, failure: Failure | None) -> None:
        target = snapshot.target
        if target is not None and target.leaf is not None and (progress.issued or progress.restored):
            reason = reasons.ISSUED if progress.issued else reasons.SECRET_RESTORED
            message = (
                f"Revision {target.revision} is in the Secret {snapshot.spec.secret_name!r}, with the serial "
                f"{serial_text(target.leaf.serial_number)}."
            )
            await self._cluster.report(snapshot.item, reason.name, message)
        elif failure is not None and failure.counts:
            finding = failure.finding
            await self._cluster.report(snapshot.item, finding.reason.name, finding.sentence, warning=True)

    async def _finish(self, item: Object) -> float | None:
        try:
            await self._deletion.finish(item)
        except DatabaseUnavailable as error:
            finding = waiting(error)
            condition = Condition(READY, False, finding.reason, finding.sentence)
            await write_status(self._cluster, item, [condition], kept(item), self._clock)
            return _UNAVAILABLE_WAIT_S
        return None

    async def _invalid(self, item: Object, error: ValidationError) -> None:
        """The schema refuses such a spec; it can be here from before the schema was applied."""
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in ("spec", *first["loc"]))
        condition = Condition(READY, False, reasons.INVALID, f"{where}: {first['msg']}")
        await write_status(self._cluster, item, [condition], kept(item), self._clock)


def _wait(
    snapshot: Snapshot,
    decision: Decision,
    now: datetime,
    next_attempt: datetime | None,
    failure: Failure | None,
    waiting_for: str | None,
) -> float:
    """Seconds until there may be something to do, though nothing changes."""
    if waiting_for is not None:
        return _SIGNING_WAIT_S
    if failure is not None and not failure.counts:
        return _UNAVAILABLE_WAIT_S if failure.finding.reason is reasons.UNAVAILABLE else _OBSTACLE_WAIT_S
    if decision.action is Action.NOTHING:
        return _until(_next_event(snapshot, now), now)
    if decision.action is Action.WAIT:
        # The copy does not know Secrets of others, so nobody tells when one has gone.
        return (
            _OBSTACLE_WAIT_S
            if decision.why is not None and decision.why.reason is reasons.SECRET_NOT_OURS
            else LONGEST_WAIT_S
        )
    return _until(next_attempt or now, now)


def _until(instant: datetime | None, now: datetime) -> float:
    if instant is None:
        return LONGEST_WAIT_S
    return min(LONGEST_WAIT_S, max(1.0, (instant - now).total_seconds()))


def _next_event(snapshot: Snapshot, now: datetime) -> datetime | None:
    """The next instant at which time alone changes the answer of a check."""
    leaf = snapshot.target.leaf if snapshot.target is not None else None
    if leaf is None:
        return None
    instants = [snapshot.renewal_time, leaf.not_valid_before_utc, leaf.not_valid_after_utc + timedelta(seconds=1)]
    return min((one for one in instants if one is not None and one > now), default=None)


def reconciler(context: Context) -> Reconciler:
    """The reconciler of Certificates, as the operator runs it."""
    return CertificateReconciler(context)
