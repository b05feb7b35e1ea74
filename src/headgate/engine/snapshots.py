"""Counters as plain data, so that a restart does not hand out a second allowance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from headgate.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headgate.engine.keyspace import Keyspace

__all__ = ["read_snapshot", "write_snapshot"]

SNAPSHOT_VERSION: Final = 1
_MOST_BITS: Final = 64


def write_snapshot(keyspaces: Iterable[Keyspace], now: int, wall_offset_ns: int) -> dict[str, Any]:
    """All states that carry information, in wall time; nothing but dicts, lists, texts and ints."""
    limits = {}
    for keyspace in keyspaces:
        states = keyspace.dump(now, wall_offset_ns)
        if states:
            limits[_identity(keyspace)] = states
    return {"version": SNAPSHOT_VERSION, "limits": limits}


def read_snapshot(
    snapshot: object, keyspaces: Iterable[Keyspace], wall_offset_ns: int
) -> list[tuple[Keyspace, str, object]]:
    """The states in a snapshot of the limits that there are. The whole of it is read before any is used.

    Raises:
        InvalidInput: it is not what `write_snapshot` wrote.
    """
    if not isinstance(snapshot, dict) or snapshot.get("version") != SNAPSHOT_VERSION:
        raise InvalidInput(f"a snapshot of version {SNAPSHOT_VERSION} is needed; start without it")
    by_identity = {_identity(keyspace): keyspace for keyspace in keyspaces}
    states = []
    for identity, values_of in _object(snapshot.get("limits"), "limits"):
        keyspace = by_identity.get(identity)
        for key, values in _object(values_of, "a limit"):
            if keyspace is not None:
                states.append((keyspace, key, _state(keyspace, values, wall_offset_ns)))
    return states


def _identity(keyspace: Keyspace) -> str:
    # The settings go first: they hold no free text, so that no key can be chosen to look like them.
    return f"{keyspace.settings} {keyspace.place}"


def _object(value: object, what: str) -> Iterator[tuple[str, object]]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise _broken(f"{what} must be an object")
    return iter(value.items())


def _state(keyspace: Keyspace, values: object, wall_offset_ns: int) -> object:
    if not isinstance(values, list) or not all(_is_number(value) for value in values):
        raise _broken("a state must be a list of whole numbers")
    try:
        return keyspace.algorithm.load(values, wall_offset_ns)
    except (ValueError, ArithmeticError) as error:
        raise _broken(str(error)) from error


def _is_number(value: object) -> bool:
    return type(value) is int and value.bit_length() <= _MOST_BITS


def _broken(why: str) -> InvalidInput:
    return InvalidInput(f"the snapshot is broken: {why}; start without it")
