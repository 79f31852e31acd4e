"""The database as the rest of the store sees it: a pool, transactions, batches, and one kind of failure.

Three ways to work, from the simplest to the cheapest:

`transaction()`: BEGIN, then each statement waits for its answer, then COMMIT. Two trips more than statements.

`execute()`: one statement that is a transaction by itself. One trip.

`batch()`: BEGIN, the statements and COMMIT go out together, and nothing is waited for until a result is read::

    async with database.batch() as connection:
        nonce = await connection.execute(REDEEM, [token])  # nothing is waited for here
        account = await connection.execute(FIND_ACCOUNT, [thumbprint])
        row = await account.fetchone()  # trip 1: BEGIN and both statements
        await connection.execute(INSERT_ORDER, [...])
    # trip 2, at the end of the block: the INSERT and COMMIT

Rules inside a batch: `execute` gives a cursor whose rows, `rowcount` and errors are there only after a `fetch…` or, for all
statements, after the block. An error of any statement is raised at the next fetch or at the end, and then nothing is
committed. To commit what was done and still refuse (a redeemed nonce, say), leave the block normally and raise after it.
Statements with no rows to fetch are read by `rowcount` after the block. COPY and server-side cursors do not work in a batch.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, LiteralString, Self

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import AsyncRowFactory
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from spork.errors import ConfigurationError, DatabaseUnavailable
from spork.store.connection import CountedConnection, Statistics

RUNTIME_ROLE = "spork_runtime"
"""What serving processes act as: it may not change the audit log nor the schema."""
OPERATOR_ROLE = "spork_operator"
"""What the operator acts as: it sees no private key, and writes neither certificates nor CAs (migrations/roles.sql)."""

Parameters = Sequence[Any] | Mapping[str, Any] | None

# Limits of the session. A statement that takes longer than this is a fault, never a normal load; long scans raise it themselves.
_OPTIONS = (
    "-c statement_timeout=30s -c lock_timeout=4s -c idle_in_transaction_session_timeout=60s "
    "-c timezone=UTC -c default_transaction_isolation=read\\ committed"
)
# How long a caller waits for a free connection, in seconds.
_WAIT_S = 5.0
_PATIENCE_S = 0.5
# Statement timeout, lock timeout, deadlock, serialization failure: nothing is wrong that a retry would not cure.
_BUSY = frozenset({"57014", "55P03", "40P01", "40001"})
_ASSUME_ROLE = """
SELECT set_config('role', rolname, false) FROM pg_catalog.pg_roles
 WHERE rolname = %s AND pg_catalog.pg_has_role(oid, 'MEMBER')
"""


class Database:
    """A pool of connections to one PostgreSQL database."""

    def __init__(self, pool: AsyncConnectionPool[CountedConnection], statistics: Statistics, url: str) -> None:
        self._pool = pool
        self.statistics = statistics
        """Counts of round trips and commits over all connections, for tests and metrics."""
        self.url = url
        self._probe = asyncio.Lock()
        self._probed_at = float("-inf")

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        min_size: int = 2,
        max_size: int = 16,
        application_name: str = "spork",
        role: str = RUNTIME_ROLE,
    ) -> Self:
        """Connects, and takes the role where the login is a member of it.

        Raises DatabaseUnavailable naming what the server or the network said, ConfigurationError for a URL that is none.
        """
        check_url(url)
        statistics = Statistics()

        async def configure(connection: CountedConnection) -> None:
            connection.statistics = Statistics()
            await connection.execute(_ASSUME_ROLE, [role])
            connection.statistics = statistics

        options = connection_options(application_name)
        pool = AsyncConnectionPool(
            url,
            connection_class=CountedConnection,
            kwargs=options,
            min_size=min_size,
            max_size=max_size,
            open=False,
            configure=configure,
            timeout=_WAIT_S,
            # After an outage the pool would retry ever more rarely; giving up soon lets the next caller start afresh.
            reconnect_timeout=2.0,
            name=application_name,
        )
        try:
            # The first connection is made by hand: the pool would hide what went wrong behind a timeout.
            await (await CountedConnection.connect(url, **options)).close()
            await pool.open(wait=True, timeout=10.0)
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise unavailable(error) from error
        return cls(pool, statistics, url)

    async def close(self) -> None:
        """Closes all connections; those in use are closed when their users are done."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[CountedConnection]:
        """A connection outside of a transaction: each statement commits by itself, waiting for the disk.

        Raises DatabaseUnavailable.
        """
        connection = await self._checkout()
        try:
            yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if _is_outage(error, connection):
                raise unavailable(error) from error
            raise
        except Exception:
            raise
        except BaseException:
            # A cancelled task may leave an answer unread; such a connection is not given to anybody else.
            await connection.close()
            raise
        finally:
            connection.in_transaction = False
            await self._pool.putconn(connection)

    @asynccontextmanager
    async def transaction(self, *, durable: bool = True) -> AsyncIterator[CountedConnection]:
        """A transaction: commits when the block ends, rolls back when it raises.

        With `durable=False` the commit does not wait for the disk: a crash of the server may lose it, but never break it.
        Raises DatabaseUnavailable.
        """
        async with self.connection() as connection:
            _begin(connection)
            await connection.execute("BEGIN" if durable else "BEGIN; SET LOCAL synchronous_commit = off")
            try:
                yield connection
            except Exception:
                await _roll_back(connection)
                raise
            _committed(connection, await connection.execute("COMMIT"), durable)

    @asynccontextmanager
    async def batch(self, *, durable: bool = True) -> AsyncIterator[CountedConnection]:
        """A transaction in pipeline mode; the module's docstring says how to use it.

        Raises DatabaseUnavailable, and any statement's error, at the next fetch or when the block ends.
        """
        async with self.connection() as connection:
            _begin(connection)
            try:
                async with connection.pipeline():
                    await connection.execute("BEGIN")
                    if not durable:
                        await connection.execute("SET LOCAL synchronous_commit = off")
                    yield connection
                    commit = await connection.execute("COMMIT")
            except Exception:
                await _roll_back(connection)
                raise
            _committed(connection, commit, durable)

    async def execute(
        self,
        query: LiteralString,
        parameters: Parameters = None,
        *,
        durable: bool = True,
        row_factory: AsyncRowFactory[Any] | None = None,
    ) -> psycopg.AsyncCursor[Any]:
        """Runs one statement as a transaction of its own, in one trip; the cursor holds all rows.

        Raises DatabaseUnavailable.
        """
        async with self.batch(durable=durable) as connection:
            cursor: psycopg.AsyncCursor[Any]
            cursor = connection.cursor() if row_factory is None else connection.cursor(row_factory=row_factory)
            await cursor.execute(query, parameters)
        return cursor

    async def _checkout(self) -> CountedConnection:
        """A connection that the server has not closed meanwhile; finding that out costs no trip."""
        try:
            while True:
                connection = await self._getconn()
                if not _closed_by_server(connection):
                    connection.wrote = False
                    return connection
                await connection.close()
                await self._pool.putconn(connection)
        except (PoolTimeout, PoolClosed, psycopg.OperationalError) as error:
            raise unavailable(error) from error

    async def _getconn(self) -> CountedConnection:
        """A connection of the pool. While there is none for a moment, it is found out whether the server is away or only busy."""
        try:
            return await self._pool.getconn(timeout=_PATIENCE_S)
        except PoolTimeout:
            async with self._probe:
                # The pool would let everybody wait for its time limit; one attempt tells all of them at once.
                if time.monotonic() - self._probed_at > 1.0:
                    await (await CountedConnection.connect(self.url, **connection_options("spork-probe"))).close()
                    self._probed_at = time.monotonic()
        return await self._pool.getconn()


def check_url(url: str) -> None:
    """Raises ConfigurationError. The driver's own words are dropped: they may quote the URL, and in it the password."""
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "SPORK_DATABASE_URL is not one of PostgreSQL; write it as postgresql://user@host:5432/database."
        ) from None


def connection_options(application_name: str) -> dict[str, Any]:
    """What every connection of SPORK is opened with, besides its URL."""
    return {
        "autocommit": True,
        "application_name": application_name,
        "connect_timeout": 5,
        "options": _OPTIONS,
        # Statements of the hot paths are prepared from their second use on.
        "prepare_threshold": 1,
    }


_WHAT = {"53100": "has no room left on its disk", "53200": "has no memory left", "53300": "has no connection left"}
"""By SQLSTATE (PostgreSQL, appendix A): what an operator has to look at first."""


def unavailable(error: Exception) -> DatabaseUnavailable:
    """The same failure in SPORK's own words; of the driver's text (it holds no password) the first line is kept."""
    first_line = str(error).strip().partition("\n")[0]
    state = getattr(error, "sqlstate", None)
    what = _WHAT.get(state or "", "is too busy" if state in _BUSY else "cannot be reached")
    return DatabaseUnavailable(f"The database {what}; try again shortly ({first_line}).")


def _begin(connection: CountedConnection) -> None:
    connection.in_transaction = True
    connection.wrote = False


async def _roll_back(connection: CountedConnection) -> None:
    """Ends the transaction; the error that made it necessary is more telling than a failure of this."""
    if not connection.closed and connection.pgconn.transaction_status != pq.TransactionStatus.IDLE:
        with suppress(psycopg.OperationalError):
            await connection.execute("ROLLBACK")


def _committed(connection: CountedConnection, commit: psycopg.AsyncCursor[Any], durable: bool) -> None:
    # PostgreSQL answers the COMMIT of a failed transaction with ROLLBACK, without an error: someone swallowed the first one.
    if commit.statusmessage != "COMMIT":
        raise psycopg.errors.InFailedSqlTransaction("the transaction had failed before, and was rolled back")
    connection.statistics.commits += 1
    connection.statistics.durable_commits += durable and connection.wrote


def _is_outage(error: Exception, connection: CountedConnection) -> bool:
    """Whether the server is gone, going or overloaded, rather than one statement being wrong."""
    if connection.closed or isinstance(error, psycopg.errors.AdminShutdown | psycopg.errors.CrashShutdown):
        return True
    # Class 53 is a lack of resources: a full disk, no memory, too many connections. Class 57P is an operator's intervention.
    state = getattr(error, "sqlstate", None) or ""
    return state in _BUSY or state.startswith(("08", "53", "57P"))


def _closed_by_server(connection: CountedConnection) -> bool:
    """An idle connection has nothing to say. If there is something to read, it is the server's farewell, or a notice."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if not poll.poll(0):
        return False
    with suppress(psycopg.OperationalError):
        connection.pgconn.consume_input()
        # A second look: after the farewell comes the end of the stream.
        if not poll.poll(0):
            return connection.pgconn.status == pq.ConnStatus.BAD
        connection.pgconn.consume_input()
    return connection.pgconn.status == pq.ConnStatus.BAD
