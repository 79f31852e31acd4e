"""Replay nonces of ACME: minted without SQL, redeemed once across all replicas.

A token is base64url(random, expiry, HMAC-SHA-256 truncated to 16 octets): 16 + 4 + 16 octets. The HMAC key is one row of the
UNLOGGED table `nonce_key`, and each redemption is one row of the UNLOGGED table `nonce_redemption`. A crash or a failover
empties both together, so that no token from before can be redeemed again: its key is gone.
Source: RFC 8555 section 6.5.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from spork.clock import Clock
from spork.errors import Code, SporkError
from spork.store.connection import CountedConnection, CountedCursor
from spork.store.database import Database
from spork.wire.jose import b64url_decode, b64url_encode

LIFETIME = timedelta(minutes=15)
"""How long a nonce is good for. The redemptions of this time and a few minutes more are what the table holds."""

_RANDOM_OCTETS, _EXPIRY_OCTETS, _MAC_OCTETS = 16, 4, 16
_BODY_OCTETS = _RANDOM_OCTETS + _EXPIRY_OCTETS
_KEY_OCTETS = 32
_PURGE_ROWS = 5000
# A replica whose clock is behind takes a nonce for longer than others do, and must find that it was redeemed.
_CLOCK_SKEW = timedelta(minutes=5)

_REDEEM: LiteralString = """
INSERT INTO nonce_redemption (nonce, expires_at)
SELECT %(nonce)s, %(expires)s FROM nonce_key WHERE key = %(key)s
ON CONFLICT DO NOTHING
"""
_READ_KEY: LiteralString = "SELECT key FROM nonce_key"
_MAKE_KEY: LiteralString = "INSERT INTO nonce_key (key) VALUES (%s) ON CONFLICT DO NOTHING"
_PURGE: LiteralString = """
DELETE FROM nonce_redemption WHERE nonce IN (
    SELECT nonce FROM nonce_redemption WHERE expires_at < %s ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED
)
"""


@dataclass(frozen=True, slots=True)
class OpenedNonce:
    """A token whose MAC and expiry were right for the key that this process knew. It may still have been used before."""

    body: bytes
    expires_at: datetime
    key: bytes


class Nonces:
    """Mints and redeems. One instance a process; it holds the HMAC key."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._key: bytes | None = None
        self._doubtful = False

    async def ready(self) -> None:
        """Reads the key if this process does not know it, or doubts it. Costs nothing otherwise. Raises DatabaseUnavailable."""
        if self._key is None or self._doubtful:
            await self.refresh()

    async def refresh(self) -> None:
        """Reads the key again, and makes one if there is none (first start, or after a crash emptied the tables)."""
        async with self._database.batch(durable=False) as connection:
            await connection.execute(_MAKE_KEY, [secrets.token_bytes(_KEY_OCTETS)])
            cursor = await connection.execute(_READ_KEY)
        row = await cursor.fetchone()
        if row is None:
            raise SporkError(Code.UNAVAILABLE, "The nonce key vanished while it was read; try again.", retry_after_s=1)
        self._key, self._doubtful = bytes(row[0]), False

    def mint(self) -> str:
        """A fresh token, without SQL. Only after `ready`."""
        if self._key is None:
            raise RuntimeError("a nonce was asked for before its key was read")
        expiry = int((self._clock.now() + LIFETIME).timestamp())
        body = secrets.token_bytes(_RANDOM_OCTETS) + expiry.to_bytes(_EXPIRY_OCTETS, "big")
        return b64url_encode(body + _mac(self._key, body))

    async def open(self, token: str | None) -> OpenedNonce:
        """Checks form, MAC and expiry. Raises SporkError: BAD_NONCE, MALFORMED (not base64url, RFC 8555 section 6.5.2)."""
        if token is None:
            raise _bad("The request carries no nonce")
        octets = _octets(token)
        await self.ready()
        opened = self._opened(octets)
        if opened is None:
            # Another replica may have made a new key after a failover; what it minted must be good here as well.
            await self.refresh()
            opened = self._opened(octets)
        if opened is None:
            raise _bad("The nonce was not issued here, or before a restart")
        if opened.expires_at <= self._clock.now():
            raise _bad("The nonce has expired")
        return opened

    def refused(self) -> SporkError:
        """What to raise after a redemption that touched no row. It was a replay, or the key changed: `ready` finds out."""
        self._doubtful = True
        return _bad("The nonce has been used before, or is from before a restart")

    def _opened(self, octets: bytes) -> OpenedNonce | None:
        body, key = octets[:_BODY_OCTETS], self._key
        if key is None or not hmac.compare_digest(_mac(key, body), octets[_BODY_OCTETS:]):
            return None
        expiry = int.from_bytes(body[_RANDOM_OCTETS:], "big")
        return OpenedNonce(body, datetime.fromtimestamp(expiry, UTC), key)


async def redeem(connection: CountedConnection, nonce: OpenedNonce) -> CountedCursor:
    """Part of the request's batch. A `rowcount` of 0 means that the nonce is not good (any more)."""
    cursor = connection.cursor()
    await cursor.execute(_REDEEM, {"nonce": nonce.body, "expires": nonce.expires_at, "key": nonce.key})
    return cursor  # type: ignore[return-value]  # The connection makes its own kind of cursor.


async def purge(database: Database, now: datetime) -> int:
    """Deletes redemptions that expired on every replica's clock, a few thousand at a time; returns how many."""
    cursor = await database.execute(_PURGE, [now - _CLOCK_SKEW, _PURGE_ROWS], durable=False)
    return cursor.rowcount


def _octets(token: str) -> bytes:
    try:
        octets = b64url_decode(token)
    except ValueError as error:
        raise SporkError(Code.MALFORMED, "The nonce is not base64url.") from error
    if len(octets) != _BODY_OCTETS + _MAC_OCTETS:
        raise _bad("The nonce was not issued here")
    return octets


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, hashlib.sha256)[:_MAC_OCTETS]


def _bad(why: str) -> SporkError:
    return SporkError(Code.BAD_NONCE, f"{why}; take the fresh one from this reply.")
