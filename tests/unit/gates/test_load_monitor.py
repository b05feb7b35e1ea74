"""The load monitor, with readings that are told and time that is moved."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from math import inf, nan

import pytest

from headgate.backpressure.thresholds import Status
from headgate.clock import Clock
from headgate.errors import InvalidInput
from headgate.gates import load_monitor as module
from headgate.gates.load_monitor import LoadMonitor
from headgate.gates.load_report import UNITS
from headgate.gates.load_runners import Pace
from headgate.gates.readings import Reading
from headgate.gates.timer_lag import TimerLag
from headgate.testing import ManualClock

YEAR = 366 * 86_400.0


class Told:
    """Readings that are what the test says."""

    def __init__(self, **values):
        self.values = values
        self.reads = 0
        self.error = None

    def read(self, now_ns):
        self.reads += 1
        if self.error is not None:
            raise self.error
        return Reading(**self.values)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def monitor(told, clock):
    return LoadMonitor(readings=told, clock=clock)


def settle(monitor, clock, seconds=5.0):
    for _ in range(round(seconds / 0.1)):
        clock.advance(0.1)
        monitor.sample()


# --- samples ----------------------------------------------------------------------------------------------


def test_it_is_idle_when_nothing_is_known(monitor):
    assert monitor.pressure() == 0.0
    assert not monitor.overloaded
    assert monitor.report().cause == ""
    assert set(monitor.report().resources) == set(UNITS)


@pytest.mark.parametrize(
    ("values", "cause"),
    [({"cpu": 0.95}, "cpu"), ({"memory": 0.95}, "memory"), ({"psi_some": 0.6}, "psi")],
)
def test_readings_make_pressure(monitor, told, clock, values, cause):
    told.values = values
    settle(monitor, clock)
    assert monitor.pressure() == pytest.approx(1.0, abs=1e-6)
    assert monitor.report().cause == cause


def test_limits_of_the_owner_count_where_they_are_tighter(told, clock):
    monitor = LoadMonitor(max_memory_mb=100, max_cpu_percent=50, readings=told, clock=clock)
    told.values = {
        "memory": 0.10,
        "memory_limit": 2**40,
        "process_memory": 95 * 2**20,
        "cpu": 0.1,
        "cores": 4.0,
        "process_cpu": 0.475,
    }
    report = monitor.sample()
    assert report.raw == pytest.approx(1.0)
    memory, cpu = report.resources["memory"], report.resources["cpu"]
    assert (memory.value, memory.limit, memory.status) == (95.0, 100.0, Status.WARN)
    assert (cpu.value, cpu.limit) == (pytest.approx(47.5), 50.0)


def test_without_limits_of_the_owner_resources_are_the_containers(monitor, told):
    told.values = {"memory": 0.5, "memory_limit": 2**30, "cpu": 0.25, "cores": 2.0}
    resources = monitor.sample().resources
    assert (resources["memory"].value, resources["memory"].limit) == (512.0, 1024.0)
    assert (resources["cpu"].value, resources["cpu"].limit) == (50.0, 200.0)


def test_the_network_has_a_threshold_and_makes_no_pressure(told, clock):
    monitor = LoadMonitor(max_network_mbps=100, readings=told, clock=clock)
    told.values = {"network": 12_500_000.0}
    report = monitor.sample()
    network = report.resources["network"]
    assert (network.value, network.status) == (100.0, Status.VIOLATE)
    assert report.violated == ["network"]
    assert report.status is Status.VIOLATE
    assert report.raw == 0.0


def test_queue_delays_count_as_their_mean_and_only_once(monitor):
    monitor.observe_queue_delay(0.010)
    monitor.observe_queue_delay(0.020)
    report = monitor.sample()
    assert report.raw == pytest.approx(0.75)
    assert report.cause == "queue_delay"
    assert monitor.sample().raw == 0.0


def test_requests_in_flight_hold_until_told_otherwise(monitor, clock):
    monitor.observe_in_flight(30, 40)
    assert monitor.sample().raw == 0.75
    assert monitor.sample().raw == 0.75
    monitor.observe_in_flight(0, 40)
    assert monitor.sample().raw == 0.0


def test_requests_in_flight_against_the_monitors_own_limit(told, clock):
    monitor = LoadMonitor(max_in_flight=10, readings=told, clock=clock)
    monitor.observe_in_flight(10)
    assert monitor.sample().raw == 1.0
    assert monitor.sample().resources["in_flight"].status is Status.VIOLATE


def test_requests_in_flight_without_any_limit_are_only_shown(monitor):
    monitor.observe_in_flight(10)
    report = monitor.sample()
    assert report.raw == 0.0
    assert report.resources["in_flight"].value == 10.0
    assert report.resources["in_flight"].ratio is None


def test_the_report_is_fit_for_json(monitor, told):
    told.values = {"cpu": 0.5, "cores": 2.0, "network": nan}
    document = monitor.sample().as_dict()
    assert document["status"] == "ok"
    assert document["resources"]["cpu"]["value"] == 100.0
    assert document["resources"]["network"]["value"] is None


# --- who takes them ---------------------------------------------------------------------------------------


def test_by_itself_it_samples_when_asked_and_due(monitor, told, clock):
    for _ in range(5):
        monitor.pressure()
        assert monitor.overloaded is False
        monitor.report()
    assert told.reads == 1
    clock.advance(0.099)
    monitor.pressure()
    assert told.reads == 1
    clock.advance(0.001)
    monitor.pressure()
    assert told.reads == 2


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_a_clock_that_jumps_does_not_stop_the_samples(monitor, told, clock, jump):
    monitor.observe_in_flight(2, 1)
    settle(monitor, clock)
    assert monitor.overloaded
    monitor.observe_in_flight(0, 1)
    clock.advance(jump)
    for _ in range(60):
        monitor.pressure()
        clock.advance(0.1)
    assert not monitor.overloaded


class Steps(Clock):
    """A clock for a thread: each wait is handed to the test, which lets it go on."""

    def __init__(self):
        self.now = 0
        self.waiting = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        super().__init__(lambda: self.now, 0)

    def wait_for(self, signal, seconds):
        self.waiting.release()
        self.go.acquire()

    def step(self, seconds):
        self.waiting.acquire()
        self.now += round(seconds * 1e9)
        self.go.release()


def test_a_thread_takes_them_and_notes_how_late_it_wakes(told):
    clock = Steps()
    monitor = LoadMonitor(readings=told, clock=clock)
    seen = []
    monitor.subscribe(seen.append)
    with monitor:
        for _ in range(10):
            clock.step(0.010)
        clock.waiting.acquire()  # it has come round
        assert len(seen) == 2
        assert seen[-1].raw == 0.0
        clock.waiting.release()
        clock.step(0.120)  # 100 ms late
        clock.waiting.acquire()
        assert seen[-1].raw == pytest.approx(1.0)
        assert seen[-1].cause == "loop_lag"
        clock.waiting.release()
        monitor._runner._stop.set()
        clock.step(0)
    assert monitor.sample().resources["loop_lag"].value is None


def test_a_hang_is_seen_by_others_while_it_lasts(told):
    clock = Steps()
    monitor = LoadMonitor(readings=told, clock=clock)
    with monitor:
        clock.waiting.acquire()
        assert monitor.pressure() == 0.0
        clock.now += 900_000_000  # ten intervals are not over: that is the thread's affair
        assert monitor.pressure() == 0.0
        clock.now += 200_000_000
        assert monitor.pressure() >= 1.0
        assert monitor.report().cause == "loop_lag"
        clock.waiting.release()
        monitor._runner._stop.set()
        clock.step(0)


async def test_a_task_takes_them_and_notes_how_late_the_loop_is(told, clock):
    monitor = LoadMonitor(readings=told, clock=clock)
    seen = []
    monitor.subscribe(seen.append)
    async with monitor as entered:
        assert entered is monitor
        for _ in range(50):
            await clock.sleep_async(0.01)
        assert len(seen) >= 5
        assert all(report.raw == 0.0 for report in seen)
        for _ in range(10):
            clock.advance(0.2)  # a handler that blocks
            await clock.sleep_async(0.01)
        assert seen[-1].cause == "loop_lag"
        assert monitor.overloaded
    told_so_far = told.reads
    await clock.sleep_async(1.0)
    assert told.reads == told_so_far
    assert monitor.sample().resources["loop_lag"].value is None


def test_samples_go_on_when_the_clock_goes_back(clock):
    samples = []
    pace = Pace(clock, TimerLag(), 0.1, lambda: samples.append(clock.now_ns()))
    clock.advance(YEAR)
    pace.begin()
    clock.advance(-YEAR)
    for _ in range(10):
        pace.before()
        clock.advance(0.05)
        pace.after()
    assert len(samples) == 6


@pytest.mark.parametrize("turns", range(8))
async def test_it_can_be_cancelled_at_any_point(told, clock, turns):
    monitor = LoadMonitor(readings=told, clock=clock)

    async def work():
        async with monitor:
            await clock.sleep_async(0.02)

    task = asyncio.create_task(work())
    for _ in range(turns):
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the event loop, and no time
    task.cancel()
    await asyncio.wait([task])
    for _ in range(3):
        await asyncio.sleep(0)  # noqa: TID251 - likewise
    assert monitor._runner is None
    assert [t.get_name() for t in asyncio.all_tasks() if "load-monitor" in t.get_name()] == []


async def test_it_ends_with_the_block_even_when_that_raises(monitor, clock):
    with pytest.raises(KeyError):
        async with monitor:
            raise KeyError
    assert monitor._runner is None
    async with monitor:
        pass


async def test_it_is_entered_once(monitor, clock):
    async with monitor:
        with pytest.raises(InvalidInput, match="runs already"):
            async with monitor:
                pass
        with pytest.raises(InvalidInput, match="runs already"), monitor:
            pass
        assert monitor._runner.is_alive()
    async with monitor:
        pass


def test_a_monitor_whose_loop_was_closed_under_it_samples_when_asked(told, clock):
    monitor = LoadMonitor(readings=told, clock=clock)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(monitor.__aenter__())
    task = monitor._runner._task
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    before = told.reads
    clock.advance(0.1)
    monitor.pressure()
    assert told.reads == before + 1
    other = asyncio.new_event_loop()
    other.run_until_complete(monitor.__aenter__())
    other.run_until_complete(monitor.__aexit__(None, None, None))
    other.close()


def test_while_one_thread_samples_others_use_what_is_there(told, clock):
    monitor = LoadMonitor(readings=told, clock=clock)
    monitor.sample()
    clock.advance(1.0)
    inside, leave = threading.Event(), threading.Event()

    def slow(now_ns):
        inside.set()
        leave.wait()
        return Reading(cpu=0.95)

    told.read = slow
    asking = threading.Thread(target=monitor.pressure)
    asking.start()
    inside.wait()
    assert monitor.pressure() == 0.0  # does not wait
    leave.set()
    asking.join()
    assert monitor.report().cause == "cpu"


@pytest.fixture
def hasty():
    """Threads are switched as often as can be."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty")
def test_many_threads_take_each_sample_once(told, clock):
    monitor = LoadMonitor(readings=told, clock=clock)
    ready = threading.Barrier(6)
    turn = threading.Barrier(6, action=lambda: clock.advance(0.1))

    def ask():
        ready.wait()
        for _ in range(20):
            for _ in range(5):
                monitor.pressure()
                monitor.observe_queue_delay(0.001)
                monitor.observe_in_flight(3, 4)
            assert monitor.report().pressure <= 1.0
            turn.wait()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.reads == 20
    assert monitor.report().resources["queue_delay"].value == pytest.approx(1.0)


def test_a_listener_may_ask_the_monitor_and_may_end_it(told):
    clock = Steps()
    monitor = LoadMonitor(readings=told, clock=clock)
    ended = threading.Event()

    def listener(report):
        assert monitor.pressure() == report.pressure
        if threading.current_thread().name == "headgate-load-monitor":
            monitor.__exit__(None, None, None)
            ended.set()

    monitor.subscribe(listener)
    monitor.__enter__()
    thread = monitor._runner._thread
    for _ in range(10):
        clock.step(0.01)
    ended.wait()
    thread.join()
    assert monitor._runner is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_child_that_was_forked_in_the_middle_of_a_sample_samples_for_itself(told, clock):
    monitor = LoadMonitor(readings=told, clock=clock)
    monitor.sample()
    inside, leave = threading.Event(), threading.Event()
    read, told.read = told.read, lambda now_ns: inside.set() or leave.wait() or Reading()
    holding = threading.Thread(target=monitor.sample)
    holding.start()
    inside.wait()
    told.read = read
    module._after_fork()  # what a child does first; the thread that holds the lock is not in it
    clock.advance(1)
    before = told.reads
    monitor.pressure()
    assert told.reads == before + 1
    leave.set()
    holding.join()


# --- failures ---------------------------------------------------------------------------------------------


def test_readings_that_fail_are_logged_once_and_not_known(monitor, told, clock, caplog):
    told.error = PermissionError("no /proc here")
    monitor.observe_in_flight(1, 2)
    settle(monitor, clock)
    assert monitor.pressure() == pytest.approx(0.5)
    assert len([r for r in caplog.records if "reading the load failed" in r.message]) == 1
    told.error = None
    told.values = {"cpu": 0.95}
    settle(monitor, clock)
    assert monitor.pressure() == pytest.approx(1.0)


def test_readings_of_another_kind_are_not_known(clock, caplog):
    class Odd:
        def read(self, now_ns):
            return {"cpu": 1.0}

    monitor = LoadMonitor(readings=Odd(), clock=clock)
    assert monitor.pressure() == 0.0
    assert "reading the load failed" in caplog.text


@pytest.mark.parametrize("value", [nan, inf, -inf, -1.0])
def test_readings_that_are_no_numbers_do_no_harm(monitor, told, clock, value):
    told.values = {"cpu": value, "memory": value, "psi_some": value, "network": value}
    settle(monitor, clock)
    assert 0.0 <= monitor.pressure() <= 2.0
    told.values = {}
    settle(monitor, clock)
    assert monitor.pressure() < 0.1


def test_nan_does_not_hide_what_is_known(told, clock):
    monitor = LoadMonitor(max_cpu_percent=100, readings=told, clock=clock)
    told.values = {"cpu": nan, "process_cpu": 0.95}
    assert monitor.sample().raw == pytest.approx(1.0)


def test_a_listener_that_raises_is_logged_and_removed(monitor, clock, caplog):
    calls = []

    def broken(report):
        calls.append("broken")
        raise RuntimeError("listener")

    monitor.subscribe(broken)
    end = monitor.subscribe(lambda report: calls.append("fine"))
    monitor.sample()
    monitor.sample()
    assert calls == ["broken", "fine", "fine"]
    assert "is removed" in caplog.text
    end()
    end()
    monitor.sample()
    assert calls == ["broken", "fine", "fine"]


@pytest.mark.parametrize("seconds", [-0.1, nan, inf, True, "1", None, 1e30])
def test_queue_delays_that_make_no_sense(monitor, seconds):
    with pytest.raises(InvalidInput, match="queue delay must be >= 0"):
        monitor.observe_queue_delay(seconds)
    assert monitor.sample().raw == 0.0


@pytest.mark.parametrize("count", [-1, nan, inf, True, "1", None])
def test_counts_that_make_no_sense(monitor, count):
    with pytest.raises(InvalidInput, match="in flight must be >= 0"):
        monitor.observe_in_flight(count, 10)


@pytest.mark.parametrize("limit", [0, -1, nan, inf, True, "1"])
def test_limits_that_make_no_sense(monitor, limit):
    with pytest.raises(InvalidInput, match="limit must be a number above 0"):
        monitor.observe_in_flight(1, limit)


@pytest.mark.parametrize(
    "name", ["max_memory_mb", "max_cpu_percent", "max_network_mbps", "max_in_flight"]
)
@pytest.mark.parametrize("value", [0, -5, nan, inf, True, "1024"])
def test_settings_that_make_no_sense(told, name, value):
    with pytest.raises(InvalidInput, match=f"{name} must be a number above 0"):
        LoadMonitor(readings=told, **{name: value})


@pytest.mark.parametrize("interval", [0, -1, nan, inf, True, "1", None, 0.0001, 4000])
def test_intervals_that_make_no_sense(told, interval):
    with pytest.raises(InvalidInput, match=r"interval must be 0\.001 to 3600"):
        LoadMonitor(interval=interval, readings=told)


def test_a_listener_must_be_callable(monitor):
    with pytest.raises(InvalidInput, match="listener must be callable"):
        monitor.subscribe(None)


# --- the lag of timers ------------------------------------------------------------------------------------


def test_lag_is_the_90th_percentile_by_nearest_rank():
    lag = TimerLag()
    for late in range(1, 11):
        lag.arm(100)
        lag.fired(100 + late)
    assert lag.take(200) == 9
    assert lag.take(200) is None


def test_one_probe_speaks_for_itself():
    lag = TimerLag()
    lag.arm(100)
    lag.fired(150)
    assert lag.take(150) == 50


def test_a_probe_that_is_overdue_counts_already():
    lag = TimerLag()
    lag.arm(100)
    assert lag.take(90) == 0
    assert lag.take(400) == 300
    lag.fired(500)
    lag.arm(600)
    assert lag.take(500) == 400
    lag.fired(601)
    lag.arm(700)
    assert lag.take(800) == 100


def test_a_probe_that_woke_before_its_time_is_not_late():
    lag = TimerLag()
    lag.arm(100)
    lag.fired(-(10**18))
    assert lag.take(0) == 0


def test_what_was_not_armed_says_nothing():
    lag = TimerLag()
    lag.fired(100)
    assert lag.take(100) is None
    lag.arm(1)
    lag.fired(10)
    lag.disarm()
    assert lag.take(100) is None
