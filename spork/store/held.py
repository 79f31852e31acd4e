"""Certificates whose private keys this installation holds itself: of listeners and of OCSP responders."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from spork.store.database import Database


@dataclass(frozen=True, slots=True)
class HeldCertificate:
    """A live certificate and the stored key that belongs to it."""

    key_id: str
    authority_id: str
    generation: int
    der: bytes
    names: list[str]
    """`kind:value`, as in `certificate.names`."""
    not_before: datetime
    not_after: datetime


async def held_certificates(database: Database, profile: str, now: datetime) -> list[HeldCertificate]:
    """Issued, unexpired and unrevoked certificates of a profile for which there is a stored key; those that last longest first."""
    cursor = await database.execute(
        """
        SELECT k.id AS key_id, c.authority_id, c.generation, c.der, c.names, c.not_before, c.not_after
          FROM certificate c
          JOIN private_key k ON sha256(k.spki) = c.spki_sha256
          LEFT JOIN revocation r ON r.certificate_id = c.id AND r.released_at IS NULL
         WHERE c.profile = %s AND c.state = 'issued' AND c.not_after > %s AND r.certificate_id IS NULL
         ORDER BY c.not_after DESC, c.id DESC
        """,
        [profile, now],
        row_factory=class_row(HeldCertificate),
    )
    return await cursor.fetchall()
