"""What `Algorithm.atomic` promises about compiled code; gates go without a lock because of it."""

from __future__ import annotations

import gc
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest

from headgate.algorithms import ALGORITHMS, base, build
from headgate.rate import Rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.algorithms.base import Algorithm

pytestmark = pytest.mark.skipif(base.__file__.endswith(".py"), reason="about the compiled build")

ATOMIC = [
    build(name, Rate.parse(rate), granularity=granularity)
    for name in ALGORITHMS
    for rate in ("5/s", "1000000/day")
    for granularity in (
        (1, 60) if name.startswith("sliding_window") and "log" not in name else (1,)
    )
    if build(name, Rate.parse("5/s")).atomic
]


class Tracked:
    """Its instances are objects that the collector tracks."""


def drive(algorithm: Algorithm) -> None:
    state: object = None
    now = 0
    while now < 3_000_000_000:
        now += 10_000_000
        if algorithm.wait(state, 1, now) == 0:
            algorithm.delay(state, 1, now)
            state = algorithm.consume(state, 1, now)
        algorithm.remaining(state, now)
        algorithm.used(state, now)
        algorithm.reset(state, now)
        state = algorithm.refund(state, 1, now, now - 5)


@pytest.mark.parametrize("algorithm", ATOMIC)
def test_no_python_code_runs_inside(algorithm: Algorithm) -> None:
    called: list[str] = []

    def note(frame: object, event: str, _: object) -> None:
        if event == "call":
            called.append(str(frame))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        drive(algorithm)
    finally:
        sys.setprofile(before)
    assert len(called) == 1  # drive itself


def collections_during(body: Callable[[], object], threshold: int) -> int:
    """How many collections start, with 20 objects made before."""
    collections: list[str] = []

    def note(phase: str, _: object) -> None:
        collections.append(phase)

    thresholds = gc.get_threshold()
    gc.collect()
    gc.set_threshold(1000)
    kept = [Tracked() for _ in range(20)]
    gc.callbacks.append(note)
    try:
        gc.set_threshold(threshold)
        body()
        return len(collections)
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*thresholds)
        kept.clear()


@pytest.fixture(scope="module")
def threshold() -> int:
    """Such that one more object, even if it goes at once, starts a collection."""
    return next(
        count
        for count in range(15, 35)
        if collections_during(int, count) == 0 and collections_during(Tracked, count) > 0
    )


@pytest.mark.parametrize("algorithm", ATOMIC)
def test_nothing_that_the_collector_tracks_is_made(algorithm: Algorithm, threshold: int) -> None:
    """A collection may run finalizers, which are Python code. It starts where an object is made."""
    assert collections_during(partial(drive, algorithm), threshold) == 0
