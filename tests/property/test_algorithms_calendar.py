"""Calendar windows: the periods tile all time, and the counts follow what the wall says."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.algorithms.calendar import Calendar
from headgate.algorithms.calendar_window import CalendarWindow
from tests.property.models import CalendarModel
from tests.property.setups import SECOND

pytestmark = pytest.mark.slow

PERIODS = {
    "hour": 3_600,
    "day": 86_400,
    "week": 7 * 86_400,
    "month": 30 * 86_400,
    "year": 365 * 86_400,
}
ZONES = (
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/Sao_Paulo",  # changed at midnight, until 2019
    "America/Havana",  # changes at midnight
    "Africa/Casablanca",  # winter time during Ramadan
    "Pacific/Apia",  # skipped a day in 2011
    "America/St_Johns",  # changed at one minute past midnight, until 2011
)
SECONDS = st.one_of(
    st.integers(0, 2_200_000_000),
    # Around the changes of the clocks of 2026 in Paris, New York and Lord Howe.
    st.sampled_from(
        [1774746000, 1792890000, 1772953200, 1793512800, 1775314800, 1790998200]
    ).flatmap(lambda change: st.integers(change - 90_000, change + 90_000)),
    # Apia skips 2011-12-30; St John's goes back over midnight; Sao Paulo goes on at midnight.
    st.sampled_from([1325239200, 1289097060, 1541300400]).flatmap(
        lambda change: st.integers(change - 90_000, change + 90_000)
    ),
)


def local(second: int, tz: str) -> datetime:
    return datetime.fromtimestamp(second, UTC).astimezone(ZoneInfo(tz))


@pytest.mark.parametrize("period", PERIODS)
@given(tz=st.sampled_from(ZONES), second=SECONDS)
def test_periods_tile_time(period: str, tz: str, second: int) -> None:
    calendar = Calendar(period, tz)
    start, end = calendar.bounds(second)
    assert start <= second < end
    assert calendar.bounds(start) == (start, end)
    assert calendar.bounds(end - 1) == (start, end)
    assert calendar.bounds(start - 1)[1] == start
    assert calendar.bounds(end)[0] == end
    assert end - start <= PERIODS[period] * 1.1


@given(tz=st.sampled_from(ZONES), second=SECONDS)
def test_a_day_starts_with_its_date(tz: str, second: int) -> None:
    start, _ = Calendar("day", tz).bounds(second)
    assert local(start - 1, tz).date() != local(start, tz).date()


@given(tz=st.sampled_from(ZONES), second=SECONDS)
def test_an_hour_keeps_to_one_hour_of_the_wall(tz: str, second: int) -> None:
    start, end = Calendar("hour", tz).bounds(second)
    first, last = local(start, tz), local(end - 1, tz)
    assert (first.date(), first.hour, first.utcoffset()) == (
        last.date(),
        last.hour,
        last.utcoffset(),
    )
    assert end - start == 3600 or local(start - 1, tz).utcoffset() != local(end, tz).utcoffset()


@pytest.mark.parametrize("period", PERIODS)
@given(data=st.data())
def test_counts_as_the_model(period: str, data: st.DataObject) -> None:
    tz = data.draw(st.sampled_from(ZONES[:7]))
    origin = data.draw(SECONDS) * SECOND + data.draw(st.integers(0, SECOND - 1))
    limit = data.draw(st.sampled_from([1, 3, 10**12]))
    window_ns = PERIODS[period] * SECOND
    algorithm = CalendarWindow(limit, window_ns, period, tz, origin)
    model = CalendarModel(limit, period, tz, origin)
    state: object = None
    now = 0
    grants = [0]
    for _ in range(data.draw(st.integers(1, 12))):
        now += data.draw(st.one_of(st.just(0), st.integers(0, window_ns // 2)))
        cost = data.draw(st.sampled_from([1, 2, limit // 2, limit]))
        assert algorithm.remaining(state, now) == model.remaining(now)
        wait = algorithm.wait(state, cost, now)
        if cost > limit:
            continue
        if model.passes(cost, now):
            assert wait == 0
            state = algorithm.consume(state, cost, now)
            model.spend(cost, now)
            grants.append(now)
        else:
            assert model.passes(cost, now + wait)
            assert not model.passes(cost, now + wait - 1)
        if data.draw(st.booleans()):
            granted_at = data.draw(st.sampled_from(grants))
            state = algorithm.refund(state, 1, now, granted_at)
            model.refund(1, now, granted_at)
        assert (algorithm.reset(state, now) == 0) == model.is_fresh(now)
        check_restart(algorithm, state, now, origin, period, tz)


def check_restart(
    algorithm: CalendarWindow, state: object, now: int, origin: int, period: str, tz: str
) -> None:
    other = CalendarWindow(algorithm.limit, algorithm.window_ns, period, tz, origin + now)
    loaded = other.load(algorithm.dump(state, origin), origin + now)
    assert other.remaining(loaded, 0) == algorithm.remaining(state, now)
    assert other.reset(loaded, 0) == algorithm.reset(state, now)
