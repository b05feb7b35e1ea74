"""`PeerLimiter`: a bucket and a breaker for each peer (A13)."""

from __future__ import annotations

import asyncio
import threading

import pytest

from headgate.errors import CircuitOpen, InvalidInput, InvalidRate, RateLimited, TooManyPeers
from headgate.gates.peer import CircuitState, PeerLimiter, to_jsonrpc
from headgate.rate import Rate
from headgate.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limiter(clock: ManualClock) -> PeerLimiter:
    return PeerLimiter(10, 20, failure_threshold=3, recovery_timeout=30.0, clock=clock)


def open_circuit(limiter: PeerLimiter, peer: str = "bad") -> None:
    for _ in range(3):
        limiter.record_failure(peer)
    assert limiter.circuit_state(peer) is CircuitState.OPEN


@pytest.mark.parametrize(
    ("made", "rate", "burst", "threshold", "recovery"),
    [
        (PeerLimiter, 100, 200, 10, 30),
        (PeerLimiter.default, 100, 200, 10, 30),
        (PeerLimiter.strict, 10, 20, 3, 300),
        (PeerLimiter.lenient, 1000, 2000, 50, 60),
    ],
)
def test_the_presets(made, rate, burst, threshold, recovery):
    clock = ManualClock()
    limiter = made(clock=clock)
    assert (limiter.rate.limit, limiter.rate.window_ns) == (rate, 10**9)
    assert limiter.available_tokens("p") == burst
    for _ in range(threshold - 1):
        limiter.record_failure("p")
    assert limiter.circuit_state("p") is CircuitState.CLOSED
    limiter.record_failure("p")
    assert limiter.circuit_state("p") is CircuitState.OPEN
    assert limiter.check("p").retry_after == recovery


@pytest.mark.parametrize(
    ("rate", "burst", "limit", "capacity"),
    [
        ("50/second", None, 50, 100),
        ("50/second burst 70", None, 50, 70),
        (Rate.per_minute(6), 9, 6, 9),
        (7, None, 7, 14),
    ],
)
def test_ways_to_say_the_rate(rate, burst, limit, capacity):
    limiter = PeerLimiter(rate, burst, clock=ManualClock())
    assert limiter.rate.limit == limit
    assert limiter.available_tokens("p") == capacity


def test_each_peer_has_its_own_tokens(limiter, clock):
    for _ in range(20):
        assert limiter.check("greedy")
    refused = limiter.check("greedy")
    assert not refused
    assert (refused.policy, refused.limit, refused.retry_after) == ("peer", 10, 0.1)
    assert limiter.check("modest").remaining == 19
    clock.advance(0.1)
    assert limiter.check("greedy")


def test_a_bad_peer_never_affects_another(limiter):
    open_circuit(limiter)
    assert limiter.check("good")
    assert limiter.circuit_state("good") is CircuitState.CLOSED


def test_an_open_circuit_refuses_and_spends_nothing(limiter, clock):
    limiter.check("bad", 5)
    open_circuit(limiter)
    refused = limiter.check("bad")
    assert (refused.allowed, refused.policy, refused.retry_after) == (False, "circuit", 30.0)
    assert limiter.available_tokens("bad") == 15
    clock.advance(10)
    assert limiter.check("bad").retry_after == 20.0


def test_half_open_lets_one_probe_through(limiter, clock):
    open_circuit(limiter)
    clock.advance(30)
    assert limiter.circuit_state("bad") is CircuitState.HALF_OPEN
    passed = [bool(limiter.check("bad")) for _ in range(200)]
    assert passed == [True] + [False] * 199
    limiter.record_success("bad")
    assert limiter.circuit_state("bad") is CircuitState.CLOSED
    assert limiter.check("bad")


def test_two_hundred_threads_at_half_open_one_probe(limiter, clock):
    open_circuit(limiter)
    clock.advance(30)
    passed: list[bool] = []
    gate = threading.Barrier(20)

    def work() -> None:
        gate.wait()
        passed.extend(bool(limiter.check("bad")) for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == 1


def test_a_failed_probe_opens_again(limiter, clock):
    open_circuit(limiter)
    clock.advance(30)
    limiter.check("bad")
    limiter.record_failure("bad")
    assert limiter.check("bad").retry_after == 30.0


def test_a_probe_that_hangs_makes_room_when_its_time_is_up(clock):
    limiter = PeerLimiter(
        10, failure_threshold=1, recovery_timeout=30, probe_timeout=5, clock=clock
    )
    limiter.record_failure("bad")
    clock.advance(30)
    assert limiter.check("bad")
    assert limiter.check("bad").retry_after == 5.0
    clock.advance(5)
    assert limiter.check("bad")


def test_asking_with_no_cost_never_probes(limiter, clock):
    open_circuit(limiter)
    clock.advance(30)
    assert limiter.check("bad", 0)
    assert limiter.check("bad")


def test_a_peer_without_tokens_does_not_use_up_its_probe(limiter, clock):
    limiter.check("bad", 20)
    open_circuit(limiter)
    limiter.set_reputation("bad", 0.0)
    clock.advance(30)
    assert limiter.check("bad").policy == "peer"
    limiter.set_reputation("bad", 1.0)
    assert limiter.check("bad")


def test_guard_learns_from_how_it_went(limiter):
    for _ in range(2):
        with pytest.raises(ConnectionError), limiter.guard("p"):
            raise ConnectionError
    with limiter.guard("p") as decision:
        assert decision.allowed
    for _ in range(3):
        with pytest.raises(ConnectionError), limiter.guard("p"):
            raise ConnectionError
    assert limiter.circuit_state("p") is CircuitState.OPEN


def test_guard_refuses_with_its_reason(limiter, clock):
    open_circuit(limiter)
    with pytest.raises(CircuitOpen, match="circuit of 'bad' is open") as refused:
        limiter.guard("bad").__enter__()
    assert refused.value.decision.retry_after == 30.0
    with limiter.guard("good", cost=20):
        pass
    with pytest.raises(RateLimited) as limited:
        limiter.guard("good").__enter__()
    assert not isinstance(limited.value, CircuitOpen)


@pytest.mark.parametrize(
    "outcome",
    [
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        SystemExit(),
        GeneratorExit(),
        "refused elsewhere",
    ],
)
def test_cancellations_and_our_own_refusals_are_not_failures(limiter, clock, outcome):
    if isinstance(outcome, str):
        other = PeerLimiter(1, 1, clock=clock)
        outcome = RateLimited(other.check("x", 2), "x")
    for _ in range(5):
        with pytest.raises(type(outcome)), limiter.guard("p"):
            raise outcome
    assert limiter.circuit_state("p") is CircuitState.CLOSED
    open_circuit(limiter, "p")
    clock.advance(30)
    with pytest.raises(type(outcome)), limiter.guard("p"):
        raise outcome
    assert limiter.circuit_state("p") is CircuitState.HALF_OPEN
    with limiter.guard("p"):  # the next may probe at once
        pass
    assert limiter.circuit_state("p") is CircuitState.CLOSED


def test_only_what_is_named_counts_as_a_failure(limiter):
    for _ in range(5):
        with pytest.raises(KeyError), limiter.guard("p", failures=(OSError, TimeoutError)):
            raise KeyError
    assert limiter.circuit_state("p") is CircuitState.CLOSED
    for _ in range(3):
        with pytest.raises(ConnectionError), limiter.guard("p", failures=OSError):
            raise ConnectionError
    assert limiter.circuit_state("p") is CircuitState.OPEN


async def test_guard_for_tasks(limiter, clock):
    async with limiter.guard("p") as decision:
        assert decision.remaining == 19
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with limiter.guard("p"):
                raise TimeoutError
    with pytest.raises(CircuitOpen):
        async with limiter.guard("p"):
            pass


async def test_a_guard_holds_no_lock_while_the_peer_is_called(limiter):
    inside = asyncio.Barrier(10)

    async def call() -> None:
        async with limiter.guard("p"):
            await inside.wait()

    await asyncio.gather(*[call() for _ in range(10)])


def test_calls_in_flight_during_an_outage_do_not_count_after_it(limiter, clock):
    flying = [limiter.guard("p") for _ in range(10)]
    for guard in flying:
        guard.__enter__()
    for guard in flying[:3]:
        guard.__exit__(TimeoutError, TimeoutError(), None)
    assert limiter.circuit_state("p") is CircuitState.OPEN
    clock.advance(30)
    with limiter.guard("p"):
        pass
    for guard in flying[3:]:
        guard.__exit__(TimeoutError, TimeoutError(), None)
    assert limiter.circuit_state("p") is CircuitState.CLOSED


def test_reputation_scales_rate_and_burst(limiter, clock):
    limiter.set_reputation("p", 0.5)
    assert limiter.available_tokens("p") == 10
    assert limiter.check("p", 10)
    assert limiter.check("p").retry_after == 0.2
    limiter.set_reputation("q", 2.0)
    assert limiter.available_tokens("q") == 40
    assert limiter.available_tokens("other") == 20
    assert limiter.reputation("p") == 0.5
    assert limiter.reputation("other") == 1.0


def test_reputation_keeps_the_share_that_is_left(limiter):
    limiter.check("p", 15)
    limiter.set_reputation("p", 2.0)
    assert limiter.available_tokens("p") == 10
    limiter.set_reputation("p", 0.5)
    assert limiter.available_tokens("p") == 2
    limiter.set_reputation("p", 1.0)
    assert limiter.available_tokens("p") in {4, 5}


def test_no_reputation_is_no_access(limiter, clock):
    limiter.set_reputation("p", 0.0)
    refused = limiter.check("p")
    assert not refused
    assert refused.never_fits
    assert limiter.available_tokens("p") == 0
    clock.advance(3600)
    assert not limiter.check("p")


def test_a_tiny_reputation_is_less_than_one_a_window(limiter, clock):
    limiter.set_reputation("p", 0.001)
    assert limiter.check("p")
    assert limiter.check("p").retry_after == 100.0


@pytest.mark.parametrize("reputation", [-0.1, 101, float("nan"), float("inf")])
def test_a_reputation_that_makes_no_sense(limiter, reputation):
    with pytest.raises(InvalidInput, match="reputation must be"):
        limiter.set_reputation("p", reputation)


def test_peers_are_counted_listed_and_removed(limiter):
    for peer in ("a", "b", "c"):
        limiter.check(peer)
    assert limiter.peer_count == 3
    assert sorted(limiter.peers()) == ["a", "b", "c"]
    limiter.set_reputation("a", 0.0)
    assert limiter.remove("a") is True
    assert limiter.remove("a") is False
    assert limiter.peer_count == 2
    assert limiter.check("a").remaining == 19


def test_reading_remembers_nobody(limiter):
    limiter.available_tokens("p")
    limiter.circuit_state("p")
    limiter.reputation("p")
    limiter.check("p", 0)
    limiter.check("p", 21)
    limiter.record_success("p")
    assert limiter.peer_count == 0


def test_json_rpc_errors(limiter):
    limiter.check("p", 20)
    with pytest.raises(RateLimited) as limited:
        limiter.guard("p").__enter__()
    assert to_jsonrpc(limited.value) == {
        "code": -32001,
        "message": "Too many requests",
        "data": {"peer": "p", "policy": "peer", "limit": 10, "remaining": 0, "retry_after": 0.1},
    }
    open_circuit(limiter)
    with pytest.raises(CircuitOpen) as opened:
        limiter.guard("bad").__enter__()
    assert to_jsonrpc(opened.value)["code"] == -32002
    limiter.set_reputation("worst", 0.0)
    with pytest.raises(RateLimited) as never:
        limiter.guard("worst").__enter__()
    assert to_jsonrpc(never.value)["data"]["retry_after"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"failure_threshold": 0},
        {"recovery_timeout": 0},
        {"recovery_timeout": float("nan")},
        {"probe_timeout": -1},
        {"max_peers": 0},
    ],
)
def test_settings_that_make_no_sense(arguments):
    with pytest.raises(InvalidInput):
        PeerLimiter(**arguments)


def test_a_rate_that_makes_no_sense():
    with pytest.raises(InvalidRate):
        PeerLimiter(0)


class TestAtTheCap:
    def made(self, clock: ManualClock, peers: int = 8) -> PeerLimiter:
        return PeerLimiter(10, 20, failure_threshold=3, max_peers=peers, clock=clock)

    def test_memory_is_bounded_under_a_flood(self, clock):
        limiter = self.made(clock)
        for number in range(1000):
            assert limiter.check(f"peer {number}")
        assert limiter.peer_count == 8
        stats = limiter.stats()
        assert (stats.keys, stats.max_keys) == (8, 8)
        assert stats.evicted == 992
        assert stats.tokens_forgone == 992

    def test_those_of_whom_nothing_is_known_go_first(self, clock):
        limiter = self.made(clock)
        limiter.check("busy", 20)
        for number in range(7):
            limiter.check(f"idle {number}")
        clock.advance(1)
        limiter.check("newcomer")
        assert "busy" in limiter.peers()
        assert limiter.stats().forgotten == 1
        assert limiter.stats().evicted == 0

    def test_limited_open_and_rated_peers_are_never_forgotten(self, clock):
        limiter = self.made(clock, peers=4)
        limiter.check("limited", 20)
        open_circuit(limiter, "open")
        limiter.set_reputation("rated", 0.5)
        for number in range(200):
            limiter.check(f"flood {number}")
        assert {"limited", "open", "rated"} < set(limiter.peers())
        assert not limiter.check("limited")
        assert not limiter.check("open")

    def test_when_nobody_can_be_forgotten_newcomers_share_what_one_has(self, clock):
        limiter = self.made(clock, peers=2)
        for peer in ("a", "b"):
            limiter.check(peer, 20)
        passed = sum(bool(limiter.check(f"flood {number}")) for number in range(100))
        assert passed == 20
        assert limiter.peer_count == 2
        assert limiter.stats().overflowed > 0
        for _ in range(5):
            limiter.record_failure("flood 1")
        assert limiter.circuit_state("flood 2") is CircuitState.CLOSED

    def test_a_reputation_that_cannot_be_remembered_is_an_error(self, clock):
        limiter = self.made(clock, peers=2)
        limiter.set_reputation("a", 0.5)
        limiter.set_reputation("b", 0.5)
        with pytest.raises(TooManyPeers, match="remove some"):
            limiter.set_reputation("c", 0.5)
