"""What an answer says, and that what cannot be read says nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.backpressure.pressure_header import PressureReport
from headgate.decision import Decision
from headgate.gates.answers import Answer, answer_of, read_answer
from headgate.headers import HeaderWriter

S = 1_000_000_000
DAY = 86_400 * S
WALL = 1_767_225_600 * S  # 2026-01-01T00:00:00Z


def read(status, **fields):
    lower = {name.replace("_", "-").lower(): value for name, value in fields.items()}
    return read_answer(status, lambda name: lower.get(name.lower()), WALL)


def test_a_plain_answer_says_nothing_more():
    assert read(200) == Answer(200, 0, 0, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3),
        ("0", 0),
        (" 1.5 ", 1.5),
        ("Thu, 01 Jan 2026 00:00:07 GMT", 7),
        ("Thu, 01 Jan 2026 00:00:07", 7),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0),
        ("99999999", 86_400),
        ("-3", 0),
        ("1e3", 0),
        ("inf", 0),
        ("nan", 0),
        ("soon", 0),
        ("", 0),
        ("Thu, 99 Foo 2026 00:00:07 GMT", 0),
        ("9" * 400, 0),
        ("Thu, 01 Jan 99999999 00:00:00 GMT", 0),
        ("\u0663", 0),
    ],
)
def test_retry_after(text, seconds):
    assert read(503, retry_after=text).retry_after_ns == seconds * S


def test_a_refusal_by_a_limit_holds_for_as_long_as_it_asks_for():
    assert read(429, retry_after="3") == Answer(429, 3 * S, 3 * S, None)
    assert read(503, retry_after="3") == Answer(503, 3 * S, 0, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"ratelimit": '"api";r=0;t=18'},
        {"ratelimit": '"api"; r=0; t=18, "other";r=5;t=99'},
        {"ratelimit": '"a, b; c\\" d";r=0;t=18'},
        {"ratelimit": "limit=100, remaining=0, reset=18"},
        {"ratelimit_remaining": "0", "ratelimit_reset": "18"},
        {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "18"},
        {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(WALL // S + 18)},
    ],
)
def test_a_refusal_without_retry_after_holds_until_the_reset(fields):
    answer = read(429, **fields)
    assert answer.hold_ns == answer.retry_after_ns == 18 * S


def test_the_last_that_was_admitted_holds_for_one_token_and_not_until_the_reset():
    fields = {"ratelimit": '"api";r=0;t=60', "ratelimit_policy": '"api";q=100;w=60'}
    assert read(200, **fields).hold_ns == pytest.approx(0.6 * S)
    assert read(200, ratelimit='"api";r=0;t=60').hold_ns == S
    assert read(200, ratelimit='"api";r=1;t=60').hold_ns == 0


def test_our_own_headers_are_read_as_they_were_meant():
    passed = Decision(True, 100, 0, 0, 60 * S, 0, "api", 60 * S)
    refused = Decision(False, 100, 0, 5 * S, 60 * S, 0, "api", 60 * S)
    for decision, status, hold in ((passed, 200, 0.6), (refused, 429, 5)):
        fields = {name.lower(): value for name, value in HeaderWriter().text(decision, status)}
        answer = read_answer(status, lambda name, fields=fields: fields.get(name.lower()), WALL)
        assert answer.hold_ns == pytest.approx(hold * S)


def test_pressure():
    answer = read(200, x_pressure="v=1;p=.5;adm=1;ttl=1000;seq=1")
    assert answer.pressure == PressureReport(0.5, 1.0, 1_000, 1)
    assert read(200, x_pressure="v=1;p=x").pressure is None


class Response:
    def __init__(self, status, headers=None):
        self.status_code = status
        self.headers = headers


class Aiohttp:
    status = 503
    headers = {"Retry-After": "2"}  # noqa: RUF012 - a stub


class Failure(Exception):
    def __init__(self, response=None, status=None):
        super().__init__()
        self.response = response
        self.status = status
        self.headers = {}


@pytest.mark.parametrize(
    ("thing", "status"),
    [
        (Response(503, {"retry-after": "2"}), 503),
        (Response(200), 200),
        (Aiohttp(), 503),
        (Failure(Response(429, {})), 429),
        (Failure(None, 502), 502),
    ],
)
def test_responses_and_exceptions_of_many_kinds(thing, status):
    assert answer_of(thing, WALL).status == status


@pytest.mark.parametrize(
    "thing",
    [
        None,
        503,
        "503",
        ValueError(),
        Failure(),
        Response(True),
        Response("503"),
        Response(7),
        Failure(5),
    ],
)
def test_what_is_neither(thing):
    assert answer_of(thing, WALL) is None


def test_a_field_that_is_no_text_is_passed_over():
    assert answer_of(Response(503, {"retry-after": 7, "x-pressure": b"v=1"}), WALL) == Answer(503)


FIELDS = [
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-pressure",
]


@given(
    st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(FIELDS),
        st.text(max_size=40) | st.text(alphabet='"a;,=rqtw0.19 \\', max_size=40),
    ),
)
def test_hostile_fields_do_no_harm(status, fields):
    answer = read_answer(status, lambda name: fields.get(name.lower()), WALL)
    assert 0 <= answer.retry_after_ns <= DAY
    assert 0 <= answer.hold_ns <= DAY


def test_what_raises_when_it_is_looked_at_says_nothing():
    class Lazy:
        @property
        def status_code(self):
            raise RuntimeError

    class Broken:
        status_code = 503

        class headers:  # noqa: N801 - an attribute
            @staticmethod
            def get(name):
                raise RuntimeError(name)

    assert answer_of(Lazy(), 0) is None
    assert answer_of(Broken(), 0) is None
