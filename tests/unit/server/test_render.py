"""The fast renderer says what `headgate.headers` says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.decision import NEVER, Decision
from headgate.headers import HeaderWriter, decision_members, problem
from headgate.server.render import Renderer, split_tail

NAMES = st.sampled_from(["api", "api-rate-limit", "a.b:c_d/level", "x" * 128])
AMOUNTS = st.integers(0, 10**12)
WAITS = st.integers(0, 5 * 366 * 86_400 * 10**9)
RETRIES = st.one_of(st.just(0), st.just(NEVER), WAITS.filter(bool))


@st.composite
def single_decisions(draw: st.DrawFn) -> Decision:
    retry = draw(RETRIES)
    return Decision(
        retry == 0,
        draw(st.integers(1, 10**12)),
        draw(AMOUNTS),
        retry,
        draw(WAITS),
        draw(st.one_of(st.just(0), WAITS)) if retry == 0 else 0,
        draw(NAMES),
        draw(WAITS.filter(bool)),
        (),
        draw(st.booleans()),
    )


@st.composite
def nested_decisions(draw: st.DrawFn) -> Decision:
    levels = draw(st.lists(single_decisions(), min_size=2, max_size=5))
    retries = [level.retry_after_ns for level in levels]
    retry = NEVER if NEVER in retries else max(retries)
    top = levels[0]
    return Decision(
        retry == 0,
        top.limit,
        top.remaining,
        retry,
        top.reset_after_ns,
        0,
        top.policy,
        top.window_ns,
        tuple(levels),
        any(level.degraded for level in levels),
    )


DECISIONS = st.one_of(single_decisions(), nested_decisions())


def rounded_up(seconds: float, exact: object) -> bool:
    """Whether it is the exact wait, rounded up to the microsecond."""
    return (
        exact is not None and 0 <= seconds - float(str(exact)) <= 1e-6 + float(str(exact)) * 1e-12
    )


def assert_same_members(ours: dict[str, object], decision: Decision) -> None:
    for name, value in decision_members(decision).items():
        if name in {"retry_after", "reset_after", "delay"} and value is not None:
            assert rounded_up(float(str(ours[name])), value)
        else:
            assert ours[name] == value
    assert ("degraded" in ours) == decision.degraded


@given(DECISIONS)
def test_header_fields_are_those_of_headers(decision: Decision) -> None:
    status = 200 if decision.allowed else 429
    fields, body = split_tail(Renderer().check(decision))
    assert fields[2:] == HeaderWriter().raw(decision, status)
    media_type = b"application/json" if decision.allowed else b"application/problem+json"
    assert fields[:2] == [
        (b"content-type", media_type),
        (b"content-length", str(len(body)).encode()),
    ]


@given(DECISIONS)
def test_members_are_those_of_headers(decision: Decision) -> None:
    _, body = split_tail(Renderer().check(decision))
    ours = json.loads(body)
    assert_same_members(ours, decision)
    if not decision.allowed:
        theirs = problem(decision)
        assert set(ours) - {"levels"} == set(theirs)
        for name in ("type", "title", "status", "code", "violated-policies"):
            assert ours[name] == theirs[name]
        assert ours["detail"].partition(";")[0] == str(theirs["detail"]).partition(";")[0]
    assert len(ours.get("levels", [])) == len(decision.levels)
    for level, one in zip(ours.get("levels", []), decision.levels, strict=True):
        assert_same_members(level, one)


@given(st.lists(DECISIONS, max_size=5))
def test_a_batch_has_the_members_of_each(decisions: list[Decision]) -> None:
    results = json.loads(Renderer().results(decisions))["results"]
    for result, decision in zip(results, decisions, strict=True):
        assert_same_members(result, decision)


@given(DECISIONS)
def test_an_answer_refuses_nothing(decision: Decision) -> None:
    fields, body = split_tail(Renderer().answer(decision, ',"more":1'))
    assert_same_members(json.loads(body), decision)
    assert json.loads(body)["more"] == 1
    assert b"retry-after" not in dict(fields)
    assert dict(fields)[b"content-type"] == b"application/json"


@given(st.lists(single_decisions(), max_size=30))
def test_one_renderer_keeps_limits_apart(decisions: list[Decision]) -> None:
    renderer = Renderer()
    for decision in decisions * 2:
        assert renderer.check(decision) == Renderer().check(decision)


def test_the_wordings_are_bounded() -> None:
    renderer = Renderer()
    for limit in range(1, 1_000):
        renderer.check(Decision(True, limit, 1, 0, 0, 0, "one", 10**9))
    for number in range(20_000):
        renderer.check(Decision(True, 1, 1, 0, 0, 0, f"policy{number}", 10**9))
    held = renderer._wordings
    assert len(held) <= 16_384


@pytest.mark.parametrize("allowed", [True, False])
def test_without_a_policy_there_is_no_limit_to_speak_of(allowed: bool) -> None:
    decision = Decision(allowed, 0, 0, 0 if allowed else NEVER, 0, 0, "", 0)
    fields, body = split_tail(Renderer().check(decision))
    assert [name for name, _ in fields] == [b"content-type", b"content-length"]
    members = json.loads(body)
    assert members["allowed"] is allowed
    if not allowed:
        assert members["code"] == "no_policy"
        assert members["type"] == "urn:headgate:problem:no_policy"
