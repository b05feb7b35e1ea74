"""Arrivals and the tally of what became of them."""

from __future__ import annotations

from math import isnan

import pytest

from headgate.lab.simulation import Simulation
from headgate.lab.workload import Arrivals, Request, Tally, constant, exponential, quantile

SECOND = 1_000_000_000


def arrivals(simulation, rate, send, **settings):
    settings = {"service": constant(5), "timeout_ns": SECOND, **settings}
    return Arrivals(simulation, rate, send, **settings)


def drawn(seed, **settings):
    simulation, seen = Simulation(seed), []
    arrivals(simulation, 200.0, seen.append, service=exponential(1000), **settings)
    simulation.run(5 * SECOND)
    return [(one.arrived, one.service_ns, one.tier, one.flow) for one in seen]


def test_the_same_seed_brings_the_same_requests():
    flow = {"flow": lambda rng: str(rng.randrange(9)), "shares": (1, 1, 2)}
    assert drawn(3, **flow) == drawn(3, **flow)
    assert drawn(3, **flow) != drawn(4, **flow)


def test_what_others_draw_does_not_change_them():
    simulation, seen = Simulation(3), []

    def send(one):
        simulation.rng.random()
        seen.append((one.arrived, one.service_ns, one.tier, one.flow))

    arrivals(simulation, 200.0, send, service=exponential(1000))
    simulation.run(5 * SECOND)
    assert seen == drawn(3)
    assert len(seen) == pytest.approx(1000, rel=0.15)


def test_shares_of_tiers_are_exact_over_a_deck():
    simulation, seen = Simulation(), []
    arrivals(simulation, 10_000.0, seen.append, shares=(0.2, 0.3, 0.5))
    while len(seen) < 2000:
        simulation.run(simulation.now + SECOND // 100)
    tiers = [one.tier for one in seen[:2000]]
    assert [tiers.count(tier) for tier in range(3)] == [400, 600, 1000]
    assert [one.number for one in seen] == list(range(len(seen)))
    # Shuffled: a tenth of a deck has about its share of each, in no order.
    assert all(
        tiers[:100].count(tier) == pytest.approx(share, abs=20)
        for tier, share in enumerate((20, 30, 50))
    )


def test_a_rate_may_follow_time_and_pause():
    simulation, seen = Simulation(), []

    def rate(now):
        return 0.0 if SECOND <= now < 2 * SECOND else 500.0

    arrivals(simulation, rate, lambda one: seen.append(one.arrived // SECOND), until_ns=3 * SECOND)
    simulation.run(5 * SECOND)
    counts = [seen.count(second) for second in range(5)]
    assert counts[1] <= 1  # one was on its way when the pause began
    assert counts[3:] == [0, 0]
    assert counts[0] == pytest.approx(500, rel=0.2)
    assert counts[2] == pytest.approx(500, rel=0.2)


def test_exponential_services_have_their_mean():
    rng = Simulation().stream("s")
    draw = exponential(1_000_000)
    values = [draw(rng) for _ in range(20_000)]
    assert min(values) >= 1
    assert sum(values) / len(values) == pytest.approx(1_000_000, rel=0.03)


def request(arrived, tier=0, timeout=100):
    return Request(0, arrived, arrived + timeout, 5, tier)


def test_the_tally_counts_arrivals_of_the_measured_time_by_tier():
    tally = Tally(10, 20, bin_ns=10)
    for one, until in [(request(5), 6), (request(12), 18), (request(13, tier=1), 300)]:
        tally.offer(one)
        tally.done(one, until)
    refused = request(19, tier=1)
    tally.offer(refused)
    tally.reject(refused, 25)
    assert tally.offered == [1, 2, 0, 0]
    assert tally.good == [1, 0, 0, 0]
    assert tally.rejected == [0, 1, 0, 0]
    assert tally.late == 1
    assert tally.success(0) == 1.0
    assert tally.success(1) == 0.0
    assert tally.success() == pytest.approx(1 / 3)
    assert isnan(tally.success(3))


def test_goodput_is_of_what_was_done_in_the_measured_time():
    tally = Tally(10, 20, bin_ns=10)
    tally.done(request(1), 12)  # counts: done in it
    tally.done(request(12), 22)  # does not: done after it
    tally.done(request(1, timeout=5), 13)  # too late to be good
    assert tally.goodput == pytest.approx(1 / tally.seconds)
    assert tally.latency(1.0) == pytest.approx(12e-9)


def test_a_request_done_at_its_deadline_is_good():
    tally = Tally(0, 1000)
    tally.done(request(0, timeout=100), 100)
    tally.done(request(0, timeout=100), 101)
    assert tally.goods_done == 1


def test_timelines_have_a_place_for_every_bin():
    tally = Tally(0, 100, bin_ns=10)
    tally.offer(request(5))
    tally.done(request(5), 31)
    seconds, good = tally.timeline_goodput()
    assert seconds == pytest.approx([0, 1e-8, 2e-8, 3e-8])
    assert good == [0, 0, 0, 1e8]
    assert tally.timeline_offered()[1] == [1e8, 0, 0, 0]
    latency = tally.timeline_latency()[1]
    assert isnan(latency[0])
    assert latency[3] == pytest.approx(26e-9)
    assert Tally(0, 1).timeline_goodput() == ([], [])


def test_quantiles_are_values_that_were_there():
    values = list(range(1, 101))
    assert [quantile(values, share) for share in (0, 0.01, 0.5, 0.99, 1)] == [1, 1, 50, 99, 100]
    assert isnan(quantile([], 0.5))
    assert quantile([7], 0.99) == 7
