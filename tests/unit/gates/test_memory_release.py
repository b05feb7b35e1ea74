"""Memory goes back to the system when there is too much of it."""

from __future__ import annotations

import ctypes
import weakref

import psutil
import pytest

from headgate.gates import memory_release
from headgate.gates.memory_release import release_memory


class Ring:
    def __init__(self) -> None:
        self.itself = self


def test_garbage_is_collected():
    gone = weakref.ref(Ring())
    release_memory()
    assert gone() is None


@pytest.mark.slow
@pytest.mark.skipif(memory_release._malloc_trim() is None, reason="another C library")
def test_freed_memory_goes_back_to_the_system():
    process = psutil.Process()
    kept = []
    pieces = []
    for number in range(
        60_000
    ):  # small enough to come from the heap, and with one kept now and then
        pieces.append(bytearray(1_000))
        if number % 1_000 == 0:
            kept.append(bytearray(1_000))
    grown = process.memory_info().rss
    pieces.clear()
    release_memory()
    assert process.memory_info().rss < grown - 30_000_000
    assert len(kept) == 60


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_a_system_without_it(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", fail)
    release_memory()
