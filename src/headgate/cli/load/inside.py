"""Decisions in this process, timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headgate.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Loop", "time_decisions"]

_ROUNDS: Final = 3
_CHUNK: Final = 10_000
_MANY: Final = 100_000


@dataclass(frozen=True)
class Loop:
    """One way to decide, and what each decision took, loop included."""

    what: str
    nanoseconds: float


def time_decisions(seconds: float) -> list[Loop]:
    """The best of a few rounds for each way, so that other programs disturb little."""
    from headgate.gates.build import is_compiled

    build = "compiled" if is_compiled() else "plain Python"
    clock = SystemClock()
    return [
        Loop(f"{what} ({build})", _best(clock, run, seconds / _ROUNDS))
        for what, run in (
            ("Limiter.check, one key", _limiter(1)),
            (f"Limiter.check, {_MANY:,} keys", _limiter(_MANY)),
            ("Engine.check, one policy, one key", _engine(1)),
            ("Engine.check, 1,000 policies, one key", _engine(1000)),
        )
    ]


def _best(clock: SystemClock, run: Callable[[int], None], seconds: float) -> float:
    now = clock.now_ns
    best = float("inf")
    for _ in range(_ROUNDS):
        end = now() + int(seconds * 1e9)
        while (began := now()) < end:
            run(_CHUNK)
            best = min(best, (now() - began) / _CHUNK)
    return best


def _limiter(keys: int) -> Callable[[int], None]:
    from headgate.gates.limiter import Limiter

    check = Limiter("1000000/second").check
    names = [f"user:{number}" for number in range(keys)]
    at = 0

    def run(times: int) -> None:
        nonlocal at
        if keys == 1:
            key = names[0]
            for _ in range(times):
                check(key)
            return
        # A stride that visits all keys, in an order that no cache foresees.
        for _ in range(times):
            at = (at + 61_803) % keys
            check(names[at])

    return run


def _engine(policies: int) -> Callable[[int], None]:
    from headgate.engine.engine import Engine
    from headgate.policy.model import Policy

    engine = Engine(SystemClock())
    for number in range(policies):
        document = {
            "name": f"p{number}",
            "limit": 1_000_000,
            "window": "1s",
            "dimensions": ["user"],
            "match": {"tenant": f"t{number}"},
        }
        engine.set_policy(Policy.from_dict(document))
    check = engine.check
    attributes = {"key": "k", "tenant": "t0", "user": "7"}

    def run(times: int) -> None:
        for _ in range(times):
            check(attributes)

    return run
