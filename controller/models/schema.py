"""What all models are made of: tables, texts, and rules that hold in the API server and in Python alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from spork.hierarchy.export import camel_case

GROUP = "spork-ca.org"
VERSION = "v1alpha1"
LIST_TYPE = "x-kubernetes-list-type"
LIST_MAP_KEYS = "x-kubernetes-list-map-keys"
VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a table as a whole must fulfil. `holds` is the Python twin of `cel`; a test compares their verdicts."""

    cel: str
    message: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class ChangeRule:
    """What a change must fulfil. `holds` gets the new and the old table."""

    cel: str
    message: str
    holds: Callable[[Any, Any], bool]


@dataclass(frozen=True, slots=True)
class Text:
    """Metadata of a text: its length, and either the words that it may be or a rule with its sentence."""

    max_length: int
    pattern: str | None = None
    """A regular expression that RE2 and Python read alike; it must match the whole text."""
    message: str = ""
    cel: str | None = None
    check: Callable[[str], bool] | None = None
    """The Python twin of `cel`."""
    words: tuple[str, ...] = ()
    what: str = "value"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        if self.words:
            return {**found, "enum": list(self.words)}
        found |= {"maxLength": self.max_length, "minLength": 1}
        cel = f'self.matches(r"^(?:{self.pattern})$")' if self.pattern else self.cel
        return {**found, VALIDATIONS: [{"rule": cel, "message": self.message}]} if cel else found

    def _checked(self, text: str) -> str:
        if self.words and text not in self.words:
            raise PydanticCustomError("unknown_word", "unknown word", {"what": self.what, "words": list(self.words)})
        if not 0 < len(text) <= max(self.max_length, *map(len, self.words), 1):
            raise PydanticCustomError("rule", f"it has {len(text)} characters; at least 1, at most {self.max_length}.")
        if self.pattern and re.fullmatch(self.pattern, text, re.ASCII) is None:
            raise PydanticCustomError("rule", self.message)
        if self.check is not None and not self.check(text):
            raise PydanticCustomError("rule", self.message)
        return text


def word_of(what: str, words: tuple[str, ...]) -> Text:
    """A text that is one of the words."""
    return Text(max_length=0, words=words, what=what)


def listing(description: str, *, max_items: int, kind: Literal["set", "atomic"] = "set", min_items: int = 0) -> Any:
    """A field that holds a list and may be left out. A set has no doubles, and each applier owns its own items."""
    return Field(
        default=[],
        description=description,
        max_length=max_items,
        min_length=min_items or None,
        json_schema_extra={LIST_TYPE: kind},
    )


def keyed(description: str, *keys: str, max_items: int) -> Any:
    """A field that holds a list of tables, told apart by the values under `keys`, and may be left out."""
    extra: dict[str, Any] = {LIST_TYPE: "map", LIST_MAP_KEYS: list(keys)}
    return Field(default=[], description=description, max_length=max_items, json_schema_extra=extra)


class Table(BaseModel):
    """One object of a resource. Keys are camelCase outside and Python names inside; unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=camel_case,
        validate_by_name=False,
        regex_engine="rust-regex",
    )
    rules: ClassVar[tuple[Rule, ...]] = ()
    change_rules: ClassVar[tuple[ChangeRule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(schema)
        each: tuple[Rule | ChangeRule, ...] = (*cls.rules, *cls.change_rules)
        rules = [{"rule": rule.cel, "message": rule.message} for rule in each]
        if rules:
            handler.resolve_ref_schema(reference)[VALIDATIONS] = rules
        return reference

    @model_validator(mode="after")
    def _fulfils_its_rules(self) -> Self:
        broken = [rule.message for rule in self.rules if not rule.holds(self)] + self._doubles()
        if broken:
            raise PydanticCustomError("rule", " ".join(broken).replace("{", "{{").replace("}", "}}"))
        return self

    def _doubles(self) -> list[str]:
        found = []
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            if extra.get(LIST_TYPE) not in {"set", "map"}:
                continue
            keys = extra.get(LIST_MAP_KEYS)
            items = [_identity(item, keys if isinstance(keys, list) else None) for item in getattr(self, name) or ()]
            if len(set(items)) != len(items):
                found.append(f"{camel_case(name)} has the same entry twice.")
        return found


def _identity(item: Any, keys: list[Any] | None) -> Hashable:
    return tuple(getattr(item, key) for key in keys) if keys else item


class Metadata(BaseModel):
    """What Kubernetes itself keeps of each object. Only what SPORK reads has a name here; the rest is kept as it is."""

    model_config = ConfigDict(extra="allow", frozen=True, alias_generator=camel_case)
    name: str
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`. Priority 1 is shown by `-o wide` alone."""

    name: str
    path: str
    description: str
    kind: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Names:
    """How a kind is called on the command line, and where it lives."""

    plural: str
    singular: str
    short: tuple[str, ...]
    scope: Literal["Cluster", "Namespaced"]
    columns: tuple[Column, ...]


class Resource(Table):
    """One object with apiVersion, kind and metadata. Subclasses add `spec` and `status`."""

    names: ClassVar[Names]
    api_version: Literal["spork-ca.org/v1alpha1"] = Field(description="The version of this schema.")
    kind: str = Field(description="The kind of this object.")
    metadata: Metadata = Field(description="The object's name, labels and annotations.")
