"""What the properties range over: every algorithm with its model, at small, awkward and huge scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from headgate.algorithms.concurrency import Concurrency
from headgate.algorithms.dual import Dual
from headgate.algorithms.fixed_window import FixedWindow
from headgate.algorithms.leaky_bucket import LeakyBucketMeter, LeakyBucketQueue
from headgate.algorithms.sliding_window_counter import SlidingWindowCounter
from headgate.algorithms.sliding_window_log import SlidingWindowLog
from headgate.algorithms.token_bucket import TokenBucket
from tests.property import models

if TYPE_CHECKING:
    from headgate.algorithms.base import Algorithm

SECOND = 10**9
YEAR = 365 * 86_400 * SECOND
END_OF_TIME = 2**58

NAMES = (
    "token_bucket",
    "leaky_bucket",
    "leaky_bucket_queue",
    "sliding_window_log",
    "sliding_window_counter",
    "fixed_window",
    "dual",
    "dual_counter",
    "concurrency",
)
LOGGED = ("sliding_window_log", "concurrency", "dual")

# Windows of a few nanoseconds make every boundary a likely event.
_SMALL = st.builds(
    lambda window, limit: (min(limit, window), window), st.integers(5, 90), st.integers(1, 12)
)
_REAL = st.sampled_from(
    [
        (100, 60 * SECOND),
        (7, SECOND),
        (997, SECOND),
        (999_983, SECOND),
        (1000, 1000),
        (1, 5 * YEAR),
        (10**12, 1000 * SECOND),
        (10**12, 5 * YEAR),
        (999_999_999_989, 5 * YEAR),
        (10**9 + 7, 30 * 86_400 * SECOND),
    ]
)


@dataclass
class Setup:
    """One limit, as an algorithm on a clock with any origin, and as a model."""

    name: str
    limit: int
    window_ns: int
    capacity: int = 0
    granularity: int = 1
    max_delay_ns: int | None = None
    wall_offset_ns: int = 0

    def __post_init__(self) -> None:
        self.capacity = self.capacity or self.limit

    @property
    def longest_ns(self) -> int:
        """The longest that any state says anything: a window, or a whole refill."""
        refill = self.capacity * models.interval_of(self.limit, self.window_ns)
        if self.max_delay_ns is not None:
            refill = self.max_delay_ns + models.interval_of(self.limit, self.window_ns)
        counted = -(-self.window_ns // self.granularity) * (self.granularity + 1)
        return max(counted, int(refill) + 1)

    def algorithm(self, shift_ns: int = 0) -> Algorithm:
        """The algorithm, on a clock whose origin lies later by ``shift_ns``."""
        limit, window, offset = self.limit, self.window_ns, self.wall_offset_ns + shift_ns
        counter = SlidingWindowCounter(limit, window, self.granularity, offset)
        bucket = TokenBucket(limit, window, self.capacity)
        return {
            "token_bucket": bucket,
            "leaky_bucket": LeakyBucketMeter(limit, window, self.capacity),
            "leaky_bucket_queue": LeakyBucketQueue(limit, window, self.capacity, self.max_delay_ns),
            "sliding_window_log": SlidingWindowLog(limit, window),
            "sliding_window_counter": counter,
            "fixed_window": FixedWindow(limit, window, offset),
            "dual": Dual(bucket, SlidingWindowLog(limit, window)),
            "dual_counter": Dual(bucket, counter),
            "concurrency": Concurrency(limit, window),
        }[self.name]

    def model(self) -> models.Model:
        """The model, as new."""
        limit, window, offset = self.limit, self.window_ns, self.wall_offset_ns
        bucket = models.BucketModel(limit, window, self.capacity)
        counter = models.CounterModel(limit, window, self.granularity, offset)
        return {
            "token_bucket": bucket,
            "leaky_bucket": bucket,
            "leaky_bucket_queue": models.QueueModel(
                limit, window, self.capacity, self.max_delay_ns
            ),
            "sliding_window_log": models.LogModel(limit, window),
            "sliding_window_counter": counter,
            "fixed_window": models.FixedModel(limit, window, offset),
            "dual": models.DualModel(bucket, models.LogModel(limit, window)),
            "dual_counter": models.DualModel(bucket, counter),
            "concurrency": models.LogModel(limit, window),
        }[self.name]


@st.composite
def setups(draw: st.DrawFn, name: str, *, small: bool = False) -> Setup:
    limit, window = draw(_SMALL if small else st.one_of(_SMALL, _REAL))
    if name in LOGGED:
        limit = min(limit, 10**6)
    setup = Setup(
        name,
        limit,
        window,
        wall_offset_ns=draw(st.sampled_from([0, 3, 1_767_225_600 * SECOND + 7])),
    )
    if name.startswith(("token", "leaky", "dual")):
        room = 5 * YEAR * limit // window
        setup.capacity = min(room, draw(st.sampled_from([limit, 1, 2, limit // 2 + 1, 3 * limit])))
    if name == "leaky_bucket_queue" and draw(st.booleans()):
        setup.max_delay_ns = draw(st.sampled_from([1, window // 3 + 1, window, 5 * window]))
        setup.max_delay_ns = min(setup.max_delay_ns, 5 * YEAR)
    if name in {"sliding_window_counter", "dual_counter"}:
        setup.granularity = draw(st.sampled_from([1, 2, 3, 10, 60]))
    return setup


@st.composite
def costs(draw: st.DrawFn, capacity: int) -> int:
    small = st.integers(0, min(capacity + 1, 4))
    shares = st.sampled_from([capacity // 3, capacity // 2, capacity - 1, capacity, capacity + 1])
    return draw(st.one_of(small, small, shares))


@st.composite
def pauses(draw: st.DrawFn, longest_ns: int) -> int:
    """Standing still, a moment, about a window, much longer."""
    pick = draw(st.integers(0, 9))
    if pick < 3:
        return 0
    if pick < 5:
        return draw(st.integers(1, 3))
    if pick < 9:
        return draw(st.integers(0, longest_ns))
    return draw(st.integers(0, 3 * longest_ns))


def starts() -> st.SearchStrategy[int]:
    """Just started, or up for years."""
    return st.sampled_from([0, 1, 10**6, 2**56])


def later(now: int, pause_ns: int, setup: Setup) -> int:
    """Time runs on, to its end at most."""
    return min(now + pause_ns, END_OF_TIME - 1 - setup.window_ns)
