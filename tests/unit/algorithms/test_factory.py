from __future__ import annotations

import pytest

from headgate.algorithms import ALGORITHMS, build, options_of
from headgate.algorithms.base import Algorithm
from headgate.errors import InvalidInput, InvalidRate
from headgate.rate import Rate

MINUTE = 60 * 10**9
PLAIN = Rate.parse("100/minute")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_name_builds(name: str) -> None:
    algorithm = build(name, PLAIN)
    assert isinstance(algorithm, Algorithm)
    assert (algorithm.limit, algorithm.window_ns, algorithm.capacity) == (100, MINUTE, 100)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_atomic_means_that_states_are_ints(name: str) -> None:
    algorithm = build(name, PLAIN)
    state = algorithm.consume(None, 1, 0)
    assert algorithm.atomic == (type(state) is int)
    assert algorithm.atomic == (name not in {"sliding_window_log", "dual", "concurrency"})


def test_a_calendar_is_not_atomic() -> None:
    assert not build("fixed_window", Rate.parse("100/day tz=UTC")).atomic


@pytest.mark.parametrize("name", ["token_bucket", "leaky_bucket", "leaky_bucket_queue", "dual"])
def test_a_burst_is_the_capacity(name: str) -> None:
    assert build(name, Rate.parse("100/minute burst 20")).capacity == 20


def test_sliding_window_is_short_for_the_counter() -> None:
    assert type(build("sliding_window", PLAIN)) is type(build("sliding_window_counter", PLAIN))
    assert options_of("sliding_window") == options_of("sliding_window_counter")


def test_dual_keeps_a_log_unless_it_is_told_a_granularity() -> None:
    big = Rate.parse("2000000/minute")
    with pytest.raises(InvalidRate, match="granularity above 1"):
        build("dual", big)
    assert build("dual", big, granularity=10).capacity == 2_000_000


def test_options_that_matter_elsewhere_are_named() -> None:
    assert options_of("token_bucket") == ("burst",)
    assert options_of("fixed_window") == ("timezone",)
    assert options_of("leaky_bucket_queue") == ("burst", "max_delay")


@pytest.mark.parametrize(
    ("name", "rate", "options", "text"),
    [
        ("gcra", PLAIN, {}, "unknown algorithm 'gcra'; use one of token_bucket, "),
        ("x" * 1000, PLAIN, {}, "unknown algorithm"),
        (
            "fixed_window",
            Rate.parse("100/minute burst 20"),
            {},
            "fixed_window has no burst, got 20",
        ),
        ("token_bucket", Rate.parse("1/day tz=UTC"), {}, "needs the algorithm fixed_window"),
        ("sliding_window", PLAIN, {"granularity": 0}, "granularity must be 1 to 60, got 0"),
        ("sliding_window", PLAIN, {"granularity": 61}, "granularity must be 1 to 60, got 61"),
        ("token_bucket", PLAIN, {"granularity": 2}, "token_bucket has no granularity, got 2"),
        (
            "token_bucket",
            PLAIN,
            {"max_delay_ns": 5},
            "max_delay needs the algorithm leaky_bucket_queue",
        ),
        ("leaky_bucket_queue", PLAIN, {"max_delay_ns": 0}, "max_delay must be above 0"),
        ("leaky_bucket_queue", PLAIN, {"max_delay_ns": 10**18}, "at most 5 years"),
        (
            "leaky_bucket_queue",
            Rate.parse("100/minute burst 20"),
            {"max_delay_ns": 5},
            "bounded by burst or by max_delay",
        ),
        ("sliding_window_log", Rate.parse("1000001/minute"), {}, "its limit must be <= 1000000"),
        ("concurrency", Rate.parse("1000001/minute"), {}, "its limit must be <= 1000000"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(
    name: str, rate: Rate, options: dict[str, int], text: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        build(name, rate, **options)  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_burst_equal_to_the_limit_says_nothing_new() -> None:
    assert build("fixed_window", Rate.parse("100/minute burst 100")).capacity == 100
