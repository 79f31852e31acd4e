"""From the text of a file to the objects that it declares, as an API server would keep them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic

from spork.controller.admission import admitted
from spork.controller.cluster import KINDS as KNOWN
from spork.controller.cluster import Object, Ref, Refused, ref_of
from spork.controller.manifests import Document, ManifestError, load_documents
from spork.controller.models import KINDS
from spork.controller.models.schema import GROUP, Metadata

DEFAULT_NAMESPACE = "default"
"""Where an object goes that names no namespace, as with kubectl."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One object of a file."""

    item: Object
    place: str
    """`file:line`."""
    digest: str
    """SHA-256 of all that is declared."""

    @property
    def ref(self) -> Ref:
        return ref_of(self.item)


@dataclass(frozen=True, slots=True)
class Content:
    """What one file says. With a fault it declares nothing: what it declared before stays as it was."""

    declared: tuple[Declared, ...] = ()
    faults: tuple[str, ...] = ()
    foreign: frozenset[str] = frozenset()
    """Kinds that are not read here, as `apiVersion Kind`."""


class _Loose(pydantic.BaseModel):
    """Only what is read here has names; the rest is kept as it is."""

    model_config = pydantic.ConfigDict(extra="allow", strict=True)


class _Object(_Loose):
    metadata: Metadata


class _Secret(_Object):
    data: dict[str, str] | None = None
    stringData: dict[str, str] | None = None
    type: str = "Opaque"


class _ConfigMap(_Object):
    data: dict[str, str] | None = None
    binaryData: dict[str, str] | None = None


class _IngressTLS(_Loose):
    hosts: list[str] | None = None
    secretName: str | None = None


class _IngressRule(_Loose):
    host: str | None = None


class _IngressSpec(_Loose):
    tls: list[_IngressTLS] | None = None
    rules: list[_IngressRule] | None = None


class _Ingress(_Object):
    spec: _IngressSpec


_PLAIN: Mapping[str, type[_Object]] = {
    "Namespace": _Object,
    "Secret": _Secret,
    "ConfigMap": _ConfigMap,
    "Ingress": _Ingress,
}
DECLARABLE = frozenset({*KINDS, *_PLAIN})
"""The kinds that may stand in files."""


def parse(text: str, name: str) -> Content:
    """The content of a file. Never raises for what stands in it."""
    declared: list[Declared] = []
    faults: list[str] = []
    foreign: set[str] = set()
    try:
        documents = [one for document in _documents(text, name) for one in document.items()]
    except ManifestError as error:
        return Content(faults=error.lines)
    for document in documents:
        try:
            if (other := _foreign(document.values)) is not None:
                foreign.add(other)
            else:
                declared.append(_declared(document))
        except ManifestError as error:
            faults += error.lines
    return Content(faults=tuple(faults)) if faults else Content(tuple(declared), (), frozenset(foreign))


def _documents(text: str, name: str) -> Iterable[Document]:
    if not name.endswith(".json"):
        return load_documents(text, name)
    # JSON may be indented by tabs, which YAML does not take.
    try:
        return [Document(json.loads(text, object_pairs_hook=_unique), name, {})]
    except json.JSONDecodeError as error:
        raise ManifestError([f"{name}:{error.lineno}: not valid JSON: {error.msg}."]) from error
    except RecursionError as error:
        raise ManifestError([f"{name}: is nested too deeply."]) from error
    except ValueError as error:
        raise ManifestError([f"{name}: not valid JSON: {error}."]) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return found


def _foreign(values: Any) -> str | None:
    """The kind, if it is none of ours. Whatever has our group is ours, right or wrong."""
    if not isinstance(values, dict):
        return None
    version, kind = values.get("apiVersion"), values.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str) or version.startswith(f"{GROUP}/"):
        return None
    if kind in _PLAIN and version == KNOWN[kind].api_version:
        return None
    return f"{version} {kind}"


def _declared(document: Document) -> Declared:
    values = document.values
    kind = values.get("kind") if isinstance(values, dict) else None
    if isinstance(kind, str) and kind in _PLAIN and not str(values.get("apiVersion")).startswith(f"{GROUP}/"):
        metadata = _plain(document, _PLAIN[kind]).metadata
    else:
        metadata = document.resource().metadata
    try:
        json.dumps(values, allow_nan=False, ensure_ascii=False).encode()
        item = admitted(_normal(values, metadata), None)
    except Refused as error:
        raise ManifestError([f"{document.place}: {error.detail}"]) from error
    except (TypeError, ValueError) as error:
        raise ManifestError([document.fault((), f"it has a value that JSON cannot hold: {error}.")]) from error
    canonical = json.dumps(item, sort_keys=True, separators=(",", ":"))
    return Declared(item, document.place, hashlib.sha256(canonical.encode()).hexdigest())


def _plain(document: Document, model: type[_Object]) -> _Object:
    try:
        return model.model_validate(document.values)
    except pydantic.ValidationError as error:
        # The input is not repeated: it may be a password.
        faults = [document.fault(tuple(one["loc"]), f"{one['msg']}.") for one in error.errors(include_url=False)]
        raise ManifestError(faults) from error


def _normal(values: Mapping[str, Any], metadata: Metadata) -> dict[str, Any]:
    """Without what a server writes: a file that was exported from a cluster is read as well."""
    named: dict[str, Any] = {"name": metadata.name}
    namespaced = KNOWN[values["kind"]].namespaced
    if metadata.namespace or namespaced:
        named["namespace"] = metadata.namespace or DEFAULT_NAMESPACE
    named |= {key: dict(getattr(metadata, key)) for key in ("labels", "annotations") if getattr(metadata, key)}
    kept = {key: value for key, value in values.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    return {"apiVersion": values["apiVersion"], "kind": values["kind"], "metadata": named, **kept}
