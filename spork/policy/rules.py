"""The list of rules. Each judges one thing, by itself, and has a stable name: its function's.

Rules are pure. They see the whole `Proposal`, so none depends on another having run; where one thing is broken in a way that
leaves a rule nothing to judge, it passes, and the rule for that thing refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from spork.policy import authorityrules, csrrules, expressions, keyrules, namerules
from spork.policy.proposal import Proposal, Violation

Judge = Callable[[Proposal], Violation | list[Violation] | None]

DEFAULT_ADMIN_ARC = "1.3.6.1.4.1.56266.1.20"


class Rule(NamedTuple):
    """One line of the policy."""

    name: str
    judge: Judge


def rules(
    *, fips: bool = True, admin_arc: str = DEFAULT_ADMIN_ARC, blocked_keys: frozenset[str] = frozenset()
) -> tuple[Rule, ...]:
    """All rules, in the order of the trace, with what they need to know of this installation."""
    judges: tuple[Judge, ...] = (
        authorityrules.issuer_binds_authority,
        authorityrules.profile_is_allowed,
        authorityrules.profile_is_requestable,
        authorityrules.ca_profile_only_for_ca,
        authorityrules.authority_may_sign,
        namerules.names_well_formed,
        namerules.names_kind_allowed_by_profile,
        namerules.names_required,
        namerules.names_permitted,
        namerules.wildcard_allowed,
        namerules.names_match_grant,
        namerules.common_name_is_a_name,
        namerules.subject_permitted,
        expressions.expressions_hold,
        csrrules.csr_extensions_allowed,
        csrrules.names_from_csr_not_smuggled,
        keyrules.key_is_that_of_the_csr,
        keyrules.key_is_readable,
        partial(keyrules.key_algorithm_allowed, fips=fips),
        partial(keyrules.key_is_strong, blocked=blocked_keys),
        keyrules.key_is_not_a_ca_key,
        authorityrules.validity_in_order,
        authorityrules.validity_within_limits,
        authorityrules.validity_within_authority,
        authorityrules.path_length_holds,
        authorityrules.name_constraints_hold,
        authorityrules.extended_key_usage_holds,
        partial(authorityrules.policies_within_arc, admin_arc=admin_arc),
        partial(authorityrules.admin_level_matches_profile, admin_arc=admin_arc),
    )
    return tuple(Rule(_name(judge), judge) for judge in judges)


def _name(judge: Judge) -> str:
    function = judge.func if isinstance(judge, partial) else judge
    name: str = function.__name__
    return name


RULES = rules()
"""With the defaults: FIPS on, SPORK's own arc, no blocked keys."""
