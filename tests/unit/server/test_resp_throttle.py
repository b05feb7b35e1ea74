"""CL.THROTTLE: the numbers of the answer, and how many limits are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.engine.table import KeyedTable
from headgate.errors import InvalidCost, InvalidInput, InvalidRate, TooManyLimits
from headgate.server.resp_throttle import ThrottleBook, read_cost, whole_number

SECOND = 10**9


class Denials:
    def __init__(self):
        self.seen = []

    def denied(self, policy, key):
        self.seen.append((policy, key))


def book(**options):
    return ThrottleBook(KeyedTable(10_000), **options)


def ask(throttles, seconds, *, key="k", numbers=(b"2", b"1", b"10"), cost=1):
    reply = throttles.answer(key, numbers, cost, round(seconds * SECOND))
    head, *values, end = reply.split(b"\r\n")
    assert head == b"*5"
    assert end == b""
    return [int(value[1:]) for value in values]


def test_the_answer_is_limited_capacity_remaining_retry_reset():
    throttles = book()
    assert ask(throttles, 0) == [0, 3, 2, -1, 10]
    assert ask(throttles, 0) == [0, 3, 1, -1, 20]
    assert ask(throttles, 0) == [0, 3, 0, -1, 30]
    assert ask(throttles, 0) == [1, 3, 0, 10, 30]


def test_seconds_are_rounded_up():
    throttles = book()
    ask(throttles, 0, cost=3)
    assert ask(throttles, 0.001) == [1, 3, 0, 10, 30]
    assert ask(throttles, 9.001) == [1, 3, 0, 1, 21]
    assert ask(throttles, 10) == [0, 3, 0, -1, 30]


def test_a_rejection_consumes_nothing():
    throttles = book()
    ask(throttles, 0, cost=2)
    assert ask(throttles, 0, cost=2) == [1, 3, 1, 10, 20]
    assert ask(throttles, 0, cost=1) == [0, 3, 0, -1, 30]


def test_a_quantity_of_zero_only_asks():
    throttles = book()
    assert ask(throttles, 0, cost=0) == [0, 3, 3, -1, 0]
    ask(throttles, 0, cost=3)
    assert ask(throttles, 0, cost=0) == [0, 3, 0, -1, 30]
    assert (throttles.admitted, throttles.denied) == (1, 0)


def test_a_quantity_that_never_fits_has_no_retry():
    assert ask(book(), 0, cost=4) == [1, 3, 3, -1, 0]


def test_a_burst_of_zero_is_one_at_a_time():
    throttles = book()
    numbers = (b"0", b"1", b"1")
    assert ask(throttles, 0, numbers=numbers) == [0, 1, 0, -1, 1]
    assert ask(throttles, 0, numbers=numbers) == [1, 1, 0, 1, 1]


@given(
    st.integers(0, 20),
    st.integers(1, 50),
    st.integers(1, 100),
    st.lists(st.tuples(st.integers(0, 30 * SECOND), st.integers(0, 25)), max_size=30),
)
def test_it_agrees_with_exact_arithmetic(burst, count, period, calls):
    """Against GCRA in whole numbers of 1/count nanoseconds, where nothing is rounded."""
    throttles = book()
    numbers = (b"%d" % burst, b"%d" % count, b"%d" % period)
    capacity, interval = burst + 1, period * SECOND
    full_at = now = 0
    for step, cost in calls:
        now += step
        debt = max(0, full_at - now * count)
        wait = debt + cost * interval - capacity * interval
        limited = wait > 0
        if not limited:
            debt += cost * interval
            full_at = now * count + debt
        retry = -(-wait // (count * SECOND)) if limited and cost <= capacity else -1
        got = [int(v[1:]) for v in throttles.answer("k", numbers, cost, now).split(b"\r\n")[1:-1]]
        assert got[:2] == [int(limited), capacity]
        # Ticks of 1/16 ns may make a bucket refill slower by up to 1/16 ns a token, never faster.
        assert got[2] in {(capacity * interval - debt) // interval - i for i in (0, 1)}
        assert got[3] - retry in {0, 1}
        assert got[4] - -(-debt // (count * SECOND)) in {0, 1}
        full_at = max(full_at, now * count)


def test_keys_and_limits_are_apart():
    throttles = book()
    ask(throttles, 0, cost=3)
    assert ask(throttles, 0, key="other")[0] == 0
    assert ask(throttles, 0, numbers=(b"2", b"1", b"11"))[0] == 0
    assert ask(throttles, 0)[0] == 1
    assert len(throttles) == 2


@pytest.mark.parametrize(
    ("numbers", "kind", "message"),
    [
        ((b"1", b"0", b"60"), InvalidRate, "count must be >= 1"),
        ((b"1", b"60", b"0"), InvalidRate, "period must be >= 1"),
        ((b"-1", b"1", b"1"), InvalidInput, "max_burst must be a whole number >= 0"),
        ((b"1.5", b"1", b"1"), InvalidInput, "max_burst must be a whole number"),
        ((b"nan", b"1", b"1"), InvalidInput, "max_burst"),
        ((b"", b"1", b"1"), InvalidInput, "max_burst"),
        ((b"01", b"1", b"1"), InvalidInput, "plain digits"),
        ((b"+1", b"1", b"1"), InvalidInput, "plain digits"),
        ((b"\xd9\xa1", b"1", b"1"), InvalidInput, "plain digits"),
        ((b"9" * 18, b"1", b"1"), InvalidRate, "burst must be <="),
        ((b"9" * 19, b"1", b"1"), InvalidInput, "at most 18 digits"),
        ((b"1", b"1", b"9" * 18), InvalidRate, "window"),
        ((b"1", b"9" * 12, b"1"), InvalidRate, "one per nanosecond"),
        ((b"999999999999", b"1", b"60"), InvalidRate, "within five years"),
    ],
)
def test_bad_numbers_are_refused_and_open_nothing(numbers, kind, message):
    throttles = book()
    with pytest.raises(kind, match=message):
        throttles.answer("k", numbers, 1, 0)
    assert len(throttles) == 0


def test_costs_are_bounded():
    assert read_cost("quantity", b"1000000000000") == 10**12
    with pytest.raises(InvalidCost, match="quantity must be <="):
        read_cost("quantity", b"1000000000001")
    assert whole_number("n", b"0") == 0


def test_limits_are_bounded_and_the_message_says_what_to_do():
    throttles = book(max_limits=3)
    for burst in (b"1", b"2", b"3"):
        ask(throttles, 0, numbers=(burst, b"1", b"60"))
    with pytest.raises(TooManyLimits, match="at most 3 different"):
        ask(throttles, 0, numbers=(b"4", b"1", b"60"))
    assert ask(throttles, 0, numbers=(b"3", b"1", b"60"))[2] == 2, "those in use go on"


def test_a_limit_is_dropped_when_all_its_keys_must_be_full_again():
    throttles = book(max_limits=2)
    ask(throttles, 0, numbers=(b"0", b"1", b"10"))
    ask(throttles, 0, numbers=(b"5", b"1", b"10"))
    with pytest.raises(TooManyLimits):
        ask(throttles, 9.999, numbers=(b"7", b"1", b"10"))
    ask(throttles, 10, numbers=(b"7", b"1", b"10"))
    assert len(throttles) == 2
    # The one that was dropped begins anew, and it was full.
    with pytest.raises(TooManyLimits):
        ask(throttles, 10, numbers=(b"0", b"1", b"10"))


def test_a_limit_in_use_is_never_dropped_for_another():
    throttles = book(max_limits=40)
    spent = (b"0", b"1", b"1000")
    assert ask(throttles, 0, numbers=spent)[0] == 0
    for second in range(1, 200):
        assert ask(throttles, second, numbers=(b"%d" % (second + 1), b"1000", b"1"))[0] == 0
    assert ask(throttles, 200, numbers=spent)[0] == 1


def test_denials_are_told():
    denials = Denials()
    throttles = book(observer=denials)
    ask(throttles, 0, cost=3)
    ask(throttles, 0)
    assert denials.seen == [("CL.THROTTLE", "k")]
    assert (throttles.admitted, throttles.denied) == (1, 1)


def test_states_outlive_a_restart_on_another_clock():
    before, after = book(), book()
    ask(before, 100, cost=3)
    ask(before, 100, key="idle", numbers=(b"0", b"1", b"1"))
    dumped = before.dump(105 * SECOND, 1_000 * SECOND)
    assert list(dumped) == ["2 1 10"], "what is full again is left out"
    assert after.load(dumped, 5 * SECOND, 1_100 * SECOND) == 1
    assert ask(after, 5) == [1, 3, 0, 5, 25]


@pytest.mark.parametrize("damaged", [{"1 2": {}}, {"1 0 1": {}}, {"1 1 1": {"k": ["x"]}}])
def test_a_damaged_dump_is_refused(damaged):
    with pytest.raises((ValueError, TypeError)):
        book().load(damaged, 0, 0)
