"""What workers say to each other goes through their supervisor.

It also remembers what workers that are gone had counted, so that what the node has counted never goes down.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from headgate.server.balance import Balance
    from headgate.server.crew import Crew, WorkerProcess

__all__ = ["Switchboard"]

_PATIENCE_SECONDS: Final = 1.0


@final
class Switchboard:
    """Passes questions, answers and news between workers.

    Args:
        crew: the workers.
        balance: their connections.
    """

    def __init__(self, crew: Crew, balance: Balance) -> None:
        self._crew = crew
        self._balance = balance
        self._questions: dict[int, _Question] = {}
        self._number = 0

    def hear(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """A worker said this."""
        word = message["say"]
        if word == "changed":
            self._crew.tell({"do": "changed"}, besides=worker)
        elif word == "ask":
            self._ask(worker, message)
        elif word == "answer":
            question = self._questions.get(message["id"])
            if question is not None:
                question.take(worker.number, message["value"])

    def gone(self, worker: WorkerProcess) -> None:
        """A worker ended."""
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
        others = [one for one in self._crew.all.values() if one is not asking and one.ready.done()]

        def done(values: list[Any]) -> None:
            self._questions.pop(number, None)
            asking.line.send({"do": "answers", "id": message["id"], "values": values})

        question = _Question({one.number for one in others}, done)
        self._questions[number] = question
        order = {"do": "answer", "id": number, "what": message["what"]}
        for one in others:
            one.line.send({**order, "argument": message["argument"]})
        question.begin()


@final
class _Question:
    """One question to several workers, until all have answered or the time is over."""

    def __init__(self, missing: set[int], done: Any) -> None:
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
