"""Gates that a cluster shares, by every kind of address, and over processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from itertools import count

import pytest

from headgate.clock import SystemClock
from headgate.errors import CircuitOpen
from headgate.gates.circuit_breaker import CircuitBreaker
from headgate.gates.global_pressure import GlobalPressure
from headgate.gates.loop_budget import LoopBudget
from tests.support import servers
from tests.support.servers import HOST
from tests.support.valkeys import TLS, sentinel_group, tls_valkey, valkey, valkey_cluster
from tests.support.waiting import eventually

pytestmark = [pytest.mark.needs_redis, pytest.mark.slow]

NAMES = count()
NOW = SystemClock().now_ns
CA = TLS / "certificate.pem"
# What a busy machine may add to a call.
SLACK = 0.25


@pytest.fixture
def name():
    return f"gates-{os.getpid()}-{next(NAMES)}"


@pytest.fixture(params=["unix", "tls", "sentinel", "cluster"])
def url(request, tmp_path):
    with contextlib.ExitStack() as stack:
        if request.param == "unix":
            stack.enter_context(valkey(tmp_path, "--unixsocket", str(tmp_path / "s")))
            yield f"unix://{tmp_path}/s"
        elif request.param == "tls":
            proxy = stack.enter_context(tls_valkey(tmp_path))
            yield f"rediss://{HOST}:{proxy.port}?ssl_ca_certs={CA}"
        elif request.param == "sentinel":
            yield stack.enter_context(sentinel_group(tmp_path)).url
        else:
            yield stack.enter_context(valkey_cluster(tmp_path)).url


def breakers(url, name, number=3):
    return [
        CircuitBreaker(
            name,
            failure_threshold=3,
            recovery_timeout=0.5,
            jitter=0.0,
            shared=url,
            shared_timeout=2.0,
        )
        for _ in range(number)
    ]


def test_they_share_a_circuit_pressures_and_a_budget(url, name):
    circuits = breakers(url, name)
    circuits[0].open()
    assert not circuits[1].allow()
    eventually(lambda: all(one.report().scope == "shared" for one in circuits[:2]))
    permits = []
    eventually(lambda: permits.append(circuits[0].allow()) or permits[-1])
    permits += [circuit.allow() for circuit in circuits for _ in range(5)]
    assert sum(bool(permit) for permit in permits) == 3

    nodes = [
        GlobalPressure(node, lambda: 1.2, shared=url, cluster=name, timeout=2.0) for node in "ab"
    ]
    eventually(lambda: [view.exchange() for view in nodes] and len(nodes[0].nodes()) == 2)
    eventually(lambda: all(view._feed.live for view in nodes))

    budgets = [LoopBudget(10, 60.0, shared=url, name=name, shared_timeout=2.0) for _ in range(2)]
    eventually(lambda: budgets[0].consume(10))
    assert budgets[0].is_shared
    assert not budgets[1].consume()
    for gate in (*circuits, *nodes, *budgets):
        gate.close()


def test_they_find_the_new_primary(tmp_path, name):
    with sentinel_group(tmp_path) as group:
        (circuit,) = breakers(group.url, name, 1)
        view = GlobalPressure("a", lambda: 0.5, shared=group.url, cluster=name, timeout=0.5)
        budget = LoopBudget(1_000, shared=group.url, name=name, shared_timeout=0.5)
        eventually(lambda: view.exchange() and view._feed.live)
        eventually(lambda: circuit.allow() and circuit.report().scope == "shared")
        eventually(lambda: budget.consume() and budget.is_shared)
        before = group.primary_port()
        group.fail_over()
        group.wait_for_other_than(before)
        eventually(view.exchange)
        eventually(lambda: view._feed.live)
        eventually(lambda: budget.consume() and budget.is_shared)

        def is_shared():
            circuit.record(circuit.allow())
            return circuit.report().scope == "shared"

        eventually(is_shared)
        for gate in (circuit, view, budget):
            gate.close()


# --- probes, over processes -------------------------------------------------------------------------------

PROBERS = """
import sys, threading
from headgate import CircuitBreaker
breaker = CircuitBreaker(
    sys.argv[2], failure_threshold=3, recovery_timeout=0.5, jitter=0.0, shared=sys.argv[1],
    shared_timeout=5.0, call_timeout=60.0,
)
while breaker.allow():  # until it hears that the circuit is open
    pass
print("ready", flush=True)
sys.stdin.readline()
got, lock = [], threading.Lock()
def ask():
    if breaker.allow():
        with lock:
            got.append(1)
threads = [threading.Thread(target=ask) for _ in range(40)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(got), flush=True)
"""


def test_three_processes_let_three_probes_through_in_all(redis_server, name):
    url = f"redis://{HOST}:{redis_server.port}/0"
    (circuit,) = breakers(url, name, 1)
    circuit.open()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROBERS, url, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    eventually(lambda: circuit.report().retry_after == 0.0)
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    found = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert 1 <= sum(found) <= 3
    circuit.close()


# --- a store that hangs, or dies, while gates are in use ---------------------------------------------------


class Longest:
    """The longest that a call took."""

    def __init__(self):
        self.seconds = 0.0

    def call(self, what, *arguments):
        began_ns = NOW()
        found = what(*arguments)
        self.seconds = max(self.seconds, (NOW() - began_ns) / 1e9)
        return found

    async def wait(self, awaitable):
        began_ns = NOW()
        found = await awaitable
        self.seconds = max(self.seconds, (NOW() - began_ns) / 1e9)
        return found


@pytest.mark.parametrize("trouble", [signal.SIGSTOP, signal.SIGKILL])
async def test_nobody_waits_longer_than_the_deadline(tmp_path, name, trouble):
    deadline = 0.05
    with servers.redis_server(tmp_path) as server:
        url = f"redis://{HOST}:{server.port}"
        circuit = CircuitBreaker(name, failure_threshold=3, shared=url, shared_timeout=deadline)
        view = GlobalPressure("a", lambda: 0.5, shared=url, cluster=name, timeout=deadline)
        budget = LoopBudget(100_000, shared=url, name=name, shared_timeout=deadline)
        eventually(view.exchange)
        eventually(lambda: budget.consume() and budget.is_shared)
        eventually(lambda: circuit.record(circuit.allow()) or circuit.report().scope == "shared")
        longest = Longest()
        server.process.send_signal(trouble)
        try:
            never = asyncio.Event()
            for _ in range(1_000):
                longest.call(budget.consume)
                longest.call(view.exchange)
                longest.call(view.pressure)
                permit = longest.call(circuit.allow)
                longest.call(circuit.record, permit, False)
                with contextlib.suppress(CircuitOpen):
                    permit = await longest.wait(circuit.allow_async())
                    await longest.wait(circuit.record_async(permit))
                lost = not view.connected and circuit.report().scope == "store_lost"
                if lost and not budget.is_shared:
                    break
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(never.wait(), 0.005)
            assert longest.seconds < deadline + SLACK
            assert lost
            for _ in range(3):
                longest.call(circuit.record, longest.call(circuit.allow), False)
            assert not circuit.allow()  # it counts by itself, and opens by itself
            assert longest.call(budget.consume)
        finally:
            if trouble is signal.SIGSTOP:
                server.process.send_signal(signal.SIGCONT)
        if trouble is signal.SIGSTOP:
            eventually(view.exchange)
            eventually(lambda: budget.consume() and budget.is_shared)
        for gate in (circuit, view, budget):
            gate.close()
        await circuit.close_async()
