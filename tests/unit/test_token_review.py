"""What the API server answers to a TokenReview, and what of it is believed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from spork.api.admin.tokenreview import Reviewed, TokenReviewer, looks_like_service_account_token, reviewer_of
from spork.errors import Code, ConfigurationError, SporkError
from spork.policy.tokendoor import ServiceAccount
from spork.settings import load_settings

USER = {"username": "system:serviceaccount:shop:web", "uid": "u1"}
GOOD = {"authenticated": True, "audiences": ["spork-ca.org"], "user": USER}


class _Answering(TokenReviewer):
    def __init__(self, answer: Any) -> None:
        super().__init__("https://api.test", Path("token"), None)
        self._answer = answer

    async def _ask(self, token: str, audiences: Sequence[str]) -> Any:
        return self._answer


async def test_a_service_account_for_the_right_audience_is_believed() -> None:
    extra = {"authentication.kubernetes.io/credential-id": ["JTI=1"]}
    answer = {"status": {**GOOD, "user": {**USER, "extra": extra}}}
    reviewed = await _Answering(answer).review("t", ["other", "spork-ca.org"])
    assert reviewed == Reviewed(ServiceAccount("shop", "web", "u1"), "JTI=1")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({}, Code.UNAUTHENTICATED),
        ({**GOOD, "authenticated": False}, Code.UNAUTHENTICATED),
        ({**GOOD, "authenticated": "true"}, Code.UNAUTHENTICATED),
        ({**GOOD, "authenticated": 1}, Code.UNAUTHENTICATED),
        ({"authenticated": True, "user": USER}, Code.UNAUTHENTICATED),
        ({**GOOD, "audiences": []}, Code.UNAUTHENTICATED),
        ({**GOOD, "audiences": ["https://kubernetes.default.svc"]}, Code.UNAUTHENTICATED),
        ({**GOOD, "audiences": "spork-ca.org"}, Code.UNAUTHENTICATED),
        ({**GOOD, "audiences": [["spork-ca.org"]]}, Code.UNAUTHENTICATED),
        ({**GOOD, "user": None}, Code.UNAUTHENTICATED),
        ({**GOOD, "user": "system:serviceaccount:shop:web"}, Code.UNAUTHENTICATED),
        ({**GOOD, "user": {"username": "admin", "uid": "u1"}}, Code.UNAUTHENTICATED),
        ({**GOOD, "user": {"username": USER["username"]}}, Code.UNAUTHENTICATED),
        (None, Code.UNAVAILABLE),
        ([], Code.UNAVAILABLE),
    ],
    ids=[
        "nothing",
        "not authenticated",
        "a text for yes",
        "a number for yes",
        "no audiences at all",
        "no audience",
        "another audience",
        "a text for a list",
        "a list in a list",
        "no user",
        "a text for a user",
        "a person",
        "no uid",
        "no status",
        "a list for a status",
    ],
)
async def test_anything_less_is_not_believed(status: Any, code: Code) -> None:
    with pytest.raises(SporkError) as caught:
        await _Answering({"status": status}).review("secret-token", ["spork-ca.org"])
    assert caught.value.code is code
    assert "secret-token" not in caught.value.detail


@pytest.mark.parametrize("answer", [None, [], "text", {}, 1])
async def test_an_answer_of_another_form_is_none(answer: Any) -> None:
    with pytest.raises(SporkError) as caught:
        await _Answering(answer).review("t", ["spork-ca.org"])
    assert caught.value.code is Code.UNAVAILABLE


@pytest.mark.parametrize(
    ("token", "worth"),
    [
        ("a.b.c", True),
        ("a.b", False),
        ("a.b.c.d", False),
        ("", False),
        ("a..c", False),
        ("a.b.c ", False),
        ("a" * 17000 + ".b.c", False),
    ],
    ids=["three parts", "two", "four", "none", "an empty one", "a blank", "too long"],
)
def test_only_what_looks_like_a_token_is_asked_about(token: str, worth: bool) -> None:
    assert looks_like_service_account_token(token) is worth


def test_outside_of_any_cluster_nobody_is_asked() -> None:
    assert reviewer_of(load_settings(environment={}), {}) is None


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}, "https://10.0.0.1:6443"),
        ({"KUBERNETES_SERVICE_HOST": "fd00::1"}, "https://[fd00::1]:443"),
    ],
    ids=["IPv4", "IPv6"],
)
def test_in_a_cluster_its_own_api_server_is_asked(environment: dict[str, str], url: str) -> None:
    reviewer = reviewer_of(load_settings(environment={}), environment)
    assert reviewer is not None
    assert reviewer._url == url
    assert reviewer._token_file == Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def test_settings_name_another_one_and_never_a_plain_url() -> None:
    given = {"SPORK_KUBERNETES_URL": "https://api.test", "SPORK_KUBERNETES_TOKEN_FILE": "/t"}
    reviewer = reviewer_of(load_settings(environment=given), {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert reviewer is not None
    assert (reviewer._url, reviewer._token_file) == ("https://api.test", Path("/t"))
    with pytest.raises(ConfigurationError):
        reviewer_of(load_settings(environment={"SPORK_KUBERNETES_URL": "http://api.test"}), {})
