"""Settings as they are kept beside a key."""

from __future__ import annotations

import pytest

from headgate.engine.recipes import recipe_of, spec_of
from headgate.policy.model import LimitSpec
from headgate.rate import Rate


@pytest.mark.parametrize(
    ("algorithm", "rate", "options", "recipe"),
    [
        ("token_bucket", "10/s", {}, (1, 10, 10**9)),
        ("token_bucket", "10/s burst 20", {}, (1, 10, 10**9, 20)),
        ("token_bucket", "10/s burst 10", {}, (1, 10, 10**9)),
        ("leaky_bucket", "10/s", {}, (2, 10, 10**9)),
        ("leaky_bucket_queue", "10/s", {"max_delay_ns": 5}, (3, 10, 10**9, None, 1, 5)),
        ("sliding_window", "10/s", {}, (4, 10, 10**9)),
        ("sliding_window_counter", "10/s", {"granularity": 4}, (4, 10, 10**9, None, 4)),
        ("fixed_window", "10/s", {}, (5, 10, 10**9)),
        ("fixed_window", "1/day tz=UTC", {}, (5, 1, 86_400 * 10**9, None, 1, None, "UTC")),
        ("sliding_window_log", "10/s", {}, (6, 10, 10**9)),
        ("concurrency", "10/min", {}, (7, 10, 60 * 10**9)),
        ("dual", "10/s burst 5", {"granularity": 2}, (8, 10, 10**9, 5, 2)),
    ],
)
def test_there_and_back(algorithm, rate, options, recipe):
    spec = LimitSpec(algorithm, Rate.parse(rate), **options)
    assert recipe_of(spec) == recipe
    assert recipe_of(spec_of(recipe)) == recipe


@pytest.mark.parametrize(
    "recipe",
    [
        (),
        (1,),
        (1, 2),
        (99, 10, 10**9),
        ("x", 10, 10**9),
        (1, "ten", 10**9),
        (1, -1, 10**9),
        (1, 10, 10**9, 5, 7),
        (5, 10, 10**9, None, 1, None, "Nowhere"),
        (1, 10, 10**9, None, None, None, None, None),
        ([], {}, None),
    ],
)
def test_what_is_none(recipe):
    with pytest.raises(ValueError, match="is no limit"):
        spec_of(recipe)
