"""A worker's word with the supervisor, and through it with the other workers."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.server.frames import Line

__all__ = ["Link"]

_log = logging.getLogger("headgate.server")
_ANSWER_SECONDS: Final = 2.0


@final
class Link:
    """One worker's line to its supervisor.

    Args:
        line: the line.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._orders: dict[str, list[Callable[[dict[str, Any]], object]]] = {}
        self._answers: dict[str, Callable[[Any], Any]] = {}
        self._asked: dict[int, asyncio.Future[list[Any]]] = {}
        self._number = 0
        self.is_cut = False

    def on(self, order: str, act: Callable[[dict[str, Any]], object]) -> None:
        """Do this when the supervisor says so; ``cut`` is when it is gone."""
        self._orders.setdefault(order, []).append(act)

    def answer(self, what: str, answer: Callable[[Any], Any]) -> None:
        """Answer this question of other workers, in what MessagePack can say."""
        self._answers[what] = answer

    def tell(self, word: str, **members: Any) -> None:
        """Tell the supervisor."""
        self._line.send({"say": word, **members})

    async def ask(self, what: str, argument: Any = None) -> list[Any]:
        """What the other workers answer, those of them that do in time.

        The supervisor adds what it kept of workers that are gone; see `headgate.server.switchboard`.
        """
        if self.is_cut:
            return []
        self._number += 1
        number = self._number
        answers = self._asked[number] = asyncio.get_running_loop().create_future()
        self.tell("ask", id=number, what=what, argument=argument)
        try:
            return await asyncio.wait_for(answers, _ANSWER_SECONDS)
        except TimeoutError:
            _log.warning("the supervisor did not answer in %g s", _ANSWER_SECONDS)
            return []
        finally:
            del self._asked[number]

    async def run(self) -> None:
        """Listen until the supervisor is gone."""
        while (message := await self._line.receive()) is not None:
            self._hear(message)
        self._line.close()
        self.is_cut = True
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_result([])
        self._obey("cut", {})

    async def flush(self) -> None:
        """Return when all that was told is on its way."""
        await self._line.flush()

    def _hear(self, message: dict[str, Any]) -> None:
        order = message["do"]
        if order == "answer":
            self.tell("answer", id=message["id"], value=self._reply(message))
        elif order == "answers":
            waiting = self._asked.get(message["id"])
            if waiting is not None and not waiting.done():
                waiting.set_result(message["values"])
        else:
            self._obey(order, message)

    def _reply(self, message: dict[str, Any]) -> Any:
        answer = self._answers.get(message["what"])
        if answer is None:
            return None
        try:
            return answer(message["argument"])
        except Exception:  # noqa: BLE001 - whoever asked goes on without this worker's answer
            _log.exception("a question of another worker could not be answered")
            return None

    def _obey(self, order: str, message: dict[str, Any]) -> None:
        for act in self._orders.get(order, ()):
            act(message)
