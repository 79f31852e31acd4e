"""From a file to a `Hierarchy`: TOML, types, values, relations. All faults are collected and reported together."""

from __future__ import annotations

import pathlib
import tomllib
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pydantic

from spork.errors import ConfigurationError
from spork.hierarchy.assemble import assemble
from spork.hierarchy.model import Hierarchy
from spork.hierarchy.positions import Path, line_numbers, line_of
from spork.hierarchy.problems import HierarchyError, Problem, Problems, did_you_mean, key_text
from spork.hierarchy.spec import HierarchySpec

MAX_FILE_OCTETS = 1 << 20
"""A tree of a thousand CAs fits into a megabyte; a bigger file is a mistake, such as a certificate bundle."""

DEFAULT_OID_BASE = "1.3.6.1.4.1.56266.1"


def load_hierarchy(file: pathlib.Path, *, oid_base: str = DEFAULT_OID_BASE) -> Hierarchy:
    """Reads a hierarchy file; paths in it are relative to it. Raises HierarchyError with every fault of the file."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_OCTETS + 1)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}.") from error
    if len(content) > MAX_FILE_OCTETS:
        raise ConfigurationError(f"{file}: is larger than {MAX_FILE_OCTETS} octets, too large for a hierarchy file.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise HierarchyError([f"{file}:{line}: is not UTF-8 text."]) from error
    return load_text(text, str(file), file.parent, oid_base=oid_base)


def load_text(
    text: str, name: str = "hierarchy.toml", base: pathlib.Path | None = None, *, oid_base: str = DEFAULT_OID_BASE
) -> Hierarchy:
    """Reads a hierarchy from TOML text. `base` is the folder of the files it names; None: it must name none."""
    problems = Problems()
    hierarchy = load_values(parse_toml(text, name), problems, base, oid_base=oid_base)
    if problems.found or hierarchy is None:
        raise HierarchyError(_located(text, name, problems))
    return hierarchy


def load_values(
    values: Mapping[str, Any], problems: Problems, base: pathlib.Path | None = None, *, oid_base: str = DEFAULT_OID_BASE
) -> Hierarchy | None:
    """Reads a hierarchy from parsed values, from wherever they came; None if there are problems."""
    try:
        spec = HierarchySpec.model_validate(values)
    except pydantic.ValidationError as error:
        for detail in error.errors(include_url=False):
            problems.add(*_of_pydantic(detail))
        return None
    hierarchy = assemble(spec, problems, base, oid_base)
    return None if problems.found else hierarchy


def load_declaration(
    values: Mapping[str, Any], declared_by: str, *, name: str = "Hierarchy", oid_base: str = DEFAULT_OID_BASE
) -> Hierarchy:
    """Reads a tree from values with the keys of a file, as the declaration of a resource. Raises HierarchyError."""
    problems = Problems()
    hierarchy = load_values(values, problems, oid_base=oid_base)
    if hierarchy is None:
        raise HierarchyError([f"{name}: {key_text(fault.path)}: {fault.sentence}" for fault in problems.found])
    return hierarchy.of(declared_by)


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Plain TOML. Raises HierarchyError that names the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise HierarchyError([_syntax(text, name, str(error))]) from error
    except RecursionError as error:
        raise HierarchyError([f"{name}: lists or tables are nested too deeply."]) from error
    except ValueError as error:
        # Dates and numbers of impossible size leave tomllib as plain ValueErrors, without a position.
        raise HierarchyError([f"{name}: not valid TOML: {error}."]) from error


def _syntax(text: str, name: str, message: str) -> str:
    sentence, _, place = message.rpartition(" (at ")
    if place.startswith("line "):
        line = place.removeprefix("line ").partition(",")[0]
    else:
        sentence, line = sentence or message, str(text.count("\n") + 1)
    return f"{name}:{line}: not valid TOML: {sentence[:1].lower()}{sentence[1:]}."


def _located(text: str, name: str, problems: Problems) -> list[str]:
    lines = line_numbers(text)
    placed = [(line_of(lines, problem.path), problem) for problem in problems.found]
    return [_sentence(name, line, problem) for line, problem in sorted(placed, key=lambda pair: pair[0])]


def _sentence(name: str, line: int, problem: Problem) -> str:
    key = key_text(problem.path)
    return f"{name}:{line}: {key}: {problem.sentence}" if key else f"{name}:{line}: {problem.sentence}"


_TYPES = {
    "string_type": "a text in quotes is expected",
    "int_type": "a whole number is expected",
    "bool_type": "true or false is expected",
    "list_type": "a list in [ ] is expected",
    "model_type": "a table is expected",
    "dict_type": "a table is expected",
    "missing": "is missing",
}


def _of_pydantic(detail: Any) -> tuple[Path, str]:
    path: Path = tuple(detail["loc"])
    kind = detail["type"]
    if kind == "extra_forbidden":
        return path, f"unknown key {path[-1]!r}{did_you_mean(str(path[-1]), _keys_at(path[:-1]))}"
    return path, f"{_TYPES.get(kind, detail['msg'][:1].lower() + detail['msg'][1:])}."


def _keys_at(path: Path) -> list[str]:
    """The keys that may stand in the table at a path."""
    model: Any = HierarchySpec
    for part in path:
        if isinstance(part, str):
            model = _table_in(model.model_fields[part].annotation)
    return list(model.model_fields)


def _table_in(annotation: Any) -> Any:
    """The table type of `Table`, `Table | None` or `list[Table]`."""
    if get_origin(annotation) in (list, Union, UnionType):
        return next(_table_in(argument) for argument in get_args(annotation) if argument is not type(None))
    return annotation
