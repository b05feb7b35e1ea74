"""Seating and its orders against a naive reference: lists, gone through from end to end."""

from __future__ import annotations

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headgate.backpressure.controlled_delay import ControlledDelayOrder
from headgate.backpressure.fair_queue import FairOrder
from headgate.backpressure.priority_queue import PriorityOrder
from headgate.backpressure.seating import Seating
from headgate.backpressure.service_classes import ClassOrder, ServiceClass
from headgate.backpressure.waiting_order import Candidate, Standing

MS = 10**6
WEIGHTS = {"a": 2.0, "b": 0.5}
CLASSES = [ServiceClass("x", 0.05, 0.5), ServiceClass("y", 0.2, 0.3), ServiceClass("z", 1.0, 0.1)]
MAX_WAIT = 100 * MS
TARGET = 20 * MS


class Entry:
    """What the reference remembers of a candidate."""

    def __init__(self, candidate: Candidate, number: int) -> None:
        self.real = candidate
        self.tier = self.level = candidate.tier
        self.flow = candidate.flow
        self.group = candidate.group
        self.cost = candidate.cost
        self.patience = candidate.patience_ns
        self.number = number
        self.standing = self.seen = Standing.NEW
        self.arrived = self.expires = self.seated_at = self.seats = 0
        self.charge = self.start = self.finish = self.paid = 0.0


class Mean:
    def __init__(self) -> None:
        self.value: float | None = None

    def get(self) -> float:
        return 10.0 * MS if self.value is None else self.value

    def see(self, served: int) -> None:
        served = max(served, 1)
        self.value = served if self.value is None else self.value + 0.1 * (served - self.value)


class Fair:
    """Virtual times by the formulas, with all flows gone through for every question."""

    def __init__(self) -> None:
        self.virtual = 0.0
        self.mean = Mean()
        self.last: dict[str, float] = {}
        self.means: dict[str, Mean] = {}
        self.waiting: list[Entry] = []
        self.seated: list[Entry] = []

    def weight(self, flow: str) -> float:
        return WEIGHTS.get(flow, 1.0)

    def queue(self, flow: str) -> list[Entry]:
        return [entry for entry in self.waiting if entry.flow == flow]

    def heads(self) -> list[Entry]:
        return [self.update(self.queue(flow)[:1]) for flow in self.flows()]

    def tails(self) -> list[Entry]:
        return [self.update(self.queue(flow)) for flow in self.flows()]

    def flows(self) -> list[str]:
        return list(dict.fromkeys(entry.flow for entry in self.waiting))

    def update(self, entries: list[Entry]) -> Entry:
        """The last of these, the first of a flow, with its finish."""
        entry = entries[-1]
        work = sum(one.charge for one in entries)
        entry.finish = self.last[entry.flow] + work / self.weight(entry.flow)
        return entry

    def prepare(self, entry: Entry) -> None:
        mean = self.means.get(entry.flow, self.mean)
        entry.charge = float(max(1, round(entry.cost * mean.get())))
        queue = self.queue(entry.flow)
        begins = self.last.get(entry.flow, 0.0)
        if not queue:
            begins = max(self.virtual, begins)
        work = sum(one.charge for one in queue)
        entry.finish = begins + (work + entry.charge) / self.weight(entry.flow)

    def add(self, entry: Entry) -> None:
        if not self.queue(entry.flow):
            self.last[entry.flow] = max(self.virtual, self.last.get(entry.flow, 0.0))
        self.waiting.append(entry)

    def first(self) -> Entry | None:
        return min(self.heads(), key=lambda entry: (entry.finish, entry.number), default=None)

    def worst(self) -> Entry | None:
        return max(self.tails(), key=lambda entry: (entry.finish, entry.number), default=None)

    def victim(self, newcomer: Entry) -> Entry | None:
        worst = self.worst()
        if worst is None or worst.flow == newcomer.flow or newcomer.finish >= worst.finish:
            return None
        return worst

    def take(self, entry: Entry) -> None:
        active = {e.flow for e in self.waiting + self.seated}
        active |= {flow for flow, last in self.last.items() if last > self.virtual}
        self.waiting.remove(entry)
        self.seated.append(entry)
        start = self.last[entry.flow]
        self.last[entry.flow] += entry.charge / self.weight(entry.flow)
        progress = entry.charge / sum(self.weight(flow) for flow in active)
        self.virtual = max(self.virtual + progress, start)
        self.rest()

    def drop(self, entry: Entry) -> None:
        self.waiting.remove(entry)
        self.rest()

    def done(self, entry: Entry, served: int) -> float:
        self.mean.see(served)
        self.means.setdefault(entry.flow, Mean()).see(served)
        more = entry.seats * served - entry.charge
        self.seated.remove(entry)
        self.last[entry.flow] += more / self.weight(entry.flow)
        self.rest()
        return more

    def rest(self) -> None:
        """Flows that say nothing are forgotten, and all when nothing is left."""
        open_flows = {e.flow for e in self.waiting + self.seated}
        if not open_flows:
            self.virtual = 0.0
        for flow, last in list(self.last.items()):
            if flow not in open_flows and (last <= self.virtual or not open_flows):
                del self.last[flow]
                self.means.pop(flow, None)


class FairModel:
    def __init__(self) -> None:
        self.lane = Fair()
        self.mean = Mean()

    def real(self, seats: int, room: int) -> FairOrder:
        return FairOrder(MAX_WAIT, WEIGHTS)

    def prepare(self, entry: Entry, now: int) -> None:
        self.lane.prepare(entry)

    def hopeless(self, entry: Entry, seats: int) -> bool:
        return False

    def patience(self, entry: Entry, now: int) -> int:
        return MAX_WAIT

    def add(self, entry: Entry, now: int) -> None:
        self.lane.add(entry)

    def first(self, now: int) -> Entry | None:
        return self.lane.first()

    def victim(self, newcomer: Entry, now: int) -> Entry | None:
        return self.lane.victim(newcomer)

    def take(self, entry: Entry, now: int) -> None:
        self.lane.take(entry)

    def drop(self, entry: Entry, now: int) -> None:
        self.lane.drop(entry)

    def done(self, entry: Entry, served: int, now: int) -> None:
        self.lane.done(entry, served)


class DelayModel(FairModel):
    def __init__(self) -> None:
        super().__init__()
        self.line: list[Entry] = []
        self.since = 0
        self.chosen: Entry | None = None
        self.stood = -(10**30)

    def real(self, seats: int, room: int) -> ControlledDelayOrder:
        return ControlledDelayOrder(TARGET, MAX_WAIT)

    def stands(self, now: int) -> bool:
        return bool(self.line) and now - self.since > MAX_WAIT

    def prepare(self, entry: Entry, now: int) -> None:
        entry.charge = entry.cost * self.mean.get()

    def patience(self, entry: Entry, now: int) -> int:
        return TARGET if self.stands(now) or now - self.stood <= MAX_WAIT else MAX_WAIT

    def add(self, entry: Entry, now: int) -> None:
        if not self.line:
            self.since = now
        self.line.append(entry)

    def first(self, now: int) -> Entry | None:
        if self.chosen is None and self.line:
            self.chosen = self.line[-1 if self.stands(now) else 0]
        return self.chosen

    def victim(self, newcomer: Entry, now: int) -> Entry | None:
        return self.line[0] if self.stands(now) else None

    def take(self, entry: Entry, now: int) -> None:
        if self.stands(now) and len(self.line) == 1:
            self.stood = now
        self.line.remove(entry)
        if self.chosen is entry:
            self.chosen = None

    drop = take

    def done(self, entry: Entry, served: int, now: int) -> None:
        self.mean.see(served)


class PriorityModel(FairModel):
    def __init__(self) -> None:
        super().__init__()
        self.lanes = [Fair() for _ in range(4)]
        self.claims = [0.0] * 4
        self.kept = 0

    def real(self, seats: int, room: int) -> PriorityOrder:
        self.kept = room // 20
        return PriorityOrder(MAX_WAIT, room, WEIGHTS)

    def age(self, now: int) -> None:
        for tier in (1, 2, 3):
            for entry in self.lanes[tier].waiting:
                if entry.level == tier and now - entry.arrived >= MAX_WAIT // 2:
                    entry.level = tier - 1
            self.forget(tier)

    def standing(self, level: int) -> list[Entry]:
        """Those in a tier."""
        return [e for lane in self.lanes for e in lane.waiting if e.level == level]

    def head(self, level: int) -> Entry | None:
        """Who goes first of a tier; on a tie who has aged into it."""
        heads = [e for lane in self.lanes for e in lane.heads() if e.level == level]
        rank = lambda e: (self.lead(e), e.level == e.tier, e.finish, e.number)  # noqa: E731
        return min(heads, key=rank, default=None)

    def tail(self, level: int) -> Entry | None:
        """Who gives way first of a tier; on a tie who has not aged."""
        tails = [e for lane in self.lanes for e in lane.tails() if e.level == level]
        rank = lambda e: (self.lead(e), e.level == e.tier, e.finish, e.number)  # noqa: E731
        return max(tails, key=rank, default=None)

    def lead(self, entry: Entry) -> float:
        return entry.finish - self.lanes[entry.tier].virtual

    def prepare(self, entry: Entry, now: int) -> None:
        self.age(now)
        self.lanes[entry.tier].prepare(entry)

    def add(self, entry: Entry, now: int) -> None:
        self.lanes[entry.tier].add(entry)

    def first(self, now: int) -> Entry | None:
        self.age(now)
        heads = [self.head(level) for level in range(4)]
        for level in (3, 2, 1):
            head = heads[level]
            if head is not None and 0 < self.claims[level] >= head.charge:
                return head
        return next((head for head in heads if head is not None), None)

    def victim(self, newcomer: Entry, now: int) -> Entry | None:
        sizes = [len(self.standing(level)) for level in range(4)]
        poor = sizes[newcomer.level] < self.kept
        for level in (3, 2, 1, 0):
            last = self.tail(level)
            if level == newcomer.level:
                if last is not None:
                    mine = (last.tier, last.flow) == (newcomer.tier, newcomer.flow)
                    if not mine and self.lead(newcomer) < self.lead(last):
                        return last
                if not poor:
                    return None
            elif sizes[level] > self.kept and (level > newcomer.level or poor) and last:
                return last
        return None

    def gain(self, level: int, work: float) -> None:
        for other in range(4):
            if other != level and self.standing(other):
                self.claims[other] += 0.05 * work

    def take(self, entry: Entry, now: int) -> None:
        level = entry.level
        self.lanes[entry.tier].take(entry)
        entry.paid = max(0.0, min(self.claims[level], entry.charge))
        self.claims[level] -= entry.paid
        self.gain(level, entry.charge)
        self.forget(level)

    def drop(self, entry: Entry, now: int) -> None:
        self.lanes[entry.tier].drop(entry)
        self.forget(entry.level)

    def forget(self, level: int) -> None:
        if not self.standing(level):
            self.claims[level] = 0.0

    def done(self, entry: Entry, served: int, now: int) -> None:
        more = self.lanes[entry.tier].done(entry, served)
        if self.standing(entry.level) and entry.paid > 0:
            self.claims[entry.level] -= more * entry.paid / entry.charge
        self.gain(entry.level, more)


class ClassModel(FairModel):
    def __init__(self) -> None:
        super().__init__()
        whole = sum(each.share for each in CLASSES)
        self.shares = [each.share / whole for each in CLASSES]
        self.targets = [round(each.target_latency * 1e9) for each in CLASSES]
        self.lanes = [Fair() for _ in CLASSES]
        self.starts = [0.0 for _ in CLASSES]
        self.virtual = 0.0

    def real(self, seats: int, room: int) -> ClassOrder:
        return ClassOrder(CLASSES, seats, WEIGHTS)

    def prepare(self, entry: Entry, now: int) -> None:
        self.lanes[entry.group].prepare(entry)

    def hopeless(self, entry: Entry, seats: int) -> bool:
        its = entry.group
        competing = sum(
            share
            for group, share in enumerate(self.shares)
            if group == its or self.lanes[group].waiting
        )
        work = sum(each.charge for each in self.lanes[its].waiting)
        foreseen = work / (seats * self.shares[its] / competing) + self.lanes[its].mean.get()
        assume(abs(foreseen - self.targets[its]) > 1)  # sums round differently
        return foreseen > self.targets[its]

    def patience(self, entry: Entry, now: int) -> int:
        return max(0, self.targets[entry.group] - round(self.lanes[entry.group].mean.get()))

    def add(self, entry: Entry, now: int) -> None:
        if not self.lanes[entry.group].waiting:
            self.starts[entry.group] = max(self.starts[entry.group], self.virtual)
        self.lanes[entry.group].add(entry)

    def first(self, now: int) -> Entry | None:
        waiting = [group for group, lane in enumerate(self.lanes) if lane.waiting]
        if not waiting:
            return None
        self.virtual = max(self.virtual, min(self.starts[group] for group in waiting))
        heads = [
            (head.arrived + self.targets[group], group, head)
            for group in waiting
            if self.starts[group] <= self.virtual
            for head in [self.lanes[group].first()]
        ]
        return min(heads, key=lambda head: head[:2])[2]

    def victim(self, newcomer: Entry, now: int) -> Entry | None:
        crowding = [
            len(lane.waiting) / share for lane, share in zip(self.lanes, self.shares, strict=True)
        ]
        crowded = crowding.index(max(crowding))
        its = newcomer.group
        if crowded == its:
            return self.lanes[its].victim(newcomer)
        if (len(self.lanes[its].waiting) + 1) / self.shares[its] < crowding[crowded]:
            return self.lanes[crowded].worst()
        return None

    def take(self, entry: Entry, now: int) -> None:
        self.lanes[entry.group].take(entry)
        self.virtual += entry.charge
        self.starts[entry.group] += entry.charge / self.shares[entry.group]

    def drop(self, entry: Entry, now: int) -> None:
        self.lanes[entry.group].drop(entry)

    def done(self, entry: Entry, served: int, now: int) -> None:
        its = entry.group
        self.starts[its] += self.lanes[its].done(entry, served) / self.shares[its]


class Machine(RuleBasedStateMachine):
    model_kind: type[FairModel] = FairModel

    @initialize(seats=st.integers(1, 4), room=st.sampled_from([1, 2, 3, 5, 45]))
    def build(self, seats: int, room: int) -> None:
        self.model = self.model_kind()
        self.seats = seats
        self.room = room
        self.seating = Seating(self.model.real(seats, room), seats, room)
        self.clock = 10**15
        self.now = 0
        self.began = False
        self.entries: list[Entry] = []
        self.told: set[int] = set()

    # -- what happens --

    @rule(
        tier=st.integers(0, 3),
        flow=st.sampled_from(["a", "b", "c", "d"]),
        cost=st.sampled_from([1, 1, 1, 2, 3, 50]),
        patience=st.sampled_from([0, MS, 30 * MS, 10**18]),
        group=st.integers(0, len(CLASSES) - 1),
        count=st.sampled_from([1, 1, 2, 8]),
    )
    def arrive(
        self, tier: int, flow: str, cost: int, patience: int, group: int, count: int
    ) -> None:
        for _ in range(count):
            candidate = Candidate(
                tier=tier, flow=flow, cost=cost, patience_ns=patience, group=group
            )
            entry = Entry(candidate, len(self.entries) + 1)
            self.entries.append(entry)
            self.note(self.seating.arrive(candidate, self.clock))
            self.expect_arrival(entry)
            self.compare()

    @rule(which=st.integers(0, 10**6))
    def leave(self, which: int) -> None:
        if self.entries:
            entry = self.entries[which % len(self.entries)]
            self.note(self.seating.leave(entry.real, self.clock))
            self.expect_leaving(entry)
            self.compare()

    @rule(which=st.integers(0, 10**6))
    def one_that_is_seated_leaves(self, which: int) -> None:
        seated = [entry for entry in self.entries if entry.standing is Standing.SEATED]
        if seated:
            entry = seated[which % len(seated)]
            self.note(self.seating.leave(entry.real, self.clock))
            self.expect_leaving(entry)
            self.compare()

    @rule(
        step=st.sampled_from([0, 1, MS, 7 * MS, 19 * MS, 50 * MS, 101 * MS, -1, -(10**15), 10**17])
    )
    def time_passes(self, step: int) -> None:
        self.clock += step
        if step > 0 and self.began:
            self.now += step
        self.note(self.seating.look(self.clock))
        self.began = True
        self.seat()
        self.expire(self.now + 1)
        self.compare()

    @rule(seats=st.integers(1, 5))
    def resize(self, seats: int) -> None:
        self.seats = seats
        self.note(self.seating.resize(seats, self.clock))
        self.began = True
        self.seat()
        self.expire(self.now + 1)
        self.compare()

    # -- what should become of it --

    def expect_arrival(self, entry: Entry) -> None:
        self.began = True
        self.expire(self.now)
        entry.arrived = self.now
        entry.cost = min(entry.cost, self.seats)
        self.model.prepare(entry, self.now)
        entry.expires = self.now + min(entry.patience, self.model.patience(entry, self.now))
        waiting = self.waiting()
        if waiting or self.taken() + entry.cost > self.seats:
            if self.model.hopeless(entry, self.seats):
                entry.standing = Standing.LATE
                return
            never_waits = entry.expires == self.now
            if never_waits and self.taken() + entry.cost > self.seats:
                entry.standing = Standing.EXPIRED
                return
            if len(waiting) >= self.room:
                victim = None if never_waits else self.model.victim(entry, self.now)
                if victim is None:
                    entry.standing = Standing.REFUSED
                    return
                self.drop(victim, Standing.EVICTED)
                self.model.prepare(entry, self.now)
        entry.standing = Standing.WAITING
        self.model.add(entry, self.now)
        self.seat()
        self.expire(self.now + 1)

    def expect_leaving(self, entry: Entry) -> None:
        self.began = True
        if entry.standing is Standing.WAITING:
            self.drop(entry, Standing.LEFT)
        elif entry.standing is Standing.SEATED:
            entry.standing = Standing.LEFT
            self.model.done(entry, self.now - entry.seated_at, self.now)
        self.seat()
        self.expire(self.now + 1)

    def seat(self) -> None:
        self.expire(self.now)
        while self.taken() < self.seats:
            entry = self.model.first(self.now)
            if entry is None:
                return
            need = min(entry.cost, self.seats)
            if self.taken() + need > self.seats:
                return
            entry.standing = Standing.SEATED
            entry.seats = need
            entry.seated_at = self.now
            self.model.take(entry, self.now)

    def expire(self, before: int) -> None:
        due = [entry for entry in self.waiting() if entry.expires < before]
        for entry in sorted(due, key=lambda entry: (entry.expires, entry.number)):
            self.drop(entry, Standing.EXPIRED)

    def drop(self, entry: Entry, standing: Standing) -> None:
        entry.standing = standing
        self.model.drop(entry, self.now)

    def waiting(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.standing is Standing.WAITING]

    def taken(self) -> int:
        return sum(entry.seats for entry in self.entries if entry.standing is Standing.SEATED)

    # -- what is compared --

    def note(self, changed: list[Candidate]) -> None:
        self.told |= {id(candidate) for candidate in changed}

    def compare(self) -> None:
        for entry in self.entries:
            assert entry.real.standing is entry.standing, entry.number
        assert self.seating.taken == self.taken()
        assert self.seating.waiting == len(self.waiting())
        # Added to and taken from: what was far larger once has left its rounding behind.
        rounding = 1e-12 * max((entry.charge for entry in self.entries), default=0.0)
        expected = sum(entry.charge for entry in self.waiting())
        assert self.seating.work == pytest.approx(expected, rel=1e-6, abs=rounding)

    @invariant()
    def whoever_changed_was_told(self) -> None:
        if not hasattr(self, "seating"):
            return
        for entry in self.entries:
            # That one begins to wait, its own call tells.
            if entry.seen is not entry.standing and entry.standing is not Standing.WAITING:
                assert id(entry.real) in self.told
            entry.seen = entry.standing
        self.told.clear()

    @invariant()
    def it_is_bounded(self) -> None:
        if hasattr(self, "seating"):
            assert self.seating.waiting <= self.room

    def teardown(self) -> None:
        """When all have left, nothing is left."""
        if not hasattr(self, "seating"):
            return
        for entry in self.entries:
            self.seating.leave(entry.real, self.clock)
        assert (self.seating.taken, self.seating.waiting, self.seating.work) == (0, 0, 0.0)
        last = Candidate(patience_ns=0)
        self.seating.arrive(last, self.clock)
        assert last.standing is Standing.SEATED


def machine(model: type[FairModel]) -> type:
    kind = type(f"{model.__name__}Machine", (Machine,), {"model_kind": model})
    kind.TestCase.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)
    return kind.TestCase


TestFair = pytest.mark.slow(machine(FairModel))
TestControlledDelay = pytest.mark.slow(machine(DelayModel))
TestPriority = pytest.mark.slow(machine(PriorityModel))
TestClasses = pytest.mark.slow(machine(ClassModel))
