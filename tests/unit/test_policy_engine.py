"""The engine: the whole trace, and one error for what was refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from proposals import CA_KEY, a_csr, a_proposal, name_of, spki_of

from spork.errors import Code
from spork.policy.engine import CODE_OF_RULE, decide, refusal
from spork.policy.proposal import Decision, Violation
from spork.policy.rules import RULES
from spork.x509.names import NameKind, SubjectName, dns

BAD_NAMES = {"names": (dns("www.example.org"), dns("www.example.com"), dns("www.example.net"))}


def test_every_rule_leaves_its_line_in_the_trace_also_after_a_refusal() -> None:
    decision = decide(a_proposal(spki=spki_of(CA_KEY), **BAD_NAMES))
    assert list(dict.fromkeys(verdict.rule for verdict in decision.verdicts)) == [rule.name for rule in RULES]
    refused = [verdict for verdict in decision.verdicts if not verdict.passed]
    assert [(verdict.rule, verdict.name) for verdict in refused] == [
        ("names_permitted", "dns:www.example.org"),
        ("names_permitted", "dns:www.example.net"),
        ("key_is_not_a_ca_key", ""),
    ]
    assert all(verdict.reason.endswith(".") for verdict in refused)


def test_the_trace_can_be_stored_as_json() -> None:
    decision = decide(a_proposal(**BAD_NAMES))
    assert json.loads(json.dumps([asdict(verdict) for verdict in decision.verdicts]))


def test_names_of_rules_are_stable_and_single() -> None:
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    assert set(CODE_OF_RULE) <= set(names)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"spki": spki_of(CA_KEY)}, Code.BAD_PUBLIC_KEY, id="a key"),
        pytest.param({"spki": b"nonsense"}, Code.BAD_PUBLIC_KEY, id="an unreadable key"),
        pytest.param(BAD_NAMES, Code.REJECTED_IDENTIFIER, id="names"),
        pytest.param({"csr": a_csr(x509.DNSName("other.example.com"))}, Code.BAD_CSR, id="a request"),
        pytest.param({"subject": name_of("CN=other.example.com")}, Code.BAD_CSR, id="a commonName"),
        pytest.param({"policies": ("1.3.6.1.4.1.56266.1.20.4",)}, Code.POLICY_REFUSED, id="a policy"),
        pytest.param({"issuer": None}, Code.POLICY_REFUSED, id="no issuer"),
        pytest.param({"issuer": None, "spki": spki_of(CA_KEY)}, Code.BAD_PUBLIC_KEY, id="a key and no issuer"),
        pytest.param({**BAD_NAMES, "csr": a_csr()}, Code.REJECTED_IDENTIFIER, id="names and a silent request"),
    ],
)
def test_a_refusal_has_the_code_of_its_gravest_violation(changes: dict[str, object], code: Code) -> None:
    error = refusal(decide(replace(a_proposal(), **changes)))  # type: ignore[arg-type]
    assert error.code is code
    assert error.retry_after_s is None


def test_each_name_to_blame_has_its_subproblem() -> None:
    error = refusal(decide(a_proposal(**BAD_NAMES)))
    assert [(one.code, one.identifier_type, one.identifier_value) for one in error.subproblems] == [
        (Code.REJECTED_IDENTIFIER, "dns", "www.example.org"),
        (Code.REJECTED_IDENTIFIER, "dns", "www.example.net"),
    ]
    assert "www.example.org" in error.detail
    assert "www.example.net" in error.detail


def test_a_name_with_two_faults_has_one_subproblem_with_the_first() -> None:
    name = SubjectName(NameKind.EMAIL, "a@example.org")
    decision = decide(a_proposal(name))
    assert len(decision.violations) == 2
    (subproblem,) = refusal(decision).subproblems
    assert subproblem.detail == decision.violations[0].reason


def test_the_text_of_a_refusal_is_bounded() -> None:
    error = refusal(decide(a_proposal(*(f"n{number}.example.org" for number in range(500)))))
    assert "There are 495 more reasons." in error.detail
    assert len(error.detail) < 1000
    assert len(error.subproblems) == 100


def test_a_decision_that_allows_is_no_refusal() -> None:
    with pytest.raises(ValueError, match="allows"):
        refusal(decide(a_proposal()))


def test_a_rule_that_is_not_in_the_table_is_a_refusal_by_policy() -> None:
    error = refusal(Decision((), (Violation("a_rule_of_tomorrow", "It is refused."),)))
    assert (error.code, error.detail) == (Code.POLICY_REFUSED, "It is refused.")


@given(
    st.lists(st.builds(SubjectName, st.sampled_from(NameKind), st.text(max_size=30)), max_size=4),
    st.binary(max_size=80),
)
def test_no_names_and_no_key_make_a_rule_fail(names: list[SubjectName], spki: bytes) -> None:
    decision = decide(a_proposal(names=tuple(names), spki=spki))
    assert not decision.allowed
    refusal(decision)
