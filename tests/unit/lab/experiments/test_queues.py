"""Experiments 6 and 9, shortened, and what they are made of."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from headgate.backpressure.fair_queue import FairOrder
from headgate.backpressure.seating import Seating
from headgate.lab import heavy
from headgate.lab.codel import CoDelLine
from headgate.lab.experiments import exp06_queue_delay, exp09_fairness
from headgate.lab.flows import ELEPHANT, MICE, Herd, RoundRobinLine, herds, jain
from headgate.lab.report import ignore_progress
from headgate.lab.seated import SeatedServer
from headgate.lab.simulation import Simulation
from headgate.lab.workload import Request, constant

MS = 10**6
SECOND = 10**9


def request(number: int, arrived: int = 0, flow: str = "", cost: int = 1) -> Request:
    return Request(number, arrived, arrived + SECOND, 10 * MS, flow=flow, cost=cost)


@pytest.mark.slow
def test_experiment_6_shows_what_it_must():
    steps = []
    report = exp06_queue_delay.virtual(1, lambda done, what: steps.append((done, what)), seconds=2)
    assert (report.number, report.mode, report.met) == (6, "virtual", True)
    assert all(len(row) == len(report.columns) for row in report.rows)
    assert all(len(one.x) == len(one.y) > 0 for one in report.series)
    assert all(0 <= done <= 1 and what for done, what in steps)
    again = exp06_queue_delay.virtual(1, ignore_progress, seconds=2)
    assert again.rows == report.rows


@pytest.mark.slow
def test_experiment_9_shows_what_it_must():
    steps = []
    report = exp09_fairness.virtual(
        1, lambda done, what: steps.append((done, what)), seconds=1, heavy_seconds=4
    )
    assert (report.number, report.mode) == (9, "virtual")
    assert all(len(row) == len(report.columns) for row in report.rows)
    assert all(len(one.x) == len(one.y) > 0 for one in report.series)
    assert all(0 <= done <= 1 and what for done, what in steps)
    # So short a run may miss a narrow claim by chance, but not what it is about.
    assert all(claim.measured >= 0.95 for claim in report.claims if claim.relation == ">=")
    assert all(claim.met for claim in report.claims if claim.relation == "<=")
    rows = {(row[0], row[1].partition(" (")[0]): row for row in report.rows}
    assert rows["aiolimiter", "heavy requests"][4] < 1.0
    assert rows["bounded queue of 300", "mice at half their share"][4] < 0.6


def test_codel_drops_nothing_while_the_delay_is_below_its_target():
    dropped: list[Request] = []
    line = CoDelLine(dropped.append)
    for number in range(500):
        now = number * 10 * MS
        line.push(request(number, now - 15 * MS), now)
        line.push(request(number, now - 15 * MS), now)
        assert line.pop(now) is not None
    assert len(dropped) < 500  # the line grew, and with it the delay
    line = CoDelLine(dropped.append)
    dropped.clear()
    for number in range(500):
        line.push(request(number, number * 10 * MS), number * 10 * MS)
        assert line.pop(number * 10 * MS + 15 * MS) is not None
    assert dropped == []


def test_codel_drops_ever_faster_while_the_delay_stays_above_it():
    dropped: list[Request] = []
    line = CoDelLine(dropped.append)
    for number in range(4000):
        line.push(request(number), 0)
    moments = []
    now = 30 * MS
    while len(line) > 1 and now < SECOND:
        before = len(dropped)
        line.pop(now)
        moments += [now] * (len(dropped) - before)
        now += MS
    assert moments[0] == 130 * MS  # an interval after the delay was first seen to be too long
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert gaps[0] > gaps[4] > gaps[-1]


def test_codel_is_calm_again_when_the_line_is_short():
    dropped: list[Request] = []
    line = CoDelLine(dropped.append)
    for number in range(300):
        line.push(request(number), 0)
    for now in range(30 * MS, 330 * MS, MS):
        line.pop(now)
    while line.pop(400 * MS) is not None:
        pass
    dropped.clear()
    for number in range(50):
        line.push(request(number, 500 * MS), 500 * MS)
        assert line.pop(501 * MS) is not None
    assert dropped == []
    assert line.pop(501 * MS) is None


def test_round_robin_takes_turns_and_the_longest_line_gives_way():
    dropped: list[Request] = []
    line = RoundRobinLine(dropped.append, most=4)
    for number in range(4):
        line.push(request(number, flow="a"), 0)
    line.push(request(9, flow="b"), 0)
    assert [one.number for one in dropped] == [3]
    assert [line.pop(0).number for _ in range(4)] == [0, 9, 1, 2]
    assert line.pop(0) is None
    assert len(line) == 0


def test_jain():
    assert jain([3.0] * 7) == 1.0
    assert jain([1, 0, 0, 0, 0]) == pytest.approx(0.2)
    assert jain([0, 0]) != jain([0, 0])  # NaN: nobody got anything


def test_the_mice_ask_for_the_same_with_and_without_the_elephant():
    seen: dict[bool, list[tuple[int, str]]] = {}
    for has_elephant in (False, True):
        simulation = Simulation(3)
        herd = Herd(0.5, has_elephant, 0, SECOND)
        arrived = seen.setdefault(has_elephant, [])
        herd.run(
            simulation,
            500.0,
            lambda one, arrived=arrived: arrived.append((one.arrived, one.flow)),
            constant(MS),
            SECOND,
        )
        simulation.run(SECOND)
    mice = [one for one in seen[True] if one[1] != ELEPHANT]
    assert mice == seen[False]
    assert len(seen[True]) > 4 * len(mice)
    assert {flow for _, flow in mice} == {f"mouse {n}" for n in range(MICE)}


def test_a_herd_counts_what_was_done_in_time_and_within_the_measured_time():
    herd = herds(1.0, 1.0)["all above their share"]
    herd.done(request(0, flow=ELEPHANT), SECOND)
    herd.done(request(1, flow=ELEPHANT), SECOND + 1)  # too late
    herd.done(request(2, flow="mouse 3"), SECOND - 1)  # before
    assert herd.served[ELEPHANT] == 1
    assert herd.served["mouse 3"] == 0
    assert herd.goodput == 1.0


def test_a_seated_server_works_on_what_is_seated_and_tells_of_the_rest():
    simulation = Simulation(1)
    told: list[tuple[str, int, int]] = []

    def note(what: str):
        return lambda one: told.append((what, one.number, simulation.now // MS))

    server = SeatedServer(
        simulation,
        Seating(FairOrder(15 * MS, {}), 1, 2),
        note("done"),
        note("refused"),
        note("started"),
    )
    for number in range(4):
        server.submit(request(number))
    simulation.run(SECOND)
    assert told == [
        ("started", 0, 0),
        ("refused", 3, 0),
        ("done", 0, 10),
        ("started", 1, 10),
        ("refused", 2, 15),
        ("done", 1, 20),
    ]


def test_heavy_requests_are_the_same_for_both():
    one, other = (heavy.requests(Random("1/heavy"), 3.0) for _ in range(2))
    assert [(r.arrived, r.cost, r.flow) for r in one] == [
        (r.arrived, r.cost, r.flow) for r in other
    ]
    assert sum(r.cost == heavy.HEAVY for r in one) == 1
    assert 1500 < len(one) < 2100
