"""The node's side of shared limits, decision by decision."""

from __future__ import annotations

import logging

import pytest

from headgate.decision import NEVER
from headgate.engine.counters import CHECK, PAY, REFUND, RENEW, SETTLE
from headgate.engine.pending import Pending
from headgate.errors import UnknownReservation
from headgate.policy import Policy
from tests.support.shared_limits import MS, SECOND, Bench

STRICT = {"name": "strict", "limit": 10, "consistency": "strict"}
LEASED = {"name": "leased", "limit": 100, "consistency": "leased", "lease": {"share": 0.2}}
LOCAL = {"name": "local", "limit": 10, "consistency": "local"}


def kinds(bench: Bench) -> list[int]:
    return [question.kind for question in bench.post.sent]


def warm(bench: Bench, **attributes: str) -> None:
    """Let a leased key have tokens ahead."""
    for _ in range(20):
        bench.check(**attributes)
        bench.post.deliver()
        bench.post.advance(5 * MS)
    assert bench.held() > 2


class TestStrict:
    def test_each_decision_is_a_question(self):
        bench = Bench(STRICT)
        answers = [bench.check().allowed for _ in range(12)]
        assert answers == [True] * 10 + [False] * 2
        assert kinds(bench) == [CHECK] * 12

    def test_the_answer_is_complete(self):
        bench = Bench(STRICT)
        decision = bench.check(4)
        assert (decision.limit, decision.remaining, decision.policy) == (10, 6, "strict")
        assert (decision.window_ns, decision.reset_after_ns) == (SECOND, 400 * MS)
        denied = bench.check(8)
        assert (denied.allowed, denied.retry_after_ns, denied.degraded) == (False, 200 * MS, False)

    def test_a_cost_above_the_capacity_is_never_asked_for(self):
        bench = Bench(STRICT)
        assert bench.check(11).retry_after_ns == NEVER
        assert kinds(bench) == []

    def test_what_only_asks_spends_nothing(self):
        bench = Bench(STRICT)
        bench.check(4)
        assert bench.settle(bench.engine.begin_peek({"key": "k"}, 7)).allowed is False
        assert bench.settle(bench.engine.begin_check({"key": "k"}, 0)).remaining == 6
        assert bench.spent() == 4

    def test_permits_and_queues_are_never_leased(self):
        for algorithm in ("concurrency", "leaky_bucket_queue"):
            bench = Bench({**LEASED, "algorithm": algorithm})
            bench.check()
            assert kinds(bench) == [CHECK]

    def test_a_queue_tells_how_long_to_wait(self):
        bench = Bench({**STRICT, "algorithm": "leaky_bucket_queue"})
        bench.check()
        assert bench.check().delay_ns == 100 * MS

    def test_denials_are_counted_and_observed(self):
        seen = []

        class Observer:
            def denied(self, policy: str, key: str) -> None:
                seen.append((policy, key))

        bench = Bench(STRICT)
        bench.engine.observe_denials(Observer())
        for _ in range(12):
            bench.check()
        (stats,) = bench.engine.stats().policies
        assert (stats.admitted, stats.denied) == (10, 2)
        assert seen == [("strict", "k")] * 2


class TestLeased:
    def test_the_first_request_asks_and_later_ones_do_not(self):
        bench = Bench(LEASED)
        assert isinstance(bench.begin(), Pending)
        bench.post.deliver()
        warm(bench)
        before = len(bench.post.sent)
        assert bench.begin().allowed
        assert len(bench.post.sent) <= before + 1

    def test_a_hot_key_costs_few_questions(self):
        bench = Bench({**LEASED, "limit": 100_000})
        bench.post.is_instant = True
        warm(bench)
        before = len(bench.post.sent)
        for _ in range(10_000):
            assert bench.check().allowed
            bench.post.advance(20_000)
        assert len(bench.post.sent) - before <= 100

    def test_requests_that_come_together_wait_together(self):
        bench = Bench(LEASED)
        waiting = [bench.begin() for _ in range(5)]
        assert len(bench.post.sent) == 1
        bench.post.deliver()
        bench.post.deliver()
        assert all(bench.settle(each).allowed for each in waiting)
        assert len(bench.post.sent) <= 3

    def test_never_more_than_the_limit(self):
        bench = Bench(LEASED)
        assert sum(bench.check().allowed for _ in range(150)) == 100

    def test_a_dry_key_is_denied_at_once_and_asks_again_by_itself(self):
        bench = Bench(LEASED)
        for _ in range(101):
            bench.check()
        asked = len(bench.post.sent)
        denied = [bench.begin() for _ in range(50)]
        assert not any(each.allowed for each in denied)
        assert 0 < denied[0].retry_after_ns <= 10 * MS
        assert len(bench.post.sent) == asked
        bench.post.advance(11 * MS)
        assert kinds(bench)[asked:] == [RENEW]
        bench.post.deliver()
        assert bench.begin().allowed

    @pytest.mark.parametrize("strict_left", [0, 80], ids=["given back", "spent"])
    def test_what_the_store_has_and_the_lease_are_spent_together(self, strict_left):
        other = {**STRICT, "limit": 100, "window": "1h", "dimensions": ["user"]}
        leased = {**LEASED, "window": "1h", "algorithm": "fixed_window", "dimensions": ["key"]}
        bench = Bench(leased, other)
        warm(bench, key="k")
        spent = bench.spent() - bench.held()
        assert 100 - bench.spent() < 80 == 100 - spent
        bench.check(100 - strict_left, user="u")
        assert bench.check(80, key="k", user="u").allowed == (strict_left == 80)
        bench.post.deliver()
        assert bench.spent() - bench.held() == spent + strict_left
        assert bench.held() == 0

    def test_costs_of_all_sizes(self):
        bench = Bench(LEASED)
        assert bench.check(60).allowed
        assert not bench.check(60).allowed
        assert bench.check(30).allowed  # which is not in the way of what costs less
        assert bench.check(101).retry_after_ns == NEVER
        assert bench.spent() - bench.held() == 90

    def test_what_is_idle_is_given_back(self):
        bench = Bench(LEASED)
        warm(bench)
        held, spent = bench.held(), bench.spent()
        bench.post.is_instant = True
        bench.post.advance(3 * SECOND)
        assert held > 0
        assert bench.held() == 0
        assert bench.spent() < spent

    def test_an_idle_key_is_forgotten(self):
        bench = Bench(LEASED)
        bench.check()
        bench.post.is_instant = True
        bench.post.advance(10 * SECOND)
        assert bench.sharing.status().keys == 0

    def test_a_lease_is_not_spent_when_it_is_too_old(self):
        bench = Bench(LEASED)
        warm(bench)
        bench.clock.advance(1.91)  # of 2 s, less 5 %, and no timer rang
        assert isinstance(bench.begin(), Pending)

    def test_a_lost_answer_changes_nothing(self):
        bench = Bench(LEASED)
        warm(bench)
        while not any(q.kind == RENEW for q, _ in bench.post.waiting):
            bench.begin()
        spent = bench.spent()
        answers = bench.post.arrive()
        assert bench.spent() >= spent
        del answers
        held = bench.held()
        assert held <= 20

    def test_usage_is_what_was_heard(self):
        bench = Bench(LEASED)
        warm(bench)
        (usage,) = bench.engine.usage({"key": "k"})
        assert usage.policy == "leased"
        assert usage.limit == 100
        assert usage.used + usage.remaining == 100

    def test_leases_are_shown(self):
        bench = Bench(LEASED)
        warm(bench)
        (view,) = bench.sharing.leases()
        assert (view.policy, view.key, view.bound, view.consistency) == (
            "leased",
            "k",
            20,
            "leased",
        )
        assert view.held == bench.held() > 0
        assert view.demand > 0
        assert bench.sharing.leases("other") == []
        ((counter, key),) = bench.sharing.counters("k")
        assert bench.post.counting.leases(counter, key, bench.post.store_us())[0][0] == "a"


class TestManyLevels:
    MIXED = (
        {"name": "local", "limit": 10, "consistency": "local"},
        {"name": "leased", "limit": 100, "consistency": "leased"},
        {"name": "strict", "limit": 5, "consistency": "strict"},
    )

    def test_all_admit_or_nothing_is_spent_anywhere(self):
        bench = Bench(*self.MIXED)
        answers = [bench.check().allowed for _ in range(8)]
        assert answers == [True] * 5 + [False] * 3
        bench.post.deliver()
        local, *_ = bench.engine.usage({"key": "k"})
        assert local.used == 5
        assert bench.spent(0) - bench.held() == 5
        assert bench.spent(1) == 5

    def test_every_limit_has_its_answer(self):
        bench = Bench(*self.MIXED)
        for _ in range(5):
            bench.check()
        decision = bench.check()
        assert [level.policy for level in decision.levels] == ["local", "leased", "strict"]
        assert [level.allowed for level in decision.levels] == [True, True, False]
        assert decision.policy == "strict"

    def test_a_local_no_asks_nobody(self):
        bench = Bench({**LOCAL, "limit": 2}, STRICT)
        for _ in range(2):
            bench.check()
        asked = len(bench.post.sent)
        assert bench.begin().policy == "local"
        assert len(bench.post.sent) == asked

    def test_a_leased_no_gives_back_what_others_had(self):
        bench = Bench({**LEASED, "limit": 3}, {**LEASED, "name": "wide"}, LOCAL)
        for _ in range(3):
            assert bench.check().allowed
        assert not bench.check().allowed
        bench.post.deliver()
        assert bench.engine.usage({"key": "k"})[2].used == 3
        assert bench.spent(1) - bench.held() == 3

    def test_several_strict_limits_are_one_question(self):
        bench = Bench(STRICT, {**STRICT, "name": "other", "limit": 3})
        answers = [bench.check().allowed for _ in range(5)]
        assert answers == [True] * 3 + [False] * 2
        assert bench.spent(0) == bench.spent(1) == 3
        assert kinds(bench) == [CHECK] * 5

    def test_overrides_are_limits_of_their_own(self):
        override = {"match": {"key": "vip"}, "limit": 20}
        bench = Bench({**STRICT, "overrides": [override]})
        assert sum(bench.check(key="vip").allowed for _ in range(25)) == 20
        assert sum(bench.check(key="k").allowed for _ in range(25)) == 10


class TestWithoutTheStore:
    def test_a_request_waits_for_the_deadline_and_no_longer(self, caplog):
        caplog.set_level(logging.INFO, "headgate.engine")
        bench = Bench(STRICT)
        pending = bench.begin()
        bench.post.advance(20 * MS - 1)
        assert not pending.is_settled
        bench.post.advance(1)
        assert pending.value.degraded
        assert pending.value.allowed
        assert "cannot be reached" in caplog.text

    def test_then_nobody_waits(self):
        bench = Bench(STRICT)
        bench.begin()
        bench.post.advance(20 * MS)
        assert bench.begin().degraded

    def test_all_who_wait_are_told_at_once(self):
        bench = Bench(STRICT)
        first = bench.begin()
        bench.post.advance(10 * MS)
        second = bench.begin()
        bench.post.advance(10 * MS)
        assert first.is_settled
        assert second.is_settled

    def test_an_error_needs_no_deadline(self):
        bench = Bench(STRICT)
        pending = bench.begin()
        bench.post.lose()
        assert pending.value.degraded

    def test_a_timer_that_is_late_gives_the_answers_a_moment(self):
        bench = Bench(STRICT)
        pending = bench.begin()
        answers = bench.post.arrive()
        bench.clock.advance(0.5)  # the process did something else
        bench.post.advance(0)
        assert not pending.is_settled
        answers[0]()
        assert not pending.value.degraded

    @pytest.mark.parametrize(("mode", "allowed"), [("open", True), ("closed", False)])
    def test_open_and_closed(self, mode, allowed):
        bench = Bench({**STRICT, "failure_mode": mode})
        bench.begin()
        bench.post.lose()
        decision = bench.begin()
        assert (decision.allowed, decision.degraded) == (allowed, True)
        assert allowed or 0 < decision.retry_after_ns <= 50 * MS

    def test_the_local_share_is_exact(self):
        admitted = []
        for rank in range(3):
            bench = Bench(STRICT, place=(rank, 3))
            bench.begin()
            bench.post.lose()
            admitted.append(1 + sum(bench.begin().allowed for _ in range(20)))
        assert sum(admitted) == 10
        assert max(admitted) - min(admitted) <= 1

    def test_a_node_without_a_share_denies(self):
        bench = Bench({**STRICT, "limit": 1}, place=(0, 3))
        pending = bench.begin()
        bench.post.lose()
        assert (pending.value.allowed, pending.value.degraded) == (False, True)
        assert pending.value.retry_after_ns > 0

    def test_a_share_goes_by_the_members_that_there_are(self):
        bench = Bench({**STRICT, "limit": 30}, place=(0, 3))
        bench.begin()
        bench.post.lose()
        assert sum(bench.begin().allowed for _ in range(30)) == 9
        bench.place = (0, 1)
        assert sum(bench.begin().allowed for _ in range(30)) == 20

    def test_the_share_begins_where_the_store_had_left_off(self):
        bench = Bench(STRICT)
        for _ in range(8):
            bench.check()
        pending = bench.begin()
        bench.post.lose()
        assert pending.value.allowed
        assert [bench.begin().allowed for _ in range(3)] == [True, False, False]

    def test_what_was_admitted_is_charged_on_return(self):
        bench = Bench(STRICT)
        bench.check()
        bench.begin()
        bench.post.lose()
        for _ in range(3):
            bench.begin()
        assert bench.sharing.status().owed == 4
        bench.post.advance(50 * MS)  # a probe
        bench.post.deliver()
        assert bench.sharing.health.is_up
        assert kinds(bench)[-1] == PAY
        bench.post.deliver()
        assert bench.spent() == 5
        assert bench.sharing.status().owed == 0

    def test_a_charge_that_is_lost_is_made_again(self):
        bench = Bench(STRICT)
        bench.begin()
        bench.post.lose()
        bench.post.advance(50 * MS)
        bench.post.deliver()
        bench.post.lose()  # the charge
        assert bench.sharing.status().owed == 1
        bench.post.advance(50 * MS)
        bench.post.deliver()
        bench.post.deliver()
        assert bench.spent() == 1

    def test_leases_are_spent_on(self):
        bench = Bench({**LEASED, "failure_mode": "closed"})
        warm(bench)
        held = bench.held()
        bench.begin()
        bench.post.lose()
        bench.sharing.health.is_up = False
        answers = [bench.begin() for _ in range(held + 3)]
        assert sum(each.allowed for each in answers) in {held, held - 1}
        assert not any(each.degraded for each in answers if each.allowed)

    def test_a_late_yes_of_a_request_that_was_admitted_is_not_charged_twice(self):
        bench = Bench(STRICT)
        bench.begin()
        answers = bench.post.arrive()
        bench.post.advance(20 * MS)
        assert bench.sharing.status().owed == 1
        answers[0]()
        assert bench.sharing.status().owed == 0
        assert bench.spent() == 1

    def test_a_late_yes_of_a_request_that_was_denied_is_given_back(self):
        bench = Bench({**STRICT, "failure_mode": "closed"})
        pending = bench.begin()
        answers = bench.post.arrive()
        bench.post.advance(20 * MS)
        assert not pending.value.allowed
        answers[0]()
        bench.post.advance(50 * MS)
        bench.post.deliver()  # the probe
        bench.post.deliver()
        assert REFUND in kinds(bench)
        assert bench.spent() == 0

    def test_tokens_of_a_late_answer_are_kept_or_given_back(self):
        bench = Bench({**LEASED, "failure_mode": "closed"})
        bench.begin(3)
        answers = bench.post.arrive()
        bench.post.advance(20 * MS)
        answers[0]()
        bench.post.advance(50 * MS)
        for _ in range(4):
            bench.post.deliver()
        assert bench.spent() - bench.held() == 0

    def test_refunds_wait_for_the_store(self):
        bench = Bench(STRICT)
        bench.check(5)
        bench.begin()
        bench.post.lose()
        decision = bench.engine.begin_refund({"key": "k"}, 3)
        assert decision.degraded
        # One of the three was owed and not charged yet; the others are told to the store.
        assert bench.sharing.status().owed == 0
        assert bench.sharing.status().refunds_waiting == 1
        bench.post.advance(50 * MS)
        bench.post.deliver()
        bench.post.deliver()
        assert bench.spent() in {2, 3}

    def test_several_limits_fall_back_together(self):
        bench = Bench(STRICT, {**STRICT, "name": "shut", "failure_mode": "closed"}, LOCAL)
        bench.begin()
        bench.post.lose()
        assert not bench.begin().allowed
        assert bench.engine.usage({"key": "k"})[2].used == 0
        assert bench.sharing.status().owed == 0


class TestRefundAndReserve:
    @pytest.mark.parametrize("policy", [STRICT, LEASED], ids=["strict", "leased"])
    def test_a_refund_goes_to_the_store(self, policy):
        bench = Bench(policy)
        for _ in range(4):
            bench.check()
        before = bench.spent()
        bench.settle(bench.engine.begin_refund({"key": "k"}, 3))
        assert bench.spent() == before - 3

    def test_the_first_thing_that_a_node_hears_of_may_be_a_refund(self):
        policy = {**STRICT, "window": "1h", "algorithm": "fixed_window"}
        one = Bench(policy)
        for _ in range(4):
            one.check()
        other = Bench(policy, clock=one.clock, counting=one.post.counting, node="b")
        other.settle(other.engine.begin_refund({"key": "k"}, 3))
        assert one.spent() == 1

    def test_an_id_that_no_node_made_up_is_neither_sent_nor_kept(self):
        bench = Bench(STRICT)
        for hold in ("s-", "s-" + "y" * 100_000):
            with pytest.raises(UnknownReservation):
                bench.settle(bench.engine.begin_commit(hold, 1))
        bench.begin()
        bench.post.lose()
        with pytest.raises(UnknownReservation):
            bench.engine.begin_commit("s-" + "y" * 100_000, 1)
        assert bench.sharing.debts.waiting == 0
        assert kinds(bench) == [CHECK]

    @pytest.mark.parametrize("policy", [STRICT, LEASED], ids=["strict", "leased"])
    @pytest.mark.parametrize(("cost", "spent"), [(None, 5), (2, 2), (0, 0), (7, 7)])
    def test_a_hold_is_settled_at_its_real_cost(self, policy, cost, spent):
        bench = Bench(policy, LOCAL)
        reservation = bench.settle(bench.engine.begin_reserve({"key": "k"}, 5, SECOND))
        assert reservation.decision.allowed
        assert bench.spent() == 5
        decision = bench.settle(bench.engine.begin_commit(reservation.id, cost))
        assert decision.allowed
        assert bench.spent() == spent
        assert bench.engine.usage({"key": "k"})[1].used == spent

    def test_a_hold_is_settled_on_any_node(self):
        bench = Bench(STRICT)
        other = Bench(STRICT, clock=bench.clock, counting=bench.post.counting, node="b")
        reservation = bench.settle(bench.engine.begin_reserve({"key": "k"}, 5, SECOND))
        decision = other.settle(other.engine.begin_commit(reservation.id, 1))
        assert decision.remaining == 9
        again = bench.settle(bench.engine.begin_commit(reservation.id))
        assert isinstance(again, UnknownReservation)

    def test_a_refused_hold_gives_back_what_was_held(self):
        bench = Bench(STRICT, {**LOCAL, "limit": 100})
        reservation = bench.settle(bench.engine.begin_reserve({"key": "k"}, 11, SECOND))
        assert not reservation.decision.allowed
        assert reservation.id == ""
        assert bench.engine.usage({"key": "k"})[1].used == 0

    def test_a_local_no_asks_nobody(self):
        bench = Bench({**STRICT, "limit": 100}, LOCAL)
        assert not bench.engine.begin_reserve({"key": "k"}, 11, SECOND).decision.allowed
        assert kinds(bench) == []

    def test_a_hold_without_the_store(self):
        bench = Bench(STRICT)
        bench.begin()
        bench.post.lose()
        reservation = bench.engine.begin_reserve({"key": "k"}, 5, SECOND)
        assert reservation.decision.degraded
        assert bench.sharing.status().owed == 6
        assert bench.engine.begin_commit(reservation.id, 2).degraded
        assert bench.sharing.status().owed == 3
        bench.post.advance(50 * MS)
        bench.post.deliver()
        assert bench.sharing.health.is_up
        again = bench.settle(bench.engine.begin_commit(reservation.id))
        assert isinstance(again, UnknownReservation)

    def test_a_settlement_waits_for_the_store(self):
        bench = Bench(STRICT)
        reservation = bench.settle(bench.engine.begin_reserve({"key": "k"}, 5, 10 * SECOND))
        bench.begin()
        bench.post.lose()
        assert bench.engine.begin_commit(reservation.id, 1).degraded
        bench.post.advance(50 * MS)
        bench.post.deliver()
        bench.post.deliver()
        assert SETTLE in kinds(bench)
        assert bench.spent() in {1, 2}

    def test_local_holds_are_as_ever(self):
        bench = Bench(LOCAL)
        reservation = bench.engine.begin_reserve({"key": "k"}, 5, SECOND)
        assert bench.engine.begin_commit(reservation.id, 2).remaining == 8
        assert kinds(bench) == []


class TestChanges:
    def test_a_removed_policy_gives_its_leases_back(self):
        bench = Bench(LEASED)
        warm(bench)
        counter = bench.counters()[0]
        bench.engine.remove_policy("leased")
        bench.post.deliver()
        assert bench.post.counting.leases(counter, "k", bench.post.store_us())[0][1] == 0
        assert bench.sharing.leases() == []

    def test_who_waits_for_a_removed_policy_is_answered(self):
        bench = Bench(LEASED)
        pending = bench.begin()
        bench.engine.remove_policy("leased")
        bench.post.deliver()
        assert pending.value.allowed

    def test_a_limit_that_is_raised_is_noticed_at_once(self):
        bench = Bench({**LEASED, "limit": 10, "window": "1h"})
        for _ in range(11):
            bench.check()
        assert not bench.begin().allowed
        bench.engine.set_policy(Policy.from_dict({**LEASED, "limit": 50, "window": "1h"}), 2)
        assert sum(bench.check().allowed for _ in range(50)) == 40

    def test_a_lease_lasts_as_long_as_it_was_asked_for(self):
        bench = Bench(LEASED)
        warm(bench)
        while not bench.post.waiting:
            bench.begin()
        longer = {**LEASED, "window": "1s", "lease": {"share": 0.2, "ttl": "1h"}}
        bench.engine.set_policy(Policy.from_dict(longer), 2)
        bench.post.deliver()
        bench.clock.advance(1.95)  # of the 2 s that were asked for
        assert isinstance(bench.begin(), Pending)

    def test_a_leased_policy_that_becomes_strict_gives_back(self):
        bench = Bench(LEASED)
        warm(bench)
        bench.engine.set_policy(
            Policy.from_dict({**LEASED, "window": "1s", "consistency": "strict"}), 2
        )
        bench.post.deliver()
        assert bench.held() == 0
        bench.check()
        assert kinds(bench)[-1] == CHECK

    def test_what_is_on_its_way_when_it_becomes_strict_is_given_back_too(self):
        bench = Bench(LEASED)
        warm(bench)
        while not bench.post.waiting:
            bench.begin()
        strict = {**LEASED, "window": "1s", "consistency": "strict"}
        bench.engine.set_policy(Policy.from_dict(strict), 2)
        bench.post.deliver()
        assert bench.held() > 0
        for _ in range(100):
            bench.check()
            bench.post.advance(20 * MS)
        bench.post.deliver()
        assert bench.held() == 0

    def test_a_lease_above_what_may_be_held_now_is_given_back(self):
        bench = Bench({**LEASED, "window": "1h", "algorithm": "fixed_window", "limit": 1000})
        warm(bench)
        assert bench.spent() > 10
        lower = {**LEASED, "window": "1h", "algorithm": "fixed_window", "limit": 10}
        bench.engine.set_policy(Policy.from_dict(lower), 2)
        bench.post.deliver()
        admitted = sum(bench.check().allowed for _ in range(50))
        assert admitted <= 10
        assert bench.held() <= 2

    def test_a_shared_policy_that_becomes_local_is_decided_here(self):
        bench = Bench(STRICT)
        bench.check()
        bench.engine.set_policy(
            Policy.from_dict({**STRICT, "window": "1s", "consistency": "local"}), 2
        )
        assert bench.begin().allowed
        assert kinds(bench) == [CHECK]

    def test_without_a_sharing_all_is_decided_here(self):
        bench = Bench(STRICT, LEASED)
        bench.engine.share(None)
        assert bench.begin().allowed
        assert kinds(bench) == []

    def test_policies_that_were_there_before_are_shared_too(self):
        bench = Bench(STRICT)
        bench.engine.share(None)
        bench.engine.share(bench.sharing)
        assert isinstance(bench.begin(), Pending)

    def test_local_policies_are_shared_within_their_scope(self):
        bench = Bench(LOCAL, local_scope="node:one")
        assert isinstance(bench.begin(), Pending)
        assert [counter.identity.split("/")[0] for counter in bench.counters()] == ["node:one"]

    def test_a_policy_that_names_nothing_is_as_the_node_has_it(self):
        bench = Bench({"name": "api", "limit": 5}, consistency="strict")
        bench.check()
        assert kinds(bench) == [CHECK]

    def test_an_adaptive_policy_stays_in_its_process(self):
        adaptive = {"name": "api", "limit": 5, "adaptive": "aimd"}
        bench = Bench(adaptive, consistency="strict", local_scope="node:one")
        assert bench.begin().allowed


class TestRoom:
    def test_a_flood_of_keys_is_counted_strictly(self):
        bench = Bench(LEASED, max_records=50)
        for number in range(200):
            bench.check(key=f"k{number}")
        status = bench.sharing.status()
        assert status.keys <= 50

    def test_a_key_that_is_being_limited_is_never_forgotten(self):
        bench = Bench({**LEASED, "limit": 1, "window": "1h"}, max_records=10)
        for number in range(10):
            bench.check(key=f"k{number}")
            bench.check(key=f"k{number}")
        for number in range(100):
            bench.check(key=f"other{number}")
        assert bench.sharing.status().keys == 10
        assert not any(bench.begin(key=f"k{number}").allowed for number in range(10))
        assert bench.sharing.status().keys_refused == 100

    def test_a_key_at_its_limit_does_not_fill_the_agenda(self):
        bench = Bench({**LEASED, "lease": {"ttl": "1h"}})
        bench.post.is_instant = True
        for _ in range(5000):
            bench.check()
            bench.post.advance(MS)
        assert len(bench.sharing.renewals._agenda) <= 4

    def test_debts_are_bounded_too(self):
        bench = Bench(STRICT, max_owed=10)
        bench.begin()
        bench.post.lose()
        for number in range(50):
            bench.begin(key=f"k{number}")
        status = bench.sharing.status()
        assert status.keys_owing == 10
        assert status.forgone == 41
        for number in range(50):
            bench.engine.begin_refund({"key": f"r{number}"}, 1)
        assert bench.sharing.status().refunds_dropped == 40


class TestDrain:
    def test_everything_is_given_back(self):
        bench = Bench(LEASED)
        warm(bench)
        done = []
        bench.sharing.drain(lambda: done.append(True))
        assert not done
        bench.post.deliver()
        bench.post.advance(5 * MS)
        assert done == [True]
        assert bench.held() == 0
        assert bench.sharing.status().is_draining

    def test_requests_are_answered_meanwhile(self):
        bench = Bench(LEASED)
        warm(bench)
        bench.sharing.drain(lambda: None)
        assert bench.check().allowed
        assert kinds(bench)[-1] == CHECK

    def test_a_store_that_is_away_is_not_waited_for(self):
        bench = Bench(LEASED)
        warm(bench)
        done = []
        bench.sharing.drain(lambda: done.append(True))
        bench.post.lose()
        bench.post.advance(5 * MS)
        assert done == [True]
