"""A circuit breaker that counts failures in a row.

::

    CLOSED     failures in a row reach the threshold       -> OPEN
    OPEN       the recovery time is over                   -> HALF_OPEN
    HALF_OPEN  one call is let through to probe;
               it succeeds                                 -> CLOSED
               it fails                                    -> OPEN
               it ends without saying anything, or its
               lease expires                               -> the next call probes

While half open at most one call is under way. Its right to probe is a lease: when a probe hangs, the
next call probes once the lease is over.

Each admitted call gets a ticket. A ticket is good until the circuit opens or another probe starts, so
the failures of calls that began before an outage do not count against what comes after it. An outcome
without a ticket (`ANY_CALL`) is heard whenever the circuit is not open.

Small, for there is one for each peer. `headgate.backpressure.breaker` looks at failure *rates* too, and comes
back step by step: choose that where many calls run at a time and some always fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.breaker_rule import CircuitState

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["ANY_CALL", "Circuit", "CircuitState", "ConsecutiveBreaker"]

ANY_CALL: Final = -1
"""The ticket of an outcome whose call is not known: it is taken for one of the present."""


class Circuit:
    """The state of one circuit. A new one is closed.

    Attributes:
        failures: in a row, while closed.
        until_ns: 0 when closed; while open, the end of that; while probing, the end of the lease.
        probing: whether a probe is under way.
        era: tickets of another era are not heard.
    """

    __slots__ = ("era", "failures", "probing", "until_ns")

    def __init__(self) -> None:
        self.failures: i64 = 0
        self.until_ns: i64 = 0
        self.probing = False
        self.era: i64 = 0


@final
class ConsecutiveBreaker:
    """The rule, for any number of circuits.

    Args:
        failure_threshold: failures in a row that open a circuit, >= 1.
        recovery_ns: how long it stays open.
        probe_ns: how long a probe may take.
    """

    def __init__(self, failure_threshold: int, recovery_ns: int, probe_ns: int) -> None:
        self._failure_threshold: i64 = failure_threshold
        self._recovery_ns: i64 = recovery_ns
        self._probe_ns: i64 = probe_ns
        self._longest_ns: i64 = max(recovery_ns, probe_ns)

    def wait(self, circuit: Circuit, now: i64) -> i64:
        """The wait until a call may pass: 0 it may now. Changes nothing.

        While a probe is under way, the wait is until its lease ends; it may well be over before.
        """
        left = circuit.until_ns - now
        if left <= 0 or left > self._longest_ns:  # longer only after the clock went back
            return 0
        return left

    def enter(self, circuit: Circuit, now: i64) -> i64:
        """Note that a call passes; only valid when `wait` answered 0. Returns its ticket."""
        if circuit.until_ns != 0:
            circuit.probing = True
            circuit.until_ns = now + self._probe_ns
            circuit.era += 1
        return circuit.era

    def succeeded(self, circuit: Circuit, ticket: i64, now: i64) -> None:
        """A call ended well."""
        if not self._is_heard(circuit, ticket, now):
            return
        circuit.failures = 0
        circuit.until_ns = 0
        circuit.probing = False

    def failed(self, circuit: Circuit, ticket: i64, now: i64) -> None:
        """A call failed."""
        if not self._is_heard(circuit, ticket, now):
            return
        circuit.failures += 1
        if circuit.until_ns != 0 or circuit.failures >= self._failure_threshold:
            circuit.failures = 0
            circuit.probing = False
            circuit.until_ns = now + self._recovery_ns
            circuit.era += 1

    def abandoned(self, circuit: Circuit, ticket: i64, now: i64) -> None:
        """A call ended without a word about the other side: cancelled, or refused on our own."""
        if circuit.probing and self._is_heard(circuit, ticket, now):
            circuit.probing = False
            circuit.until_ns = now

    def state(self, circuit: Circuit, now: i64) -> CircuitState:
        """Where the circuit stands. Changes nothing."""
        if circuit.until_ns == 0:
            return CircuitState.CLOSED
        if circuit.probing or self.wait(circuit, now) == 0:
            return CircuitState.HALF_OPEN
        return CircuitState.OPEN

    def is_clean(self, circuit: Circuit) -> bool:
        """Whether the circuit says no more than a new one."""
        return circuit.until_ns == 0 and circuit.failures == 0

    def _is_heard(self, circuit: Circuit, ticket: i64, now: i64) -> bool:
        if not circuit.probing and self.wait(circuit, now) > 0:
            return False
        return ticket == ANY_CALL or ticket == circuit.era
