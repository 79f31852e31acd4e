"""Serials that may have been signed by a process that could not say so any more: CRL and OCSP show them as revoked.

A piece of a statement, between its other WITH parts: `{rows}` names the part that gives id, authority_id, generation, crl_shard,
serial and not_after. It leaves behind the part `moved`, whose rows are to be notified.
"""

from __future__ import annotations

from typing import LiteralString

REVOKE_DOUBTFUL: LiteralString = """moved AS (
    UPDATE authority SET status_version = status_version + 1
     WHERE id IN (SELECT authority_id FROM {rows}) RETURNING id, status_version),
revoked AS (
    INSERT INTO revocation (certificate_id, authority_id, generation, crl_shard, serial, reason, revoked_at, not_after, version)
    SELECT {rows}.id, authority_id, generation, crl_shard, serial, 0, date_trunc('second', now()), not_after, status_version
      FROM {rows} JOIN moved ON moved.id = {rows}.authority_id
    ON CONFLICT (certificate_id) DO UPDATE
       SET reason = 0, revoked_at = excluded.revoked_at, released_at = NULL, version = excluded.version
     WHERE revocation.released_at IS NOT NULL OR revocation.reason = 6)"""
