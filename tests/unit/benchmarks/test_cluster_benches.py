"""The benches of many nodes count right; that they run is shown with real nodes, shortened."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from itertools import chain

import pytest

from benchmarks import (
    __main__ as runner,
)
from benchmarks import (
    cluster_accuracy,
    cluster_changes,
    cluster_failure,
    cluster_latency,
    cluster_node,
    cluster_speed,
    cluster_store,
    harness,
    report,
)
from headgate.decision import Decision
from tests.support.servers import require_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benches read /proc")


# --- what is sent ----------------------------------------------------------------------------------


def test_a_stream_is_even_or_comes_in_bursts():
    even = cluster_node.Stream("p", 100.0)
    assert even.due(0.5) == 50
    even.sent = 50
    assert even.due(0.505) == 0
    bursts = cluster_node.Stream("p", 100.0, burst=1.0)
    assert bursts.due(0.99) == 0
    assert bursts.due(1.01) == 100


def test_answers_are_kept_by_slots():
    stream = cluster_node.Stream("p", 1.0)
    stream.prepare(2)
    yes = Decision(True, 1, 1, 0, 0, 0, "p", 0)
    no = Decision(False, 1, 0, 1, 0, 0, "p", 0)
    stream.count(yes, 0, 5)
    stream.count(no, 1, 9)
    stream.count(yes, 7, 3)  # an answer after the end counts in the last slot
    told = stream.result()
    assert (told["answered"], told["admitted"], told["longest"]) == ([1, 2], [1, 1], [5, 9])


# --- what is made of it ----------------------------------------------------------------------------


def results_of(admitted: list[int]) -> list[dict]:
    stream = {"admitted": admitted, "answered": admitted, "degraded": [0] * len(admitted)}
    return [{"streams": [{**stream, "longest": [0] * len(admitted)}]}]


def test_the_excess_is_that_of_the_worst_run():
    assert cluster_accuracy.worst_excess([1, 1, 1], 1.0) == 0
    assert cluster_accuracy.worst_excess([0, 5, 1, 0, 3], 1.0) == 5
    assert cluster_accuracy.worst_excess([5, 0, 0, 0, 0, 4], 1.0) == 4


@pytest.mark.parametrize(("each", "met"), [(10, True), (11, False), (9, False)])
def test_a_limit_is_judged_by_its_windows(each, met):
    case = cluster_accuracy.Case(1_000, "leased", "even")
    slots = int((cluster_accuracy.WARM_SECONDS + 2 + 1) / cluster_accuracy.SLOT)
    outcome = cluster_accuracy.judge_case(case, 0, results_of([each] * slots), 2.0, 0)
    assert outcome.ratio == pytest.approx(each / 10)
    found = harness.Report("x", "", quick=True)
    cluster_accuracy.tell(found, [outcome])
    assert found.verdicts[0].met is met


def test_strict_may_not_exceed_what_is_allowed_in_all():
    case = cluster_accuracy.Case(1_000, "strict", "even", "fixed_window")
    slots = int((cluster_accuracy.WARM_SECONDS + 2 + 1) / cluster_accuracy.SLOT)
    admitted = ([20] * 50 + [0] * 50) * (slots // 100)
    outcome = cluster_accuracy.judge_case(case, 0, results_of(admitted), 2.0, 0)
    assert outcome.windows == [1_000, 1_000]
    found = harness.Report("x", "", quick=True)
    cluster_accuracy.judge(found, outcome)
    assert found.verdicts[0].met is True


def test_windows_are_aligned_to_the_wall():
    admitted = [0] * 30 + [1] * 100 + [2] * 100 + [0] * 70
    assert cluster_accuracy.aligned(admitted, 0, 300, 700_000_000) == [100, 200]


def test_every_case_has_a_policy_and_a_share_for_each_node():
    rounds = [cluster_accuracy.leased_cases(), *cluster_accuracy.strict_cases()]
    for case in chain.from_iterable(rounds):
        policy = case.policy()
        assert policy["consistency"] == case.consistency
        demand = sum(case.stream(rank)["per_second"] for rank in range(cluster_accuracy.NODES))
        assert demand == pytest.approx(case.limit * case.times)


def test_an_outage_is_told_from_what_was_recorded():
    slots = 500
    per_slot = int(cluster_failure.LIMIT * cluster_failure.TIMES * cluster_failure.SLOT)
    degraded = [0] * 100 + [per_slot] * 150 + [0] * 250
    stream = {
        "answered": [per_slot] * slots,
        "admitted": [per_slot // 2] * slots,
        "degraded": degraded,
        "longest": [2_000_000] * slots,
    }
    seen = cluster_failure.outage([{"streams": [stream]}], 0, 1.0, 2.0, 4.0)
    assert seen.slowest == pytest.approx(1.0)
    assert seen.recovery == pytest.approx(0.5)
    assert cluster_failure.recovered([1] * 30) == 30
    assert (seen.degraded, seen.longest_ms) == (100 * per_slot, 2.0)


# --- the page --------------------------------------------------------------------------------------


def test_a_group_stands_for_its_benches():
    assert runner.chosen(["cluster", "cluster_speed"]) == runner.GROUPS["cluster"]
    assert "cluster_changes" in runner.chosen([])


def test_many_nodes_have_their_own_part_of_the_page(tmp_path, monkeypatch, capsys):
    for module in (harness, report):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        f"{report.BEGIN}\nkept\n{report.END}\n{report.CLUSTER_BEGIN}\nold\n{report.CLUSTER_END}\n"
    )
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    harness.Report("cluster_new", "9. New", quick=True).finish()
    report.write(["cluster_new"])
    text = page.read_text()
    assert "kept" in text
    assert "old" not in text
    assert "### 9. New" in text


# --- with real servers -----------------------------------------------------------------------------


@pytest.fixture
def _has_redis():
    require_program("valkey-server", "redis-server")


def test_a_slow_way_leads_there_and_back():
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(connection.recv(100))

    threading.Thread(target=serve, daemon=True).start()
    with (
        cluster_store.slow_way(listener.getsockname()[1], 0.001) as way,
        socket.create_connection(("127.0.0.1", way.port), 10) as connection,
    ):
        connection.sendall(b"there")
        assert connection.recv(100) == b"there"
    listener.close()


@pytest.mark.slow
@pytest.mark.needs_redis
@pytest.mark.usefixtures("_has_redis")
def test_three_nodes_are_driven_and_judged(monkeypatch):
    monkeypatch.setattr(cluster_accuracy, "WARM_SECONDS", 0.3)
    cases = [
        cluster_accuracy.Case(100, "leased", "even"),
        cluster_accuracy.Case(100, "strict", "skewed"),
    ]
    results, began = cluster_accuracy.run_round(cases, 0.5)
    assert began > 0
    for place, case in enumerate(cases):
        outcome = cluster_accuracy.judge_case(case, place, results, 0.5, began)
        assert outcome.asked > 200
        assert 0 < outcome.admitted <= 200


@pytest.mark.slow
@pytest.mark.needs_redis
@pytest.mark.usefixtures("_has_redis")
def test_one_node_is_asked_as_fast_as_it_goes(monkeypatch):
    monkeypatch.setattr(cluster_speed, "pin", lambda core, pid=0: None)
    monkeypatch.setattr(cluster_speed, "PEERS", {})
    monkeypatch.setattr(cluster_speed, "RUN", 50)
    found = cluster_speed.run(quick=True)
    assert [table.title for table in found.tables]
    assert len(found.verdicts) == 5
    json.dumps(harness.asdict(found.verdicts[0]))


def test_a_change_is_awaited_on_every_node():
    class Node:
        def __init__(self, late):
            self.late = late
            self.told = 0

        def call(self, method, path, document):
            self.told = document["limit"]
            return {}

        def limit(self):
            self.late -= 1
            return cluster_changes.LIMIT + 1 if self.late < 0 else cluster_changes.LIMIT

    nodes = [Node(0), Node(3)]
    whole, after = cluster_changes.one_change(nodes, 0, "/")
    assert 0 <= after <= whole
    assert nodes[0].told == cluster_changes.LIMIT + 1


def test_latency_asks_alike_for_all_consistencies():
    assert [policy["consistency"] for policy in cluster_latency.policies()] == [
        "local",
        "leased",
        "strict",
    ]
