"""One-time tokens: how they look, and how one is told from a forgery. What they entitle to stands in the database."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

PREFIX: Final = "spork1_"
"""So that scanners for leaked secrets, and people, can tell what it is; the number is the version of this form."""
_ID_OCTETS: Final = 6
_SECRET_OCTETS: Final = 32
_FORM: Final = re.compile(rf"{PREFIX}([0-9a-f]{{{2 * _ID_OCTETS}}})_([A-Za-z0-9_-]{{43}})")
_NOBODYS: Final = bytes(32)
"""Compared with where there is no such token, so that an unknown id takes as long as a wrong secret."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A token as somebody showed it. Without the secret, which goes no further."""

    id: str
    digest: bytes

    def is_that_of(self, stored: bytes | None) -> bool:
        """Whether the secret is that of the stored digest, in constant time."""
        same = hmac.compare_digest(self.digest, stored if stored is not None else _NOBODYS)
        return same and stored is not None


@dataclass(frozen=True, slots=True)
class NewToken:
    """What a token will entitle to."""

    id: str
    digest: bytes
    issuer_id: int
    profile: str
    names: tuple[str, ...]
    """kind:value."""
    max_validity: timedelta | None
    note: str
    created_by: str
    created_at: datetime
    expires_at: datetime


def mint() -> tuple[str, Presented]:
    """A fresh token with 256 random bits: the text, to be shown once, and what is stored of it."""
    text = f"{PREFIX}{secrets.token_hex(_ID_OCTETS)}_{secrets.token_urlsafe(_SECRET_OCTETS)}"
    presented = read(text)
    assert presented is not None
    return text, presented


def read(text: str) -> Presented | None:
    """None for what has not the form of a one-time token."""
    match = _FORM.fullmatch(text)
    # The secret is random and long, so that a plain digest cannot be guessed back.
    return None if match is None else Presented(match[1], hashlib.sha256(text.encode("ascii")).digest())
