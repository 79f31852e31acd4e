"""How a request tells this process's validation worker that there is work. Other replicas look for themselves."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from spork.store.database import Database

_EVENTS: WeakKeyDictionary[Database, asyncio.Event] = WeakKeyDictionary()


def wake_of(database: Database) -> asyncio.Event:
    """The event of all that work on this database in this process."""
    return _EVENTS.setdefault(database, asyncio.Event())
