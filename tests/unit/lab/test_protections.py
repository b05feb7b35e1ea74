"""What experiments 1 to 3 compare."""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise

from headgate.lab.protections import LIVE, OURS, PROTECTIONS, BoundedQueue, Dagor, Unprotected
from headgate.lab.simulation import Simulation
from headgate.lab.workload import Request

MS = 1_000_000


def request(number=0, tier=2, arrived=0):
    return Request(number, arrived, arrived + 500 * MS, MS, tier, f"user:{number}")


def test_nothing_and_a_bounded_queue():
    assert Unprotected().admit(request(), 10**6, 0)
    bounded = BoundedQueue(3)
    assert [bounded.admit(request(), waiting, 0) for waiting in (0, 2, 3, 4)] == [
        True,
        True,
        False,
        False,
    ]
    assert bounded.pressure(0) == 0.0


def test_live_paths_lead_to_the_same_protections():
    assert list(LIVE) == list(PROTECTIONS)
    for label, path in LIVE.items():
        module, _, name = path.partition(":")
        made = getattr(import_module(module), name)(Simulation())
        assert made.label == label


def offer(dagor, count, now, wait_ns):
    """Arrivals of all tiers, of which those admitted wait so long; returns how many were admitted."""
    admitted = 0
    for number in range(count):
        one = request(number, tier=number % 3, arrived=now - wait_ns)
        if dagor.admit(one, 0, now):
            admitted += 1
            dagor.started(one, now)
    return admitted


def test_dagor_lowers_its_level_by_a_twentieth_while_requests_queue_and_raises_it_by_a_hundredth():
    dagor, now, seen = Dagor(), 0, []
    for window in range(14):
        now += 1000 * MS
        seen.append(offer(dagor, 900, now, wait_ns=50 * MS if window < 10 else 0))
        dagor.tick(0, now)
    assert seen[0] == 900
    for before, after in pairwise(seen[:10]):
        assert 0.90 * before <= after <= 0.97 * before
    assert seen[10] <= seen[11] <= seen[12] <= seen[13] <= 1.05 * seen[10]


def test_dagor_turns_after_2000_arrivals_too():
    dagor = Dagor()
    assert offer(dagor, 2000, MS, wait_ns=50 * MS) == 2000
    assert offer(dagor, 1900, 2 * MS, wait_ns=50 * MS) < 1900


def test_dagor_is_bound_by_its_queue():
    assert not Dagor().admit(request(), 300, 0)


def test_ours_is_the_gate_with_its_defaults():
    simulation = Simulation()
    ours = PROTECTIONS[OURS](simulation)
    assert ours.admit(request(), 0, 0)
    assert not ours.admit(request(), 300, 0)
