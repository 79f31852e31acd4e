"""ACME orders. Their status is not stored but follows from what is: authorizations and the certificate's row.

`valid` and `processing` come from the certificate whose idempotency key is the order's id, `ready`, `pending` and `invalid`
from the authorizations and the expiry. A reservation whose lease ran out leaves the order `ready`: finalizing it again closes
that reservation and makes another. Source: RFC 8555 sections 7.1.3 and 7.1.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from spork.ids import IssuerId
from spork.store.connection import CountedConnection, CountedCursor

_DERIVED: LiteralString = """
SELECT o.id, o.account_id, o.issuer_id, o.identifiers, o.not_before, o.not_after, o.expires_at, o.created_at,
       z.authorizations, c.request_digest,
       CASE WHEN c.state = 'issued' THEN 'valid'
            WHEN c.state = 'reserved' AND c.lease_until > now() THEN 'processing'
            WHEN o.error IS NOT NULL OR o.expires_at <= %(now)s OR z.failed THEN 'invalid'
            WHEN z.ready THEN 'ready'
            ELSE 'pending' END AS status
  FROM acme_order o
 CROSS JOIN LATERAL (
       SELECT array_agg(a.id ORDER BY x.position) AS authorizations,
              bool_and(a.status = 'valid') AS ready,
              bool_or(a.status NOT IN ('pending', 'valid') OR a.expires_at <= %(now)s) AS failed
         FROM acme_order_authorization x
         JOIN acme_authorization a ON a.id = x.authorization_id
        WHERE x.order_id = o.id) z
  LEFT JOIN certificate c ON c.scope = 'issuer:' || o.issuer_id AND c.door = 'acme' AND c.idempotency_key = o.id
       AND c.state <> 'abandoned'
"""
_FIND: LiteralString = _DERIVED + " WHERE o.id = %(id)s AND o.account_id = %(account)s"
_LIST: LiteralString = (
    "SELECT id FROM ("
    + _DERIVED
    + """
     WHERE o.account_id = %(account)s AND (o.created_at, o.id) > (
           SELECT coalesce(max(p.created_at), '-infinity'), %(after)s FROM acme_order p
            WHERE p.id = %(after)s AND p.account_id = %(account)s)
) derived WHERE status <> 'invalid' ORDER BY created_at, id LIMIT %(limit)s
"""
)
_INSERT: LiteralString = """
INSERT INTO acme_order (id, account_id, issuer_id, identifiers, not_before, not_after, expires_at, created_at)
VALUES (%(id)s, %(account)s, %(issuer)s, %(identifiers)s, %(not_before)s, %(not_after)s, %(expires)s, %(now)s)
"""
_INSERT_LINKS: LiteralString = """
INSERT INTO acme_order_authorization (order_id, position, authorization_id)
SELECT %(id)s, (x.position - 1)::smallint, x.authorization_id
  FROM unnest(%(authorizations)s::text[]) WITH ORDINALITY AS x (authorization_id, position)
"""
_CERTIFICATE: LiteralString = """
SELECT c.der, c.authority_id, c.generation
  FROM acme_order o
  JOIN certificate c ON c.scope = 'issuer:' || o.issuer_id AND c.door = 'acme' AND c.idempotency_key = o.id
       AND c.state = 'issued'
 WHERE o.id = %s AND o.account_id = %s
"""
_COUNT_SINCE: LiteralString = """
SELECT count(*) FROM (SELECT 1 FROM acme_order WHERE account_id = %s AND created_at > %s LIMIT %s) AS recent
"""


@dataclass(frozen=True, slots=True)
class Order:
    """An order with its derived status."""

    id: str
    account_id: int
    issuer_id: IssuerId
    identifiers: Sequence[Mapping[str, str]]
    not_before: datetime | None
    not_after: datetime | None
    expires_at: datetime
    created_at: datetime
    authorizations: Sequence[str]
    request_digest: bytes | None
    """SHA-256 of the CSR, once one was accepted."""
    status: str
    """pending, ready, processing, valid or invalid."""


@dataclass(frozen=True, slots=True)
class OrderCertificate:
    """What an order brought forth."""

    der: bytes
    authority_id: str
    generation: int


async def find(connection: CountedConnection, order_id: str, account_id: int, now: datetime) -> CountedCursor:
    """The order, if it is this account's. One statement, whatever the number of names."""
    cursor = connection.cursor(row_factory=class_row(Order))
    await cursor.execute(_FIND, {"id": order_id, "account": account_id, "now": now})
    return cursor  # type: ignore[return-value]  # The connection makes its own kind of cursor.


async def list_ids(
    connection: CountedConnection, account_id: int, after: str, limit: int, now: datetime
) -> CountedCursor:
    """Ids of the account's orders that are not invalid, oldest first, after the given one (empty: from the start)."""
    cursor = connection.cursor()
    await cursor.execute(_LIST, {"account": account_id, "after": after, "limit": limit, "now": now})
    return cursor  # type: ignore[return-value]  # As above.


async def insert(connection: CountedConnection, order: Order) -> None:
    """Writes the order and its links; the authorizations must be there already."""
    await connection.execute(
        _INSERT,
        {
            "id": order.id,
            "account": order.account_id,
            "issuer": order.issuer_id,
            "identifiers": Jsonb([dict(identifier) for identifier in order.identifiers]),
            "not_before": order.not_before,
            "not_after": order.not_after,
            "expires": order.expires_at,
            "now": order.created_at,
        },
    )
    await connection.execute(_INSERT_LINKS, {"id": order.id, "authorizations": list(order.authorizations)})


async def certificate(connection: CountedConnection, order_id: str, account_id: int) -> CountedCursor:
    """The order's certificate, if it was issued and the order is this account's."""
    cursor = connection.cursor(row_factory=class_row(OrderCertificate))
    await cursor.execute(_CERTIFICATE, [order_id, account_id])
    return cursor  # type: ignore[return-value]  # As above.


async def count_since(connection: CountedConnection, account_id: int, since: datetime, limit: int) -> CountedCursor:
    """How many orders the account placed since then, counted up to `limit`."""
    cursor = connection.cursor()
    await cursor.execute(_COUNT_SINCE, [account_id, since, limit])
    return cursor  # type: ignore[return-value]  # As above.
