"""An issuer's own conditions in CEL: what they see, what they may cost, and that whatever goes wrong refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from proposals import a_proposal

from spork.errors import ConfigurationError
from spork.policy.engine import decide
from spork.policy.expressions import MAX_EXPRESSIONS, MAX_LENGTH, MAX_NAMES, check_expression, expressions_hold
from spork.policy.issuer import Expression, NamePolicy
from spork.policy.proposal import Door, Requester
from spork.x509.names import dns, ip


def refusals(*rules: str, message: str = "", **changes: Any) -> list[str]:
    proposal = a_proposal(**changes)
    assert proposal.issuer is not None
    issuer = replace(proposal.issuer, expressions=tuple(Expression(rule, message) for rule in rules))
    return [violation.reason for violation in expressions_hold(replace(proposal, issuer=issuer))]


TEAM = Requester(Door.KUBERNETES, "kubernetes:shop/web", namespace="shop")


@pytest.mark.parametrize(
    "rule",
    [
        "request.dnsNames == ['www.example.com', 'a.shop.example.com']",
        "request.dnsNames.all(n, n.endsWith('.example.com'))",
        "request.dnsNames.exists(n, n.startsWith(request.namespace) || n.contains('.' + request.namespace + '.'))",
        "request.ipAddresses == ['192.0.2.1'] && request.uris.size() == 0 && request.emailAddresses == []",
        "request.namespace == 'shop' && request.requester == 'kubernetes:shop/web' && request.door == 'kubernetes'",
        "request.profile == 'tls-server' && request.algorithm == 'ecdsa-p256'",
        "request.seconds <= 100 * 24 * 3600",
        "request.commonName.matches('^[a-z.]*$')",
        "has(request.subject)",
    ],
)
def test_a_condition_sees_the_whole_request(rule: str) -> None:
    names = (dns("www.example.com"), dns("a.shop.example.com"), ip("192.0.2.1"))
    assert refusals(rule, names=names, requester=TEAM) == []


def test_a_condition_that_does_not_hold_refuses_with_its_own_message() -> None:
    assert refusals("request.dnsNames.size() > 5", message="Ask for more names.") == ["Ask for more names."]


def test_each_condition_that_fails_is_told() -> None:
    assert len(refusals("false", "true", "1 > 2")) == 2


@pytest.mark.parametrize(
    "rule",
    [
        "request.nothing == 1",
        "request.dnsNames[99] == 'x'",
        "1 / 0 == 1",
        "request.seconds == 'x' + 1",
        "request.seconds",
    ],
    ids=["no such key", "no such entry", "by zero", "types that do not go together", "a number"],
)
def test_a_condition_that_cannot_be_evaluated_refuses(rule: str) -> None:
    (reason,) = refusals(rule)
    assert reason.startswith("A condition of the issuer ")


def test_the_trace_names_the_rule_of_conditions() -> None:
    proposal = a_proposal()
    assert proposal.issuer is not None
    decision = decide(replace(proposal, issuer=replace(proposal.issuer, expressions=(Expression("false", "No."),))))
    assert [(v.rule, v.reason) for v in decision.verdicts if not v.passed] == [("expressions_hold", "No.")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "1 to 1024"),
        (" ", "1 to 1024"),
        ("true" + " " * MAX_LENGTH, "1 to 1024"),
        ("request.dnsNames.all(", "cannot be read"),
        ("request.dnsNames.all(n, ", "cannot be read"),
        ("requset.profile == 'x'", "speaks of requset"),
        ("n == 'x'", "speaks of n"),
        ("true // always", "no comments"),
        (
            "request.uris.all(a, request.uris.all(b, request.uris.all(c, a + b + c != '')))",
            "walks through lists 3 times",
        ),
        ("(" * 400 + "true" + ")" * 400, "cannot be read"),
        ("[" * 400 + "]" * 400, "cannot be read"),
    ],
)
def test_what_is_no_condition_is_told_at_load(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        check_expression(text)


def test_slashes_in_a_text_are_no_comment() -> None:
    check_expression("request.uris.all(u, u.startsWith('https://example.com/'))")


def test_two_walks_over_a_hundred_names_stay_within_their_means() -> None:
    # Ten thousand rounds; three walks would be a million and are refused at load.
    names = tuple(dns(f"host{number}.example.com") for number in range(100))
    rule = "request.dnsNames.all(a, request.dnsNames.all(b, a + b != 'x'))"
    assert refusals(*[rule] * MAX_EXPRESSIONS, names=names) == []


def test_a_regular_expression_that_would_explode_elsewhere_does_not_here() -> None:
    assert refusals("!request.dnsNames.exists(n, n.matches('^(a+)+$'))", names=(dns("a" * 60 + ".com"),)) == []


@pytest.mark.parametrize(
    "call",
    [
        r"n.matches('\\w')",
        r"n.matches(r'\w+')",
        r"n.matches('\x5cw')",
        r"n.matches('\134w')",
        "n.matches('a{200}')",
        r"n.matches('a\x7b200}')",
        "n.matches('[[:alpha:]]{9}')",
        "n.matches('(?i)a')",
        r"n.matches('\\pL')",
        "n.matches(n)",
        "n.matches('a' + n)",
        "matches(n, 'a')",
        "n.matches('''a{200}''')",
        "n . matches ( 'a{200}' )",
        "n.matches('" + "." * 200 + "')",
        "n.matches('a') || n.matches('b') || n.matches('c')",
    ],
)
def test_what_takes_long_to_compile_at_each_call_is_refused_at_load(call: str) -> None:
    # \w{200} takes 50 milliseconds a call: seven minutes for two walks over a hundred names, in which nothing else is done.
    with pytest.raises(ConfigurationError, match="matches"):
        check_expression(f"request.dnsNames.all(n, {call})")


@pytest.mark.parametrize(
    "text",
    [
        r"request.dnsNames.all(n, n.matches('^[a-z0-9-]+\\.(?:shop|web)\\.example$'))",
        r"request.dnsNames.all(n, n.matches(r'^[0-9]+\.example$'))",
        'request.commonName.matches("a|b") && request.subject.matches("^CN=")',
    ],
)
def test_regular_expressions_that_compile_quickly_are_taken(text: str) -> None:
    check_expression(text)


def test_a_regular_expression_stands_in_no_walk_within_a_walk() -> None:
    with pytest.raises(ConfigurationError, match="one walk"):
        check_expression("request.dnsNames.all(a, request.dnsNames.all(b, a == b || a.matches('a')))")


def test_more_names_than_conditions_can_walk_through_are_refused_unseen() -> None:
    names = tuple(dns(f"host{number}.example.com") for number in range(MAX_NAMES + 1))
    (refusal,) = refusals("true", names=names)
    assert str(MAX_NAMES) in refusal


@pytest.mark.parametrize(
    ("namespace", "name", "permitted"),
    [
        ("shop", "web.shop.svc.cluster.local", True),
        ("shop", "web.other.svc.cluster.local", False),
        ("", "web.shop.svc.cluster.local", False),
        ("sh.op", "web.sh.op.svc.cluster.local", False),
        ("*", "web.shop.svc.cluster.local", False),
        ("SHOP", "web.shop.svc.cluster.local", False),
    ],
)
def test_a_pattern_speaks_of_the_namespace_of_who_asks(namespace: str, name: str, permitted: bool) -> None:
    proposal = a_proposal(names=(dns(name),), requester=replace(TEAM, namespace=namespace))
    assert proposal.issuer is not None
    policy = NamePolicy({"dns": ("*.{namespace}.svc.cluster.local",)})
    decision = decide(replace(proposal, issuer=replace(proposal.issuer, names=policy)))
    assert decision.allowed is permitted


def test_the_namespace_of_an_issuer_stands_in_where_the_requester_has_none() -> None:
    proposal = a_proposal(names=(dns("web.shop.example.com"),))
    assert proposal.issuer is not None
    policy = NamePolicy({"dns": ("**.{namespace}.example.com",)})
    for namespace, allowed in (("shop", True), ("other", False), ("", False)):
        issuer = replace(proposal.issuer, names=policy, namespace=namespace)
        assert decide(replace(proposal, issuer=issuer)).allowed is allowed
