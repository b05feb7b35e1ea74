"""The daemon guard: its gate, requests, connections, log lines and metrics (B9)."""

from __future__ import annotations

import asyncio
import json
import logging
import threading

import pytest

from headgate.errors import ConfigurationError, InvalidInput, Overloaded, RateLimited
from headgate.gates import daemon_report
from headgate.gates.daemon_guard import DaemonGuard
from headgate.gates.daemon_limits import DaemonLimits
from headgate.testing import ManualClock
from tests.support.daemons import Usage, guarded

YEAR = 366 * 86_400.0


@pytest.fixture(autouse=True)
def released(monkeypatch) -> list[int]:
    """Giving memory back takes real time, so it is only counted here."""
    times: list[int] = []
    monkeypatch.setattr(daemon_report, "release_memory", lambda: times.append(1))
    return times


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def usage() -> Usage:
    return Usage()


def connect(guard: DaemonGuard, number: int = 1):
    closed: list[int] = []
    made = [guard.connection(lambda n=n: closed.append(n), f"peer{n}") for n in range(number)]
    return made, closed


def use(clock: ManualClock, usage: Usage, **values: float | None) -> None:
    """Change the readings, and have them read at the next look."""
    for name, value in values.items():
        setattr(usage, name, value)
    clock.advance(0.001)


# --- the gate ---------------------------------------------------------------------------------------------


def test_nothing_is_paused_when_all_is_well(clock):
    assert guarded(clock).gate() == 0.0


def test_the_limit_of_connections(clock):
    guard = guarded(clock, max_connections=3)
    made, _ = connect(guard, 3)
    assert guard.gate() == 0.1
    made[0].leave()
    assert guard.gate() == 0.0
    made[0].leave()
    assert len(guard.connections) == 2


def test_one_connection_too_many_is_refused(clock):
    guard = guarded(clock, max_connections=1)
    connect(guard)
    with pytest.raises(Overloaded) as raised:
        connect(guard)
    assert raised.value.decision.policy == "max_connections"
    assert raised.value.decision.retry_after == 0.1
    assert guard.rejections == 1


def test_the_limit_of_requests_under_way(clock):
    guard = guarded(clock, max_concurrent_requests=2)
    with guard.request(), guard.request():
        assert guard.gate() == 0.1
        with pytest.raises(Overloaded, match="max_concurrent_requests") as raised, guard.request():
            pass
        assert raised.value.decision.limit == 2
        assert raised.value.decision.retry_after == 0.1
        assert guard.in_flight == 2
    assert guard.gate() == 0.0


def test_the_limit_of_requests_in_any_minute(clock):
    guard = guarded(clock, max_requests_per_minute=3)
    for _ in range(3):
        with guard.request():
            clock.advance(10)
    assert guard.gate() == 0.1
    with pytest.raises(Overloaded, match="max_requests_per_minute") as raised, guard.request():
        pass
    assert raised.value.decision.retry_after == 30
    clock.advance(30)
    assert guard.gate() == 0.0
    with guard.request():
        pass
    assert guard.rejections == 1


@pytest.mark.parametrize("values", [{"memory": 100.0}, {"cpu": 200.0}, {"memory": 1e9}])
def test_a_violation_throttles_and_what_is_under_way_finishes(clock, usage, values):
    guard = guarded(clock, usage)
    made, _ = connect(guard, 2)
    with made[0].request():
        use(clock, usage, **values)
        assert guard.gate() == 1.0
        with pytest.raises(Overloaded) as raised, made[1].request():
            pass
        assert raised.value.decision.policy in values
        assert raised.value.decision.retry_after == 1.0
    assert guard.metrics()["performance"]["ok"] == 1
    use(clock, usage, memory=10.0, cpu=5.0)
    assert guard.gate() == 0.0


def test_a_violation_without_end_leaves_one_connection_a_second_and_one_request_at_a_time(
    clock, usage
):
    guard = guarded(clock, usage, max_connections=5)
    use(clock, usage, memory=500.0)
    assert guard.gate() == 0.0
    connect(guard)
    assert guard.gate() == 1.0
    clock.advance(1)
    assert guard.gate() == 0.0
    made, _ = connect(guard)
    with made[0].request():
        clock.advance(5)
        assert guard.gate() == 1.0
    assert guard.gate() == 0.0
    connect(guard, 3)
    clock.advance(5)
    assert guard.gate() == 1.0  # all places are taken besides


def test_what_cannot_be_read_violates_nothing(clock, usage):
    guard = guarded(clock, usage)
    use(clock, usage, memory=None, cpu=float("nan"))
    assert guard.gate() == 0.0
    assert guard.metrics()["resources"]["memory"]["current"] is None


def test_resources_without_limits_hold_nothing_back(clock):
    limits = DaemonLimits(max_memory_mb=None, max_cpu_percent=None)
    assert DaemonGuard(limits, clock=clock).watched() == ()
    assert DaemonGuard(DaemonLimits(), clock=clock).watched() == ("memory", "cpu")


def test_the_real_process_is_read_when_nobody_says_otherwise(clock):
    guard = DaemonGuard(DaemonLimits(max_memory_mb=0.5), clock=clock)
    assert guard.violated() == ["memory"]
    assert guard.metrics()["resources"]["memory"]["current"] > 5


def test_limits_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("HEADGATE_MAX_CONNECTIONS", "7")
    assert DaemonGuard().limits.max_connections == 7
    monkeypatch.setenv("HEADGATE_MAX_CONNECTIONS", "x")
    with pytest.raises(ConfigurationError, match="HEADGATE_MAX_CONNECTIONS"):
        DaemonGuard()


# --- connections whose clients do not come ---------------------------------------------------------------


def test_stale_connections_are_closed_once(clock):
    guard = guarded(clock, stale_connection_seconds=300)
    made, closed = connect(guard, 3)
    clock.advance(200)
    with made[1].request():
        pass
    made[2].progressed()
    clock.advance(100)
    guard.housekeep()
    assert closed == [0]
    clock.advance(200)
    with made[2].request():
        guard.housekeep()
        assert closed == [0, 1]
    assert guard.metrics()["connections"] == {"total": 3, "active": 3, "stale": 2}


def test_a_request_under_way_is_never_stale(clock):
    guard = guarded(clock)
    made, closed = connect(guard)
    with made[0].request():
        clock.advance(YEAR)
        guard.housekeep()
    guard.housekeep()
    assert closed == []
    clock.advance(300)
    guard.housekeep()
    assert closed == [0]


@pytest.mark.parametrize("by", ["gate", "housekeep"])
def test_when_all_places_are_taken_the_useless_ones_are_freed(clock, by):
    guard = guarded(clock, max_connections=4, connection_grace_seconds=10)
    made, closed = connect(guard, 4)
    for connection in made[2:]:
        with connection.request():
            clock.advance(0.5)
    clock.advance(0.9)
    getattr(guard, by)()
    assert closed == []
    clock.advance(0.1)
    getattr(guard, by)()
    assert closed == [0, 1]  # never asked for anything
    clock.advance(7.9)
    getattr(guard, by)()
    assert closed == [0, 1]
    clock.advance(50)
    getattr(guard, by)()
    assert closed == [0, 1, 2]  # idle for longest; the others have not left, for whatever reason
    getattr(guard, by)()
    clock.advance(0.999)
    getattr(guard, by)()
    assert closed == [0, 1, 2]
    clock.advance(0.001)
    getattr(guard, by)()
    clock.advance(1)
    getattr(guard, by)()
    assert closed == [0, 1, 2, 3]
    for connection in made:
        connection.leave()
    getattr(guard, by)()
    assert (len(closed), guard.connections.stale) == (4, 4)


def test_while_there_is_room_idle_connections_stay(clock):
    guard = guarded(clock, max_connections=3, connection_grace_seconds=1)
    _, closed = connect(guard, 2)
    clock.advance(299)
    guard.gate()
    guard.housekeep()
    assert closed == []


def test_a_connection_that_cannot_be_closed_keeps_no_other_from_it(clock, caplog):
    guard = guarded(clock)
    closed = []

    def fail(error):
        raise error

    guard.connection(lambda: fail(OSError("gone")))
    guard.connection(lambda: fail(RuntimeError("ours")))
    guard.connection(lambda: closed.append(1))
    clock.advance(301)
    guard.housekeep()
    assert closed == [1]
    assert "could not be closed" in caplog.text


# --- requests ----------------------------------------------------------------------------------------------


def test_how_requests_end(clock):
    guard = guarded(clock)
    with guard.request():
        clock.advance(2)
    with guard.request() as request:
        request.failed()
    for error in (RuntimeError(), InvalidInput("no"), OSError()):
        with pytest.raises(type(error)), guard.request():
            raise error
    refusal = RateLimited(guard._minute.check("other"), "x")
    for error in (refusal, KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()):
        with pytest.raises(type(error)), guard.request():
            raise error
    guard.record_invalid()
    document = guard.metrics()
    assert document["performance"] | {"requests_per_second": 0} == {
        "total": 9,
        "ok": 1,
        "failed": 4,
        "abandoned": 4,
        "in_flight": 0,
        "mean": 2.0,
        "p95": 2.0,
        "p99": 2.0,
        "requests_per_second": 0,
        "error_rate": 0.8,
    }
    assert document["security"] == {"validation_failures": 2, "rejections": 0}


async def test_the_async_twin(clock):
    guard = guarded(clock, max_concurrent_requests=1)
    connection = connect(guard)[0][0]
    async with connection.request():
        assert connection.working == 1
        with pytest.raises(Overloaded):
            async with guard.request():
                pass
    assert (connection.working, connection.served, guard.in_flight) == (0, 1, 0)


def test_a_request_object_may_be_used_again_but_not_twice_at_a_time(clock):
    guard = guarded(clock)
    request = guard.request()
    with request:
        request.failed()
        with pytest.raises(InvalidInput, match="under way"), request:
            pass
    with request:
        pass
    request.__exit__(None, None, None)
    assert guard.in_flight == 0
    figures = guard.metrics()["performance"]
    assert (figures["ok"], figures["failed"]) == (1, 1)


def test_a_refused_request_leaves_nothing_behind(clock):
    guard = guarded(clock, max_concurrent_requests=1)
    connection = connect(guard)[0][0]
    with guard.request():
        request = connection.request()
        with pytest.raises(Overloaded), request:
            pass
        request.__exit__(None, None, None)
        assert (connection.working, guard.in_flight) == (0, 1)


@pytest.mark.slow
def test_threads_get_as_many_places_as_there_are():
    guard = guarded(ManualClock(), max_concurrent_requests=3, max_requests_per_minute=1_000_000)
    most = [0]
    start = threading.Barrier(8)

    def work():
        start.wait()
        for _ in range(500):
            try:
                with guard.request():
                    most[0] = max(most[0], guard.in_flight)
            except Overloaded:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    document = guard.metrics()
    assert guard.in_flight == 0
    assert 1 <= most[0] <= 3
    assert document["performance"]["total"] + document["security"]["rejections"] == 4000


class Together:
    """A monitor whose report all threads get at the same moment, before any of them goes on."""

    def __init__(self, monitor, threads: int) -> None:
        self.monitor = monitor
        self.barrier = threading.Barrier(threads)

    def report(self):
        self.barrier.wait(20)
        return self.monitor.report()


@pytest.mark.parametrize("violated", [False, True])
def test_threads_that_saw_room_at_the_same_moment(clock, usage, violated):
    guard = guarded(clock, usage, max_concurrent_requests=2)
    use(clock, usage, memory=500.0 if violated else 1.0)
    guard._monitor = Together(guard._monitor, 5)
    outcomes = []
    ended = threading.Barrier(5)

    def work():
        try:
            with guard.request():
                ended.wait(20)
                outcomes.append("began")
        except Overloaded as error:
            outcomes.append(error.decision.policy)
            ended.wait(20)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if violated:
        assert sorted(outcomes) == ["began"] + ["memory"] * 4
    else:
        assert sorted(outcomes) == ["began"] * 2 + ["max_concurrent_requests"] * 3
    assert guard.in_flight == 0


# --- a clock that jumps -----------------------------------------------------------------------------------


def test_a_clock_that_goes_back_sticks_nothing(clock, usage):
    guard = guarded(clock, usage, max_connections=2)
    made, closed = connect(guard, 2)
    with made[0].request():
        clock.advance(-YEAR)
    guard.housekeep()
    assert closed == []
    clock.advance(301)
    guard.housekeep()
    assert closed == [0, 1]
    for connection in made:
        connection.leave()
    use(clock, usage, memory=500.0)
    clock.advance(-YEAR)
    assert guard.gate() == 0.0
    use(clock, usage, memory=1.0)
    assert guard.gate() == 0.0
    assert guard.metrics()["performance"]["mean"] == 0.0


def test_a_clock_that_goes_forward_sticks_nothing(clock):
    guard = guarded(clock, max_requests_per_minute=1)
    with guard.request():
        clock.advance(YEAR)
    assert guard.gate() == 0.0
    guard.housekeep()


# --- telling ----------------------------------------------------------------------------------------------


def lines(caplog) -> list[str]:
    found = [f"{r.levelname} {r.getMessage()}" for r in caplog.records]
    caplog.clear()
    return found


def test_the_lines_of_the_log(clock, usage, caplog):
    caplog.set_level(logging.INFO, "headgate.daemon")
    guard = guarded(clock, usage)
    clock.advance(59.9)
    guard.housekeep()
    assert lines(caplog) == []
    clock.advance(0.1)
    guard.housekeep()
    line = (
        "INFO test: 0 of 100 connections, 0 of 100 requests under way, "
        "0 of 2000 in the last minute, cpu 5 of 200 %, memory 10 of 100 MB"
    )
    assert lines(caplog) == [line]
    guard.housekeep()
    assert lines(caplog) == []
    with guard.request():
        clock.advance(240)
    guard.housekeep()
    found = lines(caplog)
    assert len(found) == 2
    assert found[1].startswith(
        "INFO test: up 300 s, 1 requests (1 ok, 0 failed, 0 abandoned), mean "
    )


def test_changes_are_told_at_once_and_not_all_the_time(clock, usage, caplog):
    caplog.set_level(logging.INFO, "headgate.daemon")
    guard = guarded(clock, usage, monitor_interval=YEAR, summary_interval=YEAR, max_connections=1)
    use(clock, usage, memory=85.0)
    guard.housekeep()
    assert lines(caplog) == ["WARNING test: memory near the limit, 85 of 100 MB"]
    use(clock, usage, memory=120.0)
    guard.housekeep()
    assert lines(caplog) == []
    clock.advance(10)
    guard.housekeep()
    assert lines(caplog) == ["WARNING test: memory at the limit, 120 of 100 MB"]
    use(clock, usage, memory=20.0)
    clock.advance(10)
    made, _ = connect(guard)
    guard.housekeep()
    assert sorted(lines(caplog)) == [
        "INFO test: memory fine again, 20 of 100 MB",
        "WARNING test: connections at the limit, 1 of 1",
    ]
    made[0].leave()
    clock.advance(10)
    guard.housekeep()
    assert lines(caplog) == ["INFO test: connections fine again, 0 of 1"]


def test_a_violation_that_came_and_went_between_two_turns_is_told_too(clock, usage, caplog):
    caplog.set_level(logging.INFO, "headgate.daemon")
    guard = guarded(clock, usage, monitor_interval=YEAR, summary_interval=YEAR)
    use(clock, usage, memory=120.0)
    assert guard.violated()
    use(clock, usage, memory=20.0)
    assert not guard.violated()
    guard.housekeep()
    assert lines(caplog) == ["WARNING test: memory at the limit, 120 of 100 MB"]
    clock.advance(10)
    guard.housekeep()
    guard.housekeep()
    assert lines(caplog) == ["INFO test: memory fine again, 20 of 100 MB"]


def test_too_much_memory_is_given_back_now_and_then(clock, usage, released):
    guard = guarded(clock, usage)
    guard.housekeep()
    assert released == []
    use(clock, usage, memory=120.0)
    for _ in range(15):
        guard.housekeep()
        clock.advance(1)
    assert len(released) == 2


def test_the_metrics_document(clock, usage):
    guard = guarded(clock, usage, max_connections=4, profile="default")
    made, _ = connect(guard, 4)
    made[0].leave()
    use(clock, usage, memory=90.0)
    guard.housekeep()
    use(clock, usage, memory=30.0)
    document = json.loads(json.dumps(guard.metrics()))
    assert list(document) == ["daemon", "resources", "performance", "security", "connections"]
    assert document["daemon"]["status"] == "ok"
    assert document["daemon"]["uptime"] == pytest.approx(0.002)
    assert document["daemon"]["started_at"] == 1_767_225_600
    assert document["resources"]["memory"] == {
        "current": 30.0,
        "limit": 100.0,
        "peak": 90.0,
        "status": "ok",
        "warnings": 1,
        "violations": 0,
        "unit": "MB of 1048576 bytes",
    }
    assert document["resources"]["connections"]["peak"] == 4
    assert document["resources"]["connections"]["violations"] == 1
    assert set(document["resources"]) == {
        "memory",
        "cpu",
        "connections",
        "concurrent_requests",
        "requests_per_minute",
    }
    assert document["connections"] == {"total": 4, "active": 3, "stale": 0}


def test_the_status(clock, usage):
    guard = guarded(clock, usage, max_connections=1)
    connect(guard)
    assert guard.metrics()["daemon"]["status"] == "limited"
    use(clock, usage, memory=130.0)
    assert guard.metrics()["daemon"]["status"] == "violated"
    guard.stop()
    assert guard.metrics()["daemon"]["status"] == "stopping"


@pytest.mark.parametrize("limits", [5, {}, "low-memory"])
def test_limits_of_another_kind(limits):
    with pytest.raises(InvalidInput, match="must be DaemonLimits"):
        DaemonGuard(limits)


def test_a_connection_that_cannot_be_closed_is_none(clock):
    with pytest.raises(InvalidInput, match="close must be callable"):
        guarded(clock).connection(None)
