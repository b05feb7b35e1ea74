"""Decisions as HTTP fields and problem details."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.decision import NEVER, Decision
from headgate.errors import InvalidInput, MissingKey
from headgate.headers import (
    QUOTA_EXCEEDED,
    HeaderWriter,
    decision_members,
    error_problem,
    problem,
    retry_after_seconds,
)

SECOND = 10**9
ALLOWED = Decision(True, 100, 42, 0, 17_400_000_000, 0, "api", 60 * SECOND)
DENIED = Decision(False, 100, 0, 600_000_000, 60 * SECOND, 0, "api", 60 * SECOND)
NEVER_FITS = Decision(False, 100, 100, NEVER, 0, 0, "api", 60 * SECOND)

# RFC 9651: a list of strings with integer parameters.
STRING = r'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
POLICY_ITEM = rf"{STRING};q=\d{{1,15}};w=[1-9]\d{{0,14}}"
LIMIT_ITEM = rf"{STRING};r=\d{{1,15}};t=\d{{1,15}}"


def fields(decision: Decision, status: int = 200, **options) -> dict[str, str]:
    return dict(HeaderWriter(**options).text(decision, status))


def test_an_allowed_request():
    assert fields(ALLOWED) == {
        "RateLimit-Policy": '"api";q=100;w=60',
        "RateLimit": '"api";r=42;t=18',
        "X-RateLimit-Limit": "100",
        "X-RateLimit-Remaining": "42",
        "X-RateLimit-Reset": "18",
    }


def test_a_denied_request_is_told_when_to_come_back():
    told = fields(DENIED, 429)
    assert told["RateLimit"] == '"api";r=0;t=1'
    assert told["Retry-After"] == "1"


def test_retry_after_stands_on_429_and_503_only():
    for status in (200, 400, 404, 500):
        assert "Retry-After" not in fields(DENIED, status)
    assert "Retry-After" in fields(DENIED, 503)
    assert "Retry-After" not in fields(ALLOWED, 429)


def test_what_can_never_pass_is_not_told_to_retry():
    assert "Retry-After" not in fields(NEVER_FITS, 429)
    assert retry_after_seconds(NEVER_FITS) is None


def test_several_limits_are_listed():
    both = Decision(True, 5, 4, 0, SECOND, 0, "a", SECOND, (
        Decision(True, 5, 4, 0, SECOND, 0, "a", SECOND),
        Decision(True, 100, 99, 0, 2 * SECOND, 0, "b", 60 * SECOND),
    ))  # fmt: skip
    told = fields(both)
    assert told["RateLimit-Policy"] == '"a";q=5;w=1, "b";q=100;w=60'
    assert told["RateLimit"] == '"a";r=4;t=1, "b";r=99;t=2'
    assert told["X-RateLimit-Limit"] == "5"


def test_without_a_policy_there_is_nothing_to_say():
    assert fields(Decision(True, 0, 0, 0, 0, 0, "", 0)) == {}


def test_a_window_that_is_no_whole_second_looks_stricter_not_laxer():
    half = Decision(True, 5, 4, 0, 0, 0, "a", SECOND // 2)
    assert fields(half)["RateLimit-Policy"] == '"a";q=5;w=1'


@pytest.mark.parametrize(
    ("styles", "names"),
    [
        ((), set()),
        (("x",), {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}),
        (("ietf",), {"RateLimit", "RateLimit-Policy"}),
        (("ietf-draft-10",), {"RateLimit", "RateLimit-Policy"}),
        ("ietf", {"RateLimit", "RateLimit-Policy"}),
    ],
)
def test_styles(styles, names):
    assert set(fields(ALLOWED, styles=styles)) == names


def test_an_unknown_style_is_refused():
    with pytest.raises(InvalidInput, match="must be one of ietf"):
        HeaderWriter(["ietf-draft-99"])


def test_raw_fields_are_lower_case_bytes():
    assert HeaderWriter(["x"]).raw(DENIED, 429)[-1] == (b"retry-after", b"1")
    assert HeaderWriter(["ietf"]).raw(DENIED)[0] == (b"ratelimit-policy", b'"api";q=100;w=60')


@given(
    name=st.text(min_size=1),
    limit=st.integers(1, 10**12),
    remaining=st.integers(0, 10**12),
    wait=st.integers(0, 5 * 10**17),
    window=st.integers(1_000, 2 * 10**17),
    allowed=st.booleans(),
)
def test_any_decision_makes_valid_structured_fields(name, limit, remaining, wait, window, allowed):
    retry = 0 if allowed else wait + 1
    decision = Decision(allowed, limit, remaining, retry, wait, 0, name, window)
    told = fields(decision, 429)
    assert re.fullmatch(POLICY_ITEM, told["RateLimit-Policy"])
    assert re.fullmatch(LIMIT_ITEM, told["RateLimit"])
    if not allowed:
        reset = int(told["RateLimit"].rpartition("t=")[2])
        assert int(told["Retry-After"]) >= max(1, reset)
        assert int(told["Retry-After"]) * SECOND >= retry


def test_the_cache_of_policies_is_bounded():
    writer = HeaderWriter()
    for limit in range(1, 3000):
        writer.text(Decision(True, limit, 0, 0, 0, 0, "a", SECOND))
    assert len(writer._policies) <= 1024


def test_problem_details_of_a_refusal():
    assert problem(DENIED) == {
        "type": QUOTA_EXCEEDED,
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": 429,
        "detail": "rate limit 'api' reached: 100 per 60 s; retry after 0.600 s",
        "code": "rate_limited",
        "violated-policies": ["api"],
        "allowed": False,
        "policy": "api",
        "limit": 100,
        "remaining": 0,
        "retry_after": 0.6,
        "reset_after": 60.0,
        "delay": 0.0,
    }


def test_problem_details_name_the_limits_that_refused():
    levels = (ALLOWED, Decision(False, 5, 0, SECOND, SECOND, 0, "team", SECOND))
    both = Decision(False, 5, 0, SECOND, SECOND, 0, "team", SECOND, levels)
    assert problem(both)["violated-policies"] == ["team"]


def test_never_is_null():
    assert decision_members(NEVER_FITS)["retry_after"] is None


def test_problem_details_of_other_errors():
    assert error_problem(MissingKey("no key")) == {
        "type": "urn:headgate:problem:missing_key",
        "title": "Missing key",
        "status": 400,
        "detail": "no key",
        "code": "missing_key",
    }
