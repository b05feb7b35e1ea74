from __future__ import annotations

import pickle
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import InvalidRate
from headgate.rate import (
    MAX_LIMIT,
    MAX_WINDOW_NS,
    MIN_WINDOW_NS,
    Rate,
    parse_rates,
    parse_window,
)

SECOND = 10**9
DAY = 86_400 * SECOND


@pytest.mark.parametrize(
    ("text", "limit", "window_ns", "canonical"),
    [
        ("100/minute", 100, 60 * SECOND, "100/minute"),
        ("100 per minute", 100, 60 * SECOND, "100/minute"),
        ("10/s", 10, SECOND, "10/second"),
        ("10/2 hours", 10, 7200 * SECOND, "10/2 hours"),
        ("500/7days", 500, 7 * DAY, "500/week"),
        ("10/100ms", 10, SECOND // 10, "10/100 ms"),
        ("10/100us", 10, SECOND // 10_000, "10/100 us"),
        ("10/12345ns", 10, 12_345, "10/12345 ns"),
        ("3/1.5h", 3, 5400 * SECOND, "3/90 minutes"),
        ("1/5 years", 1, MAX_WINDOW_NS, "1/1825 days"),
        ("5/mo", 5, 30 * DAY, "5/month"),
        ("5/yr", 5, 365 * DAY, "5/year"),
        ("  7 / Week  ", 7, 7 * DAY, "7/week"),
        # As the limits library writes them.
        ("1/1minute", 1, 60 * SECOND, "1/minute"),
        ("10 per 2 hours", 10, 7200 * SECOND, "10/2 hours"),
        ("10PERDAY", 10, DAY, "10/day"),
        ("10/2months", 10, 60 * DAY, "10/60 days"),
        ("10 per  3 seconds", 10, 3 * SECOND, "10/3 seconds"),
    ],
)
def test_reads_what_people_write(text: str, limit: int, window_ns: int, canonical: str) -> None:
    rate = Rate.parse(text)
    assert (rate.limit, rate.window_ns, rate.burst, rate.tz) == (limit, window_ns, None, None)
    assert str(rate) == canonical
    assert Rate.parse(canonical) == rate


def test_reads_a_burst_and_a_time_zone_in_either_order() -> None:
    rate = Rate.parse("1000/day burst 50 tz=Europe/Paris")
    assert (rate.burst, rate.period, rate.tz) == (50, "day", "Europe/Paris")
    assert Rate.parse("1000/day tz = Europe/Paris  BURST=50") == rate
    assert str(rate) == "1000/day burst 50 tz=Europe/Paris"


def test_the_capacity_is_the_burst_or_the_limit() -> None:
    assert Rate.parse("10/s burst 20").capacity == 20
    assert Rate.parse("10/s").capacity == 10


@pytest.mark.parametrize("separator", [";", ",", "|", " ; "])
def test_several_rates_in_one_text(separator: str) -> None:
    rates = parse_rates(f"5/second{separator}100/minute burst 7{separator}1000/day tz=UTC")
    assert [str(rate) for rate in rates] == ["5/second", "100/minute burst 7", "1000/day tz=UTC"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read '' as a rate; write it like"),
        ("fast", "cannot read 'fast' as a rate"),
        ("10", "cannot read '10' as a rate"),
        ("/s", "cannot read '/s' as a rate"),
        ("10//s", "cannot read '10//s' as a rate"),
        ("1e9/s", "cannot read '1e9/s' as a rate"),
        ("\u0661/s", "cannot read"),  # a digit, of another alphabet
        ("10/s\0", "cannot read"),
        ("0/s", "limit must be >= 1, got 0"),
        ("-5/s", "limit must be >= 1, got '-5'; use 1 or more"),
        (
            "0.5/s",
            "limit must be a whole number, got '0.5'; for less than one, take a longer window",
        ),
        ("nan/s", "limit must be a whole number, got 'nan'"),
        ("inf/s", "limit must be a whole number, got 'inf'"),
        ("1000000000001/day", "limit must be <= 1000000000000"),
        ("9" * 30 + "/s", "limit must have at most 20 digits, got 30"),
        ("9" * 5000 + "/s", "a rate must have at most 256 characters, got 5002"),
        ("2000/us", "a rate must be at most one per nanosecond"),
        ("10/0s", "a window must be longer than zero"),
        ("10/999ns", "a window must be >= 1 us"),
        ("10/0.1ns", "a window must be whole nanoseconds"),
        ("10/6 years", "a window must be <= 5 years"),
        ("10/" + "9" * 30 + " days", "window must have at most 20 digits"),
        ("10/1." + "9" * 30 + " days", "window must have at most 20 digits"),
        ("10/fortnight", "unknown unit 'fortnight'; use ms, s, m, h, day, week, month or year"),
        ("10/s burst 0", "burst must be >= 1, got 0; leave it out to use the limit"),
        ("10/s burst", "cannot read 'burst' in the rate '10/s burst'"),
        ("10/s burst 5 burst 6", "cannot read 'burst 6'"),
        ("10/s burst 5x", "cannot read 'burst 5x'"),
        ("10/s please", "after the unit may follow 'burst N' and 'tz=Area/City'"),
        ("1/year burst 6", "a burst must refill within five years"),
        ("10/day tz=Mars/Olympus", "unknown time zone 'Mars/Olympus'; use an IANA name"),
        ("10/day tz=../../etc/passwd", "unknown time zone"),
        ("10/day tz=Europe", "unknown time zone"),
        ("10/day tz=", "cannot read 'tz='"),
        ("10/minute tz=UTC", "a time zone needs a window of exactly one hour, day"),
        ("10/2 days tz=UTC", "a time zone needs"),
        ("10/30 days tz=UTC", "a time zone needs exactly one calendar period"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_remedy(text: str, message: str) -> None:
    with pytest.raises(InvalidRate, match=re.escape(message)) as caught:
        Rate.parse(text)
    assert len(str(caught.value)) < 300


def test_one_bad_rate_of_several_is_refused() -> None:
    with pytest.raises(InvalidRate, match="cannot read"):
        parse_rates("5/second;")


@pytest.mark.parametrize("value", [1.5, float("nan"), "10", None, True])
def test_numbers_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(InvalidRate, match="limit must be a whole number"):
        Rate(value, SECOND)  # type: ignore[arg-type]
    with pytest.raises(InvalidRate, match="window_ns must be a whole number"):
        Rate(1, value)  # type: ignore[arg-type]


def test_a_period_has_to_name_the_window() -> None:
    assert Rate(5, DAY, None, "day", "UTC").period == "day"
    with pytest.raises(InvalidRate, match="period must name the window, got 'day'"):
        Rate(5, SECOND, None, "day")


def test_short_ways_to_make_one() -> None:
    assert Rate.per_second(5) == Rate.parse("5/s")
    assert Rate.per_minute(5, burst=2) == Rate.parse("5/m burst 2")
    assert Rate.per_hour(5) == Rate.parse("5/h")
    assert Rate.per_day(5) == Rate.parse("5/d")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1m", (60 * SECOND, "minute")),
        ("30s", (30 * SECOND, None)),
        ("500ms", (SECOND // 2, None)),
        ("1h", (3600 * SECOND, "hour")),
        ("1d", (DAY, "day")),
        ("day", (DAY, "day")),
        ("month", (30 * DAY, "month")),
        ("2 weeks", (14 * DAY, None)),
        ("90", (90 * SECOND, None)),
        (60, (60 * SECOND, "minute")),
        (0.25, (SECOND // 4, None)),
    ],
)
def test_windows(value: object, expected: tuple[int, str | None]) -> None:
    assert parse_window(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "-1s",
        "s5",
        "5 parsecs",
        "1e3",
        "9" * 300,
        0,
        -1,
        0.0,
        1e-09,
        1e300,
        10**400,
        float("nan"),
        float("inf"),
        float("-inf"),
        None,
        True,
        [],
        {},
        b"1m",
    ],
)
def test_what_is_no_window_is_refused(value: object) -> None:
    with pytest.raises(InvalidRate):
        parse_window(value)


def test_a_rate_is_a_value() -> None:
    rate = Rate.parse("10/day burst 5 tz=Europe/Paris")
    assert {rate: 1}[Rate.parse("10/d tz=Europe/Paris burst 5")] == 1
    assert rate != Rate.parse("10/day burst 5")
    assert rate != "10/day burst 5 tz=Europe/Paris"
    assert pickle.loads(pickle.dumps(rate)) == rate
    assert repr(rate) == "Rate.parse('10/day burst 5 tz=Europe/Paris')"
    with pytest.raises(AttributeError):
        rate.limit = 5  # type: ignore[misc]


def test_time_zones_are_loaded_when_they_are_used() -> None:
    program = (
        "import sys; from headgate.rate import Rate; Rate.parse('10/day');"
        "assert 'zoneinfo' not in sys.modules and 'datetime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


WORDS = "10 0 -1 1.5 / per s minute days ms burst = tz UTC Europe/Paris nan ; . ../"
PIECES = st.sampled_from(
    [
        *WORDS.split(),
        " ",
        "\0",
        "9" * 25,
        "\N{LATIN SMALL LETTER DOTLESS I}",
        "\N{ARABIC-INDIC DIGIT ONE}",
    ]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=10).map("".join)))
def test_reading_ends_in_a_rate_or_in_invalid_rate(text: str) -> None:
    for read in (Rate.parse, parse_rates, parse_window):
        try:
            read(text)
        except InvalidRate as error:
            assert len(str(error)) < 400  # noqa: PT017 - either outcome is right


@given(
    limit=st.integers(-1, MAX_LIMIT + 1),
    window_ns=st.one_of(
        st.integers(MIN_WINDOW_NS - 1, MAX_WINDOW_NS + 1),
        st.sampled_from([SECOND, 60 * SECOND, DAY, 7 * DAY, 30 * DAY, 365 * DAY]),
        st.integers(1, 500).map(lambda hours: hours * 3600 * SECOND),
    ),
    burst=st.one_of(st.none(), st.integers(0, MAX_LIMIT + 1)),
    tz=st.sampled_from([None, None, "UTC", "Asia/Kolkata"]),
)
def test_text_and_rate_are_the_same_thing(
    limit: int, window_ns: int, burst: int | None, tz: str | None
) -> None:
    try:
        rate = Rate(limit, window_ns, burst, None, tz)
    except InvalidRate:
        return
    assert Rate.parse(str(rate)) == rate
    assert hash(Rate.parse(str(rate))) == hash(rate)
