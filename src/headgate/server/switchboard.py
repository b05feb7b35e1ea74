"""What workers say to each other goes through their supervisor.

It also remembers what workers that are gone had counted, so that what the node has counted never goes down.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, final

from headgate.server.counts import Report, added_up, only_counters

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.server.crew import Crew, WorkerProcess

__all__ = ["Switchboard"]

_PATIENCE_SECONDS: Final = 1.0
_METRICS: Final = "metrics"
_NOTHING: Final = added_up(())


@final
class Switchboard:
    """Passes questions, answers and news between workers.

    Args:
        crew: the workers.

    Attributes:
        worker_deaths: how many died that should not have.
        store_deaths: how often the private Valkey did.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._questions: dict[int, _Question] = {}
        self._number = 0
        self._reports: dict[int, Report] = {}
        self._gone: Report = _NOTHING
        self.worker_deaths = 0
        self.store_deaths = 0

    def hear(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """A worker said this."""
        word = message["say"]
        if word == "changed":
            self._crew.tell({"do": "changed"}, besides=worker)
        elif word == "ask":
            self._ask(worker, message)
        elif word == "farewell":
            self._reports[worker.number] = message["report"]
        elif word == "answer":
            question = self._questions.get(message["id"])
            if question is not None:
                self._note(question.what, worker, message["value"])
                question.take(worker.number, message["value"])

    def gone(self, worker: WorkerProcess) -> None:
        """A worker ended; what it had counted, as far as anybody was told, stays."""
        last = self._reports.pop(worker.number, None)
        if last is not None:
            self._gone = added_up([self._gone, only_counters(last)])
        for question in list(self._questions.values()):
            question.take(worker.number, None)
        self.tell_numbers()

    def tell_numbers(self) -> None:
        """Tell all workers who is there."""
        numbers = sorted(one.number for one in self._crew.all.values() if one.ready.done())
        self._crew.tell({"do": "workers", "numbers": numbers})

    def _ask(self, asking: WorkerProcess, message: dict[str, Any]) -> None:
        self._number += 1
        number = self._number
        what, argument = message["what"], message["argument"]
        if what == _METRICS:
            self._note(what, asking, argument)
            argument = None
        others = [one for one in self._crew.all.values() if one is not asking and one.ready.done()]

        def done(values: list[Any]) -> None:
            self._questions.pop(number, None)
            if what == _METRICS:
                values += [self._gone, self._own()]
            asking.line.send({"do": "answers", "id": message["id"], "values": values})

        question = _Question(what, {one.number for one in others}, done)
        self._questions[number] = question
        for one in others:
            one.line.send({"do": "answer", "id": number, "what": what, "argument": argument})
        question.begin()

    def _note(self, what: str, worker: WorkerProcess, value: Any) -> None:
        if what == _METRICS and value is not None:
            self._reports[worker.number] = value

    def _own(self) -> Report:
        """What the supervisor counts."""
        alive = sum(one.ready.done() for one in self._crew.all.values())
        families = [
            _family("headgate_workers", "gauge", "Worker processes that serve.", alive),
            _family(
                *("headgate_worker_deaths", "counter", "Workers that died and were replaced."),
                self.worker_deaths,
            ),
            _family(
                *("headgate_private_store_deaths", "counter", "Deaths of the private Valkey."),
                self.store_deaths,
            ),
        ]
        return {**_NOTHING, "families": families}


def _family(name: str, kind: str, text: str, value: float) -> dict[str, Any]:
    sample = f"{name}_total" if kind == "counter" else name
    return {"name": name, "kind": kind, "help": text, "samples": [[sample, [], value]]}


@final
class _Question:
    """One question to several workers, until all have answered or the time is over."""

    def __init__(self, what: str, missing: set[int], done: Callable[[list[Any]], object]) -> None:
        self.what = what
        self._missing = missing
        self._done = done
        self._values: list[Any] = []
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._finish)
        if not self._missing:
            self._finish()

    def take(self, number: int, value: Any) -> None:
        if number not in self._missing:
            return
        self._missing.discard(number)
        if value is not None:
            self._values.append(value)
        if not self._missing:
            self._finish()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._missing = set()
        self._done(self._values)
