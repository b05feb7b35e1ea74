"""The README's Python examples run, in order, as one program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def python_blocks(text: str) -> list[tuple[int, str]]:
    """Each block with the number of the line before its code."""
    return [(text.count("\n", 0, m.start(1)), m.group(1)) for m in FENCE.finditer(text)]


def test_the_examples_run():
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README yet")
    namespace: dict[str, object] = {"__name__": "readme"}
    for line, block in python_blocks(readme.read_text()):
        # The blank lines make a traceback point into the README.
        exec(compile("\n" * line + block, str(readme), "exec"), namespace)


def test_only_python_blocks_are_taken():
    text = "a\n```python\nx = 1\n```\nb\n```sh\nls\n```\n```python\ny = 2\n```\n"
    assert python_blocks(text) == [(2, "x = 1\n"), (9, "y = 2\n")]
