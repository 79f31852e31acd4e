"""The reasons of conditions and events: one vocabulary, each with the sentence that is shown where nothing more precise is known.

A reason's name is one word in CamelCase that programs compare; it never changes its meaning. docs/kubernetes.md lists them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One word and its sentence."""

    name: str
    sentence: str


# Every kind
INVALID = Reason("Invalid", "The spec cannot be used.")
UNAVAILABLE = Reason("Unavailable", "Something that is needed cannot be reached; it is tried again.")
DELETING = Reason("Deleting", "The object is being deleted.")
CONFLICT = Reason("Conflict", "Something of that name belongs to somebody else; nothing was changed.")

# Trust bundles
WAITING_FOR_TRUST = Reason("WaitingForTrust", "The root is not yet in every trust bundle that was asked for.")
BUNDLE_WRITTEN = Reason("BundleWritten", "The trust bundle holds the roots.")
