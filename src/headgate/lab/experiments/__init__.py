"""The ten experiments, each in its module ``expNN_<name>``, found by that name."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.errors import NotFound

if TYPE_CHECKING:
    from headgate.lab.report import Experiment

__all__ = ["all_experiments", "experiment"]


def all_experiments() -> list[Experiment]:
    """By number."""
    names = [
        module.name
        for module in pkgutil.iter_modules([str(Path(__file__).parent)])
        if module.name.startswith("exp")
    ]
    found = [import_module(f"{__name__}.{name}").EXPERIMENT for name in sorted(names)]
    return sorted(found, key=lambda one: one.number)


def experiment(number: int) -> Experiment:
    """The one of this number.

    Raises:
        NotFound: there is none.
    """
    for one in all_experiments():
        if one.number == number:
            return one
    raise NotFound(f"there is no experiment {number}; headgate lab list names them", number=number)
