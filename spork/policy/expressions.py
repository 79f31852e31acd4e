"""An issuer's own conditions in CEL, the language of Kubernetes' validation rules, over the request that is judged.

`request` has: namespace, requester, door, evidence, issuer, profile, algorithm, subject (RFC 4514), commonName, dnsNames,
ipAddresses, emailAddresses, uris (lists of texts) and seconds (of validity). What is absent is an empty text.

An expression is compiled once for each issuer. What it may cost is bounded before it ever runs: its length, and the number of
macros that walk through a list, since only those can repeat work. Regular expressions run in linear time, but each call compiles
its own anew, which takes 50 milliseconds where a Unicode class is repeated 200 times; so they stand in the expression as texts
without anything that grows, and in no walk within a walk. The names of a request are bounded as well. Whatever goes wrong in an
evaluation refuses.
Source: the CEL specification (cel.dev), sections on macros and on runtime errors.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spork.errors import ConfigurationError, SporkError
from spork.policy.issuer import Expression, Issuer
from spork.policy.proposal import Proposal, Violation
from spork.x509.algorithms import algorithm_of, load_public_key
from spork.x509.names import NameKind, common_name

if TYPE_CHECKING:
    from cel import Program

MAX_LENGTH = 1024
MAX_EXPRESSIONS = 8
MAX_MACROS = 2
MAX_MATCHES = 2
MAX_PATTERN = 128
MAX_NAMES = 256
"""Names of a request that conditions are evaluated for."""
_MACRO = re.compile(r"\b(?:all|exists|exists_one|filter|map|existsOne|transformList|transformMap|bind)\s*\(")
_MATCHES = re.compile(r"\bmatches\s*\(")
# A text in one pair of quotes. In it a backslash only takes the meaning from a punctuation mark; in a text that is not raw it is
# written twice. So there is no class of Unicode's letters, no escape that spells a brace, and no brace, which repeats.
_CHEAP_MATCHES = re.compile(
    r"""\.\s*matches\s*\(\s*(?:[rR](?P<raw>["'])(?:[^"'\\{\n]|\\[^A-Za-z0-9"'{\n])*(?P=raw)
    |(?P<quote>["'])(?:[^"'\\{\n]|\\\\[^A-Za-z0-9"'{\\\n])*(?P=quote))\s*\)""",
    re.VERBOSE,
)
_GROUP_FLAGS = re.compile(r"\(\?(?!:)")
_ALLOWED_NAMES = frozenset({"request"})
_CACHE: OrderedDict[str, Program] = OrderedDict()
_CACHE_SIZE = 4096


def check_expression(text: str) -> None:
    """Raises ConfigurationError with a sentence if the text cannot be an issuer's condition."""
    _program(text)


def expressions_hold(proposal: Proposal) -> list[Violation]:
    """Each of the issuer's own conditions holds. The host's own certificates have no issuer and no conditions."""
    if proposal.issuer is None or not proposal.issuer.expressions:
        return []
    if len(proposal.names) > MAX_NAMES:
        return [
            Violation("expressions_hold", f"The issuer has conditions, and judges at most {MAX_NAMES} names by them.")
        ]
    request = {"request": _request(proposal, proposal.issuer)}
    faults = (_fault(expression, request) for expression in proposal.issuer.expressions)
    return [Violation("expressions_hold", fault) for fault in faults if fault is not None]


def _fault(expression: Expression, request: Mapping[str, Any]) -> str | None:
    try:
        result = _program(expression.rule).execute(dict(request))
    except ConfigurationError as error:
        return f"A condition of the issuer is not usable: {error.detail}"
    except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
        # The text may quote what was asked for, and the requester may see it; the expression is the issuer's own.
        return f"A condition of the issuer cannot be evaluated for this request ({type(error).__name__})."
    if result is True:
        return None
    if result is False:
        return expression.message or "A condition of the issuer does not hold for this request."
    return "A condition of the issuer gives neither true nor false."


def _program(text: str) -> Program:
    found = _CACHE.get(text)
    if found is None:
        found = _CACHE[text] = _compiled(text)
        while len(_CACHE) > _CACHE_SIZE:
            _CACHE.popitem(last=False)
    return found


def _compiled(text: str) -> Program:
    # Imported at first use: most installations have no expression.
    import cel

    if not text.strip() or len(text) > MAX_LENGTH:
        raise ConfigurationError(f"A CEL expression has 1 to {MAX_LENGTH} characters.")
    if "//" in _without_texts(text):
        raise ConfigurationError("A CEL expression has no comments here; say it in the message.")
    macros = len(_MACRO.findall(text))
    if macros > MAX_MACROS:
        raise ConfigurationError(
            f"The CEL expression walks through lists {macros} times, at most {MAX_MACROS} are allowed; write two expressions."
        )
    _check_matches(text, macros)
    try:
        program = cel.compile(text)
        unknown = set(program.variables()) - _ALLOWED_NAMES - _bound(text)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).splitlines()[0].split())[-200:]
        raise ConfigurationError(f"The CEL expression cannot be read: {reason}") from None
    if unknown:
        raise ConfigurationError(
            f"The CEL expression speaks of {', '.join(sorted(unknown))}; only request is known, such as request.dnsNames."
        )
    return program


def _check_matches(text: str, macros: int) -> None:
    calls = len(_MATCHES.findall(text))
    cheap = [found.group() for found in _CHEAP_MATCHES.finditer(text)]
    if len(cheap) != calls or any(_GROUP_FLAGS.search(one) or len(one) > MAX_PATTERN for one in cheap):
        raise ConfigurationError(
            f"The argument of matches is a text in the CEL expression itself of at most {MAX_PATTERN} characters, without braces, "
            "flags, and classes such as \\w or \\d; write [0-9] for \\d."
        )
    if calls > MAX_MATCHES or (calls and macros > 1):
        raise ConfigurationError(
            f"The CEL expression calls matches too often: {MAX_MATCHES} times at most, and in one walk through a list."
        )


def _without_texts(text: str) -> str:
    """The expression without what stands in quotation marks. Escapes are left aside: too much refused is no harm here."""
    return re.sub(r'"[^"\n]*"|\'[^\'\n]*\'', "", text)


def _bound(text: str) -> set[str]:
    """The names that macros bind: the first argument of each."""
    return set(
        re.findall(r"\b(?:all|exists|exists_one|filter|map|existsOne)\s*\(\s*([A-Za-z_][A-Za-z0-9_]*)\s*,", text)
    )


def _request(proposal: Proposal, issuer: Issuer) -> dict[str, Any]:
    of_kind: dict[NameKind, list[str]] = {kind: [] for kind in NameKind}
    for one in proposal.names:
        of_kind[one.kind].append(one.value)
    return {
        "namespace": proposal.requester.namespace or issuer.namespace,
        "requester": proposal.requester.identity,
        "door": proposal.requester.door.value,
        "evidence": proposal.evidence.kind,
        "issuer": issuer.label,
        "profile": proposal.profile.name,
        "algorithm": _algorithm(proposal.spki),
        "subject": proposal.subject.rfc4514_string(),
        "commonName": common_name(proposal.subject) or "",
        "dnsNames": of_kind[NameKind.DNS],
        "ipAddresses": of_kind[NameKind.IP],
        "emailAddresses": of_kind[NameKind.EMAIL],
        "uris": of_kind[NameKind.URI],
        "seconds": int((proposal.not_after - proposal.not_before).total_seconds()) + 1,
    }


def _algorithm(spki: bytes) -> str:
    try:
        found = algorithm_of(load_public_key(spki))
    except SporkError:
        found = None
    # Another rule refuses a key that is not in the table.
    return found.name if found is not None else ""
