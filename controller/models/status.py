"""What every status has: conditions, and the generation that it speaks of."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from spork.controller.models.names import Sentence
from spork.controller.models.schema import Column, Table, Text, keyed

Time = Annotated[datetime, Field(strict=False)]


class Condition(Table):
    type: Annotated[str, Text(64)] = Field(description="What the condition is about, such as Ready.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    reason: Annotated[str, Text(128, "[A-Za-z][A-Za-z0-9]*", "A reason is one word in CamelCase.")] = Field(
        description="Why, as one word for programs."
    )
    message: Annotated[str, Field(max_length=32768)] = Field(default="", description="Why, as a sentence for people.")
    last_transition_time: Time = Field(description="When the status last changed.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="The generation of the spec that the condition speaks of."
    )


class Status(Table):
    observed_generation: int | None = Field(
        default=None, ge=0, description="The generation of the spec that was acted on last."
    )
    conditions: list[Condition] = keyed("What is so and what is not, one entry for each type.", "type", max_items=16)


def ready_columns() -> tuple[Column, Column, Column]:
    """Whether an object is ready, and if not, why not."""
    ready = '.status.conditions[?(@.type=="Ready")]'
    return (
        Column("Ready", f"{ready}.status", "Whether it does what its spec says."),
        Column("Reason", f"{ready}.reason", "Why it is ready or not, in one word."),
        Column("Message", f"{ready}.message", "Why it is ready or not, in a sentence.", priority=1),
    )


AGE = Column("Age", ".metadata.creationTimestamp", "How long the object has been there.", "date")

__all__ = ["AGE", "Condition", "Sentence", "Status", "Time", "ready_columns"]
