"""From YAML or JSON text to the models: all faults of all objects together, one sentence each, with line and key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, get_args, get_origin

import pydantic
import yaml

from spork.controller.models import KINDS, Resource
from spork.controller.models.schema import GROUP, VERSION
from spork.errors import ConfigurationError
from spork.hierarchy.problems import did_you_mean, key_text

MAX_TEXT_OCTETS = 1 << 20
"""Kubernetes stores no object above about 1.5 MB; a larger file is a mistake."""
_MAX_DEPTH = 32
_API_VERSION = f"{GROUP}/{VERSION}"
Path = tuple[str | int, ...]


class ManifestError(ConfigurationError):
    """A manifest cannot be used. `lines` holds one sentence per fault, `detail` all of them."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(lines))


class _Loader(yaml.SafeLoader):
    """Plain YAML without dates: a timestamp stays the text that Kubernetes would see."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a YAML text as plain values, and where its keys stand."""

    values: Any
    name: str
    """Of the file, for sentences."""
    lines: Mapping[Path, int]

    @property
    def place(self) -> str:
        """`file:line` of its first key."""
        line = min(self.lines.values(), default=0)
        return f"{self.name}:{line}" if line else self.name

    def fault(self, path: Path, sentence: str) -> str:
        """A sentence about what stands at the path, with file, line and key."""
        line = next((self.lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.lines), None)
        where = f"{self.name}:{line}" if line else self.name
        return f"{where}: {key_text(path)}: {sentence}" if path else f"{where}: {sentence}"

    def resource(self) -> Resource:
        """Checked by its model. Raises ManifestError with every fault."""
        faults: list[str] = []
        found = _resource(self.values, self.lines, self.name, faults)
        if found is None:
            raise ManifestError(faults)
        return found

    def items(self) -> list[Document]:
        """Of a `v1` List, what is in it; of everything else, itself."""
        values = self.values
        if not isinstance(values, dict) or (values.get("apiVersion"), values.get("kind")) != ("v1", "List"):
            return [self]
        listed = values.get("items") or []
        if not isinstance(listed, list):
            raise ManifestError([f"{self.place}: items: a list is expected."])
        return [Document(one, self.name, self._below("items", index)) for index, one in enumerate(listed)]

    def _below(self, *path: str | int) -> dict[Path, int]:
        return {key[len(path) :]: line for key, line in self.lines.items() if key[: len(path)] == path}


def load_documents(text: str, name: str = "manifest.yaml") -> list[Document]:
    """The documents of a YAML text, of whatever kind. Raises ManifestError where it is no YAML or more than its size tells."""
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_OCTETS:
        raise ManifestError([f"{name}: is larger than {MAX_TEXT_OCTETS} octets, too large for a manifest."])
    faults: list[str] = []
    found = []
    try:
        found = [Document(values, name, lines) for values, lines in _documents(text, name, faults)]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        faults.append(_syntax(error, name))
    if faults:
        raise ManifestError(faults)
    return found


def load_manifests(text: str, name: str = "manifest.yaml") -> list[Resource]:
    """The objects of a YAML text, which may hold several documents. Raises ManifestError with every fault."""
    faults: list[str] = []
    found = []
    for document in load_documents(text, name):
        try:
            found.append(document.resource())
        except ManifestError as error:
            faults += error.lines
    if faults:
        raise ManifestError(faults)
    return found


def load_object(values: Any, name: str = "object") -> Resource:
    """One object that is parsed already, such as one from the API server. Raises ManifestError."""
    faults: list[str] = []
    resource = _resource(values, {}, name, faults)
    if resource is None:
        raise ManifestError(faults)
    return resource


def _documents(text: str, name: str, faults: list[str]) -> Iterator[tuple[Any, dict[Path, int]]]:
    _check_events(text, name)
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None, "check_node has said that there is one"
            lines: dict[Path, int] = {}
            _note_lines(node, (), lines, name, faults)
            values = loader.construct_document(node)
            if values is not None:
                yield values, lines
    finally:
        loader.dispose()


def _line(part: yaml.Node | yaml.Event) -> int:
    mark = part.start_mark
    return mark.line + 1 if mark is not None else 1


def _syntax(error: Exception, name: str) -> str:
    """Why a text is not YAML at all."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{name}:{error.problem_mark.line + 1}: not valid YAML: {error.problem}."
    return f"{name}: not valid YAML: {str(error).splitlines()[0]}."


def _check_events(text: str, name: str) -> None:
    """Refuses what would make the text larger or deeper in memory than it looks, before anything is built from it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        # Aliases let a short text stand for a huge one, and Kubernetes manifests have no need of them.
        if isinstance(event, yaml.AliasEvent):
            raise ManifestError([f"{name}:{_line(event)}: aliases (*{event.anchor}) are not read here."])
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ManifestError([f"{name}:{_line(event)}: is nested too deeply."])


def _note_lines(node: yaml.Node, path: Path, lines: dict[Path, int], name: str, faults: list[str]) -> None:
    lines.setdefault(path, _line(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            if inner in lines:
                faults.append(f"{name}:{_line(key)}: {key_text(inner)}: stands here twice.")
            lines[inner] = _line(key)
            _note_lines(value, inner, lines, name, faults)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*path, index), lines, name, faults)


def _resource(values: Any, lines: Mapping[Path, int], name: str, faults: list[str]) -> Resource | None:
    document = Document(values, name, lines)

    def fault(path: Path, sentence: str) -> None:
        faults.append(document.fault(path, sentence))

    if not isinstance(values, dict):
        fault((), "an object with apiVersion, kind, metadata and spec is expected.")
        return None
    if values.get("apiVersion") != _API_VERSION:
        fault(("apiVersion",), f"{values.get('apiVersion')!r} is not known here; it is {_API_VERSION!r}.")
        return None
    kind = values.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        fault(("kind",), f"unknown kind {kind!r}{did_you_mean(str(kind), KINDS)}")
        return None
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        for detail in error.errors(include_url=False):
            fault(*_of_pydantic(detail, model))
        return None


_TYPES = {
    "string_type": "a text is expected; put it in quotes.",
    "int_type": "a whole number is expected.",
    "bool_type": "true or false is expected.",
    "list_type": "a list is expected.",
    "model_type": "an object with keys is expected.",
    "dict_type": "an object with keys is expected.",
    "missing": "is missing.",
}


def _of_pydantic(detail: Any, model: type[Resource]) -> tuple[Path, str]:
    path: Path = tuple(detail["loc"])
    context, value = detail.get("ctx", {}), detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            return path, f"unknown key {path[-1]!r}{did_you_mean(str(path[-1]), _keys_at(model, path[:-1]))}"
        case "unknown_word":
            return path, f"unknown {context['what']} {value!r}{did_you_mean(value, context['words'])}"
        case "literal_error":
            return path, f"{value!r} is none of {context['expected']}."
        case "rule":
            return path, str(detail["msg"])
        case kind:
            return path, _TYPES.get(kind, f"{detail['msg'][:1].lower()}{detail['msg'][1:]}.")


def _keys_at(model: type[pydantic.BaseModel], path: Path) -> list[str]:
    """The keys that may stand in the table at that path."""
    table: type[pydantic.BaseModel] | None = model
    for part in path:
        if isinstance(part, int) or table is None:
            continue
        annotation = next((f.annotation for f in table.model_fields.values() if f.alias == part), None)
        table = _table_in(annotation)
    return [field.alias or name for name, field in table.model_fields.items()] if table is not None else []


def _table_in(annotation: Any) -> type[pydantic.BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    if get_origin(annotation) is not None or isinstance(annotation, UnionType):
        return next(filter(None, map(_table_in, get_args(annotation))), None)
    return None


def refused_changes(new: pydantic.BaseModel, old: pydantic.BaseModel) -> list[str]:
    """Sentences of what must not change from one state of an object to the next, as the API server would refuse it."""
    found = [rule.message for rule in getattr(new, "change_rules", ()) if not rule.holds(new, old)]
    for name, field in type(new).model_fields.items():
        after, before = getattr(new, name), getattr(old, name)
        if isinstance(after, pydantic.BaseModel) and isinstance(before, type(after)):
            found += refused_changes(after, before)
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        keys = extra.get("x-kubernetes-list-map-keys")
        if isinstance(keys, list):
            earlier = {tuple(getattr(one, str(key)) for key in keys): one for one in before}
            pairs = ((one, earlier.get(tuple(getattr(one, str(key)) for key in keys))) for one in after)
            found += [sentence for one, was in pairs if was is not None for sentence in refused_changes(one, was)]
    return found
