"""Certificates as the revocation door of ACME looks at them. Source: RFC 8555 section 7.6."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.rows import class_row

from spork.ids import IssuerId
from spork.store.connection import CountedConnection, CountedCursor

_FIND: LiteralString = """
SELECT c.id, c.authority_id, c.serial, c.spki_sha256, c.requester,
       cardinality(c.names) > 0 AND NOT EXISTS (
           SELECT FROM unnest(c.names) AS n (name)
            WHERE NOT EXISTS (
                  SELECT FROM acme_authorization a
                   WHERE a.account_id = %(account)s AND a.status = 'valid' AND a.expires_at > %(now)s
                     AND a.identifier_type = split_part(n.name, ':', 1)
                     AND a.identifier_value = regexp_replace(substr(n.name, strpos(n.name, ':') + 1), '^[*][.]', '')
                     AND a.wildcard = (n.name LIKE '%%:*.%%'))) AS names_authorized
  FROM certificate c
 WHERE c.sha256 = %(sha256)s AND c.issuer_id = %(issuer)s AND c.state = 'issued'
"""


@dataclass(frozen=True, slots=True)
class RevocableCertificate:
    """An issued certificate, and what entitles whom to revoke it."""

    id: int
    authority_id: str
    serial: bytes
    spki_sha256: bytes
    requester: str
    """As the pipeline stored it: `acme-account:17`."""
    names_authorized: bool
    """Whether there are names, and the asking account holds a valid authorization for each. Meaningless without an account."""


async def find(
    connection: CountedConnection, sha256: bytes, issuer_id: IssuerId, account_id: int | None, now: datetime
) -> CountedCursor:
    """The issuer's certificate with this digest, or no row."""
    cursor = connection.cursor(row_factory=class_row(RevocableCertificate))
    await cursor.execute(_FIND, {"sha256": sha256, "issuer": issuer_id, "account": account_id, "now": now})
    return cursor  # type: ignore[return-value]  # The connection makes its own kind of cursor.
