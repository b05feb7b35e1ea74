"""Handing a callable those arguments of a call that it asks for by name.

A key is computed from the arguments of every call, and ``inspect.Signature.bind`` costs more than the
whole decision. So which arguments go where is worked out once, and written down as a lambda with the
signature of the function: then the interpreter itself binds positions, names, defaults and the rest.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from headgate.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    _Parameters = Mapping[str, inspect.Parameter]

__all__ = ["by_name"]

_Kind: Final = inspect.Parameter
_EMPTY: Final = inspect.Parameter.empty
_STARS: Final[dict[Any, str]] = {_Kind.VAR_POSITIONAL: "*", _Kind.VAR_KEYWORD: "**"}


def by_name(
    function: Callable[..., Any], call: Callable[..., Any], what: str
) -> Callable[..., Any]:
    """A callable that takes what ``function`` takes, and gives ``call`` what it asks for by name.

    ``call`` gets everything that has a name when it has a ``**kwargs``.

    >>> def send(user, text, *, urgent=False): ...
    >>> key = by_name(send, lambda user, urgent: f"{user}:{urgent}", "key")
    >>> key("ann", text="hello"), key(user="ann", text="hello", urgent=True)
    ('ann:False', 'ann:True')

    Raises:
        InvalidInput: ``call`` asks for what ``function`` does not take. Says so when decorating, where
            it can be seen, rather than on some later call.
    """
    takes = inspect.signature(function).parameters
    asks = _signature(call, what).parameters
    unknown = _unknown(takes, asks)
    if unknown:
        raise InvalidInput(
            f"{what} asks for {unknown[0]!r}, which {_name(function)} does not take; "
            f"it takes: {', '.join(takes) or 'nothing'}"
        )
    call_name, values_name = _fresh("call", takes), _fresh("values", takes)
    defaults = {name: taken.default for name, taken in takes.items() if taken.default is not _EMPTY}
    source = f"lambda {_heading(takes, values_name)}: {call_name}({_handed_over(takes, asks)})"
    # All that comes into the text are names of parameters, which are identifiers.
    made: Callable[..., Any] = eval(source, {call_name: call, values_name: defaults})  # noqa: S307
    # A call that lacks an argument fails here first, and should fail as if it were in the function.
    made.__qualname__ = getattr(function, "__qualname__", made.__qualname__)
    return made


def _signature(call: Callable[..., Any], what: str) -> inspect.Signature:
    if inspect.iscoroutinefunction(call):
        raise InvalidInput(f"{what} must be a plain function, got a coroutine function")
    try:
        return inspect.signature(call)
    except ValueError:
        raise InvalidInput(
            f"cannot see which arguments {what} takes; wrap it: {what}=lambda user: ..."
        ) from None


def _unknown(takes: _Parameters, asks: _Parameters) -> list[str]:
    """What is asked for and is not there. A function with ``**kwargs`` may be given any name."""
    if _named(takes, _Kind.VAR_KEYWORD) is not None:
        return []
    return [
        name
        for name, asked in asks.items()
        if name not in takes and asked.kind not in _STARS and asked.default is _EMPTY
    ]


def _heading(takes: _Parameters, values_name: str) -> str:
    """The parameters as they stand in a lambda."""
    parts: list[str] = []
    before: Any = None
    for name, taken in takes.items():
        kind = taken.kind
        if before is _Kind.POSITIONAL_ONLY and kind is not before:
            parts.append("/")
        if kind is _Kind.KEYWORD_ONLY and before not in {kind, _Kind.VAR_POSITIONAL}:
            parts.append("*")
        default = "" if taken.default is _EMPTY else f"={values_name}[{name!r}]"
        parts.append(f"{_STARS.get(kind, '')}{name}{default}")
        before = kind
    if before is _Kind.POSITIONAL_ONLY:
        parts.append("/")
    return ", ".join(parts)


def _handed_over(takes: _Parameters, asks: _Parameters) -> str:
    """The arguments of the call inside the lambda."""
    rest = _named(takes, _Kind.VAR_KEYWORD)
    wants_all = _named(asks, _Kind.VAR_KEYWORD) is not None
    direct = [name for name in takes if name in asks and asks[name].kind not in _STARS]
    parts = [name for name in direct if asks[name].kind is _Kind.POSITIONAL_ONLY]
    keywords = [name for name in direct if name not in parts]
    if wants_all:
        keywords += [n for n in takes if n not in direct and takes[n].kind not in _STARS]
        # Arguments win over what the rest has of the same name, beside a positional-only one.
        items = [] if rest is None else [f"**{rest}"]
        items += [f"{name!r}: {name}" for name in keywords]
        return ", ".join([*parts, "**{" + ", ".join(items) + "}"])
    parts += [f"{name}={name}" for name in keywords]
    if rest is not None:
        wanted = tuple(name for name in asks if name not in takes)
        parts.append(f"**{{name: {rest}[name] for name in {wanted!r} if name in {rest}}}")
    return ", ".join(parts)


def _named(parameters: _Parameters, kind: Any) -> str | None:
    """The name of the ``*args`` or the ``**kwargs``, if there is one."""
    return next((name for name, one in parameters.items() if one.kind is kind), None)


def _fresh(name: str, taken: _Parameters) -> str:
    while name in taken:
        name += "_"
    return name


def _name(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__qualname__', function)}()"
