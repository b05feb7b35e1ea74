from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from headgate.algorithms.calendar import Calendar

HOUR = 3_600


def bounds(period: str, tz: str, *moment: int) -> tuple[str, str, float]:
    """The period around a local moment: its start and end on the wall, and its hours."""
    zone = ZoneInfo(tz)
    second = int(datetime(*moment, tzinfo=zone).timestamp())  # type: ignore[arg-type,misc]
    start, end = Calendar(period, tz).bounds(second)
    shown = [
        f"{datetime.fromtimestamp(at, UTC).astimezone(zone):%Y-%m-%d %H:%M}" for at in (start, end)
    ]
    return shown[0], shown[1], (end - start) / HOUR


@pytest.mark.parametrize(
    ("tz", "day", "hours"),
    [
        ("Europe/Paris", (2026, 3, 29), 23),
        ("Europe/Paris", (2026, 10, 25), 25),
        ("Europe/Paris", (2026, 6, 1), 24),
        ("America/New_York", (2026, 3, 8), 23),
        ("America/New_York", (2026, 11, 1), 25),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("Australia/Lord_Howe", (2026, 10, 4), 23.5),
        ("Asia/Kolkata", (2026, 3, 29), 24),
        ("America/Havana", (2026, 11, 1), 25),  # midnight comes twice
        ("America/Sao_Paulo", (2018, 11, 4), 23),  # midnight is skipped
        ("Pacific/Apia", (2011, 12, 29), 24),  # the next date is the 31st
    ],
)
def test_days_are_as_long_as_the_wall_says(
    tz: str, day: tuple[int, int, int], hours: float
) -> None:
    assert bounds("day", tz, *day, 12)[2] == hours


@pytest.mark.parametrize(
    ("period", "moment", "expected"),
    [
        ("day", (2026, 3, 29, 3), ("2026-03-29 00:00", "2026-03-30 00:00", 23)),
        ("week", (2026, 3, 29, 23), ("2026-03-23 00:00", "2026-03-30 00:00", 167)),
        ("week", (2026, 3, 30), ("2026-03-30 00:00", "2026-04-06 00:00", 168)),
        ("week", (2027, 1, 1), ("2026-12-28 00:00", "2027-01-04 00:00", 168)),
        ("month", (2026, 2, 28, 23, 59), ("2026-02-01 00:00", "2026-03-01 00:00", 28 * 24)),
        ("month", (2028, 2, 29), ("2028-02-01 00:00", "2028-03-01 00:00", 29 * 24)),
        ("month", (2026, 10, 31, 23), ("2026-10-01 00:00", "2026-11-01 00:00", 31 * 24 + 1)),
        ("month", (2026, 12, 31, 23), ("2026-12-01 00:00", "2027-01-01 00:00", 31 * 24)),
        ("year", (2028, 2, 29), ("2028-01-01 00:00", "2029-01-01 00:00", 366 * 24)),
        ("year", (2026, 12, 31, 23, 59), ("2026-01-01 00:00", "2027-01-01 00:00", 365 * 24)),
        ("hour", (2026, 3, 29, 3, 30), ("2026-03-29 03:00", "2026-03-29 04:00", 1)),
        ("hour", (2026, 10, 25, 2, 30), ("2026-10-25 02:00", "2026-10-25 02:00", 1)),
    ],
)
def test_periods_in_paris(
    period: str, moment: tuple[int, ...], expected: tuple[str, str, float]
) -> None:
    assert bounds(period, "Europe/Paris", *moment) == expected


def test_an_hour_is_cut_where_the_clocks_change_by_half_of_one() -> None:
    # Lord Howe, 2026-04-05: at 02:00 the clocks go back to 01:30.
    assert bounds("hour", "Australia/Lord_Howe", 2026, 4, 5, 1, 10)[2] == 1
    calendar = Calendar("hour", "Australia/Lord_Howe")
    change = int(datetime(2026, 4, 4, 15, tzinfo=UTC).timestamp())
    assert calendar.bounds(change) == (change, change + HOUR // 2)
    assert calendar.bounds(change - 1) == (change - HOUR, change)


def test_a_day_that_is_left_and_entered_again_counts_once() -> None:
    # St John's, 2010-11-07: at 00:01 the clocks went back to 23:01 of the 6th.
    change = int(datetime(2010, 11, 7, 2, 31, tzinfo=UTC).timestamp())
    day = Calendar("day", "America/St_Johns")
    assert day.bounds(change - 61)[1] == change - 60
    assert (
        day.bounds(change + 10) == day.bounds(change - 60) == (change - 60, change + 25 * HOUR - 60)
    )
    hour = Calendar("hour", "America/St_Johns")
    assert hour.bounds(change - 30) == (change - 60, change)
    assert hour.bounds(change) == (change, change + HOUR - 60)


def test_hours_follow_the_offset_of_the_zone() -> None:
    assert bounds("hour", "Asia/Kolkata", 2026, 1, 1, 9, 45) == (
        "2026-01-01 09:00",
        "2026-01-01 10:00",
        1,
    )


def test_a_day_that_starts_in_a_gap_starts_at_the_jump() -> None:
    # Toronto, 1919-03-30: at 23:30 the clocks went on to 00:30 of the 31st.
    assert bounds("day", "America/Toronto", 1919, 3, 31, 12)[0] == "1919-03-31 00:30"
    assert bounds("day", "America/Toronto", 1919, 3, 30, 12) == (
        "1919-03-30 00:00",
        "1919-03-31 00:30",
        23.5,
    )
