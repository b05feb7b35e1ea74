"""What every algorithm answers.

An algorithm is one limit with its constants worked out. It keeps nothing about any key: the state of
a key is handed in and handed back. `None` is the state of a key that was never seen, and a state for
which `reset` answers 0 carries no more information than `None`, so whoever keeps states may forget it.

Units: ``cost`` in tokens, times in whole nanoseconds since the clock's origin. All arithmetic fits in
64 bits signed, for ``0 <= now < 2**58`` (nine years of uptime); `headgate.rate` holds the bounds.

Clocks. One that stands still is harmless by construction. After one that went back, a state that is
ahead of now by at most one window (or one whole refill of a bucket, if that is longer) is believed, and
its key waits there until now has caught up; so threads that read the clock out of order gain nothing. A
state further ahead comes from another time and counts as never seen. Hence nothing is admitted in the
new time beyond the definition, and nothing is refused for longer than two windows (or two refills).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["Algorithm"]

_MAX_DUMPED: Final = 2**61


class Algorithm:
    """One limit: state, cost and now in; numbers and the next state out.

    Attributes:
        limit: the quota per window, as configured.
        window_ns: the window that the quota is counted over.
        capacity: the most that one key may spend at once (a cost above it never passes).
        atomic: True when states are plain ints and, compiled, no method but `dump` and `load` runs
            Python code or allocates anything but ints. Then reading a state, deciding and writing the
            next one cannot be interrupted under the interpreter's lock; otherwise the caller locks.
    """

    def __init__(self, limit: i64, window_ns: i64, capacity: i64, *, atomic: bool) -> None:
        self.limit = limit
        self.window_ns = window_ns
        self.capacity = capacity
        self.atomic = atomic

    def wait(self, state: object, cost: i64, now: i64) -> i64:
        """The least wait after which ``cost`` passes: 0 passes now, `NEVER` never does.

        Changes nothing. Once ``wait`` is over, the cost passes from then on if nothing else is spent. A
        cost of 0 always passes.
        """
        raise NotImplementedError

    def delay(self, state: object, cost: i64, now: i64) -> i64:
        """How long a caller whose ``wait`` is 0 must hold back before it proceeds. Changes nothing."""
        return 0

    def consume(self, state: object, cost: i64, now: i64) -> object:
        """The state after ``cost`` was spent; only valid when ``wait`` answered 0. Never `None`.

        The given state is used up: an algorithm may return it altered.
        """
        raise NotImplementedError

    def refund(self, state: object, cost: i64, now: i64, granted_at: i64) -> object:
        """The state after ``cost``, spent at ``granted_at``, was given back. Never `None`.

        Never yields more than the full allowance, and nothing at all when the window in which it was
        spent is over. Uses up the given state.
        """
        raise NotImplementedError

    def remaining(self, state: object, now: i64) -> i64:
        """The largest cost that passes now, >= 0."""
        raise NotImplementedError

    def reset(self, state: object, now: i64) -> i64:
        """The wait until the whole allowance is back; 0 when the state carries no information."""
        raise NotImplementedError

    def used(self, state: object, now: i64) -> i64:
        """What counts against the limit now (A14): window count, or tokens missing from the bucket."""
        return self.capacity - self.remaining(state, now)

    def can_be_paced(self) -> bool:
        """Whether it makes sense on a clock that runs faster or slower (`headgate.algorithms.paced`)."""
        return True

    def dump(self, state: object, wall_offset_ns: i64) -> list[int]:
        """The state as plain whole numbers with wall time, for a snapshot."""
        raise NotImplementedError

    def load(self, values: list[int], wall_offset_ns: i64) -> object:
        """The state that `dump` wrote, on a clock with another origin; ValueError when it is none."""
        raise NotImplementedError


def checked(values: list[int]) -> None:
    """Refuse what is no list of whole numbers of a sane size, for `Algorithm.load`.

    Raises:
        ValueError: it is none.
    """
    for value in cast("list[object]", values):
        if not isinstance(value, int) or not -_MAX_DUMPED < value < _MAX_DUMPED:
            raise ValueError("a dumped state holds whole numbers between -2**61 and 2**61")
