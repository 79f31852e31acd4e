"""Fills a database with certificates as they would lie there after years: by SQL alone, some ten thousand a second.

Each is a copy of one that was really issued over ACME, with names, serial, dates, account, order and audit event of its own.
"""

from __future__ import annotations

from typing import Any

import psycopg

_ACCOUNTS = 500

_STATEMENTS = (
    """INSERT INTO acme_account (issuer_id, thumbprint, jwk, status, created_at)
       SELECT issuer_id, sha256(('account ' || n)::bytea),
              jsonb_build_object('crv', 'P-256', 'kty', 'EC', 'x', repeat('x', 43), 'y', repeat('y', 43)), 'valid',
              now() - interval '80 days'
         FROM certificate, generate_series(1, %(accounts)s) AS n WHERE certificate.id = %(model)s
           ON CONFLICT DO NOTHING""",
    """CREATE TEMPORARY TABLE filled ON COMMIT DROP AS
       SELECT n, 'h' || n || '.filled.localhost' AS name, 'filled-' || n AS key,
              set_byte(decode(md5('serial ' || n), 'hex'), 0, 64 + n %% 63) AS serial,
              date_trunc('second', now() - n * interval '80 days' / %(last)s) AS at,
              (SELECT id FROM acme_account WHERE thumbprint = sha256(('account ' || 1 + n %% %(accounts)s)::bytea)) AS account
         FROM generate_series(%(first)s::int, %(last)s::int) AS n""",
    """INSERT INTO certificate (authority_id, generation, serial, crl_shard, state, issuer_id, profile, subject, names,
              spki_sha256, not_before, not_after, scope, door, idempotency_key, request_digest, der, sha256, requester, evidence,
              attributes, trace, created_at, issued_at)
       SELECT authority_id, generation, f.serial, crl_shard, 'issued', issuer_id, profile, 'CN=' || f.name,
              ARRAY['dns:' || f.name], sha256(f.key::bytea), f.at, f.at + interval '90 days', scope, door, f.key,
              sha256(f.name::bytea), der, sha256(der || f.serial), 'acme-account:' || f.account,
              jsonb_build_object('kind', 'order', 'reference', f.key), attributes, trace, f.at, f.at
         FROM filled AS f, (SELECT * FROM certificate WHERE id = %(model)s) AS model""",
    """INSERT INTO acme_order (id, account_id, issuer_id, identifiers, expires_at, created_at)
       SELECT key, account, (SELECT issuer_id FROM certificate WHERE id = %(model)s),
              jsonb_build_array(jsonb_build_object('type', 'dns', 'value', name)), at + interval '7 days', at
         FROM filled""",
    """INSERT INTO acme_authorization (id, account_id, identifier_type, identifier_value, status, expires_at, created_at)
       SELECT key, account, 'dns', name, 'valid', at + interval '1 day', at FROM filled""",
    "INSERT INTO acme_order_authorization (order_id, position, authorization_id) SELECT key, 0, key FROM filled",
    """INSERT INTO acme_challenge (id, authorization_id, type, token, status, attempts, validated_at)
       SELECT key, key, 'http-01', md5(key) || md5(name), 'valid', 1, at FROM filled""",
    """INSERT INTO audit_event (at, actor, action, subject, detail)
       SELECT f.at, 'acme-account:' || f.account, action, 'certificate:' || %(authority)s || '/' || upper(encode(f.serial, 'hex')),
              detail
         FROM filled AS f, (SELECT action, detail FROM audit_event WHERE action = 'certificate.issue'
                             ORDER BY id DESC LIMIT 1) AS model""",
)
_MODEL = "SELECT id, authority_id FROM certificate WHERE door = 'acme' AND state = 'issued' ORDER BY id LIMIT 1"
_REVOKE = """WITH moved AS (
           UPDATE authority SET status_version = status_version + 1 WHERE id = %(authority)s RETURNING status_version)
       INSERT INTO revocation (certificate_id, authority_id, generation, crl_shard, serial, reason, revoked_at, not_after, version)
       SELECT id, authority_id, generation, crl_shard, serial, (ARRAY[0, 1, 3, 4, 5])[1 + id %% 5], issued_at, not_after,
              status_version
         FROM certificate, moved
        WHERE authority_id = %(authority)s AND state = 'issued' ORDER BY id LIMIT %(count)s"""


def fill(url: str, total: int) -> None:
    """Brings the number of certificates up to `total`, and the planner's figures up to date. One must be there as a model."""
    with psycopg.connect(url) as connection:
        present = _one(connection, "SELECT count(*) FROM certificate")
        done = _one(connection, "SELECT count(*) FROM certificate WHERE idempotency_key LIKE 'filled-%'")
        if present >= total:
            return
        model = connection.execute(_MODEL).fetchone()
        assert model is not None, "there is no certificate yet to be copied"
        values = {
            "first": done + 1,
            "last": done + total - present,
            "accounts": _ACCOUNTS,
            "model": model[0],
            "authority": model[1],
        }
        for statement in _STATEMENTS:
            connection.execute(statement, values)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


def revoke(url: str, authority: str, count: int) -> int:
    """Revokes so many certificates of the CA, and returns how many there were."""
    with psycopg.connect(url) as connection:
        return connection.execute(_REVOKE, {"authority": authority, "count": count}).rowcount


def _one(connection: psycopg.Connection[Any], query: Any) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
