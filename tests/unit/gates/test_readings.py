"""Readings of the system, with a machine made of plain objects."""

from __future__ import annotations

import builtins
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import ConfigurationError
from headgate.gates import readings as module
from headgate.gates.cgroup import CpuQuota, MemoryLimit
from headgate.gates.readings import Rate, Reading, SystemReadings

SECOND = 10**9


class Container:
    """Stands in for `Cgroup`."""

    def __init__(self):
        self.quota = None
        self.limit = None
        self.stalled = {"cpu": None, "memory": None}
        self.refreshed = 0

    def refresh(self):
        self.refreshed += 1

    def cpu(self):
        return self.quota

    def memory(self):
        return self.limit

    def stalled_us(self, resource):
        return self.stalled[resource]


class Times(tuple):
    """As psutil's: a tuple with names."""

    __slots__ = ()
    names = ("user", "system", "idle", "iowait", "guest")

    def __new__(cls, *values):
        return super().__new__(cls, values)

    def __getattr__(self, name):
        if name in self.names:
            return self[self.names.index(name)]
        raise AttributeError(name)


class Machine:
    """Stands in for psutil: four processors, 1000 bytes of memory."""

    def __init__(self):
        self.busy = [0.0] * 4
        self.now = 0.0
        self.process = (0.0, 0.0)
        self.cards = {"lo": (10**9, 10**9), "eth0": (0, 0)}
        self.memory = SimpleNamespace(total=1000, available=250)

    def cpu_count(self):
        return 4

    def cpu_times(self, *, percpu):
        # Guest time is part of user time, and must not count twice.
        return [Times(busy, 0.0, self.now - busy, 0.0, busy) for busy in self.busy]

    def virtual_memory(self):
        return self.memory

    def net_io_counters(self, *, pernic, nowrap):
        return {
            name: SimpleNamespace(bytes_sent=sent, bytes_recv=received)
            for name, (sent, received) in self.cards.items()
        }

    def Process(self, pid):  # noqa: N802 - psutil's name
        return self

    def memory_info(self):
        return SimpleNamespace(rss=77)


class OwnMachine(Machine):
    """The process's own times are asked for without arguments."""

    def cpu_times(self, *, percpu=False):
        if percpu:
            return super().cpu_times(percpu=True)
        return SimpleNamespace(user=self.process[0], system=self.process[1])


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    return OwnMachine()


@pytest.fixture
def container():
    return Container()


@pytest.fixture
def system(machine, container):
    return SystemReadings(container, machine)


def test_shares_of_time_need_two_readings(system, machine):
    first = system.read(0)
    assert (first.cpu, first.process_cpu, first.network) == (None, None, None)
    machine.now, machine.busy, machine.process = 1.0, [1.0, 0.5, 0.5, 0.0], (0.75, 0.25)
    second = system.read(SECOND)
    assert second.cpu == pytest.approx(0.5)
    assert second.process_cpu == pytest.approx(1.0)
    assert second.cores == 4.0
    assert second.process_memory == 77


def test_a_container_with_a_quota_is_held_against_that(system, machine, container):
    container.quota = CpuQuota(0.5, 0)
    system.read(0)
    machine.now, machine.busy = 1.0, [1.0] * 4  # other people's work
    container.quota = CpuQuota(0.5, 200_000_000)
    reading = system.read(SECOND)
    assert reading.cpu == pytest.approx(0.4)
    assert reading.cores == 0.5


def test_a_quota_above_the_processors_there_are_allows_no_more(system, machine, container):
    container.quota = CpuQuota(64.0, 0)
    system.read(0)
    container.quota = CpuQuota(64.0, 4 * SECOND)
    reading = system.read(SECOND)
    assert reading.cores == 4.0
    assert reading.cpu == pytest.approx(1.0)


def test_a_quota_that_comes_or_goes_starts_anew(system, machine, container):
    machine.now, machine.busy = 100.0, [50.0] * 4
    system.read(0)
    container.quota = CpuQuota(1.0, 900 * SECOND)
    assert system.read(SECOND).cpu is None
    container.quota = None
    assert system.read(2 * SECOND).cpu is None


def test_a_process_that_may_use_one_processor_is_held_against_that_one(
    machine, container, monkeypatch
):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {2}, raising=False)
    system = SystemReadings(container, machine)
    system.read(0)
    machine.now, machine.busy = 1.0, [0.0, 0.0, 0.9, 0.0]
    reading = system.read(SECOND)
    assert reading.cpu == pytest.approx(0.9)
    assert reading.cores == 1.0


def test_memory_is_the_containers_or_the_machines(system, container):
    assert system.read(0).memory == pytest.approx(0.75)
    container.limit = MemoryLimit(200, 190)
    reading = system.read(1)
    assert (reading.memory, reading.memory_limit) == (0.95, 200)
    container.limit = MemoryLimit(5000, 190)  # more than there is: no limit at all
    assert system.read(2).memory_limit == 1000


def test_memory_is_unknown_where_nothing_is_told(system, machine):
    machine.memory = SimpleNamespace(total=0, available=0)
    reading = system.read(0)
    assert (reading.memory, reading.memory_limit) == (None, None)


def test_stall_times_are_those_of_the_worse_resource_over_two_seconds(system, container):
    container.stalled = {"cpu": 0, "memory": 0}
    system.read(0)
    container.stalled = {"cpu": 500_000, "memory": 1_000_000}
    assert system.read(2 * SECOND).psi_some == pytest.approx(0.5)
    container.stalled = {"cpu": 500_000, "memory": 9_000_000}
    assert system.read(4 * SECOND).psi_some == 1.0


def test_the_network_is_the_busier_direction_without_the_loopback(system, machine):
    system.read(0)
    machine.cards = {"lo": (10**12, 10**12), "eth0": (100, 700), "eth1": (50, 50)}
    assert system.read(SECOND).network == pytest.approx(750)


def test_no_network_is_unknown(system, machine):
    machine.cards = {"lo": (1, 1)}
    assert system.read(0).network is None
    assert system.read(SECOND).network is None


def test_limits_and_processors_are_looked_up_again_every_ten_seconds(system, container):
    for now in (0, 5 * SECOND, 9 * SECOND, 11 * SECOND, 12 * SECOND, -SECOND):
        system.read(now)
    assert container.refreshed == 3


def test_a_forked_child_reads_about_itself(system, machine, monkeypatch):
    system.read(0)
    machine.process = (10.0, 0.0)
    monkeypatch.setattr(module.os, "getpid", lambda: 4711)
    asked = []
    monkeypatch.setattr(machine, "Process", lambda pid: asked.append(pid) or machine)
    assert system.read(SECOND).process_cpu is None
    assert asked == [4711]


def test_without_psutil_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args):
        if name == "psutil":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigurationError, match=r"headgate\[monitor\]"):
        SystemReadings()


def test_this_machine_can_be_read():
    system = SystemReadings()
    system.read(0)
    reading = system.read(SECOND)
    assert isinstance(reading, Reading)
    assert reading.process_memory > 1_000_000
    assert reading.cores > 0
    assert reading.cpu is None or reading.cpu >= 0.0


def test_a_rate_is_of_its_window():
    rate = Rate(2 * SECOND)
    assert rate.update(0, 0) is None
    assert rate.update(10, SECOND) == 10
    assert rate.update(20, 2 * SECOND) == 10
    assert rate.update(20, 3 * SECOND) == 5
    assert rate.update(20, 4 * SECOND) == 0


def test_a_rate_of_readings_far_apart_is_between_the_last_two():
    rate = Rate(SECOND)
    rate.update(0, 0)
    rate.update(100, 60 * SECOND)
    assert rate.update(160, 120 * SECOND) == 1


@pytest.mark.parametrize(("total", "now"), [(50, 2 * SECOND), (200, -5), (None, 2 * SECOND)])
def test_what_goes_back_starts_anew(total, now):
    rate = Rate(SECOND)
    rate.update(0, 0)
    rate.update(100, SECOND)
    assert rate.update(total, now) is None


@given(
    st.lists(
        st.tuples(st.none() | st.integers(0, 10**6), st.integers(-(10**18), 10**18)), max_size=40
    )
)
def test_a_rate_is_never_negative_nor_large_without_cause(readings):
    rate = Rate(SECOND)
    for total, now in readings:
        found = rate.update(total, now)
        assert found is None or found >= 0.0
