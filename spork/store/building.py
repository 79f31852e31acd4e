"""Trees that wait to be built: one job for each declaration, left by whoever has no keys and done by whoever has them.

Certificates and requests that come from elsewhere are taken in by way of jobs too, and CAs taken out of service. That needs no
key, but it writes CAs, which the operator's login may not (`spork_operator`).

A job that succeeded is gone. One that failed for good stays, closed and with its error, until it is asked for anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, LiteralString

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from spork.errors import Code, SporkError
from spork.store.database import Database

KINDS = ("build", "build-sealed")
"""What needs online keys only, and what needs the sealed ones too."""
IMPORT = "import"
RETIRE = "retire"
KEYLESS = (IMPORT, RETIRE)
"""What needs no key, only the right to write CAs."""

_RUNNING: LiteralString = """
SELECT 1 FROM job WHERE kind IN ('build', 'build-sealed') AND subject = %(subject)s AND lease_until > now()
   AND payload - 'begun' <> %(payload)s FOR UPDATE
"""
_OTHERS: LiteralString = """
DELETE FROM job WHERE kind IN ('build', 'build-sealed') AND subject = %(subject)s
   AND (kind <> %(kind)s OR payload - 'begun' <> %(payload)s) AND (lease_until IS NULL OR lease_until <= now())
"""
# The same request again opens what was closed with an error; what waits or runs stays as it is.
_REQUEST: LiteralString = """
INSERT INTO job (kind, subject, payload) VALUES (%(kind)s, %(subject)s, %(payload)s)
ON CONFLICT (kind, subject) DO UPDATE SET run_at = now(), last_error = NULL
 WHERE job.run_at = 'infinity'
"""
_WITHDRAW: LiteralString = """
DELETE FROM job WHERE kind IN ('build', 'build-sealed') AND subject = %s AND (lease_until IS NULL OR lease_until <= now())
"""
_STATE: LiteralString = """
SELECT kind = 'build-sealed' AS sealed, payload ->> 'plan_hash' AS plan_hash, last_error,
       coalesce(lease_until > now(), false) AS running, run_at < 'infinity' AS pending
  FROM job WHERE kind IN ('build', 'build-sealed') AND subject = %s ORDER BY id DESC LIMIT 1
"""
_CLAIM: LiteralString = """
UPDATE job SET attempts = attempts + 1, lease_until = now() + make_interval(secs => %(lease_s)s)
 WHERE id IN (SELECT id FROM job
               WHERE kind = ANY(%(kinds)s) AND run_at <= now() AND (lease_until IS NULL OR lease_until <= now())
               ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, kind, subject, payload, attempts
"""
_EXTEND: LiteralString = """
UPDATE job SET lease_until = now() + make_interval(secs => %(lease_s)s) WHERE id = %(id)s AND attempts = %(attempts)s
"""
_BEGIN: LiteralString = """
UPDATE job SET payload = payload || %(begun)s WHERE id = %(id)s AND attempts = %(attempts)s RETURNING id
"""
_DONE: LiteralString = "DELETE FROM job WHERE id = %(id)s AND attempts = %(attempts)s"
_CLOSE: LiteralString = """
UPDATE job SET lease_until = NULL, run_at = 'infinity', last_error = left(%(error)s, 2000)
 WHERE id = %(id)s AND attempts = %(attempts)s
"""
_AGAIN: LiteralString = """
UPDATE job SET lease_until = NULL, last_error = left(%(error)s, 2000),
       run_at = now() + make_interval(secs => least(60, power(2, least(attempts, 10) - 1)))
 WHERE id = %(id)s AND attempts = %(attempts)s
"""
_LEAVE: LiteralString = """
INSERT INTO job (kind, subject, payload) VALUES (%(kind)s, %(subject)s, %(payload)s)
ON CONFLICT (kind, subject) DO UPDATE SET run_at = now(), last_error = NULL, payload = excluded.payload
 WHERE job.run_at = 'infinity' AND job.payload <> excluded.payload
"""
_KEYLESS_STATE: LiteralString = """
SELECT run_at < 'infinity' AS pending, last_error FROM job WHERE kind = %s AND subject = %s
"""
_WAITING: LiteralString = "SELECT count(*) FROM job WHERE kind = ANY(%s) AND run_at < 'infinity'"


@dataclass(frozen=True, slots=True)
class BuildState:
    """A job as it stands. While it waits, `last_error` is what went wrong the last time; it is tried again by itself."""

    pending: bool
    """It waits, or runs. False: closed with `last_error`, until it is requested again."""
    running: bool
    sealed: bool
    plan_hash: str
    last_error: str | None


@dataclass(frozen=True, slots=True)
class KeylessState:
    """A certificate or request that is not taken in yet, or CAs that are not out of service yet."""

    pending: bool
    """False: refused, as `last_error` says, until it is asked for with another declaration."""
    last_error: str | None


@dataclass(frozen=True, slots=True)
class BuildJob:
    """A claimed job."""

    id: int
    kind: str
    subject: str
    payload: Mapping[str, Any]
    attempts: int


class BuildRequests:
    """Both sides of the queue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(
        self,
        hierarchy_values: Mapping[str, Any],
        plan_hash: str,
        *,
        approve: bool,
        actor: str,
        sealed: bool,
        subject: str,
        status_url: str | None = None,
    ) -> None:
        """Leaves a job that carries out exactly the plan of this hash, in the place of any earlier one for the subject.

        `subject` names the declaration as CAs and issuers do that come from it (`Hierarchy/<name>`); `hierarchy_values` are
        plain values for `hierarchy.load.load_values`, with no path in them; `sealed` is whether the plan needs sealed keys
        (`hierarchy.sealed.needs_sealed`); `status_url` is the base of the URLs in the plan, so that a signer with another one can
        say what is wrong. May be repeated: the same request changes nothing while it waits or runs, and opens it
        again once it was closed with an error. Raises SporkError(IN_PROGRESS) while another plan of the subject is carried out.
        """
        payload = {
            "values": hierarchy_values,
            "plan_hash": plan_hash,
            "approve": approve,
            "actor": actor,
            "status_url": status_url,
        }
        values = {"kind": KINDS[sealed], "subject": subject, "payload": Jsonb(payload)}
        async with self._database.transaction() as connection:
            if await (await connection.execute(_RUNNING, values)).fetchone() is not None:
                raise SporkError(
                    Code.IN_PROGRESS, "Another plan for this hierarchy is being carried out.", retry_after_s=5
                )
            await connection.execute(_OTHERS, values)
            await connection.execute(_REQUEST, values)

    async def state(self, subject: str) -> BuildState | None:
        """The subject's job; None where none waits, runs or failed: the last one was done. One trip."""
        cursor = await self._database.execute(_STATE, [subject], row_factory=class_row(BuildState))
        state: BuildState | None = await cursor.fetchone()
        return state

    async def withdraw(self, subject: str) -> None:
        """Takes back what was asked for, unless somebody is at work on it. Nothing is built of what is not wanted any more."""
        await self._database.execute(_WITHDRAW, [subject])

    async def take_in(
        self,
        hierarchy_values: Mapping[str, Any],
        pem: str,
        *,
        kind: Literal["certificate", "csr"],
        actor: str,
        subject: str,
    ) -> None:
        """Has a certificate that was signed elsewhere, or the request of a CA with an offline key, checked and stored.

        What `hierarchy.offline` checks is checked by the process that takes the job. `subject` is as in `request`. The same text
        again changes nothing, unless it was refused and the declaration is another one now. When it is taken in, `import_state`
        is None and the tree has it.
        """
        payload = {"values": hierarchy_values, "pem": pem, "import": kind, "actor": actor, "declared_by": subject}
        values = {"kind": IMPORT, "subject": _of_text(subject, pem), "payload": Jsonb(payload)}
        await self._database.execute(_LEAVE, values)

    async def import_state(self, subject: str, pem: str) -> KeylessState | None:
        """What became of a text that was handed in; None where it is taken in, or was never handed in. One trip."""
        return await self._keyless_state(IMPORT, _of_text(subject, pem))

    async def retire(self, authorities: Sequence[str], *, actor: str, subject: str) -> None:
        """Has these CAs of the declaration taken out of service for good, in this order. May be repeated."""
        values = {
            "kind": RETIRE,
            "subject": subject,
            "payload": Jsonb({"authorities": list(authorities), "actor": actor}),
        }
        await self._database.execute(_LEAVE, values)

    async def retire_state(self, subject: str) -> KeylessState | None:
        """None where nothing was asked for, or it is done. One trip."""
        return await self._keyless_state(RETIRE, subject)

    async def _keyless_state(self, kind: str, subject: str) -> KeylessState | None:
        cursor = await self._database.execute(_KEYLESS_STATE, [kind, subject], row_factory=class_row(KeylessState))
        state: KeylessState | None = await cursor.fetchone()
        return state

    async def waiting(self, *kinds: str) -> int:
        """How many jobs of these kinds wait or run."""
        row = await (await self._database.execute(_WAITING, [list(kinds)])).fetchone()
        return int(row[0]) if row is not None else 0

    async def claim(self, *kinds: str, lease_s: int) -> BuildJob | None:
        """The oldest job of these kinds that nobody works on, or whose worker has died."""
        cursor = await self._database.execute(
            _CLAIM, {"kinds": list(kinds), "lease_s": lease_s}, row_factory=class_row(BuildJob)
        )
        job: BuildJob | None = await cursor.fetchone()
        return job

    async def extend(self, job: BuildJob, *, lease_s: int) -> None:
        """It is still being worked on."""
        values = {"id": job.id, "attempts": job.attempts, "lease_s": lease_s}
        await self._database.execute(_EXTEND, values, durable=False)

    async def begin(self, job: BuildJob, steps: list[list[str]]) -> None:
        """Keeps what the accepted plan does, for whoever goes on with it. Raises SporkError(LEASE_LOST)."""
        values = {"id": job.id, "attempts": job.attempts, "begun": Jsonb({"begun": steps})}
        if await (await self._database.execute(_BEGIN, values)).fetchone() is None:
            raise SporkError(Code.LEASE_LOST, "Another process works on this plan now.")

    async def done(self, job: BuildJob) -> None:
        """It succeeded, and is forgotten."""
        await self._database.execute(_DONE, {"id": job.id, "attempts": job.attempts})

    async def close(self, job: BuildJob, error: str) -> None:
        """It failed for good; `error` is for operators and must hold no secret."""
        await self._database.execute(_CLOSE, {"id": job.id, "attempts": job.attempts, "error": error})

    async def again(self, job: BuildJob, error: str) -> None:
        """It failed and is due again after 1, 2, 4, ... seconds, a minute at most."""
        await self._database.execute(_AGAIN, {"id": job.id, "attempts": job.attempts, "error": error})


def _of_text(subject: str, pem: str) -> str:
    """A declaration may have several texts at once, one for each CA whose parent is elsewhere."""
    return f"{subject}#{hashlib.sha256(pem.encode()).hexdigest()[:32]}"
