"""docs/hierarchy.md names every key that a hierarchy file may have."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from spork.hierarchy import spec
from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.load import load_text
from spork.x509.algorithms import BY_NAME

DOCUMENT = Path("docs/hierarchy.md").read_text("utf-8")


@pytest.mark.parametrize(
    "table", [value for value in vars(spec).values() if isinstance(value, type) and issubclass(value, BaseModel)]
)
def test_every_key_has_its_line(table: type[BaseModel]) -> None:
    words = DOCUMENT.replace("`", " ").replace(".", " ").replace("[", " ").replace("]", " ").replace(",", " ").split()
    assert [key for key in table.model_fields if key not in words and key != "version"] == []


def test_every_algorithm_and_class_of_change_is_named() -> None:
    assert [word for word in [*BY_NAME, *ChangeClass] if word not in DOCUMENT] == []


def test_the_example_is_valid() -> None:
    assert load_text(DOCUMENT.partition("```toml\n")[2].partition("```")[0]).issuers[0].protocols
