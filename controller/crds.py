"""From the models to CustomResourceDefinitions: structural schemas without references, and the files in crds/.

`python -m spork.controller.crds DIR` writes them; with `--check` it writes nothing and fails where a file differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from spork.controller.models import KINDS, Resource
from spork.controller.models.schema import GROUP, VERSION
from spork.files import write_atomically

_HEADER = "# Generated from spork/controller/models by `make crds`; changes here are lost.\n"
# What pydantic adds for other readers: Kubernetes refuses additionalProperties beside properties, and shows no titles.
_DROPPED = frozenset({"title", "$defs", "additionalProperties"})
_KEPT_METADATA: Mapping[str, Any] = {"type": "object"}


def definition(kind: type[Resource]) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    names = kind.names
    columns = [
        {"name": c.name, "type": c.kind, "jsonPath": c.path, "description": c.description}
        | ({"priority": c.priority} if c.priority else {})
        for c in names.columns
    ]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema_of(kind)},
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": names.scope,
            "names": {
                "kind": kind.__name__,
                "listKind": f"{kind.__name__}List",
                "plural": names.plural,
                "singular": names.singular,
                "shortNames": list(names.short),
                "categories": ["spork"],
            },
            "versions": [version],
        },
    }


def schema_of(kind: type[Resource]) -> dict[str, Any]:
    """The structural schema of one kind."""
    whole = kind.model_json_schema(by_alias=True)
    schema = _structural(whole, whole.get("$defs", {}))
    properties = schema["properties"]
    # Kubernetes knows these three by itself, and refuses anything more than their types.
    properties["metadata"] = dict(_KEPT_METADATA)
    for key in ("apiVersion", "kind"):
        properties[key] = {"type": "string", "description": properties[key]["description"]}
    schema["required"] = ["spec"]
    return schema


def _structural(node: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    node = _without_null(node)
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        # What stands beside the reference speaks of this field and not of its type in general.
        return _structural({**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
    found: dict[str, Any] = {key: value for key, value in node.items() if key not in _DROPPED}
    if "const" in found:
        found["enum"] = [found.pop("const")]
    if "properties" in node:
        found["properties"] = {name: _structural(one, definitions) for name, one in node["properties"].items()}
    elif isinstance(node.get("additionalProperties"), dict):
        found["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if "items" in node:
        found["items"] = _structural(node["items"], definitions)
    if found.get("default", ...) in (None, "", [], {}):
        del found["default"]
    return _defaulted(found)


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    """An optional field is one that may be left out. A null in an object is dropped by the API server."""
    choices = node.get("anyOf")
    if choices is None:
        return node
    (kept,) = [choice for choice in choices if choice != {"type": "null"}]
    return {**kept, **{key: value for key, value in node.items() if key != "anyOf"}}


def _defaulted(found: dict[str, Any]) -> dict[str, Any]:
    """Of a default object only `{}` is kept, and only where a field in it has a default, which then fills it."""
    if found.get("type") == "object" and "default" in found:
        del found["default"]
        if any("default" in one for one in found.get("properties", {}).values()):
            found["default"] = {}
    return found


def text_of(kind: type[Resource]) -> str:
    """The file of one kind."""
    return _HEADER + yaml.safe_dump(definition(kind), sort_keys=True, allow_unicode=True, width=120)


def files() -> dict[str, str]:
    """File name -> text, of all kinds."""
    return {f"{kind.names.plural}.yaml": text_of(kind) for kind in KINDS.values()}


def drifted(folder: Path) -> list[str]:
    """The files of the folder that are not what the models say, that are missing, or that no model has."""
    wanted = files()
    there = {file.name: file.read_text("utf-8") for file in folder.glob("*.yaml")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks the files of a folder."""
    parser = argparse.ArgumentParser(prog="python -m spork.controller.crds")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    if options.check:
        names = drifted(options.folder)
        if names:
            sys.stderr.write(f"{', '.join(names)} in {options.folder}: not what the models say; run `make crds`.\n")
        return 1 if names else 0
    for name, text in files().items():
        write_atomically(options.folder / name, text.encode(), 0o644, replace=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
