from __future__ import annotations

from headgate.algorithms.leaky_bucket import LeakyBucketMeter, LeakyBucketQueue
from headgate.algorithms.token_bucket import TokenBucket
from headgate.decision import NEVER

SECOND = 10**9


def test_the_meter_is_the_token_bucket_seen_from_the_other_side() -> None:
    meter, bucket = LeakyBucketMeter(5, SECOND, 3), TokenBucket(5, SECOND, 3)
    level = meter.consume(None, 2, 0)
    tokens = bucket.consume(None, 2, 0)
    for now in (0, SECOND // 10, SECOND // 5, SECOND):
        assert meter.wait(level, 3, now) == bucket.wait(tokens, 3, now)
        assert meter.used(level, now) == 3 - bucket.remaining(tokens, now)


def test_the_meter_never_delays() -> None:
    meter = LeakyBucketMeter(5, SECOND, 3)
    assert meter.delay(meter.consume(None, 2, 0), 1, 0) == 0


def test_the_queue_lets_the_first_through_and_spaces_the_rest() -> None:
    queue = LeakyBucketQueue(10, SECOND, 3)
    state: object = None
    delays = []
    for _ in range(3):
        assert queue.wait(state, 1, 0) == 0
        delays.append(queue.delay(state, 1, 0))
        state = queue.consume(state, 1, 0)
    assert delays == [0, SECOND // 10, 2 * SECOND // 10]
    assert queue.wait(state, 1, 0) == SECOND // 10  # full: one must leave first
    assert queue.remaining(state, 0) == 0


def test_a_costly_request_holds_up_those_behind_it() -> None:
    queue = LeakyBucketQueue(10, SECOND, 5)
    state = queue.consume(None, 4, 0)
    assert queue.delay(state, 1, 0) == 4 * SECOND // 10


def test_max_delay_bounds_what_anybody_waits() -> None:
    queue = LeakyBucketQueue(1, SECOND, 1, 2 * SECOND)
    assert queue.capacity == 3  # one at once, one after a second, one after two
    state = queue.consume(None, 1, 0)
    state = queue.consume(state, 1, 0)
    assert queue.wait(state, 1, 0) == 0
    assert queue.delay(state, 1, 0) == 2 * SECOND
    state = queue.consume(state, 1, 0)
    assert queue.wait(state, 1, 0) == SECOND
    assert queue.wait(state, 4, 0) == NEVER


def test_a_max_delay_below_one_interval_leaves_no_queue() -> None:
    queue = LeakyBucketQueue(1, SECOND, 1, 1)
    assert queue.capacity == 1
    state = queue.consume(None, 1, 0)
    assert queue.wait(state, 1, 0) == SECOND - 1  # and then it is delayed by the last nanosecond
    assert queue.delay(state, 1, SECOND - 1) == 1


def test_leaving_the_queue_brings_the_others_forward() -> None:
    queue = LeakyBucketQueue(10, SECOND, 5)
    state = queue.consume(None, 3, 0)
    state = queue.refund(state, 2, 0, 0)
    assert queue.delay(state, 1, 0) == SECOND // 10
