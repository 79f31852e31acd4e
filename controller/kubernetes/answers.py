"""What an API server's refusals mean: from an HTTP status and its Status object to the errors of the port."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from spork.controller.cluster import AlreadyExists, ClusterError, Conflict, Ref, Refused, Unreachable
from spork.errors import Code

_QUOTED = 600
"""Characters of the server's own words that are passed on."""
_WITHOUT_DATA = re.compile(r" is forbidden: (User \"|exceeded quota|unable to create new content)")
EXPIRED = Code.PRECONDITION_FAILED
"""Code of a refusal because a resourceVersion is too old to be read from: 410."""
_CODES = {403: Code.FORBIDDEN, 404: Code.NOT_FOUND, 410: EXPIRED, 413: Code.TOO_LARGE}


def error_of(status: int, answer: Mapping[str, Any], ref: Ref, retry_after: str | None = None) -> ClusterError:
    """The error for an answer that is no success. `answer` is the Status object, or empty if the server sent none.

    Source: Kubernetes API conventions, section "HTTP Status codes" and "Response Status Kind".
    """
    if status == 409:
        # A uid or version that does not fit, or a name that is taken. Anything else of that status is about the namespace.
        return AlreadyExists(ref) if answer.get("reason") == "AlreadyExists" else Conflict(ref)
    if status == 422 and _is_about_the_uid(answer):
        return Conflict(ref)
    if status == 401:
        # A new token may be on its way, so this is no refusal for good.
        return Unreachable("The API server does not accept the operator's credentials (401).", 5)
    if status == 429 or status >= 500:
        return Unreachable(
            f"{_name(ref)}: the API server answers {status}{_words(answer, ref)}", _seconds(answer, retry_after)
        )
    return Refused(_CODES.get(status, Code.MALFORMED), f"{_name(ref)}: the API server refuses{_words(answer, ref)}")


def _name(ref: Ref) -> str:
    """Lists are about a kind, in a namespace or in all."""
    return str(ref) if ref.name else f"{ref.kind} in {ref.namespace}" if ref.namespace else ref.kind


def _is_about_the_uid(answer: Mapping[str, Any]) -> bool:
    """A merge patch that names another uid is answered as an attempt to change an immutable field."""
    causes = (answer.get("details") or {}).get("causes") or ()
    return any(cause.get("field") == "metadata.uid" for cause in causes)


def _words(answer: Mapping[str, Any], ref: Ref) -> str:
    # The server quotes values in most of its messages, and admission may say anything. Those about a Secret are left out, all but
    # what is decided before its data is looked at: authorization, quotas, and namespaces that are going.
    if ref.kind == "Secret" and not _WITHOUT_DATA.search(str(answer.get("message"))):
        causes = (answer.get("details") or {}).get("causes") or ()
        fields = ", ".join(sorted({str(cause.get("field")) for cause in causes if cause.get("field")}))
        said = " ".join(part for part in (str(answer.get("reason") or ""), fields) if part)
    else:
        said = str(answer.get("message") or answer.get("reason") or "")
    said = " ".join(said.split())[:_QUOTED]
    return f": {said}" if said else "."


def _seconds(answer: Mapping[str, Any], retry_after: str | None) -> int | None:
    for value in (retry_after, (answer.get("details") or {}).get("retryAfterSeconds")):
        # The header may be a date as well, which API servers do not send.
        if value is not None and str(value).isdigit():
            return int(value)
    return None
