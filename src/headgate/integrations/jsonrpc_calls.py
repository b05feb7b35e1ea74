"""Between a JSON-RPC request and its handler: whether the params fit, and whether there is a place to run."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.decision import Decision
from headgate.errors import InvalidInput, Overloaded
from headgate.gates.numbers import valid_seconds
from headgate.integrations.jsonrpc_messages import INVALID_PARAMS, Call, PeerFault

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Handler", "Place", "Places", "handlers_of", "instance", "no_place", "valid_patience"]

_T = TypeVar("_T")
_BUSY_NS: Final = 100 * NS_PER_MS
"""What callers are told to wait when too many run: nobody knows when one will end."""


@final
class Handler:
    """One method, with what it takes worked out once."""

    __slots__ = ("_signature", "function")

    def __init__(self, name: object, function: Callable[..., Any]) -> None:
        if not isinstance(name, str) or not name or name.startswith("rpc."):
            raise InvalidInput(
                "a method's name must be a text that does not begin with 'rpc.', which is reserved, "
                f"got {name!r:.60}"
            )
        if not callable(function):
            raise InvalidInput(
                f"the handler of {name!r:.60} must be callable, got {function!r:.60}"
            )
        self.function = function
        try:
            self._signature: inspect.Signature | None = inspect.signature(function)
        except ValueError:  # some built-in functions do not tell
            self._signature = None

    def require_fit(self, call: Call) -> None:
        """Raise when the params do not fit. A TypeError from inside the handler is another matter."""
        if self._signature is None:
            return
        try:
            self._signature.bind(*call.args, **call.kwargs)
        except TypeError as error:
            raise PeerFault(INVALID_PARAMS, str(error)[:200], call.request_id) from None


@final
class Places:
    """How many handlers run, for all peers and for each."""

    def __init__(self, most: int, most_per_peer: int) -> None:
        self._most = most
        self._most_per_peer = most_per_peer
        self._by_peer: Counter[str] = Counter()
        self.taken = 0

    def take(self, peer: str) -> Place:
        """A place, to be entered.

        Raises:
            Overloaded: there is none.
        """
        if self._by_peer[peer] >= self._most_per_peer:
            raise no_place(peer, "max_per_peer", self._most_per_peer)
        if self.taken >= self._most:
            raise no_place(peer, "max_concurrency", self._most)
        return Place(self, peer)

    def add(self, peer: str, number: int) -> None:
        self.taken += number
        self._by_peer[peer] += number
        if not self._by_peer[peer]:
            del self._by_peer[peer]


@final
class Place:
    """One place, while entered."""

    __slots__ = ("_peer", "_places")

    def __init__(self, places: Places, peer: str) -> None:
        self._places = places
        self._peer = peer

    def __enter__(self) -> None:
        self._places.add(self._peer, 1)

    def __exit__(self, *outcome: object) -> None:
        self._places.add(self._peer, -1)


def handlers_of(methods: object) -> dict[str, Handler]:
    """A handler for each method.

    Raises:
        InvalidInput: it is no mapping, or one of its names or functions cannot be used.
    """
    if not isinstance(methods, Mapping):
        raise InvalidInput(
            f"methods must be a mapping of names to functions, got {type(methods).__name__}"
        )
    return {name: Handler(name, function) for name, function in methods.items()}


def instance(name: str, value: object, kind: type[_T]) -> _T:
    """The value, of this type.

    Raises:
        InvalidInput: it is of another.
    """
    if not isinstance(value, kind):
        raise InvalidInput(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
    return value


def no_place(peer: str, what: str, limit: int) -> Overloaded:
    return Overloaded(Decision(False, limit, 0, _BUSY_NS, _BUSY_NS, 0, what, 0), peer)


def valid_patience(name: str, value: object) -> float | None:
    """Seconds to wait at most; None for ever.

    Raises:
        InvalidInput: they are no number above 0, or more than a year.
    """
    if value is None:
        return None
    return valid_seconds(name, value, remedy="; None waits for ever") / NS_PER_SECOND
