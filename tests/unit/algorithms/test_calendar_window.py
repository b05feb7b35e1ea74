from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from headgate.algorithms import build
from headgate.decision import NEVER
from headgate.rate import Rate

if TYPE_CHECKING:
    from headgate.algorithms.base import Algorithm

SECOND = 10**9
HOUR = 3_600 * SECOND
DAY = 24 * HOUR


def window(rate: str, tz: str, *moment: int) -> Algorithm:
    """A window on a clock that starts at a local moment."""
    start = datetime(*moment, tzinfo=ZoneInfo(tz))  # type: ignore[arg-type,misc]
    offset = int(start.timestamp()) * SECOND
    return build("fixed_window", Rate.parse(f"{rate} tz={tz}"), wall_offset_ns=offset)


def test_the_day_on_which_summer_time_starts_is_short() -> None:
    daily = window("10/day", "Europe/Paris", 2026, 3, 29)
    state = daily.consume(None, 10, 0)
    assert daily.wait(state, 1, 0) == 23 * HOUR
    assert daily.wait(state, 10, 23 * HOUR) == 0


def test_the_day_on_which_summer_time_ends_is_long() -> None:
    daily = window("10/day", "Europe/Paris", 2026, 10, 25)
    state = daily.consume(None, 10, 0)
    assert daily.wait(state, 1, 24 * HOUR) == HOUR
    assert daily.reset(state, 0) == 25 * HOUR


def test_a_month_is_the_calendars_own() -> None:
    monthly = window("10/month", "Asia/Kolkata", 2028, 2, 10)
    state = monthly.consume(None, 10, 0)
    assert monthly.reset(state, 0) == 20 * DAY  # 2028 is a leap year


def test_counts_survive_a_look_at_other_times() -> None:
    daily = window("10/day", "Europe/Paris", 2026, 6, 1)
    state = daily.consume(None, 4, 0)
    assert daily.remaining(state, 40 * DAY) == 10
    assert daily.remaining(state, 0) == 6


def test_a_step_back_over_midnight_does_not_open_a_new_day() -> None:
    daily = window("10/day", "Europe/Paris", 2026, 6, 1, 12)
    state = daily.consume(None, 10, 13 * HOUR)
    assert daily.wait(state, 1, 11 * HOUR) == 25 * HOUR
    assert daily.reset(state, 11 * HOUR) == 25 * HOUR


def test_a_state_of_another_time_counts_as_never_seen() -> None:
    daily = window("10/day", "Europe/Paris", 2026, 6, 1)
    state = daily.consume(None, 10, 10 * DAY)
    assert daily.remaining(state, 0) == 10


def test_only_the_day_that_paid_is_paid_back() -> None:
    daily = window("10/day", "Europe/Paris", 2026, 6, 1)
    state = daily.refund(daily.consume(None, 4, 0), 2, HOUR, 0)
    assert daily.used(state, HOUR) == 2
    state = daily.consume(state, 4, DAY)
    assert daily.used(daily.refund(state, 4, DAY, 0), DAY) == 4


def test_after_a_step_back_the_next_day_does_not_pay_for_this_one() -> None:
    daily = window("10/day", "Europe/Paris", 2026, 6, 1)
    state = daily.consume(daily.consume(None, 3, 0), 4, DAY)
    state = daily.refund(state, 3, HOUR, 0)
    assert daily.used(state, DAY) == 4


def test_a_restart_in_the_middle_of_the_month_goes_on_counting() -> None:
    before = window("10/month", "Europe/Paris", 2026, 6, 1)
    after = window("10/month", "Europe/Paris", 2026, 6, 20)
    offset = int(datetime(2026, 6, 1, tzinfo=ZoneInfo("Europe/Paris")).timestamp()) * SECOND
    dumped = before.dump(before.consume(None, 7, 0), offset)
    state = after.load(dumped, offset + 19 * DAY)
    assert after.remaining(state, 0) == 3
    assert after.reset(state, 0) == 11 * DAY


def test_what_is_no_dump_is_refused() -> None:
    daily = window("10/day", "Europe/Paris", 2026, 6, 1)
    for values in ([], [0, 11], [0, -1], [0, 1, 2]):
        with pytest.raises(ValueError):  # noqa: PT011 - several texts
            daily.load(values, 0)


def test_a_day_from_long_before_is_forgotten() -> None:
    daily = window("10/day", "Europe/Paris", 2026, 6, 1)
    assert daily.remaining(daily.load([0, 10], 0), 0) == 10


def test_a_cost_above_the_limit_never_passes() -> None:
    assert window("10/day", "Europe/Paris", 2026, 6, 1).wait(None, 11, 0) == NEVER
