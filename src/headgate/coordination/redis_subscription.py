"""One channel of a Redis or Valkey, listened to in a thread that comes back by itself."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Subscription"]

_log = logging.getLogger("headgate.coordination")

_LOOK: Final = 0.25
_MOST_QUIET: Final = 8
"""So many looks in vain, each followed by a question whether anybody is there, are a lost connection."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


@final
class Subscription:
    """Tells what is published on a channel, for as long as it can be heard.

    What is published while it cannot be heard is lost: use it beside something that can be read again. A
    connection that fails, or on which nobody answers for two seconds, is opened anew, after a pause that
    grows from 50 ms to a second.

    Args:
        open_channel: gives a ``PubSub`` of redis-py.
        name: of the channel.
        heard: is given each message, in a thread of this object's own; what it raises is logged.

    Attributes:
        live: whether the store has confirmed the subscription, and it has not failed since.
    """

    def __init__(
        self, open_channel: Callable[[], Any], name: str, heard: Callable[[object], object]
    ) -> None:
        self._open_channel = open_channel
        self._name = name
        self._heard = heard
        self._over = threading.Event()
        self.live = False
        self._thread = threading.Thread(
            target=self._run, name=f"headgate-listens-{name}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Have it end, within a quarter of a second."""
        self._over.set()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._over.is_set():
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001 - whatever a driver fails with, it is tried again
                _log.debug("channel %s cannot be heard: %r", self._name, error)
            pause = _FIRST_PAUSE if self.live else min(2 * pause, _LONGEST_PAUSE)
            self.live = False
            self._over.wait(pause)

    def _listen(self) -> None:
        """Until the connection is lost, or this is over."""
        with self._open_channel() as channel:
            channel.subscribe(self._name)
            quiet = 0
            while not self._over.is_set() and quiet < _MOST_QUIET:
                message = channel.get_message(timeout=_LOOK)
                if message is None:
                    quiet += 1
                    channel.ping()
                else:
                    quiet = 0
                    self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        self.live = True
        if message["type"] != "message":
            return
        try:
            self._heard(message["data"])
        except Exception:  # noqa: BLE001 - a listener's defect is no reason to stop listening
            _log.exception("what was heard on channel %s could not be taken in", self._name)
