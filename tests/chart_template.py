"""The few constructs of Go templates that the chart uses; any other is an error, so that nothing passes that is not understood.

Source: Go text/template (actions, trim markers, if, else, range with variables) and Helm's functions quote and toJson.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_ACTION = re.compile(r"(\s*)\{\{(-?)\s*(.*?)\s*(-?)\}\}(\s*)", re.DOTALL)
Tokens = list[tuple[str, str]]


def render(text: str, values: dict[str, Any], namespace: str, revision: int = 1) -> str:
    """The text of one template. Raises ValueError for anything else than the subset."""
    root = {"Values": values, "Release": {"Namespace": namespace, "Revision": revision}}
    tokens = list(_tokens(text))
    out = _block(tokens, root, {"$": root})
    if tokens:
        raise ValueError(f"{tokens[0]} closes nothing")
    return out


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    for found in _ACTION.finditer(text):
        before, trim_left, action, trim_right, after = found.groups()
        yield "text", text[at : found.start()] + ("" if trim_left else before)
        yield "action", action
        # What follows belongs to the next text, unless it is trimmed away.
        at = found.end() if trim_right else found.end() - len(after)
    yield "text", text[at:]


def _block(tokens: Tokens, dot: Any, variables: dict[str, Any]) -> str:
    out = ""
    while tokens and tokens[0] not in (("action", "end"), ("action", "else")):
        kind, what = tokens.pop(0)
        out += what if kind == "text" else _action(what, tokens, dot, variables)
    return out


def _action(action: str, tokens: Tokens, dot: Any, variables: dict[str, Any]) -> str:
    word, _, rest = action.partition(" ")
    if word == "if":
        value = _value(rest, dot, variables)
        chosen = _block(tokens, dot, variables) if value else _skipped(tokens)
        if tokens[:1] == [("action", "else")]:
            tokens.pop(0)
            chosen += _skipped(tokens) if value else _block(tokens, dot, variables)
        return _ended(tokens, chosen)
    if word == "range":
        names, _, source = rest.rpartition(":=")
        items = _value(source.strip(), dot, variables)
        pairs = sorted(items.items()) if isinstance(items, dict) else list(enumerate(items))
        body = list(tokens)
        out = ""
        for key, value in pairs:
            again = list(body)
            bound = dict(zip((name.strip() for name in names.split(",")), (key, value), strict=False)) if names else {}
            out += _block(again, value, variables | bound)
        _skipped(tokens)
        return _ended(tokens, out)
    return _text(_value(action, dot, variables))


def _skipped(tokens: Tokens) -> str:
    """Takes a block away without a look at its values."""
    depth = 0
    while tokens:
        kind, what = tokens[0]
        opens = kind == "action" and what.partition(" ")[0] in ("if", "range")
        if kind == "action" and what in ("end", "else") and not depth:
            return ""
        depth += opens - (kind == "action" and what == "end")
        tokens.pop(0)
    raise ValueError("a block has no end")


def _ended(tokens: Tokens, out: str) -> str:
    if not tokens or tokens.pop(0) != ("action", "end"):
        raise ValueError("a block has no end")
    return out


def _value(expression: str, dot: Any, variables: dict[str, Any]) -> Any:
    path, *functions = (part.strip() for part in expression.split("|"))
    value = _path(path, dot, variables)
    for function in functions:
        if function == "quote":
            value = json.dumps(_text(value))
        elif function == "toJson":
            value = json.dumps(value, separators=(",", ":"), sort_keys=True)
        else:
            raise ValueError(f"the function {function} is not known here")
    return value


def _path(path: str, dot: Any, variables: dict[str, Any]) -> Any:
    if not re.fullmatch(r"(\$\w*)?\.?[\w.]*", path) or not path.startswith((".", "$")):
        raise ValueError(f"{path!r} is not known here")
    head, _, rest = path.partition(".")
    value = variables[head] if head else dot
    for name in filter(None, rest.split(".")):
        value = value[name]
    return value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
