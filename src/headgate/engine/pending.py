"""An answer that is on its way: what the engine gives when it has to ask the shared counters first.

No event loop is involved: whoever wants the answer leaves a callback. So the same code runs in the service,
in a simulator with a virtual clock, and compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pending"]

T = TypeVar("T")


@final
class Pending(Generic[T]):
    """A value that comes later, once.

    >>> answer = Pending()
    >>> answer.then(print)
    >>> answer.settle("yes")
    yes
    True

    Attributes:
        is_settled: whether it has come.
    """

    def __init__(self) -> None:
        self.is_settled = False
        self._value: T | None = None
        self._callbacks: list[Callable[[T], object]] = []

    @property
    def value(self) -> T:
        """The value.

        Raises:
            RuntimeError: it has not come yet.
        """
        if not self.is_settled:
            raise RuntimeError("the value has not come yet; leave a callback with `then`")
        return self._value  # type: ignore[return-value]

    def then(self, callback: Callable[[T], object]) -> None:
        """Call this with the value, now if it has come already. It must not raise."""
        if self.is_settled:
            callback(self._value)  # type: ignore[arg-type]
        else:
            self._callbacks.append(callback)

    def settle(self, value: T) -> bool:
        """Give the value to all who wait; False, with nothing done, when there is one already."""
        if self.is_settled:
            return False
        self.is_settled = True
        self._value = value
        callbacks = self._callbacks
        self._callbacks = []
        for callback in callbacks:
            callback(value)
        return True
