"""What a request of another API asks for, read and bounded: the same value whichever API it came by."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spork.errors import Code, SporkError
from spork.x509.csr import MAX_OCTETS, ParsedCSR, csr_from_pem

_MAX_TEXT = 512
_MAX_ENTRIES = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, believed in nothing but that its CSR is signed by its own key."""

    kind: str
    namespace: str
    name: str
    uid: str
    csr: ParsedCSR
    usages: tuple[str, ...]
    validity: timedelta | None
    """None: the profile's default."""
    shorten: bool
    """Whether a validity beyond the limits is cut to them; else it is refused."""
    requester: str
    """Who asks, for the records."""
    requester_namespace: str
    approval: str
    """Who approved it, and why."""
    user: Mapping[str, Any]
    """`username`, `uid`, `groups`, `extra` as the API server has established them."""

    @property
    def key(self) -> str:
        """What makes two attempts the same request."""
        return f"{self.uid}:{hashlib.sha256(self.csr.spki).hexdigest()}"

    @property
    def digest(self) -> bytes:
        """SHA-256 of all that is asked for."""
        der = self.csr.request.public_bytes(Encoding.DER)
        validity = self.validity.total_seconds() if self.validity is not None else None
        asked = [hashlib.sha256(der).hexdigest(), sorted(set(self.usages)), validity]
        return hashlib.sha256(json.dumps(asked).encode()).digest()

    @property
    def purposes(self) -> tuple[str, ...]:
        """The extended key usages that the CSR itself asks for, as dotted OIDs."""
        try:
            found = self.csr.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            return ()
        return tuple(oid.dotted_string for oid in found)


def csr_of(encoded: Any) -> ParsedCSR:
    """The CSR of a `request` field: PEM in base64. Raises SporkError: BAD_CSR, BAD_PUBLIC_KEY."""
    if not isinstance(encoded, str) or len(encoded) > 4 * MAX_OCTETS:
        raise SporkError(Code.BAD_CSR, f"The certificate request is larger than {MAX_OCTETS} octets.")
    try:
        text = base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        raise SporkError(Code.BAD_CSR, "The field request is not PEM text in base64.") from None
    return csr_from_pem(text)


def user_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The requester as the API server has put it into the spec, cut to what a record can hold."""
    extra = list((spec.get("extra") or {}).items())[:_MAX_ENTRIES]
    return {
        "username": _text(spec.get("username")),
        "uid": _text(spec.get("uid")),
        "groups": _texts(spec.get("groups")),
        "extra": {_text(key): _texts(values) for key, values in extra},
    }


def _texts(values: Any) -> list[str]:
    return [_text(value) for value in list(values or ())[:_MAX_ENTRIES]]


def _text(value: Any) -> str:
    """One line that every database and log can hold: JSON may carry NUL and halves of surrogate pairs, PostgreSQL cannot."""
    return "".join(one if one.isprintable() else "?" for one in str(value or "")[:_MAX_TEXT])


def approval_of(condition: Mapping[str, Any]) -> str:
    """Who approved and why, from the condition Approved, as one line."""
    reason, message = condition.get("reason") or "", condition.get("message") or ""
    return _text(" ".join(f"{reason}: {message}".split()))
