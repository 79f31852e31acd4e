"""A signer's refusal as JSON beside the certificate's row, so that whoever asked raises the very same error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spork.errors import Code, SporkError, Subproblem


def refusal_json(error: SporkError) -> dict[str, Any]:
    """The form in `certificate.refusal`."""
    blamed = [
        {"code": one.code.value, "detail": one.detail, "type": one.identifier_type, "value": one.identifier_value}
        for one in error.subproblems
    ]
    return {
        "code": error.code.value,
        "detail": error.detail,
        "retry_after_s": error.retry_after_s,
        "subproblems": blamed,
    }


def refusal_from_json(stored: Mapping[str, Any]) -> SporkError:
    """Inverse of `refusal_json`."""
    blamed = [Subproblem(Code(one["code"]), one["detail"], one["type"], one["value"]) for one in stored["subproblems"]]
    return SporkError(Code(stored["code"]), stored["detail"], retry_after_s=stored["retry_after_s"], subproblems=blamed)
