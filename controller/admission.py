"""What an API server does to an object before it keeps it, and why it refuses: defaults, rules, and what must not change.

`ObjectStore` asks here before each write, so that a folder, and a test without an API server, refuse what a cluster would refuse.
"""

from __future__ import annotations

import base64
import binascii
import copy
import functools
import re
from collections.abc import Mapping
from typing import Any

import pydantic

from spork.controller.cluster import KINDS, Object, Ref, Refused, ref_of
from spork.controller.crds import schema_of
from spork.controller.manifests import ManifestError, load_object, refused_changes
from spork.controller.models import KINDS as MODELS
from spork.errors import Code

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# Kubernetes refuses keys that begin with two dots, because volumes use such names for themselves; a file has the same trouble.
_DATA_KEY = re.compile(r"(?!\.\.)[A-Za-z0-9._-]{1,253}")
_SERVER_METADATA = ("managedFields", "selfLink", "generation", "creationTimestamp", "deletionTimestamp")


def admitted(item: Object, old: Object | None) -> dict[str, Any]:
    """A copy as the API server would keep it: with defaults, without what only the server writes. Raises Refused."""
    ref = ref_of(item)
    check_name(ref)
    new: dict[str, Any] = {key: copy.deepcopy(value) for key, value in item.items() if key != "status"}
    for key in _SERVER_METADATA:
        new["metadata"].pop(key, None)
    if ref.kind in MODELS:
        _check_resource(new, ref, old)
    elif ref.kind in ("Secret", "ConfigMap"):
        _check_data(new, ref, old)
    elif ref.kind == "Namespace":
        labels = new["metadata"].get("labels") or {}
        new["metadata"]["labels"] = {**labels, "kubernetes.io/metadata.name": ref.name}
    return new


def check_name(ref: Ref) -> None:
    """Names are those that Kubernetes takes, so none can lead out of a folder. Raises Refused."""
    kind = KINDS.get(ref.kind)
    if kind is None:
        raise _refused(ref, "there are no objects of this kind here.")
    # The expressions take no slash and no dot at an end, so neither "." nor ".." nor a path gets through.
    name = ref.name.replace(":", "-") if ref.kind == "ClusterTrustBundle" else ref.name
    if _NAME.fullmatch(name) is None or ".." in name:
        raise _refused(ref, "a name has lower-case letters, digits, hyphens and dots, at most 253.")
    if kind.namespaced and _NAMESPACE.fullmatch(ref.namespace) is None:
        raise _refused(ref, "a namespace has lower-case letters, digits and hyphens, at most 63.")
    if not kind.namespaced and ref.namespace:
        raise _refused(ref, f"{ref.kind} is cluster-wide and has no namespace.")


def check_status(item: Object, status: Mapping[str, Any]) -> None:
    """Raises Refused for a status that the schema of its kind does not take."""
    model = MODELS.get(item["kind"])
    if model is None:
        return
    try:
        model.model_validate({**item, "status": status})
    except pydantic.ValidationError as error:
        # The spec has been judged when it came; it may stem from an older version that allowed more.
        faults = [one for one in error.errors(include_url=False) if one["loc"][:1] == ("status",)]
        if faults:
            path = ".".join(str(part) for part in faults[0]["loc"])
            raise _refused(ref_of(item), f"{path}: {faults[0]['msg']}.") from error


def _check_resource(new: dict[str, Any], ref: Ref, old: Object | None) -> None:
    new["spec"] = _with_defaults(new.get("spec"), _schema(ref.kind)["properties"]["spec"])
    try:
        resource = load_object(new, str(ref))
    except ManifestError as error:
        raise Refused(Code.FORBIDDEN, error.detail) from error
    if old is None or old.get("spec") == new["spec"]:
        return
    try:
        before = load_object({**old, "status": None}, str(ref))
    except ManifestError:
        return  # What stands there was taken by other rules than those of today; nothing can be compared.
    if sentences := refused_changes(resource, before):
        raise _refused(ref, " ".join(sentences))


@functools.cache
def _schema(kind: str) -> dict[str, Any]:
    return schema_of(MODELS[kind])


def _with_defaults(value: Any, schema: Mapping[str, Any]) -> Any:
    """Structural defaulting, as the API server does it: a default stands in only where the object around it is there."""
    if isinstance(value, Mapping):
        found = {key: one for key, one in value.items() if one is not None}
        for key, inner in schema.get("properties", {}).items():
            if key not in found and "default" in inner:
                found[key] = copy.deepcopy(inner["default"])
            if key in found:
                found[key] = _with_defaults(found[key], inner)
        return found
    if isinstance(value, list) and "items" in schema:
        return [_with_defaults(one, schema["items"]) for one in value]
    return value


def _check_data(new: dict[str, Any], ref: Ref, old: Object | None) -> None:
    if ref.kind == "Secret":
        texts = new.pop("stringData", None) or {}
        encoded = {key: base64.b64encode(str(text).encode()).decode() for key, text in texts.items()}
        new["data"] = {**(new.get("data") or {}), **encoded}
        new.setdefault("type", old["type"] if old is not None and "type" in old else "Opaque")
        if old is not None and old.get("type", "Opaque") != new["type"]:
            raise _refused(ref, "the type of a Secret cannot be changed; delete it first.")
    binary = new.get("data" if ref.kind == "Secret" else "binaryData") or {}
    for key in (*(new.get("data") or {}), *binary):
        if _DATA_KEY.fullmatch(key) is None or key == ".":
            raise _refused(ref, f"the key {key!r} has other characters than letters, digits, dots, - and _.")
    for key, value in binary.items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise _refused(ref, f"the value of {key} is not base64.") from error
    if ref.kind == "ConfigMap" and not all(isinstance(one, str) for one in (new.get("data") or {}).values()):
        raise _refused(ref, "the values of a ConfigMap are texts; put them in quotes.")
    if old is not None and old.get("immutable") and _content(old) != _content(new):
        raise _refused(ref, "it is immutable.")


def _content(item: Object) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in ("data", "binaryData", "immutable"))


def _refused(ref: Ref, sentence: str) -> Refused:
    return Refused(Code.FORBIDDEN, f"{ref}: {sentence}")
