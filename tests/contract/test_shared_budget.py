"""Loop budgets over processes: on a store in memory and on a real Redis or Valkey, in trouble too."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import signal
import subprocess
import sys
import threading
from itertools import count

import pytest

from headgate.clock import SystemClock
from headgate.coordination.memory_counters import MemoryCounters
from headgate.errors import ConfigurationError, InvalidInput
from headgate.gates.loop_budget import LoopBudget
from tests.support import servers
from tests.support.waiting import eventually

pytestmark = pytest.mark.needs_redis

NAMES = count()
NOW = SystemClock().now_ns
SECOND_NS = 10**9
DEADLINE = 0.05
# What a busy machine may add to a call that waits for nothing.
SLACK = 0.2


@pytest.fixture
def name():
    return f"budget-{os.getpid()}-{next(NAMES)}"


@pytest.fixture
def url(redis_server):
    return f"redis://{servers.HOST}:{redis_server.port}/0"


@pytest.fixture(params=["memory", "address"])
def shared(request):
    return MemoryCounters() if request.param == "memory" else request.getfixturevalue("url")


@pytest.fixture
def budgets(shared, name):
    """Makes budgets that are closed at the end."""
    made = []

    def make(limit, window=1.0, **options):
        made.append(LoopBudget(limit, window, **{"shared": shared, "name": name, **options}))
        return made[-1]

    yield make
    for budget in made:
        budget.close()


def test_what_one_takes_the_other_does_not_get(budgets):
    one, other = budgets(10, 60.0), budgets(10, 60.0)
    eventually(lambda: one.consume(8))
    eventually(other.consume)
    eventually(lambda: other.consume() or one.consume())
    for budget in (one, other):
        assert not budget.consume()
    eventually(lambda: one.utilization > 0.99 and other.utilization > 0.99)
    assert not one.can_proceed()
    assert one.retry_after() > 0.0
    assert one.is_shared


def test_what_was_drawn_and_not_taken_is_given_back_at_the_end(budgets):
    one = budgets(10, 60.0)
    eventually(one.can_proceed)
    one.close()
    one.close()
    other = budgets(10, 60.0)
    eventually(lambda: other.consume(10))


def test_other_names_limits_and_clusters_count_apart(budgets, shared, name):
    eventually(budgets(1, 60.0).consume)
    others = [{"name": f"{name}-2"}, {"limit": 2}, {"window": 61.0}]
    if isinstance(shared, str):  # a store in memory is one cluster
        others.append({"cluster": "other"})
    for options in others:
        budget = budgets(**{"limit": 1, "window": 60.0, **options})
        eventually(budget.consume)


async def test_tasks_pause_and_go_on(budgets):
    budget = budgets(50, 0.5, first_backoff=0.001, max_backoff=0.01)
    taken = 0
    while taken < 20:
        if budget.consume():
            taken += 1
        else:
            await budget.backoff()


def test_a_budget_that_nobody_shares_has_nothing_to_close():
    budget = LoopBudget(1)
    assert not budget.is_shared
    budget.close()
    assert budget.consume()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shared": "http://127.0.0.1", "name": "a"}, "shared must be an address"),
        ({"limit": 1_000_001, "shared": "redis://127.0.0.1", "name": "a"}, "limit must be at most"),
        ({"shared": 7, "name": "a"}, "shared must be an address"),
        ({"shared": "redis://127.0.0.1"}, "name must be text"),
        ({"shared": "redis://127.0.0.1", "name": "a", "consistency": "local"}, "consistency must"),
        ({"shared": "redis://127.0.0.1", "name": "a", "share": 2}, "share must be"),
        ({"shared": "redis://127.0.0.1", "name": "a", "nodes": 0}, "nodes must be"),
        ({"shared": "redis://127.0.0.1", "name": "a", "shared_timeout": 11}, "shared_timeout must"),
    ],
)
def test_settings_that_make_no_sense(options, words):
    with pytest.raises(InvalidInput, match=words):
        LoopBudget(**{"limit": 1, **options})


def test_without_what_it_takes_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_msgspec(name, *rest):
        if name in {"msgspec", "headgate.coordination.redis_counters"}:
            raise ImportError(name, name="msgspec")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_msgspec)
    with pytest.raises(ConfigurationError, match=r"need msgspec; .*headgate\[redis\]"):
        LoopBudget(1, shared="redis://127.0.0.1", name="a")


# --- processes --------------------------------------------------------------------------------------------

LOOP = """
import sys, time
from headgate import LoopBudget
budget = LoopBudget(int(sys.argv[3]), shared=sys.argv[1], name=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + float(sys.argv[4])
while time.monotonic() < end:
    before = time.monotonic_ns()
    if budget.consume():
        print(before, time.monotonic_ns())
    else:
        time.sleep(0.001)
budget.close()
"""


def run_processes(url, name, limit, seconds, number=3):
    """Of all processes together, between which moments each iteration was taken."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LOOP, url, name, str(limit), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(number)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * number
    lines = [line.split() for output in outputs for line in output.splitlines()]
    return sorted((int(before), int(after)) for before, after in lines)


@pytest.mark.slow
def test_three_processes_never_take_more_than_the_limit_in_any_window(url, name):
    moments = run_processes(url, name, 200, 1.6)
    assert len(moments) >= 200
    for place in range(len(moments) - 200):
        window = moments[place : place + 201]
        assert max(after for _, after in window) - window[0][0] > SECOND_NS


# --- in trouble -------------------------------------------------------------------------------------------


class Longest:
    """The longest that a call took."""

    def __init__(self):
        self.seconds = 0.0

    def call(self, what, *arguments):
        began_ns = NOW()
        found = what(*arguments)
        self.seconds = max(self.seconds, (NOW() - began_ns) / 1e9)
        return found


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [signal.SIGSTOP, signal.SIGKILL])
def test_nobody_waits_for_a_store_that_hangs_or_dies(tmp_path, name, trouble):
    with servers.redis_server(tmp_path) as server:
        url = f"redis://{servers.HOST}:{server.port}"
        pair = [LoopBudget(100, 60.0, shared=url, name=name, nodes=2) for _ in range(2)]
        eventually(lambda: all(budget.is_shared for budget in pair))
        longest = Longest()
        before = sum(longest.call(budget.consume) for budget in pair for _ in range(5))
        server.process.send_signal(trouble)
        try:
            eventually(
                lambda: (
                    [longest.call(budget.consume) for budget in pair]
                    and not any(budget.is_shared for budget in pair)
                ),
                5.0,
            )
            for budget in pair:
                while longest.call(budget.consume):
                    pass
                assert longest.call(budget.utilization.__float__) >= 0.4
                longest.call(budget.can_proceed)
                longest.call(budget.retry_after)
            assert longest.seconds < DEADLINE + SLACK
            assert before <= 100
            closing = Longest()
            for budget in pair:
                closing.call(budget.close)
            assert closing.seconds < 4 * DEADLINE + 1.0 + SLACK
        finally:
            if trouble is signal.SIGSTOP:
                server.process.send_signal(signal.SIGCONT)


@pytest.mark.slow
async def test_an_event_loop_stands_still_for_no_store(tmp_path, name):
    with servers.redis_server(tmp_path) as server:
        url = f"redis://{servers.HOST}:{server.port}"
        budget = LoopBudget(1_000, shared=url, name=name)
        late = Longest()
        never = asyncio.Event()
        for turn in range(60):
            if turn == 20:
                server.process.send_signal(signal.SIGSTOP)
            late.call(budget.consume)
            began_ns = NOW()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(never.wait(), 0.005)
            late.seconds = max(late.seconds, (NOW() - began_ns) / 1e9)
        assert not budget.is_shared
        server.process.send_signal(signal.SIGCONT)
        assert late.seconds < SLACK
        await asyncio.to_thread(budget.close)


@pytest.mark.slow
def test_it_is_shared_again_when_the_store_is_back(tmp_path, name):
    port = servers.free_port()
    program = servers.require_program("valkey-server", "redis-server")
    command = [program, "--bind", servers.HOST, "--port", str(port), "--save", ""]
    pair = []
    with servers.running(command, port=port, directory=tmp_path / "one") as server:
        url = f"redis://{servers.HOST}:{port}"
        pair = [LoopBudget(100, 60.0, shared=url, name=name) for _ in range(2)]
        eventually(lambda: all(budget.is_shared for budget in pair))
        eventually(lambda: all(len(known(budget)) == 2 for budget in pair))
        server.process.kill()
        eventually(lambda: not any(budget.is_shared for budget in pair))
    taken = sum(budget.consume() for budget in pair for _ in range(100))
    assert 90 <= taken <= 100
    with servers.running(command, port=port, directory=tmp_path / "two"):  # it has forgotten all
        eventually(lambda: all(budget.is_shared for budget in pair))
        eventually(lambda: pair[0].utilization >= 0.9)
        taken += sum(budget.consume() for budget in pair for _ in range(20))
        assert taken <= 100
        for budget in pair:
            budget.close()


def known(budget):
    """The nodes that a budget has met."""
    return budget._shared._allowance._names


def test_threads_of_one_process_share_one_connection(url, name):
    before = threading.active_count()
    many = [LoopBudget(10, shared=url, name=f"{name}-{number}") for number in range(5)]
    eventually(lambda: all(budget.is_shared for budget in many))
    assert threading.active_count() == before + 1
    for budget in many:
        budget.close()
    eventually(lambda: threading.active_count() == before)
