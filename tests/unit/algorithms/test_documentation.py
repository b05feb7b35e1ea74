"""The examples of the pages about algorithms are run."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from headgate.algorithms import ALGORITHMS, options_of

DOCS = Path(__file__).resolve().parents[3] / "docs"
REFERENCE = DOCS / "reference" / "algorithms.md"


@pytest.mark.parametrize("page", [REFERENCE, DOCS / "explanation" / "algorithms-choosing.md"])
def test_examples_do_what_they_show(page: Path) -> None:
    failed, _ = doctest.testfile(
        str(page), module_relative=False, optionflags=doctest.IGNORE_EXCEPTION_DETAIL
    )
    assert failed == 0


def test_the_reference_has_every_algorithm_and_every_option() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    for name in ALGORITHMS:
        assert f"`{name}`" in text
        assert all(f"`{option}`" in text for option in options_of(name))
