"""Encoding a list's entries in a process of its own, so that a long list never holds up the event loop.

The process is started fresh (spawn): it inherits neither keys nor passphrases, and it is given serials and dates only.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from spork.errors import Code, SporkError
from spork.x509.crl import RevokedEntry, encode_entries

INLINE = 500
"""Lists up to this length are encoded on the spot, in about a millisecond: a process would take longer to start."""
BATCH = 2000
"""Entries that go to the process at once: some 5 ms of work there, and 1 ms of packing here."""


class EntryEncoder:
    """Encodes batches of entries. The process is started by the first long list and kept until `close`."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    async def encode(self, entries: Sequence[RevokedEntry]) -> bytes:
        """The batch's encoding. Raises SporkError(UNAVAILABLE) if the process died; the next call starts another."""
        if len(entries) <= INLINE:
            return encode_entries(entries)
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_ignore_interrupts)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, encode_entries, entries)
        except BrokenProcessPool as error:
            self.close()
            raise SporkError(Code.UNAVAILABLE, "The process that builds CRLs died.", retry_after_s=5) from error

    def close(self) -> None:
        """Ends the process."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _ignore_interrupts() -> None:
    # Ctrl-C reaches the whole group; this process ends when its parent closes the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
