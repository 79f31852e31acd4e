"""Problem documents: a total table, and nothing said that should not be."""

from __future__ import annotations

import json

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from spork.api.admin.pages import cursor, position
from spork.api.admin.problems import PROBLEMS, TYPE_BASE, http_problem, internal_problem, problem, validation_problem
from spork.errors import Code, SporkError, Subproblem


@pytest.mark.parametrize("code", Code)
def test_every_code_has_its_document(code: Code) -> None:
    answer = problem(SporkError(code, "Why."))
    body = json.loads(answer.body)
    status, title = PROBLEMS[code]
    assert (answer.status_code, answer.media_type) == (status, "application/problem+json")
    assert (body["type"], body["title"], body["status"], body["code"]) == (
        TYPE_BASE + code.value,
        title,
        status,
        code.value,
    )
    assert 400 <= status < 600
    assert (body["detail"] == "Why.") == (code is not Code.INTERNAL)


def test_the_table_has_no_other_codes() -> None:
    assert set(PROBLEMS) == set(Code)


def test_a_retry_after_and_the_challenge_are_headers() -> None:
    assert problem(SporkError(Code.UNAVAILABLE, "x", retry_after_s=5)).headers["retry-after"] == "5"
    assert problem(SporkError(Code.UNAUTHENTICATED, "x")).headers["www-authenticate"]


def test_subproblems_name_their_names() -> None:
    part = Subproblem(Code.REJECTED_IDENTIFIER, "Not yours.", "dns", "a.org")
    body = json.loads(problem(SporkError(Code.REJECTED_IDENTIFIER, "x", subproblems=[part])).body)
    assert [(sub["name"], sub["detail"]) for sub in body["subproblems"]] == [("dns:a.org", "Not yours.")]


def test_an_internal_error_withholds_its_text() -> None:
    body = internal_problem(RuntimeError("postgresql://user:password@host")).body.decode()
    assert "password" not in body
    assert json.loads(body)["reference"]


def test_a_validation_problem_points_without_echoing() -> None:
    error = RequestValidationError(
        [{"loc": ("body", "csr"), "msg": "Field required", "input": "secret", "type": "missing"}]
    )
    body = json.loads(validation_problem(error).body)
    assert body["errors"] == [{"pointer": "body/csr", "detail": "Field required"}]
    assert "secret" not in json.dumps(body)


@pytest.mark.parametrize(
    ("status", "code"), [(404, "notFound"), (405, "methodNotAllowed"), (418, "malformed"), (502, "internal")]
)
def test_refusals_of_the_framework_become_documents(status: int, code: str) -> None:
    answer = http_problem(HTTPException(status, "x", {"Allow": "GET"}))
    assert json.loads(answer.body)["code"] == code
    assert answer.headers["allow"] == "GET"


def test_cursors_come_back_as_they_went() -> None:
    for row in (1, 2**62):
        assert position(cursor(row)) == row
    assert position(None) is None


@pytest.mark.parametrize(
    "text", ["", "x", "djI6MQ", "djE6", "djE6LTE", "djE6OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "\u00e9", "====", "djE6MQ\x00"]
)
def test_a_cursor_that_is_none_is_malformed(text: str) -> None:
    with pytest.raises(SporkError) as refused:
        position(text)
    assert refused.value.code is Code.MALFORMED
