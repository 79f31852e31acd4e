"""The classes of change that a plan knows."""

from __future__ import annotations

from enum import StrEnum


class ChangeClass(StrEnum):
    """What a difference between declaration and state costs, from nothing to impossible."""

    NONE = "none"
    WAITING = "waiting"
    """Somebody else has to act first, where a key is elsewhere."""
    IN_PLACE = "in place"
    """A stored setting changes; no certificate does."""
    CREATE = "create"
    REISSUE = "re-issue"
    """A new certificate for the same name and key."""
    REKEY = "re-key"
    """A new key, that is, a new generation. Only with approval."""
    FORBIDDEN = "forbidden"

    @property
    def severity(self) -> int:
        """Position in the list above."""
        return list(ChangeClass).index(self)
