"""What an operator is told when PostgreSQL cannot do its work."""

from __future__ import annotations

import psycopg
import pytest

from spork.store.database import unavailable


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(
            psycopg.errors.DiskFull("could not extend file"), "has no room left on its disk", id="a full disk"
        ),
        pytest.param(psycopg.errors.OutOfMemory("out of memory"), "has no memory left", id="no memory"),
        pytest.param(psycopg.errors.TooManyConnections("too many"), "has no connection left", id="no connection"),
        pytest.param(psycopg.OperationalError("connection refused"), "cannot be reached", id="no server"),
    ],
)
def test_each_shortage_is_called_by_its_name(error: Exception, words: str) -> None:
    told = unavailable(error)
    assert words in told.detail
    assert told.retry_after_s
