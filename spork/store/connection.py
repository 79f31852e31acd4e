"""Connections that count what they cost: waits for the server, commits, and commits that wait for the disk.

A round trip is one wait for the server's answer. Statements that go out together in pipeline mode are one, whatever their
number; preparing a statement outside of a pipeline is one of its own. The counts are made inside psycopg's own steps, so
they hold for every caller; a test compares them with what a socket in between sees.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from psycopg import AsyncConnection, AsyncCursor, AsyncPipeline, pq
from psycopg.abc import PQGen, QueryNoTemplate
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import TupleRow

# A statement with one of these words may write. It is an upper bound: INSERT ... ON CONFLICT DO NOTHING counts although it may
# leave nothing to flush.
_WRITES = re.compile(
    rb"\b(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|COPY|CREATE|ALTER|DROP|GRANT|REVOKE|NEXTVAL)\b", re.IGNORECASE
)


@dataclass(slots=True)
class Statistics:
    """Counts since the last reset."""

    round_trips: int = 0
    """Waits for an answer of the server."""
    statements: int = 0
    commits: int = 0
    """Transactions that ended in a commit, read-only ones included."""
    durable_commits: int = 0
    """Commits of writing transactions that waited until the disk had them."""

    def reset(self) -> None:
        """Back to zero."""
        self.round_trips = self.statements = self.commits = self.durable_commits = 0


@lru_cache(maxsize=1024)
def may_write(query: bytes) -> bool:
    """Whether a statement's text has a word that writes."""
    return _WRITES.search(query) is not None


class CountedPipeline(AsyncPipeline):
    """A pipeline that counts one trip for each demand for answers: a Sync, or a Flush for results that are still out.

    Whether psycopg then really has to wait depends on who is faster, so waiting itself is not what is counted.
    """

    _conn: CountedConnection
    _exiting = False

    def _enqueue_sync(self) -> None:
        self._conn.statistics.round_trips += 1
        super()._enqueue_sync()

    def _fetch_gen(self, *, flush: bool) -> PQGen[None]:
        # At the exit a Flush follows the Sync; the answers to both come together.
        if flush and self.result_queue and not self._exiting:
            self._conn.statistics.round_trips += 1
        yield from super()._fetch_gen(flush=flush)

    def _exit_gen(self) -> PQGen[None]:
        self._exiting = True
        yield from super()._exit_gen()


class CountedCursor(AsyncCursor[Any]):
    """A cursor that tells its connection about each statement."""

    _conn: CountedConnection

    def _maybe_prepare_gen(self, pgq: Any, *, prepare: bool | None = None, binary: bool | None = None) -> PQGen[None]:
        self._conn.count_statement(pgq.query)
        yield from super()._maybe_prepare_gen(pgq, prepare=prepare, binary=binary)

    def _send_prepare(self, name: bytes, query: Any) -> None:
        if self._conn.pgconn.pipeline_status == pq.PipelineStatus.OFF:
            self._conn.statistics.round_trips += 1
        super()._send_prepare(name, query)

    def _start_copy_gen(self, statement: Any, params: Any = None) -> PQGen[None]:
        self._conn.count_statement(b"COPY")
        yield from super()._start_copy_gen(statement, params)

    def _stream_send_gen(self, query: Any, params: Any = None, *, binary: bool | None = None, size: int) -> PQGen[None]:
        self._conn.count_statement(b"")
        yield from super()._stream_send_gen(query, params, binary=binary, size=size)


class CountedConnection(AsyncConnection[TupleRow]):
    """An autocommit connection; transactions are opened by `Database`, which also says whether they wait for the disk."""

    def __init__(self, pgconn: PGconn, row_factory: Any = None) -> None:
        super().__init__(pgconn, **({} if row_factory is None else {"row_factory": row_factory}))
        self.cursor_factory = CountedCursor
        self.statistics = Statistics()
        self.in_transaction = False
        self.wrote = False

    def count_statement(self, query: bytes) -> None:
        """Called for each statement, before it goes out."""
        self.statistics.statements += 1
        if self.pgconn.pipeline_status == pq.PipelineStatus.OFF:
            self.statistics.round_trips += 1
        writes = may_write(query)
        self.wrote = self.wrote or writes
        if not self.in_transaction:
            self.statistics.commits += 1
            self.statistics.durable_commits += writes

    def _exec_command(
        self, command: QueryNoTemplate, result_format: pq.Format = pq.Format.TEXT
    ) -> PQGen[PGresult | None]:
        if self.pgconn.pipeline_status == pq.PipelineStatus.OFF:
            self.statistics.round_trips += 1
        return (yield from super()._exec_command(command, result_format))

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[AsyncPipeline]:
        """As in psycopg, but counted."""
        async with self.lock:
            self._check_connection_ok()
            if self._pipeline is None:
                self._pipeline = CountedPipeline(self)
            pipeline = self._pipeline
        try:
            async with pipeline:
                yield pipeline
        finally:
            if pipeline.level == 0:
                self._pipeline = None

    @asynccontextmanager
    async def _pipeline_nolock(self) -> AsyncIterator[AsyncPipeline]:
        pipeline = self._pipeline = CountedPipeline(self, _no_lock=True)
        try:
            async with pipeline:
                yield pipeline
        finally:
            self._pipeline = None
