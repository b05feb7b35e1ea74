"""Which build the tests run on."""

from __future__ import annotations

import importlib.util

# All compiled modules are in this one library; a build without it is plain Python.
COMPILED_LIBRARY = "headgate__mypyc"


def compiled_build() -> bool:
    return importlib.util.find_spec(COMPILED_LIBRARY) is not None
