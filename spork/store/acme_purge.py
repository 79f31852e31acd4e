"""Forgets ACME orders that came to nothing, with their authorizations and challenges. Certificates are never touched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import LiteralString

from spork.store.database import Database

KEPT_FOR = timedelta(days=30)
"""From an order's expiry on: so long a client or an operator may ask what became of it."""
BATCH = 2000
"""Orders looked at in one pass, whatever becomes of them."""

# The octets of "sporkacm".
_LOCK_KEY = 0x73706F726B61636D
# An authorization that two passes at once took an order from would be left by both.
_LOCK: LiteralString = "SELECT pg_try_advisory_xact_lock(%s)"
# Lists of ids rather than joins, so that each step goes by an index however large the tables are.
# Each authorization was made with an order, so the last order that goes takes it along. All its orders began before it expired.
_PASS: LiteralString = """
WITH examined AS MATERIALIZED (
    SELECT id, issuer_id, expires_at FROM acme_order
     WHERE (expires_at, id) > (%(after)s, %(after_id)s) AND expires_at < %(until)s
     ORDER BY expires_at, id LIMIT %(limit)s),
doomed AS MATERIALIZED (
    SELECT array_agg(e.id) AS ids FROM examined e
     WHERE NOT EXISTS (SELECT FROM certificate c
                        WHERE c.scope = 'issuer:' || e.issuer_id AND c.door = 'acme' AND c.idempotency_key = e.id
                          AND c.state <> 'abandoned')),
proofs AS MATERIALIZED (
    SELECT array_agg(DISTINCT authorization_id) AS ids FROM acme_order_authorization
     WHERE order_id = ANY((SELECT ids FROM doomed)::text[])),
others AS MATERIALIZED (
    SELECT authorization_id AS id FROM acme_order_authorization
     WHERE authorization_id = ANY((SELECT ids FROM proofs)::text[]) AND order_id <> ALL((SELECT ids FROM doomed)::text[])),
loose AS MATERIALIZED (
    SELECT array_agg(id) AS ids FROM acme_authorization
     WHERE id = ANY((SELECT ids FROM proofs)::text[]) AND expires_at < %(now)s AND id NOT IN (SELECT id FROM others)),
links AS (DELETE FROM acme_order_authorization WHERE order_id = ANY((SELECT ids FROM doomed)::text[])),
orders AS (DELETE FROM acme_order WHERE id = ANY((SELECT ids FROM doomed)::text[])),
challenges AS (DELETE FROM acme_challenge WHERE authorization_id = ANY((SELECT ids FROM loose)::text[])),
authorizations AS (DELETE FROM acme_authorization WHERE id = ANY((SELECT ids FROM loose)::text[]))
SELECT expires_at, id, (SELECT coalesce(cardinality(ids), 0) FROM doomed) FROM examined ORDER BY expires_at DESC, id DESC LIMIT 1
"""


class ExpiredOrders:
    """Goes through expired orders, oldest first. One instance a process; it holds how far it came."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Orders with a certificate stay, and must not be looked at again in each pass.
        self._passed = (datetime(1970, 1, 1, tzinfo=UTC), "")

    async def purge(self, now: datetime, limit: int = BATCH) -> int:
        """Looks at the next `limit` orders and returns how many of them went. Does nothing while another replica is at it.

        Raises DatabaseUnavailable.
        """
        after, after_id = self._passed
        values = {"after": after, "after_id": after_id, "until": now - KEPT_FOR, "now": now, "limit": limit}
        async with self._database.batch(durable=False) as connection:
            locked = await (await connection.execute(_LOCK, [_LOCK_KEY])).fetchone()
            if locked is None or not locked[0]:
                return 0
            cursor = await connection.execute(_PASS, values)
        last = await cursor.fetchone()
        if last is None:
            return 0
        self._passed = (last[0], last[1])
        return int(last[2])
