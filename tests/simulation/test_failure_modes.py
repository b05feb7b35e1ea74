"""What each failure mode promises while the store is away, and that nodes settle when it is back."""

from __future__ import annotations

import pytest

from tests.simulation.world import MS, SECOND, Faults, World, most_above

AWAY_FROM = 700 * MS
AWAY_UNTIL = 1700 * MS
END = 4 * SECOND


def world(seed: int, mode: str, consistency: str, **fields: object) -> World:
    document = {
        "name": "api",
        "limit": 100,
        "window": "1s",
        "consistency": consistency,
        "failure_mode": mode,
        **fields,
    }
    made = World(seed, [document], 3)

    def switch(is_up: bool) -> None:
        made.store_is_up = is_up

    made.sim.at(AWAY_FROM, switch, False)
    made.sim.at(AWAY_UNTIL, switch, True)
    return made


def admitted(world: World, since: int, until: int) -> int:
    return sum(one.cost for one in world.tally.admitted if since <= one.at < until)


BOTH = pytest.mark.parametrize("consistency", ["leased", "strict"])


@BOTH
@pytest.mark.parametrize("seed", range(5))
class TestLocal:
    def test_the_nodes_together_admit_the_limit_while_the_store_is_away(self, seed, consistency):
        run = world(seed, "local", consistency)
        for index in range(3):
            run.load(index, 100, AWAY_UNTIL + SECOND)
        run.run(END)
        during = admitted(run, AWAY_FROM + 100 * MS, AWAY_UNTIL)
        assert 80 <= during <= 100  # 100 per second for 0.9 seconds, and what was left of the burst
        assert all(node.is_at_rest for node in run.nodes)

    def test_neither_its_loss_nor_its_return_is_a_second_allowance(self, seed, consistency):
        run = world(seed, "local", consistency)
        for index in range(3):
            run.load(index, 100, AWAY_UNTIL + SECOND)
        run.run(END)
        # The bucket of 100, what flows in, the bound of 5, and what was on its way at either moment.
        assert most_above(run.tally.admitted, "k", 100 / SECOND) <= 100 + 5 + 8

    def test_what_was_admitted_is_charged_on_return(self, seed, consistency):
        run = world(seed, "local", consistency)
        for index in range(3):
            run.load(index, 20, AWAY_UNTIL)  # less than the limit: nobody is denied
        run.run(END)
        alone = sum(one.cost for one in run.tally.admitted if one.degraded)
        assert alone > 0
        assert run.denied == 0
        paid = sum(node.sharing.status().paid for node in run.nodes)
        forgiven = sum(node.sharing.status().refunds_unknown for node in run.nodes)
        assert alone - 3 <= paid + forgiven <= alone


@BOTH
class TestOpenAndClosed:
    def test_open_admits_all(self, consistency):
        run = world(1, "open", consistency)
        run.load(0, 300, AWAY_UNTIL + SECOND)
        run.run(AWAY_UNTIL)
        asked = sum(cost for at, cost in run.tally.asked_at if at > AWAY_FROM + 100 * MS)
        assert admitted(run, AWAY_FROM + 100 * MS, AWAY_UNTIL) == pytest.approx(asked, abs=3)
        run.run(END)
        assert all(node.is_at_rest for node in run.nodes)

    def test_what_was_admitted_openly_is_charged(self, consistency):
        run = world(1, "open", consistency)
        run.load(0, 300, AWAY_UNTIL + SECOND)
        run.run(AWAY_UNTIL + 600 * MS)
        # Hundreds are owed, so that the bucket is empty when the store is back.
        assert admitted(run, AWAY_UNTIL + 550 * MS, AWAY_UNTIL + 600 * MS) <= 100 * 0.05 + 6

    def test_closed_denies_all_but_what_was_leased(self, consistency):
        run = world(1, "closed", consistency)
        run.load(0, 300, AWAY_UNTIL)
        run.run(AWAY_UNTIL)
        assert admitted(run, AWAY_FROM + 100 * MS, AWAY_UNTIL) <= 5

    def test_a_refusal_tells_when_to_come_back(self, consistency):
        run = world(1, "closed", consistency)
        run.load(0, 300, AWAY_UNTIL)
        run.run(AWAY_FROM + 200 * MS)
        decision = run.nodes[0].engine.begin_check({"key": "new"})
        assert not decision.allowed
        assert decision.degraded
        assert 0 < decision.retry_after_ns <= 500 * MS


class TestHealth:
    def test_nobody_waits_while_the_store_is_down(self):
        run = world(3, "local", "strict")
        run.load(0, 200, AWAY_UNTIL)
        run.run(AWAY_FROM + 100 * MS)
        waited = run.nodes[0].sharing.waited
        run.run(AWAY_UNTIL - MS)
        assert run.nodes[0].sharing.waited == waited
        assert run.tally.longest_wait <= 21 * MS

    def test_it_is_back_within_a_probe(self):
        run = world(3, "local", "leased")
        run.load(0, 200, END)
        run.run(AWAY_UNTIL + 550 * MS)
        assert run.nodes[0].sharing.health.is_up

    def test_a_store_that_is_always_too_late_is_given_up(self):
        run = World(4, [{"name": "api", "limit": 100, "window": "1s", "consistency": "strict"}], 1)
        run.faults = Faults(least_delay=30 * MS, most_delay=31 * MS)
        run.load(0, 50, SECOND)
        run.run(SECOND)
        health = run.nodes[0].sharing.health
        assert not health.is_up
        assert health.downs == 1
        assert admitted(run, 0, SECOND) == run.tally.answered

    def test_without_faults_nothing_is_degraded(self):
        run = World(5, [{"name": "api", "limit": 100, "window": "1s", "consistency": "leased"}], 3)
        for index in range(3):
            run.load(index, 100, SECOND)
        run.run(2 * SECOND)
        assert not any(one.degraded for one in run.tally.admitted)
        assert all(node.sharing.health.downs == 0 for node in run.nodes)


class TestShares:
    def test_a_light_node_gets_its_share_beside_a_heavy_one(self):
        run = World(6, [{"name": "api", "limit": 100, "window": "1s", "consistency": "leased"}], 2)
        run.load(0, 600, 4 * SECOND)
        run.load(1, 20, 4 * SECOND)
        run.run(4 * SECOND)
        settled = [one for one in run.tally.admitted if one.at > SECOND]
        light = sum(one.cost for one in settled if one.node == "n2")
        heavy = sum(one.cost for one in settled if one.node == "n1")
        assert light >= 0.85 * 20 * 3
        assert light + heavy >= 0.97 * 300

    def test_equals_share_equally(self):
        run = World(7, [{"name": "api", "limit": 100, "window": "1s", "consistency": "leased"}], 3)
        for index in range(3):
            run.load(index, 150, 4 * SECOND)
        run.run(4 * SECOND)
        settled = [one for one in run.tally.admitted if one.at > SECOND]
        for name in ("n1", "n2", "n3"):
            assert sum(one.cost for one in settled if one.node == name) == pytest.approx(
                100, abs=20
            )
