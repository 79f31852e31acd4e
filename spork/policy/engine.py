"""Runs the rules over a proposal, and turns what they refuse into one error."""

from __future__ import annotations

from collections.abc import Sequence

from spork.errors import Code, SporkError, Subproblem
from spork.policy.proposal import Decision, Proposal, Verdict, Violation
from spork.policy.rules import DEFAULT_ADMIN_ARC, RULES, Rule, rules

_MAX_REASONS = 5
"""Sentences in the text of one refusal. The trace has all of them."""
_MAX_SUBPROBLEMS = 100

CODE_OF_RULE = {
    "key_is_readable": Code.BAD_PUBLIC_KEY,
    "key_algorithm_allowed": Code.BAD_PUBLIC_KEY,
    "key_is_strong": Code.BAD_PUBLIC_KEY,
    "key_is_not_a_ca_key": Code.BAD_PUBLIC_KEY,
    "key_is_that_of_the_csr": Code.BAD_CSR,
    "csr_extensions_allowed": Code.BAD_CSR,
    "names_from_csr_not_smuggled": Code.BAD_CSR,
    "common_name_is_a_name": Code.BAD_CSR,
    "names_well_formed": Code.REJECTED_IDENTIFIER,
    "names_kind_allowed_by_profile": Code.REJECTED_IDENTIFIER,
    "names_permitted": Code.REJECTED_IDENTIFIER,
    "wildcard_allowed": Code.REJECTED_IDENTIFIER,
    "names_match_grant": Code.REJECTED_IDENTIFIER,
    "name_constraints_hold": Code.REJECTED_IDENTIFIER,
}
"""Every other rule gives POLICY_REFUSED."""
_PRECEDENCE = (Code.BAD_PUBLIC_KEY, Code.BAD_CSR, Code.REJECTED_IDENTIFIER, Code.POLICY_REFUSED)


class PolicyEngine:
    """The rules of one installation. Built once; holds no state between decisions."""

    def __init__(
        self, *, fips: bool = True, admin_arc: str = DEFAULT_ADMIN_ARC, blocked_keys: frozenset[str] = frozenset()
    ) -> None:
        """`blocked_keys` is what `weakkeys.parse_blocklist` gave."""
        self._rules = rules(fips=fips, admin_arc=admin_arc, blocked_keys=blocked_keys)

    def decide(self, proposal: Proposal) -> Decision:
        """Runs every rule, also after a refusal: the requester is shown the whole trace at once."""
        return _decide(proposal, self._rules)


def decide(proposal: Proposal) -> Decision:
    """As `PolicyEngine.decide`, with the defaults."""
    return _decide(proposal, RULES)


def _decide(proposal: Proposal, all_rules: Sequence[Rule]) -> Decision:
    verdicts: list[Verdict] = []
    violations: list[Violation] = []
    for rule in all_rules:
        judged = rule.judge(proposal)
        found = [judged] if isinstance(judged, Violation) else (judged or [])
        verdicts.extend(
            Verdict(rule.name, False, one.reason, str(one.name) if one.name is not None else "") for one in found
        )
        violations.extend(found)
        if not found:
            verdicts.append(Verdict(rule.name, True))
    return Decision(tuple(verdicts), tuple(violations))


def refusal(decision: Decision) -> SporkError:
    """The error for a decision that does not allow.

    The code is that of the gravest violation: BAD_PUBLIC_KEY, BAD_CSR, REJECTED_IDENTIFIER, POLICY_REFUSED. Each name that is
    to blame gets a subproblem (RFC 8555 section 6.7.1). Raises ValueError for a decision that allows.
    """
    if decision.allowed:
        raise ValueError("the decision allows the issuance")
    codes = [_code(violation) for violation in decision.violations]
    code = min(codes, key=_PRECEDENCE.index)
    # What gave the code comes first.
    ordered = sorted(decision.violations, key=lambda violation: _PRECEDENCE.index(_code(violation)))
    reasons = list(dict.fromkeys(violation.reason for violation in ordered))
    more = len(reasons) - _MAX_REASONS
    detail = " ".join(reasons[:_MAX_REASONS]) + (f" There are {more} more reasons." if more > 0 else "")
    return SporkError(code, detail, subproblems=_subproblems(decision.violations))


def _code(violation: Violation) -> Code:
    return CODE_OF_RULE.get(violation.rule, Code.POLICY_REFUSED)


def _subproblems(violations: Sequence[Violation]) -> list[Subproblem]:
    blamed = {violation.name: violation for violation in reversed(violations) if violation.name is not None}
    # Reversed twice: the first violation of each name counts, and names stay in order.
    pairs = list(reversed(list(blamed.items())))[:_MAX_SUBPROBLEMS]
    return [
        Subproblem(
            _code(violation),
            violation.reason,
            name.kind.value,
            name.value,
        )
        for name, violation in pairs
    ]
