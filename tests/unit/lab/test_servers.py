"""The server model, against the recursions that define it."""

from __future__ import annotations

from heapq import heapify, heapreplace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.lab.servers import Server, goodput_bound
from headgate.lab.simulation import Simulation
from headgate.lab.workload import Request

JOBS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40)), max_size=30)


def run(jobs, seats=1, **settings):
    """Departures in the order of arrival."""
    simulation, ends = Simulation(), {}
    server = Server(
        simulation, lambda one: ends.setdefault(one.number, simulation.now), seats=seats, **settings
    )
    moment = 0
    for number, (gap, service) in enumerate(jobs):
        moment += gap
        simulation.at(moment, server.submit, Request(number, moment, 10**9, service))
    simulation.run(10**6)
    return [ends[number] for number in sorted(ends)], server


def naive(jobs, seats):
    """Each takes the seat that is free first."""
    free, ends, moment = [0] * seats, [], 0
    heapify(free)
    for gap, service in jobs:
        moment += gap
        end = max(moment, free[0]) + service
        heapreplace(free, end)
        ends.append(end)
    return ends


@given(JOBS, st.integers(1, 4))
def test_departures_are_those_of_the_recursion(jobs, seats):
    ends, server = run(jobs, seats)
    assert ends == naive(jobs, seats)
    assert (server.completed, server.in_flight, server.dropped) == (len(jobs), 0, 0)


@given(JOBS, st.integers(1, 4))
def test_a_slow_server_takes_longer_by_the_same_factor(jobs, seats):
    simulation, ends = Simulation(), []
    server = Server(simulation, lambda one: ends.append(simulation.now), seats=seats)
    server.speed = 0.5
    for number, (_, service) in enumerate(jobs):
        server.submit(Request(number, 0, 10**9, service))
    simulation.run(10**6)
    assert sorted(ends) == sorted(naive([(0, 2 * service) for _, service in jobs], seats))


def test_rejections_hold_the_work_up_by_their_price():
    simulation, ends = Simulation(), []
    server = Server(simulation, lambda one: ends.append(simulation.now), rejection_ns=3)
    server.submit(Request(0, 0, 10**9, 100))
    for moment in (10, 20, 101):  # the last one comes while the first two are still being paid for
        simulation.at(moment, server.reject)
    simulation.run(1000)
    assert ends == [109]
    assert server.rejections == 3


def test_a_server_with_nothing_to_do_has_time_for_rejections():
    simulation, ends = Simulation(), []
    server = Server(simulation, lambda one: ends.append(simulation.now), rejection_ns=50)
    server.reject()
    server.submit(Request(0, 0, 10**9, 100))
    simulation.run(1000)
    assert ends == [100]


def test_what_is_not_let_start_is_dropped_and_the_next_starts():
    jobs = [(0, 10), (0, 10), (0, 10)]
    ends, server = run(jobs, started=lambda one: one.number != 1)
    assert ends == [10, 20]
    assert (server.completed, server.dropped) == (2, 1)


@pytest.mark.parametrize(
    ("load", "price", "bound"),
    [(0.3, 0.5, 0.3), (1.0, 0.01, 1.0), (10.0, 0.0, 1.0), (10.0, 0.1, 0.0), (100.0, 0.5, 0.0)],
)
def test_the_bound(load, price, bound):
    assert goodput_bound(load, price) == pytest.approx(bound)


@given(st.floats(1, 20), st.floats(0.0, 0.04))
def test_the_bound_spends_the_processor_exactly(load, price):
    good = goodput_bound(load, price)
    assert good + (load - good) * price == pytest.approx(1.0)
