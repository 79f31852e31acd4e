"""When a certificate is renewed: early enough, never absurdly early, and not all of them in one minute."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

_DEFAULT_SHARE = 3
"""By default renewal begins when a third of the life is left."""
_LATEST_SHARE = 20
"""At least this part of the life is left, whatever renewBefore says: a renewal may have to be tried again."""
_EARLIEST_SHARE = 10
"""At least this part of the life has passed: else a short certificate would be renewed at once, again and again."""
_JITTER_SHARE = 10
"""Renewal may begin earlier by this part of the time before the end."""


def renewal_time(
    not_before: datetime, not_after: datetime, renew_before: timedelta | None, uid: str, revision: int
) -> datetime:
    """The instant from which on the certificate is renewed, the same for the same uid and revision.

    The life that was issued counts, not the one that was asked for: a CA near its end cuts it, and then renewBefore may be
    longer than all of it. In that case the default holds.
    """
    life = not_after - not_before + timedelta(seconds=1)
    before = renew_before if renew_before is not None and renew_before < life else life / _DEFAULT_SHARE
    before = max(before, life / _LATEST_SHARE)
    share = int.from_bytes(hashlib.sha256(f"{uid}:{revision}".encode()).digest()[:4], "big") / 2**32
    planned = not_after - before - (before / _JITTER_SHARE) * share
    return max(planned, not_before + life / _EARLIEST_SHARE).replace(microsecond=0)


_FIRST_WAIT = timedelta(minutes=1)
_LONGEST_WAIT = timedelta(hours=1)


def next_attempt(failed_attempts: int, last_failure: datetime) -> datetime:
    """1, 2, 4, ... minutes after the last failure, an hour at most."""
    doublings = min(max(failed_attempts - 1, 0), 10)
    return last_failure + min(_LONGEST_WAIT, _FIRST_WAIT * (1 << doublings))
