"""The annotations of an Ingress as the fields of a Certificate."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from typing import Any

from spork.controller.cluster import Object
from spork.controller.models.schema import GROUP
from spork.controller.requests.durations import go_duration, in_hours
from spork.x509.algorithms import BY_NAME

CERT_MANAGER = "cert-manager.io"
_PREFIXES = (GROUP, CERT_MANAGER)
"""Options are read under both; ours counts where both are there."""
_DEFAULT_PROFILE = "tls-server"


class BadAnnotation(Exception):
    """An annotation cannot be used. The text is one sentence."""


def issuer_ref(ingress: Object, *, cert_manager: bool) -> dict[str, Any] | None:
    """The issuer that the Ingress names, or None if it asks nothing of us. Raises BadAnnotation.

    With `cert_manager`, its annotations are left to cert-manager itself, whose own shim reads them.
    """
    annotations = ingress["metadata"].get("annotations") or {}
    ours = _named(annotations, GROUP)
    if ours is not None:
        if annotations.keys() & {f"{CERT_MANAGER}/issuer", f"{CERT_MANAGER}/cluster-issuer"}:
            raise BadAnnotation(f"The issuer is named under {GROUP}/ and under {CERT_MANAGER}/ as well; leave one out.")
        kind, name = ours
    elif cert_manager or annotations.get(f"{CERT_MANAGER}/issuer-group") != GROUP:
        return None
    else:
        theirs = _named(annotations, CERT_MANAGER)
        if theirs is None:
            return None
        kind, name = _their_kind(annotations, *theirs)
    return {"group": GROUP, "kind": kind, "name": name}


def _their_kind(annotations: Mapping[str, str], kind: str, name: str) -> tuple[str, str]:
    """cert-manager has one more annotation for the kind. It may not contradict the one that names the issuer."""
    asked = annotations.get(f"{CERT_MANAGER}/issuer-kind", kind)
    if asked not in ("Issuer", "ClusterIssuer") or (kind == "ClusterIssuer" and asked != kind):
        raise BadAnnotation(
            f"{CERT_MANAGER}/issuer-kind {asked[:64]!r} cannot be the kind of the issuer that is named."
        )
    return asked, name


def _named(annotations: Mapping[str, str], prefix: str) -> tuple[str, str] | None:
    found = [
        (kind, annotations[f"{prefix}/{word}"])
        for word, kind in (("issuer", "Issuer"), ("cluster-issuer", "ClusterIssuer"))
        if f"{prefix}/{word}" in annotations
    ]
    if len(found) > 1:
        raise BadAnnotation(f"{prefix}/issuer and {prefix}/cluster-issuer exclude each other.")
    return found[0] if found else None


def options(ingress: Object) -> dict[str, Any]:
    """The fields of a Certificate's spec that annotations set, beside issuer, Secret and hosts. Raises BadAnnotation."""
    annotations = ingress["metadata"].get("annotations") or {}
    given: dict[str, str] = {}
    for prefix in reversed(_PREFIXES):
        given |= {key.partition("/")[2]: value for key, value in annotations.items() if key.startswith(f"{prefix}/")}
    spec: dict[str, Any] = {"profile": _DEFAULT_PROFILE}
    for word, (field, read) in _FIELDS.items():
        if word in given:
            spec[field] = _read(word, given[word], read)
    subject = {field: _read(word, given[word], read) for word, (field, read) in _SUBJECT.items() if word in given}
    if subject:
        spec["subject"] = subject
    if key := _private_key(given):
        spec["privateKey"] = key
    return spec


def _read(word: str, text: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise BadAnnotation(f"The annotation {word} cannot be used: {error}.") from None


def _entries(text: str) -> list[str]:
    """Comma-separated; a value with a comma of its own stands in double quotes."""
    try:
        (row,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        raise ValueError("it is not one line of values separated by commas") from None
    return list(dict.fromkeys(value.strip() for value in row if value.strip()))


def _duration(text: str) -> str:
    return in_hours(go_duration(text))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{text[:64]!r} is not a whole number")
    return int(text)


def _template(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object with annotations and labels")
    return found


def _pkcs8(text: str) -> None:
    if text != "PKCS8":
        raise ValueError(f"keys are written as PKCS8, not as {text[:64]!r}")


def _percentage(_: str) -> None:
    raise ValueError("give renew-before as a duration instead")


_FIELDS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "common-name": ("commonName", str),
    "alt-names": ("dnsNames", _entries),
    "ip-sans": ("ipAddresses", _entries),
    "uri-sans": ("uris", _entries),
    "email-sans": ("emailAddresses", _entries),
    "duration": ("duration", _duration),
    "renew-before": ("renewBefore", _duration),
    "usages": ("usages", _entries),
    "revision-history-limit": ("revisionHistoryLimit", _number),
    "secret-template": ("secretTemplate", _template),
    "profile": ("profile", str),
    "deletion-policy": ("deletionPolicy", str),
}
_SUBJECT: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "subject-organizations": ("organizations", _entries),
    "subject-organizationalunits": ("organizationalUnits", _entries),
    "subject-countries": ("countries", _entries),
    "subject-provinces": ("provinces", _entries),
    "subject-localities": ("localities", _entries),
    "subject-streetaddresses": ("streetAddresses", _entries),
    "subject-postalcodes": ("postalCodes", _entries),
    "subject-serialnumber": ("serialNumber", str),
}
_UNSUPPORTED: Mapping[str, Callable[[str], Any]] = {
    "private-key-encoding": _pkcs8,
    "renew-before-percentage": _percentage,
}


def _private_key(given: Mapping[str, str]) -> dict[str, str]:
    for word, read in _UNSUPPORTED.items():
        if word in given:
            _read(word, given[word], read)
    key: dict[str, str] = {}
    if "private-key-algorithm" in given or "private-key-size" in given:
        key["algorithm"] = _algorithm(given.get("private-key-algorithm"), given.get("private-key-size"))
    if "private-key-rotation-policy" in given:
        key["rotationPolicy"] = given["private-key-rotation-policy"]
    return key


def _algorithm(algorithm: str | None, size: str | None) -> str:
    """Our name for cert-manager's two words, of which the size alone means RSA; our own names are taken as they are."""
    if algorithm in BY_NAME and size is None:
        return algorithm
    match algorithm:
        case "Ed25519":
            found = "ed25519"
        case "ECDSA":
            found = f"ecdsa-p{size or 256}"
        case "RSA" | None:
            found = f"rsa-{size or 2048}"
        case _:
            found = algorithm
    if found not in BY_NAME:
        asked = f"{algorithm or 'RSA'} {size or ''}".strip()[:64]
        raise BadAnnotation(f"There is no key {asked!r}; there are {', '.join(BY_NAME)}.")
    return found
