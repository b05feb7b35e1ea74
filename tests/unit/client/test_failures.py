"""An error that a service renders comes back as the same error."""

from __future__ import annotations

import json

import pytest

from headgate import errors
from headgate.client.failures import error_of
from headgate.errors import HeadgateError, InvalidPolicy, RateLimited, Unreachable
from headgate.server.problems import problem_body


def kinds(kind=HeadgateError):
    found = [kind]
    for narrower in kind.__subclasses__():
        found += kinds(narrower)
    return found


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in kinds()
        if not issubclass(kind, RateLimited) and kind.__module__ == errors.__name__
    ],
)
def test_each_error_comes_back(kind):
    sent = kind("what is wrong; what to do", field="levels.0.limit")
    problem = json.loads(problem_body(sent))
    received = error_of(problem, problem["status"])
    assert type(received) is kind
    assert received.message == sent.message
    assert received.code == sent.code


def test_the_context_comes_along():
    error = error_of({"code": "conflict", "detail": "x", "current_version": 7}, 409)
    assert error.context == {"current_version": 7}
    policy = error_of({"code": "invalid_policy", "detail": "x", "field": "limit"}, 422)
    assert isinstance(policy, InvalidPolicy)
    assert policy.field == "limit"


@pytest.mark.parametrize(
    "problem", [{}, {"code": "from_the_future", "detail": "hm"}, {"code": 7, "detail": 8}]
)
def test_what_is_not_known_is_told_with_its_status(problem):
    error = error_of(problem, 418)
    assert isinstance(error, Unreachable)
    assert "status 418" in error.message


@pytest.mark.parametrize("kind", [errors.Overloaded, errors.CircuitOpen, errors.FeatureOff])
def test_a_refusal_comes_back_with_what_is_known_of_its_decision(kind):
    problem = {"code": kind.code, "detail": "x", "policy": "(overload, low)", "retry_after": 1.25}
    error = error_of(problem, 503)
    assert type(error) is kind
    assert (error.decision.retry_after, error.decision.policy) == (1.25, "(overload, low)")
    assert not error.decision.allowed


@pytest.mark.parametrize("wait", [None, "soon", -1, True, 1e300, float("nan"), [], {}])
def test_a_wait_that_is_none_counts_as_a_second(wait):
    assert error_of({"code": "overloaded", "retry_after": wait}, 503).decision.retry_after == 1.0
