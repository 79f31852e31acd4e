"""How often an address may try: a bucket for each that fills again with time. One process's own, and bounded in memory."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from spork.errors import Code, SporkError

MAX_ADDRESSES: Final = 4096
"""Buckets that are kept. The one that was used longest ago goes first, which by then is full again or nearly so."""


class AddressLimit:
    """`burst` tries at once and `per_s` more each second. Each try is paid in advance and given back if it was a good one."""

    def __init__(self, burst: float, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._per_s = per_s
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str | None) -> None:
        """Pays for one try. Raises SporkError(RATE_LIMITED) with the seconds until there is one again."""
        key = _key(address)
        left = self._now(key)
        if left < 1:
            raise SporkError(
                Code.RATE_LIMITED,
                "There were too many requests from this address.",
                retry_after_s=max(1, math.ceil((1 - left) / self._per_s)),
            )
        self._put(key, left - 1)

    def give_back(self, address: str | None) -> None:
        """The try was a good one."""
        key = _key(address)
        self._put(key, min(self._burst, self._now(key) + 1))

    def _now(self, key: str) -> float:
        left, at = self._left.get(key, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - at) * self._per_s)

    def _put(self, key: str, left: float) -> None:
        self._left[key] = (left, self._clock())
        self._left.move_to_end(key)
        if len(self._left) > MAX_ADDRESSES:
            self._left.popitem(last=False)


def _key(address: str | None) -> str:
    """One bucket for a whole IPv6 /64, which is what one customer has at least."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
