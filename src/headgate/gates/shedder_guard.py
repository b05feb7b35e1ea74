"""One call under a load shedder, or the calls of one function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, final

from headgate.errors import InvalidInput, Overloaded
from headgate.inputs import valid_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from headgate.decision import Decision
    from headgate.gates.load_shedder import LoadShedder

__all__ = ["ShedderGuard"]

_F = TypeVar("_F", bound="Callable[..., Any]")


@final
class ShedderGuard:
    """``with shedder.guard(): ...``, ``async with``, or ``@shedder.guard()``. Entering returns the decision.

    A guard may be entered again once it was left, and by several threads or tasks at the same time.
    """

    def __init__(self, shedder: LoadShedder, tier: int, key: object) -> None:
        self._shedder = shedder
        self._tier = tier
        self._key_of: Callable[..., str] | None = key if callable(key) else None
        self._key = "" if callable(key) or key == "" else valid_key(key)

    def __enter__(self) -> Decision:
        if self._key_of is not None:
            raise InvalidInput(
                "a key that is worked out per call is for decorators; give its value"
            )
        return self._enter(self._key)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shedder.leave()

    async def __aenter__(self) -> Decision:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shedder.leave()

    def __call__(self, function: _F) -> _F:
        """The function, each call of which is guarded; a generator's from its first value to its end."""
        # Only who decorates needs what these load.
        from headgate.gates.arguments import by_name  # noqa: PLC0415
        from headgate.gates.wrapping import wrap  # noqa: PLC0415

        given: Any = function
        plain = given.__func__ if isinstance(given, (staticmethod, classmethod)) else given
        key_of = None if self._key_of is None else by_name(plain, self._key_of, "key")

        def turn(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ShedderGuard:
            key = self._key if key_of is None else key_of(*args, **kwargs)
            return ShedderGuard(self._shedder, self._tier, key)

        wrapped: _F = wrap(function, turn, turn)
        return wrapped

    def _enter(self, key: str) -> Decision:
        decision = self._shedder.enter(self._tier, key)
        if not decision.allowed:
            raise Overloaded(decision, key)
        return decision
