"""A limiter for each peer of an RPC system: a token bucket and a circuit breaker (A13).

Peers share nothing: whatever one does, the others keep their tokens and their circuits. Only when more
peers are known than ``max_peers``, and all that are looked at have something to remember, do further
newcomers share one bucket; see `PeerLimiter.stats`.
"""

from __future__ import annotations

import threading
from math import isfinite
from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.consecutive_breaker import (
    ANY_CALL,
    CircuitState,
    ConsecutiveBreaker,
)
from headgate.clock import SystemClock, seconds_to_ns
from headgate.decision import Decision
from headgate.errors import CircuitOpen, InvalidInput, RateLimited, TooManyPeers
from headgate.gates.peer_book import PeerBook
from headgate.inputs import valid_cost, valid_key
from headgate.rate import Rate

if TYPE_CHECKING:
    from types import TracebackType

    from mypy_extensions import i64

    from headgate.clock import Clock
    from headgate.engine.table import TableStats
    from headgate.gates.peer_book import Peer

__all__ = ["CircuitState", "PeerGuard", "PeerLimiter", "to_jsonrpc"]

DEFAULT_MAX_PEERS: Final = 100_000
MAX_REPUTATION: Final = 100.0

_CIRCUIT: Final = "circuit"
_MAX_TIMEOUT: Final = 366 * 86_400.0
_MAX_PROBE: Final = 30.0


@final
class PeerLimiter:
    """Limits each peer's calls, and leaves a failing peer alone until it recovers.

    >>> limiter = PeerLimiter(rate=100, burst=200)
    >>> with limiter.guard("node-7"):
    ...     pass  # call the peer; an exception counts as its failure
    >>> limiter.circuit_state("node-7").value, limiter.available_tokens("node-7")
    ('closed', 199)

    Thread-safe, and safe across asyncio tasks: no call blocks, and none holds a lock while a peer is
    being called.

    Args:
        rate: calls per peer: a number per second, text such as ``"100/second"``, or a `Rate`.
        burst: the most at once; the rate's own burst, or twice its limit, when left out.
        failure_threshold: failures in a row that open a peer's circuit.
        recovery_timeout: seconds until an open circuit lets one call probe.
        probe_timeout: seconds after which a probe that said nothing makes room for another; the
            recovery timeout, or 30 s if that is longer, when left out.
        clock: gives the time; the system's when left out.
        max_peers: how many are remembered at most.
        name: stands in decisions as the policy; ``"circuit"`` does when the circuit decided.
    """

    def __init__(  # noqa: PLR0913 - every setting has a place here
        self,
        rate: str | Rate | int = 100,
        burst: int | None = None,
        failure_threshold: int = 10,
        recovery_timeout: float = 30.0,
        *,
        probe_timeout: float | None = None,
        clock: Clock | None = None,
        max_peers: int = DEFAULT_MAX_PEERS,
        name: str = "peer",
    ) -> None:
        if failure_threshold < 1 or max_peers < 1:
            raise InvalidInput(
                f"failure_threshold and max_peers must be >= 1, got {failure_threshold}, {max_peers}"
            )
        recovery = _seconds("recovery_timeout", recovery_timeout)
        if probe_timeout is None:
            probe_timeout = min(recovery, _MAX_PROBE)
        probe = _seconds("probe_timeout", probe_timeout)
        self.clock: Clock = SystemClock() if clock is None else clock
        self.name = name
        self.rate = _read_rate(rate, burst)
        self._now = self.clock.now_ns
        self._breaker = ConsecutiveBreaker(
            failure_threshold, seconds_to_ns(recovery), seconds_to_ns(probe)
        )
        self._book = PeerBook(self.rate, max_peers)
        self._lock = threading.RLock()

    @classmethod
    def default(cls, clock: Clock | None = None) -> PeerLimiter:
        """100 calls a second, 200 at once; opens after 10 failures in a row, for 30 s."""
        return PeerLimiter(100, 200, 10, 30.0, clock=clock)

    @classmethod
    def strict(cls, clock: Clock | None = None) -> PeerLimiter:
        """10 calls a second, 20 at once; opens after 3 failures in a row, for 300 s."""
        return PeerLimiter(10, 20, 3, 300.0, clock=clock)

    @classmethod
    def lenient(cls, clock: Clock | None = None) -> PeerLimiter:
        """1000 calls a second, 2000 at once; opens after 50 failures in a row, for 60 s."""
        return PeerLimiter(1000, 2000, 50, 60.0, clock=clock)

    def check(self, peer: str, cost: int = 1) -> Decision:
        """Decide, and spend when the answer is yes.

        A yes while the circuit is half open is the probe: tell how it went with `record_success` or
        `record_failure`. `guard` does all of it.

        Args:
            peer: whom the call goes to, or comes from.
            cost: tokens, >= 0; 0 only asks, and never probes.
        """
        return self.enter(valid_key(peer), valid_cost(cost))[0]

    def guard(
        self,
        peer: str,
        cost: int = 1,
        failures: type[Exception] | tuple[type[Exception], ...] = Exception,
    ) -> PeerGuard:
        """``with limiter.guard(peer): ...`` (or ``async with``): checks, and learns how it went.

        What raises one of ``failures`` counts as the peer's failure, and what ends without an exception
        as its success. Everything else, such as a cancellation or a refusal by some limiter of our own,
        says nothing about the peer.

        Raises:
            CircuitOpen: on entering, when the circuit is open.
            RateLimited: on entering, when the peer's tokens are used up.
        """
        return PeerGuard(self, valid_key(peer), valid_cost(cost), failures)

    def record_success(self, peer: str) -> None:
        """The peer answered."""
        self.outcome(valid_key(peer), ANY_CALL, 1)

    def record_failure(self, peer: str) -> None:
        """The peer failed. Not for cancellations or for calls that were refused here."""
        self.outcome(valid_key(peer), ANY_CALL, -1)

    def circuit_state(self, peer: str) -> CircuitState:
        """Where the peer's circuit stands."""
        peer = valid_key(peer)
        with self._lock:
            return self._breaker.state(self._book.seen(peer), self._now())

    def available_tokens(self, peer: str) -> int:
        """The most that the peer's bucket admits now, whatever its circuit says."""
        peer = valid_key(peer)
        with self._lock:
            return self._book.seen(peer).remaining(self._now())

    @property
    def peer_count(self) -> int:
        """How many peers are remembered."""
        return len(self._book)

    def peers(self) -> list[str]:
        """The peers that are remembered."""
        with self._lock:
            return self._book.names()

    def remove(self, peer: str) -> bool:
        """Forget a peer: its tokens, its circuit and its reputation. False when it was not known."""
        peer = valid_key(peer)
        with self._lock:
            return self._book.remove(peer)

    def reputation(self, peer: str) -> float:
        """What `set_reputation` set; 1.0 when it did not."""
        peer = valid_key(peer)
        with self._lock:
            return self._book.seen(peer).reputation

    def set_reputation(self, peer: str, reputation: float) -> None:
        """Scale a peer's rate and burst: 0.5 halves them, 0.0 refuses it altogether.

        It keeps the share of its tokens that it has. It is remembered until it is set back to 1.0 or
        the peer is removed.

        Raises:
            TooManyPeers: the peer is new, and there is no room that could be made.
        """
        peer = valid_key(peer)
        if not 0.0 <= reputation <= MAX_REPUTATION:  # which NaN is not either
            raise InvalidInput(f"reputation must be 0 to {MAX_REPUTATION:g}, got {reputation!r}")
        with self._lock:
            now = self._now()
            state = self._book.remembered(peer, now)
            if state is self._book.strangers:
                raise TooManyPeers(
                    f"at most {len(self._book)} peers are remembered, and none may be forgotten now; "
                    "remove some, or raise max_peers"
                )
            state.rescale(reputation, self._book.bucket_for(reputation), now)

    def stats(self) -> TableStats:
        """How many peers are remembered, and what had to be given up to make room."""
        with self._lock:
            return self._book.stats()

    def enter(self, peer: str, cost: i64) -> tuple[Decision, int]:
        """Decide, and give the call a ticket; for `PeerGuard`."""
        with self._lock:
            now: i64 = self._now()
            state = self._book.seen(peer)
            wait = self._breaker.wait(state, now)
            if wait > 0:
                return self._refuse_by_circuit(state, wait), ANY_CALL
            wait = state.wait(cost, now)
            if wait == 0 and cost > 0:
                state = self._book.remembered(peer, now)
                wait = state.wait(cost, now)
            if wait != 0 or cost == 0:
                return self._describe(state, wait, now), ANY_CALL
            state.spend(cost, now)
            ticket = self._breaker.enter(state, now)
            return self._describe(state, 0, now), ticket

    def outcome(self, peer: str, ticket: int, verdict: int) -> None:
        """Hear how a call ended: 1 well, -1 it failed, 0 nothing is known; for `PeerGuard`."""
        with self._lock:
            now = self._now()
            state = self._book.known(peer)
            if state is None:
                if verdict >= 0:
                    return
                state = self._book.remembered(peer, now)
                if state is self._book.strangers:
                    return
            if verdict > 0:
                self._breaker.succeeded(state, ticket, now)
            elif verdict < 0:
                self._breaker.failed(state, ticket, now)
            else:
                self._breaker.abandoned(state, ticket, now)

    def _describe(self, peer: Peer, wait: i64, now: i64) -> Decision:
        bucket = peer.bucket
        return Decision(
            wait == 0,
            bucket.limit,
            peer.remaining(now),
            wait,
            peer.reset(now),
            0,
            self.name,
            bucket.window_ns,
        )

    def _refuse_by_circuit(self, peer: Peer, wait: i64) -> Decision:
        bucket = peer.bucket
        return Decision(False, bucket.limit, 0, wait, wait, 0, _CIRCUIT, bucket.window_ns)


@final
class PeerGuard:
    """One call to a peer. Entering returns the decision."""

    def __init__(
        self,
        limiter: PeerLimiter,
        peer: str,
        cost: int,
        failures: type[Exception] | tuple[type[Exception], ...],
    ) -> None:
        self._limiter = limiter
        self._peer = peer
        self._cost = cost
        self._failures = failures
        self._ticket = ANY_CALL

    def __enter__(self) -> Decision:
        decision, self._ticket = self._limiter.enter(self._peer, self._cost)
        if decision.allowed:
            return decision
        if decision.policy == _CIRCUIT:
            raise CircuitOpen(decision, self._peer)
        raise RateLimited(decision, self._peer)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        verdict = 0
        if kind is None:
            verdict = 1
        elif issubclass(kind, self._failures) and not issubclass(kind, RateLimited):
            verdict = -1
        self._limiter.outcome(self._peer, self._ticket, verdict)

    async def __aenter__(self) -> Decision:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


def to_jsonrpc(error: RateLimited) -> dict[str, object]:
    """The JSON-RPC 2.0 error object of a refusal: -32001 rate limited, -32002 circuit open."""
    decision = error.decision
    return {
        "code": error.jsonrpc_code,
        "message": error.title,
        "data": {
            "peer": error.key,
            "policy": decision.policy,
            "limit": decision.limit,
            "remaining": decision.remaining,
            "retry_after": None if decision.never_fits else decision.retry_after,
        },
    }


def _read_rate(rate: str | Rate | int, burst: int | None) -> Rate:
    if isinstance(rate, str):
        read = Rate.parse(rate)
    elif isinstance(rate, Rate):
        read = rate
    else:
        read = Rate.per_second(rate)
    if burst is None:
        burst = 2 * read.limit if read.burst is None else read.burst
    return Rate(read.limit, read.window_ns, burst)


def _seconds(name: str, value: float) -> float:
    if not (isfinite(value) and 0 < value <= _MAX_TIMEOUT):
        raise InvalidInput(f"{name} must be above 0 and at most a year in seconds, got {value!r}")
    return value
