"""Limits on DER from outside, checked by a flat walk before any parser that builds objects sees the octets.

Source: X.690 section 8.1 (tags and lengths), section 10.1 (DER demands definite lengths in their shortest form).
"""

from __future__ import annotations

from spork.errors import Code, SporkError

MAX_DEPTH = 32
"""How deep constructed values may nest. A certificate with every extension stays below 12."""

_TAG_OCTETS_LIMIT = 4
"""Octets of a high tag number: enough for 21 bits, more than any standard uses."""
_LENGTH_OCTETS_LIMIT = 4
"""Octets of a long length: 4 GiB, far above every size limit here."""


def check_der(data: bytes, *, max_octets: int, max_depth: int = MAX_DEPTH) -> None:
    """Returns only if `data` is exactly one DER value of at most `max_octets`, nested at most `max_depth` deep.

    Looks at tags and lengths alone, in time proportional to the size and without recursion; what the values mean is left
    to the parsers. Raises SporkError: TOO_LARGE, MALFORMED.
    """
    if len(data) > max_octets:
        raise SporkError(Code.TOO_LARGE, f"The value has {len(data)} octets; at most {max_octets} are accepted.")
    open_ends: list[int] = []
    position = 0
    while True:
        start, end = _header(data, position, open_ends[-1] if open_ends else len(data))
        if data[position] & 0x20:
            open_ends.append(end)
            if len(open_ends) > max_depth:
                raise _malformed(f"is nested more than {max_depth} deep")
            position = start
        else:
            position = end
        while open_ends and position == open_ends[-1]:
            open_ends.pop()
        if not open_ends:
            break
    if position != len(data):
        raise _malformed("has octets after its end")


def _header(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Reads one tag and length before `end`; returns where the content starts and where it ends."""
    if position >= end:
        raise _malformed("is cut short")
    high_tag = data[position] & 0x1F == 0x1F
    position += 1
    if high_tag:
        position = _after_high_tag(data, position, end)
    length, position = _length(data, position, end)
    if length > end - position:
        raise _malformed("is cut short, or a length reaches beyond the value around it")
    return position, position + length


def _after_high_tag(data: bytes, position: int, end: int) -> int:
    for index in range(position, min(end, position + _TAG_OCTETS_LIMIT)):
        if not data[index] & 0x80:
            return index + 1
    raise _malformed("has a tag number that is cut short or too large")


def _length(data: bytes, position: int, end: int) -> tuple[int, int]:
    if position >= end:
        raise _malformed("is cut short")
    first = data[position]
    position += 1
    if first < 0x80:
        return first, position
    count = first & 0x7F
    if count == 0:
        raise _malformed("has an indefinite length; only definite ones are allowed in DER")
    if count > _LENGTH_OCTETS_LIMIT or position + count > end:
        raise _malformed("has a length that is cut short or too large")
    length = int.from_bytes(data[position : position + count], "big")
    if length < 0x80 or data[position] == 0:
        raise _malformed("has a length that is not in its shortest form")
    return length, position + count


def _malformed(what: str) -> SporkError:
    return SporkError(Code.MALFORMED, f"The DER value {what}.")


def elements(der: bytes) -> list[bytes]:
    """The encoded values inside one constructed value, each as a whole TLV.

    Only for octets that `check_der` let pass; anything else may raise SporkError(MALFORMED) or give nonsense.
    """
    position, end = _header(der, 0, len(der))
    found = []
    while position < end:
        _, next_position = _header(der, position, end)
        found.append(der[position:next_position])
        position = next_position
    return found
