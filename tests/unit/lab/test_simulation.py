"""Virtual time: order, cancelling, repeating, randomness."""

from __future__ import annotations

import threading

import pytest

from headgate.gates.limiter import Limiter
from headgate.lab.simulation import Simulation


def test_events_happen_in_the_order_of_their_moments():
    simulation, seen = Simulation(), []
    for moment in (30, 10, 20):
        simulation.at(moment, seen.append, moment)
    simulation.run(25)
    assert seen == [10, 20]
    assert simulation.now == 25
    assert simulation.next_ns == 30


def test_events_of_one_moment_happen_in_the_order_of_planning():
    simulation, seen = Simulation(), []
    for name in "abc":
        simulation.at(5, seen.append, name)
    simulation.at(5, lambda: simulation.after(0, seen.append, "planned meanwhile"))
    simulation.at(5, seen.append, "d")
    simulation.run(5)
    assert seen == ["a", "b", "c", "d", "planned meanwhile"]


def test_what_is_planned_for_the_past_happens_now():
    simulation, seen = Simulation(), []
    simulation.run(100)
    simulation.at(3, lambda: seen.append(simulation.now))
    simulation.run(100)
    assert seen == [100]


def test_cancelled_events_do_not_happen_and_cancelling_twice_is_harmless():
    simulation, seen = Simulation(), []
    event = simulation.after(1, seen.append, 1)
    event.cancel()
    event.cancel()
    simulation.run(10)
    assert (seen, event.cancelled) == ([], True)


def test_every_repeats_until_it_is_cancelled_even_by_itself():
    simulation, seen = Simulation(), []

    def tick():
        seen.append(simulation.now)
        if len(seen) == 3:
            ticking.cancel()

    ticking = simulation.every(10, tick)
    simulation.run(100)
    assert seen == [10, 20, 30]
    assert simulation.next_ns is None


@pytest.mark.parametrize("period", [0, -1])
def test_a_period_that_stands_still_is_refused(period):
    with pytest.raises(ValueError, match="period_ns must be > 0"):
        Simulation().every(period, print)


def test_time_never_goes_back():
    simulation = Simulation()
    simulation.run(100)
    simulation.run(50)
    assert simulation.now == 100


def test_the_same_seed_gives_the_same_randomness_by_name_whatever_else_is_drawn():
    one, other = Simulation(7), Simulation(7)
    one.rng.random()
    assert one.stream("a").random() == other.stream("a").random()
    assert one.stream("a").random() != one.stream("b").random()
    assert Simulation(8).stream("a").random() != one.stream("a").random()


def test_gates_run_on_its_clock():
    simulation = Simulation()
    limiter = Limiter("1/second", clock=simulation.clock)
    answers = []
    simulation.every(400_000_000, lambda: answers.append(limiter.check("k").allowed))
    simulation.run(2_000_000_000)
    assert answers == [True, False, False, True, False]


def test_blocking_in_a_simulation_is_an_error_and_not_a_hang():
    clock = Simulation().clock
    with pytest.raises(RuntimeError, match="cannot block"):
        clock.sleep(1)
    event = threading.Event()
    with pytest.raises(RuntimeError, match="cannot block"):
        clock.wait_for(event, None)
    event.set()
    clock.wait_for(event, 5)
