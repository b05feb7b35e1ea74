"""A limit's settings as a short tuple of plain values, the same for all that decide alike.

What counters keep with a key, so that whoever comes later knows how it was counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from headgate.errors import InvalidInput, InvalidRate
from headgate.policy.model import LimitSpec
from headgate.rate import Rate

if TYPE_CHECKING:
    from typing import TypeAlias

    Recipe: TypeAlias = tuple[int | str | None, ...]

__all__ = ["recipe_of", "spec_of"]

# Their numbers are kept in stores: they never change, and none is given out twice.
_NUMBERS: Final = {
    "token_bucket": 1,
    "leaky_bucket": 2,
    "leaky_bucket_queue": 3,
    "sliding_window_counter": 4,
    "sliding_window": 4,
    "fixed_window": 5,
    "sliding_window_log": 6,
    "concurrency": 7,
    "dual": 8,
}
_NAMES: Final = {number: name for name, number in reversed(_NUMBERS.items())}
_WITHOUT: Final = (None, 1, None, None)
_FIELDS: Final = 7


def recipe_of(spec: LimitSpec) -> Recipe:
    """The settings: algorithm, limit, window, and what else is not as usual.

    >>> recipe_of(LimitSpec("sliding_window", Rate.parse("100/minute")))
    (4, 100, 60000000000)
    """
    rate = spec.rate
    burst = None if rate.burst == rate.limit else rate.burst
    fields: list[int | str | None] = [
        _NUMBERS[spec.algorithm],
        rate.limit,
        rate.window_ns,
        burst,
        spec.granularity,
        spec.max_delay_ns,
        rate.tz,
    ]
    while fields[-1] == _WITHOUT[len(fields) - _FIELDS - 1]:
        fields.pop()
        if len(fields) == _FIELDS - len(_WITHOUT):
            break
    return tuple(fields)


def spec_of(recipe: Recipe) -> LimitSpec:
    """The settings that `recipe_of` wrote.

    >>> spec_of((4, 100, 60000000000)).rate
    Rate.parse('100/minute')

    Raises:
        ValueError: it is none.
    """
    try:
        missing = _FIELDS - len(recipe)
        fields: list[Any] = [*recipe, *_WITHOUT[len(_WITHOUT) - missing :]]
        number, limit, window_ns, burst, granularity, max_delay_ns, tz = fields
        rate = Rate(limit, window_ns, burst, None, tz)
        spec = LimitSpec(_NAMES[number], rate, granularity, max_delay_ns)
        spec.build(0)
    except (TypeError, ValueError, KeyError, InvalidInput, InvalidRate) as error:
        raise ValueError(f"what the store keeps is no limit: {error}") from error
    return spec
