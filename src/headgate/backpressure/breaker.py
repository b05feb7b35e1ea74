"""A circuit breaker that looks at rates, probes with care and comes back step by step (B3).

::

    CLOSED     failures reach a share of the calls in the window, or slow calls do, once there
               are enough calls; or so many calls fail in a row             -> OPEN
    OPEN       min(base * 2**k, longest), +-jitter, or what the callee
               asked for if that is longer, are over                        -> HALF_OPEN
    HALF_OPEN  at most so many calls at a time probe;
               enough of them succeed                                       -> RAMP
               one fails, or is slow                                        -> OPEN, k + 1
    RAMP       a share of the calls passes, which grows step by step. A step ends after so long
               and so many calls: failures over half the level that opens   -> a step back
               otherwise                                                    -> the next step
               the last one is over                                         -> CLOSED
               failures reach the level that opens                          -> OPEN, k + 1

k counts the openings that came without a clean time in between; it begins afresh after the circuit was
closed for long enough. A step of the ramp lets at least one call pass in ``step_ns / step_calls``, so that
a caller who calls seldom is not refused for the sake of a share.

A probe is a lease: one that hangs loses its place when the lease ends. Its success is not heard then, its
failure is. Every change of state begins an epoch, and outcomes of calls that were admitted in another are
not heard. An outcome whose call is not known (`ANY_CALL`) is heard, but for the success of a probe.

FORCED_OPEN refuses all, DISABLED admits all and hears nothing, METRICS_ONLY admits all and counts.
The rates are those of resilience4j; the ramp and the leases are answers to what half-open breakers do
under many callers. The script of `headgate.coordination` is this in another language.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.breaker_rule import (
    CLOSED,
    FORCED_OPEN,
    HALF_OPEN,
    METRICS_ONLY,
    OPEN,
    RAMP,
    BreakerRule,
)
from headgate.backpressure.outcome_window import FAILED, OutcomeWindow

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["ANY_CALL", "IGNORED", "NO_LEASE", "REFUSED", "SOON_NS", "Breaker"]

REFUSED: Final = -1
NO_LEASE: Final = 0
ANY_CALL: Final = -1
"""The epoch of an outcome whose call is not known."""

IGNORED: Final = 4
"""The outcome of a call that says nothing about the callee: cancelled, or refused on our own."""

MAX_TOLD_NS: Final = 3_600_000_000_000
"""The longest that a callee may ask for: an hour."""

SOON_NS: Final = 1_000_000_000
"""What a call is told to wait, at most, that found all probes under way. When they end nobody knows."""


@final
class Breaker:
    """One circuit. A new one is closed.

    Attributes:
        rule: its numbers.
        state: one of the numbers above.
        epoch: goes up with every change of state.
        window: what is looked at while closed.
        in_row: failures in a row.
        openings: without a clean time in between, k + 1.
        until: when open, the moment that ends it.
        successes: of probes, while half-open.
        step: of the ramp, from 0.
        tripped_calls, tripped_failures, tripped_slow: what was counted when it last opened.
    """

    def __init__(self, rule: BreakerRule) -> None:
        self.rule = rule
        self.state: i64 = CLOSED
        self.epoch: i64 = 0
        self.window: OutcomeWindow = rule.window()
        self.in_row: i64 = 0
        self.openings: i64 = 0
        self.until: i64 = 0
        self.successes: i64 = 0
        self.step: i64 = 0
        self.tripped_calls: i64 = 0
        self.tripped_failures: i64 = 0
        self.tripped_slow: i64 = 0
        self._span: i64 = 0
        self._closed_at: i64 = 0
        self._told_until: i64 = 0
        self._leases: dict[int, int] = {}
        self._last_lease: i64 = 0
        self._step_at: i64 = 0
        self._calls: i64 = 0
        self._failures: i64 = 0
        self._slow: i64 = 0
        self._longest_run: i64 = 0
        self._sure_at: i64 = 0
        self._gap_ns: i64 = rule.step_ns // rule.step_calls

    def admit(self, now: i64, uniform: float) -> i64:
        """Let a call pass or not: `REFUSED`, `NO_LEASE`, or the lease of a probe (> 0)."""
        if self.state == OPEN and self._left(now) == 0:
            self._enter(HALF_OPEN)
        state = self.state
        if state == HALF_OPEN:
            return self._probe(now)
        if state == RAMP:
            return self._thin(now, uniform)
        return NO_LEASE if self._admits_all() else REFUSED

    def record(
        self, epoch: i64, lease: i64, outcome: i64, now: i64, uniform: float, told_ns: i64 = 0
    ) -> bool:
        """Hear how a call ended; whether it was heard.

        Args:
            epoch: of the breaker when the call was admitted, or `ANY_CALL`.
            lease: what `admit` answered.
            outcome: a sum of `FAILED` and `SLOW`, or `IGNORED`.
            now: the moment.
            uniform: varies how long it opens, should it do so; 0 to 1.
            told_ns: for how long the callee asked to be left alone.
        """
        if epoch != self.epoch and epoch != ANY_CALL:
            return False
        if outcome == IGNORED:
            self._leases.pop(lease, 0)
            return False
        state = self.state
        if state == OPEN or state > RAMP:
            return state == METRICS_ONLY and self._count(outcome, now)
        if told_ns > 0:
            self._told_until = max(self._told_until, now + min(told_ns, MAX_TOLD_NS))
        if state == CLOSED:
            self._count(outcome, now)
            seen = self.window
            least = self.rule.least_calls
            if self.rule.trips(seen.calls, seen.failures, seen.slow, self.in_row, least):
                self._open(now, uniform)
            return True
        if state == RAMP:
            self._climb(outcome, now, uniform)
            return True
        return self._probed(lease, outcome, now, uniform)

    def wait(self, now: i64) -> i64:
        """The wait after which a call passes, as far as is known; 0: it may now. Changes nothing."""
        state = self.state
        if state == OPEN:
            return self._left(now)
        if state == FORCED_OPEN:
            return self.rule.open_ns
        if state == HALF_OPEN:
            return self._until_free(now)
        if state == RAMP and self.share() < 1.0:
            return _left_of(self._sure_at, now, self._gap_ns)
        return 0

    def state_at(self, now: i64) -> i64:
        """Where it stands, as the next call would find it. Changes nothing."""
        return HALF_OPEN if self.state == OPEN and self._left(now) == 0 else self.state

    def share(self) -> float:
        """The share of calls that passes."""
        if self.state == RAMP:
            # Another breaker that shares the circuit may have more steps.
            steps = self.rule.steps
            return steps[self.step] if self.step < len(steps) else 1.0
        return 1.0 if self._admits_all() else 0.0

    def probes(self, now: i64) -> i64:
        """How many probes are under way."""
        live: i64 = 0
        for until in list(self._leases.values()):
            if _left_of(until, now, self.rule.lease_ns) > 0:
                live += 1
        return live

    def force(self, state: i64, now: i64) -> None:
        """Put it into a state by hand; everything that was counted is forgotten."""
        self.openings = 0
        self._told_until = 0
        self._enter(state)
        self._closed_at = now
        if state == OPEN:
            self.openings = 1
            self._span = self.rule.open_ns
            self.until = now + self._span

    def resume(self, state: i64, wait_ns: i64, openings: i64, step: i64, now: i64) -> None:
        """Go on from what another breaker of this rule said last."""
        self._enter(state)
        self.openings = openings
        self.step = step
        self._step_at = now
        self._closed_at = now
        self._span = wait_ns
        self.until = now + wait_ns

    def _admits_all(self) -> bool:
        state = self.state
        return state == CLOSED or state > FORCED_OPEN

    def _count(self, outcome: i64, now: i64) -> bool:
        self.window.add(outcome, now)
        self.in_row = self.in_row + 1 if outcome & FAILED else 0
        return True

    def _left(self, now: i64) -> i64:
        return _left_of(self.until, now, self._span)

    def _probe(self, now: i64) -> i64:
        if len(self._leases) >= self.rule.probes:
            for lease, until in list(self._leases.items()):
                if _left_of(until, now, self.rule.lease_ns) == 0:
                    del self._leases[lease]
            if len(self._leases) >= self.rule.probes:
                return REFUSED
        self._last_lease += 1
        self._leases[self._last_lease] = now + self.rule.lease_ns
        return self._last_lease

    def _until_free(self, now: i64) -> i64:
        if len(self._leases) < self.rule.probes:
            return 0
        least = min(self.rule.lease_ns, SOON_NS)
        for until in list(self._leases.values()):
            least = min(least, _left_of(until, now, self.rule.lease_ns))
        return least

    def _probed(self, lease: i64, outcome: i64, now: i64, uniform: float) -> bool:
        until = self._leases.pop(lease, -1)
        if outcome != 0:
            self._open(now, uniform)
            return True
        if until == -1 or _left_of(until, now, self.rule.lease_ns) == 0:
            return False
        self.successes += 1
        if self.successes >= self.rule.successes:
            if len(self.rule.steps) > 0:
                self._enter(RAMP)
                self._begin_step(0, now)
            else:
                self._close(now)
        return True

    def _thin(self, now: i64, uniform: float) -> i64:
        if uniform >= self.share() and _left_of(self._sure_at, now, self._gap_ns) > 0:
            return REFUSED
        self._sure_at = now + self._gap_ns
        return NO_LEASE

    def _climb(self, outcome: i64, now: i64, uniform: float) -> None:
        rule = self.rule
        self._calls += 1
        self._slow += outcome >> 1
        if outcome & FAILED:
            self._failures += 1
            self.in_row += 1
            self._longest_run = max(self._longest_run, self.in_row)
        else:
            self.in_row = 0
        if rule.trips(self._calls, self._failures, self._slow, self.in_row, rule.step_calls):
            self._open(now, uniform)
            return
        age = now - self._step_at
        if age < 0:
            self._step_at = now
        if age < rule.step_ns or self._calls < rule.step_calls:
            return
        if rule.over_half(self._calls, self._failures, self._slow, self._longest_run):
            self._begin_step(max(0, self.step - 1), now)
        elif self.step + 1 < len(rule.steps):
            self._begin_step(self.step + 1, now)
        else:
            self._close(now)

    def _begin_step(self, step: i64, now: i64) -> None:
        self.step = step
        self._step_at = now
        self._calls = 0
        self._failures = 0
        self._slow = 0
        self._longest_run = 0

    def _close(self, now: i64) -> None:
        self._enter(CLOSED)
        self._closed_at = now

    def _open(self, now: i64, uniform: float) -> None:
        clean = now - self._closed_at
        if self.state == CLOSED and (clean < 0 or clean >= self.rule.forgive_ns):
            self.openings = 0
        self.openings += 1
        told = _left_of(self._told_until, now, MAX_TOLD_NS)
        ramp = self.state == RAMP
        self.tripped_calls = self._calls if ramp else self.window.calls
        self.tripped_failures = self._failures if ramp else self.window.failures
        self.tripped_slow = self._slow if ramp else self.window.slow
        self._enter(OPEN)
        self._span = max(self.rule.span(self.openings, uniform), told)
        self.until = now + self._span

    def _enter(self, state: i64) -> None:
        self.state = state
        self.epoch += 1
        self.in_row = 0
        self.successes = 0
        self._leases.clear()
        self._sure_at = 0
        self.window.clear()
        self._begin_step(0, 0)


def _left_of(until: i64, now: i64, most: i64) -> i64:
    """The time left, at most as much as there ever was.

    Where much more seems left, the clock went back, and nothing is. A little more is no jump: of two
    threads that read the clock, the later one may come first.
    """
    left = until - now
    if left <= 0 or left > 2 * most:
        return 0
    return min(left, most)
