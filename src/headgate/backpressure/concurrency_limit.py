"""How many calls may be in flight at once: what all the rules for it answer.

A rule keeps one number, ``limit``, and moves it as calls end. It is told of every call that ended with
something to say: how long it took, how many were in flight, and whether it was dropped (the callee said
that it is overloaded, or did not answer in time). Calls that end without saying anything, such as those
that were cancelled, are not told at all: a fast failure must not look like a fast answer.

Each rule keeps ``least <= limit <= most``, whatever it is told. A latency below zero, which only a
clock that went back can show, counts for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.errors import InvalidInput
from headgate.inputs import shown, whole_number

if TYPE_CHECKING:
    from typing import SupportsIndex

    from mypy_extensions import i64

__all__ = ["DEFAULT_LEAST", "DEFAULT_MOST", "MOST_IN_FLIGHT", "ConcurrencyLimit", "FixedLimit"]

DEFAULT_LEAST: Final = 4
DEFAULT_MOST: Final = 1_000
MOST_IN_FLIGHT: Final = 1_000_000
"""The largest limit there is."""


class ConcurrencyLimit:
    """One rule, with the limit that it has come to.

    Args:
        initial: where it starts: calls that the callee can surely do at once, such as its workers.
        least: the limit never falls below; >= 1.
        most: the limit never rises above; at most a million.

    Attributes:
        limit: calls that may be in flight at once.
        least: as given.
        most: as given.

    Raises:
        InvalidInput: unless 1 <= least <= initial <= most.
    """

    def __init__(
        self,
        initial: SupportsIndex,
        least: SupportsIndex = DEFAULT_LEAST,
        most: SupportsIndex = DEFAULT_MOST,
    ) -> None:
        bounds = [whole_number(number) for number in (least, initial, most)]
        low, start, high = bounds
        if (
            low is None
            or start is None
            or high is None
            or not 1 <= low <= start <= high <= MOST_IN_FLIGHT
        ):
            raise InvalidInput(
                "a limit of calls in flight needs whole numbers with 1 <= min <= initial <= max <= "
                f"{MOST_IN_FLIGHT}, got min {shown(least)}, initial {shown(initial)}, max {shown(most)}"
            )
        self.limit: i64 = start
        self.least: i64 = low
        self.most: i64 = high

    def observe(self, now: i64, latency_ns: i64, in_flight: i64, dropped: bool) -> None:  # noqa: FBT001 - on the path of every call
        """Hear of a call that ended.

        Args:
            now: when it ended, in nanoseconds.
            latency_ns: how long it took; counts for nothing when below zero, or when it was dropped.
            in_flight: calls in flight when it began, itself included.
            dropped: whether the callee was overloaded or did not answer in time.
        """
        raise NotImplementedError

    def baseline_ns(self) -> i64:
        """What a call takes when nothing waits, as far as the rule has learnt it; 0 when it has not."""
        return 0


@final
class FixedLimit(ConcurrencyLimit):
    """The limit that it starts with, for ever."""

    def observe(self, now: i64, latency_ns: i64, in_flight: i64, dropped: bool) -> None:  # noqa: FBT001 - see the base
        """Nothing moves it."""
