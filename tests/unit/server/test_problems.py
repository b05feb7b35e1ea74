"""Every error is a problem with a code, a status and a remedy's worth of words."""

from __future__ import annotations

import http
import json

import pytest

from headgate import errors
from headgate.decision import Decision
from headgate.server.problems import problem_body, problem_fields

DENIED = Decision(False, 1, 0, 1, 1, 0, "p", 10**9)


def kinds(root: type[errors.HeadgateError]) -> list[type[errors.HeadgateError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


@pytest.mark.parametrize("kind", kinds(errors.HeadgateError))
def test_every_error_can_be_said(kind: type[errors.HeadgateError]) -> None:
    limited = issubclass(kind, errors.RateLimited)
    error = kind(DENIED) if limited else kind("a message")  # type: ignore[arg-type]
    problem = json.loads(problem_body(error))
    assert problem["code"] == kind.code
    assert problem["type"] == f"urn:headgate:problem:{kind.code}"
    assert problem["status"] == kind.status
    assert http.HTTPStatus(kind.status)
    assert problem["title"]
    assert dict(problem_fields(error))[b"content-type"] == b"application/problem+json"


def test_the_context_stands_beside_and_never_in_the_place_of_the_members() -> None:
    error = errors.InvalidInput("no", field="a.b", index=3, status=1, code="x", empty="", none=None)
    problem = json.loads(problem_body(error))
    assert (problem["field"], problem["index"]) == ("a.b", 3)
    assert (problem["status"], problem["code"]) == (422, "invalid_input")
    assert "empty" not in problem
    assert "none" not in problem


def test_what_json_cannot_say_is_said_as_text() -> None:
    error = errors.InvalidInput("\ud800 half", value=object(), text="\udfff")
    assert json.loads(problem_body(error))["detail"] == "? half"
