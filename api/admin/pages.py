"""Keyset pages: an opaque cursor that stands for the last row of a page."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final

from fastapi import Query

from spork.errors import Code, SporkError

PAGE_SIZE: Final = 50
Limit = Annotated[int, Query(ge=1, le=500, description="Items of a page.")]


def cursor(row_id: int) -> str:
    """The cursor of the page that follows this row."""
    return base64.urlsafe_b64encode(f"v1:{row_id}".encode()).decode("ascii").rstrip("=")


def position(text: str | None) -> int | None:
    """The row that a cursor stands for. Raises SporkError(MALFORMED)."""
    if text is None:
        return None
    try:
        version, _, digits = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").partition(":")
    except (binascii.Error, ValueError):
        version = digits = ""
    if version != "v1" or not digits.isdecimal() or int(digits) >= 1 << 63:
        raise SporkError(Code.MALFORMED, "`after` is not the `next` of an earlier page.")
    return int(digits)
