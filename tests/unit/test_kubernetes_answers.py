"""What an API server's refusals mean, and what of its words is passed on."""

from __future__ import annotations

from typing import Any

import pytest

from spork.controller.cluster import AlreadyExists, ClusterError, Conflict, Ref, Refused, Unreachable
from spork.controller.kubernetes.answers import EXPIRED, error_of
from spork.errors import Code

CERTIFICATE = Ref("Certificate", "default", "one")
SECRET = Ref("Secret", "default", "one")


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        pytest.param(409, {"reason": "AlreadyExists"}, AlreadyExists, id="a name that is taken"),
        pytest.param(409, {"reason": "Conflict"}, Conflict, id="a version that is past"),
        pytest.param(409, {}, Conflict, id="a conflict without words"),
        pytest.param(
            422, {"details": {"causes": [{"field": "metadata.uid"}]}}, Conflict, id="a patch that names another uid"
        ),
        pytest.param(422, {"details": {"causes": [{"field": "spec.ca"}]}}, Refused, id="a field that is not valid"),
        pytest.param(403, {}, Refused, id="a role that is missing"),
        pytest.param(400, {}, Refused, id="a request that makes no sense"),
        pytest.param(404, {}, Refused, id="a place that is not there"),
        pytest.param(401, {}, Unreachable, id="credentials that are not accepted now"),
        pytest.param(429, {}, Unreachable, id="too many requests"),
        pytest.param(500, {}, Unreachable, id="a failure"),
        pytest.param(503, {}, Unreachable, id="a server that starts"),
        pytest.param(504, {}, Unreachable, id="a timeout behind the server"),
    ],
)
def test_each_answer_has_its_error(status: int, answer: dict[str, Any], kind: type[ClusterError]) -> None:
    assert type(error_of(status, answer, CERTIFICATE)) is kind


def test_refusals_have_codes_that_callers_tell_apart() -> None:
    codes = [error_of(status, {}, CERTIFICATE).code for status in (403, 404, 410, 413, 422)]
    assert codes == [Code.FORBIDDEN, Code.NOT_FOUND, EXPIRED, Code.TOO_LARGE, Code.MALFORMED]


@pytest.mark.parametrize(
    ("answer", "header", "seconds"),
    [
        ({}, "7", 7),
        ({"details": {"retryAfterSeconds": 9}}, None, 9),
        ({}, None, 1),
        ({}, "Tue, 24 Nov 2026 12:00:00 GMT", 1),
        ({}, "0", 1),
    ],
    ids=["the header", "the body", "neither", "a date", "at once"],
)
def test_the_time_to_wait_is_the_servers(answer: dict[str, Any], header: str | None, seconds: int) -> None:
    assert error_of(429, answer, CERTIFICATE, header).retry_after_s == seconds


def test_the_servers_own_words_are_passed_on() -> None:
    error = error_of(422, {"message": "admission webhook\n denied it"}, CERTIFICATE)
    assert error.detail == "Certificate default/one: the API server refuses: admission webhook denied it"


def test_long_words_are_cut() -> None:
    assert len(error_of(422, {"message": "x" * 5000}, CERTIFICATE).detail) < 700


def test_of_a_secret_only_fields_are_named() -> None:
    answer = {
        "message": 'Secret "one" is invalid: data.key: Invalid value: "hunter2"',
        "reason": "Invalid",
        "details": {"causes": [{"field": "data.key", "message": 'Invalid value: "hunter2"'}]},
    }
    for status, reason in ((400, "BadRequest"), (403, "Forbidden"), (422, "Invalid"), (500, ""), (429, "")):
        detail = error_of(status, answer | {"reason": reason}, SECRET).detail
        assert "hunter2" not in detail
        assert "data.key" in detail


def test_who_may_not_write_a_secret_is_told() -> None:
    answer = {"message": 'secrets is forbidden: User "op" cannot create resource "secrets"', "reason": "Forbidden"}
    assert 'User "op" cannot create' in error_of(403, answer, SECRET).detail


def test_a_list_is_named_by_its_kind() -> None:
    assert error_of(403, {}, Ref("Secret", "", "")).detail.startswith("Secret: ")
    assert error_of(403, {}, Ref("Secret", "shop", "")).detail.startswith("Secret in shop: ")
