"""The recipes for loops do what they say, in virtual time."""

from __future__ import annotations

import runpy
from pathlib import Path

from headgate import LoopBudget
from headgate.testing import ManualClock

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> dict:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="example")


async def test_peer_discovery_finds_the_real_nodes_amid_a_thousand_lies():
    discovery = await load("peer_discovery")["attacked"](3, ManualClock())
    stats = discovery.loop.stats()
    assert discovery.found == {f"node-{tick}" for tick in range(30)}
    assert discovery.refused > 2_900
    assert discovery.looked < 100
    assert stats.failed == discovery.looked - 30
    assert discovery.peers.circuit_state("liar") == "open"


async def test_a_consensus_loop_does_not_spin_while_it_is_cut_off():
    recipe = load("consensus_retry")
    clock = ManualClock()
    cluster = recipe["Cluster"](nodes=5, cut_off_for=12)
    budget = LoopBudget(50, clock=clock, uniform=lambda: 0.0)
    values = [f"entry-{number}" for number in range(120)]
    done = await recipe["agree"](values, cluster.vote, 5, budget)
    assert done.agreed == 120
    assert done.rounds == cluster.asked == 132
    # Twelve growing pauses for those twelve rounds, and two windows over which the others were spread.
    assert 2.5 < done.waited < 6.0
    assert clock.now_ns() / 1e9 == round(done.waited, 9)


async def test_a_storm_of_connections_is_served_at_a_steady_pace_or_turned_away():
    clock = ManualClock()
    server = await load("connection_storm")["storm"](10_000, 12.0, clock)
    stats = server.loop.stats()
    assert stats.received == 10_000
    assert stats.peak == 2_000
    assert server.turned_away == stats.diverted
    assert stats.hung > 0
    assert len(server.served) + stats.hung + server.turned_away == 10_000
    assert all(not connection.closed for connection in server.served)
